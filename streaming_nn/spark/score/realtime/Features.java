package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Makes a row of a record's fields, as records/field_records.py does, with the same reasons. */
final class Features {
  private static final Pattern ARRAY = Pattern.compile("(.+)\\[0:([1-9]\\d{0,6})\\]", Pattern.DOTALL);
  private static final Pattern NAME = Pattern.compile("\"((?:[^\"]|\"\")+)\"|([^\".][^.]*)");  // as records/paths.py

  final int width;  // of a row before categories are encoded
  final String[] names;  // of a row's values before categories are encoded; an array's ends in []
  final Values values;  // of its numbers
  private final boolean missing;  // a field may be absent
  private final boolean alone;  // the features are one field: an array, or tokens and their counts
  private final boolean tokens;
  final String[] fields;  // their paths as written
  private final String[][] paths;
  private final int[] lengths;  // of the fields that are arrays; 0: it is one value
  private final boolean[] sparse;  // the fields that are 0 where they are absent
  private final Category[] categories;  // of a row's values; null: it is a number
  private final int[] starts;  // the first column of each of them, and the end of the last

  Features(JsonNode schema) {
    JsonNode list = Version.at(schema, "features");
    JsonNode encodings = Version.at(schema, "categories");
    this.missing = Version.at(schema, "missing").asBoolean();
    this.alone = list.isTextual();
    this.tokens = alone && !encodings.isEmpty();
    this.values = new Values(schema, missing && !tokens);  // a count is never missing
    int inputs = Version.at(schema, "inputs").asInt();
    int count = alone ? 1 : list.size();
    this.fields = new String[count];
    this.paths = new String[count][];
    this.lengths = new int[count];
    this.sparse = new boolean[count];
    int width = 0;
    for (int f = 0; f < count; f++) {
      String name = alone ? list.asText() : Version.at(list, f).asText();
      Matcher array = ARRAY.matcher(name);
      boolean plain = name.indexOf('.') < 0 && name.indexOf('"') < 0;
      boolean isArray = array.matches() && !(alone && plain);
      fields[f] = isArray ? array.group(1) : name;
      paths[f] = path(fields[f]);
      lengths[f] = alone ? inputs : isArray ? Integer.parseInt(array.group(2)) : 0;
      sparse[f] = contains(Version.at(schema, "sparse"), name);
      width += Math.max(lengths[f], 1);
    }
    this.width = width;
    this.names = new String[width];
    this.categories = new Category[width];
    this.starts = new int[width + 1];
    int i = 0;
    for (int f = 0; f < count; f++) {
      for (int k = 0; k < Math.max(lengths[f], 1); k++) {
        names[i] = lengths[f] > 0 ? fields[f] + "[]" : fields[f];
        boolean encoded = !alone && encodings.has(fields[f]) && lengths[f] == 0;
        JsonNode vocabulary = Version.at(Version.at(schema, "vocabulary"), fields[f]);
        if (encoded) categories[i] = new Category(Version.at(encodings, fields[f]), vocabulary);
        starts[i + 1] = starts[i] + (encoded ? categories[i].columns : 1);
        i++;
      }
    }
  }

  private static boolean contains(JsonNode list, String text) {
    for (int i = 0; i < list.size(); i++) if (Version.at(list, i).asText().equals(text)) return true;
    return false;
  }

  /** Returns the names of a path, outermost first. */
  static String[] path(String text) {
    String[] path = new String[text.length()];
    int count = 0;
    Matcher name = NAME.matcher(text);
    for (int at = 0; at < text.length() && name.region(at, text.length()).lookingAt(); at = name.end() + 1) {
      path[count++] = unquoted(name);
    }
    return (String[]) Arrays.copyOf(path, count);
  }

  private static String unquoted(Matcher name) {
    return name.group(1) != null ? name.group(1).replace("\"\"", "\"") : name.group(2);
  }

  /** Returns the name of a column: a path that is one name, without its quotes. */
  static String column(String text) {
    Matcher name = NAME.matcher(text);
    return name.matches() ? unquoted(name) : text;
  }

  /** Returns what a rejected record is counted by, as `reasons.key`. */
  static String reason(String reason, String field) {
    if (field.endsWith("]") && field.indexOf('[') >= 0) field = field.substring(0, field.lastIndexOf('['));
    return field.isEmpty() ? reason : reason + ": " + field;
  }

  /** Returns the field of a row's column. */
  String field(int column) {
    int i = Arrays.binarySearch(starts, column);
    return names[i < 0 ? -i - 2 : i];
  }

  boolean isCategory(int i) {
    return categories[i] != null;
  }

  /** Returns whether the features are an array in the record itself. */
  boolean isPlainArray() {
    return alone && !tokens && paths[0].length == 1 && paths[0][0].equals(fields[0]);
  }

  /** Writes the row of a record; returns the reason if it is bad. */
  String read(Object record, double[] x) {
    Object[] found = new Object[fields.length];
    boolean any = false;
    for (int f = 0; f < fields.length; f++) {
      found[f] = Json.at(record, paths[f]);
      boolean optional = sparse[f] || (missing && (!alone || tokens));
      if (found[f] == Json.ABSENT && !optional) return reason("field missing", fields[f]);
      any = any || found[f] != Json.ABSENT;
    }
    if (tokens) return count(found[0], x);
    if (!any) return "no feature field";
    Object[] row = new Object[width];
    int i = 0;
    for (int f = 0; f < fields.length; f++) {
      if (lengths[f] == 0) {
        row[i++] = found[f] == Json.ABSENT && sparse[f] ? Double.valueOf(0.0) : found[f];
      } else if (found[f] instanceof List) {
        List elements = (List) found[f];
        if (elements.size() != lengths[f]) return reason("wrong width", fields[f]);
        for (int k = 0; k < lengths[f]; k++) row[i++] = elements.get(k);
      } else if (!alone && missing && values.isGap(found[f])) {
        i += lengths[f];
      } else {
        return reason("not an array", fields[f]);
      }
    }
    return encode(row, x);
  }

  /** Writes a row's values: first the numbers, whose reasons come first, then the categories. */
  String encode(Object[] row, double[] x) {
    String overflow = null;  // of the first integer beyond float64: NumPy finds it after whatever is not a number
    String gap = null;  // of the first number that is a word for a gap: it is found last
    for (int i = 0; i < width; i++) {
      if (categories[i] != null) continue;
      String bad = values.number(row[i], x, starts[i]);
      if (bad == null) continue;
      if (!(row[i] instanceof Number)) return reason(bad, names[i]);
      if (x[starts[i]] == x[starts[i]]) overflow = overflow != null ? overflow : reason(bad, names[i]);
      else gap = gap != null ? gap : reason(bad, names[i]);
    }
    if (overflow != null || gap != null) return overflow != null ? overflow : gap;
    for (int i = 0; i < width; i++) {
      if (categories[i] == null) continue;
      Arrays.fill(x, starts[i], starts[i + 1], 0.0);
      Object value = Values.fromExtended(row[i]);
      boolean isGap = values.isCategoryGap(value);
      if (isGap ? missing : categories[i].encode(value, x, starts[i])) continue;
      return reason("not a category", names[i]);
    }
    return null;
  }

  /** Adds each token's count to its column, as `hash_tokens` of records/categories.py. */
  private String count(Object tokens, double[] x) {
    Arrays.fill(x, 0.0);
    if (missing && (tokens == null || tokens == Json.ABSENT)) return null;
    if (!(tokens instanceof Map)) return reason("not an object", fields[0]);
    boolean plain = !values.hasGaps();
    for (Iterator each = ((Map) tokens).values().iterator(); each.hasNext() && plain;) {
      Object count = each.next();
      plain = count instanceof Number || count instanceof Boolean;
    }
    double[] size = new double[1];
    for (Iterator each = ((Map) tokens).entrySet().iterator(); each.hasNext();) {
      Map.Entry entry = (Map.Entry) each.next();
      String bad = values.number(entry.getValue(), size, 0);
      if (bad != null && !plain) return reason(bad, names[0]);
      long h = Category.hash("s" + entry.getKey());
      int column = Category.column(h, x.length);
      x[column] = bad == null ? x[column] + Category.sign(h) * size[0] : Double.POSITIVE_INFINITY;
    }
    return null;
  }
}
