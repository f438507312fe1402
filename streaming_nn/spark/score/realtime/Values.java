package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.HashSet;
import java.util.Map;
import java.util.regex.Pattern;

/** What a value is as a number, as records/values.py has it. */
final class Values {
  private static final String NOT_A_NUMBER = "not a number";
  private static final String NOT_FINITE = "not finite";
  private static final String IS_A_DATE = "date, not in records.datetimes";
  private static final Pattern BLANKS = Pattern.compile("^[ \\t\\r\\n]+|[ \\t\\r\\n]+$");
  private static final Pattern WORD = Pattern.compile("[+-]?(nan|inf|infinity)", Pattern.CASE_INSENSITIVE);
  private static final Pattern BOOLEAN = Pattern.compile("true|True|TRUE|false|False|FALSE");
  private static final Pattern DATE = Pattern.compile("\\d{4}-\\d\\d-\\d\\d([T ]\\d\\d:\\d\\d.*)?", Pattern.UNIX_LINES);
  private static final Pattern EXTENDED = Pattern.compile("\\$number(Int|Long|Double|Decimal)");  // MongoDB's

  final boolean missing;
  private final boolean strings;  // "1.5" is a number
  private final HashSet gaps;  // words for a gap
  private final String decimal;
  private final String thousands;
  private final Pattern number;
  private final Values extended;  // of a number in MongoDB's extended JSON

  /** Takes the rules of a schema, but for gaps. */
  Values(JsonNode schema, boolean missing) {
    this.missing = missing;
    this.strings = Version.at(schema, "numbers_as_strings").asBoolean()
        || Version.at(schema, "format").asText().equals("csv");
    this.gaps = new HashSet();
    JsonNode words = Version.at(schema, "na_values");
    for (int i = 0; i < words.size(); i++) gaps.add(Version.at(words, i).asText());
    this.decimal = Version.at(schema, "decimal").asText();
    this.thousands = Version.at(schema, "thousands").asText();
    this.number = pattern(decimal, thousands);
    this.extended = new Values(missing);
  }

  /** Makes those of a number in MongoDB's extended JSON. */
  Values(boolean missing) {
    this.missing = missing;
    this.strings = true;
    this.gaps = new HashSet();
    this.decimal = ".";
    this.thousands = "";
    this.number = pattern(decimal, thousands);
    this.extended = this;
  }

  private static Pattern pattern(String decimal, String thousands) {
    String d = Pattern.quote(decimal);
    String whole = thousands.isEmpty() ? "\\d+" : "[1-9]\\d{0,2}(?:" + Pattern.quote(thousands) + "\\d{3})+|\\d+";
    return Pattern.compile("[+-]?(?:(?:" + whole + ")(?:" + d + "\\d*)?|" + d + "\\d+)(?:[eE][+-]?\\d+)?");
  }

  /** Writes a value as a number, NaN for a gap; returns the reason if it is none. */
  String number(Object value, double[] x, int at) {
    if (value instanceof Double) {
      x[at] = ((Double) value).doubleValue();
    } else if (value instanceof Number) {
      x[at] = ((Number) value).doubleValue();
      return Double.isInfinite(x[at]) ? NOT_FINITE : null;
    } else if (value instanceof Boolean) {
      x[at] = ((Boolean) value).booleanValue() ? 1 : 0;
    } else if (isGap(value)) {
      x[at] = Double.NaN;
      return missing ? null : NOT_A_NUMBER;
    } else if (value instanceof String) {
      String text = strip((String) value);
      if (strings && string(text, x, at)) return null;
      return DATE.matcher(text).matches() ? IS_A_DATE : NOT_A_NUMBER;
    } else {
      String kind = onlyKey(value);
      if (EXTENDED.matcher(kind).matches()) return extended.number(((Map) value).get(kind), x, at);
      return kind.equals("$date") ? IS_A_DATE : NOT_A_NUMBER;
    }
    return null;
  }

  /** Returns why a number cannot be learned; null: it can, or is a gap. */
  String check(double number) {
    if (Math.abs(number) > Float.MAX_VALUE) return NOT_FINITE;
    return number != number && !missing ? NOT_A_NUMBER : null;
  }

  private boolean string(String text, double[] x, int at) {
    if (number.matcher(text).matches()) {
      x[at] = Double.parseDouble(text.replace(thousands, "").replace(decimal, "."));
    } else if (WORD.matcher(text).matches()) {
      double size = text.toLowerCase().endsWith("nan") ? Double.NaN : Double.POSITIVE_INFINITY;
      x[at] = text.charAt(0) == '-' ? -size : size;
    } else if (BOOLEAN.matcher(text).matches()) {
      x[at] = text.charAt(0) == 't' || text.charAt(0) == 'T' ? 1 : 0;
    } else {
      return false;
    }
    return true;
  }

  /** Returns whether there is no value: null, absent, NaN, or a word for it. */
  boolean isGap(Object value) {
    if (!(value instanceof String)) return isNothing(value);
    String text = strip((String) value);
    return gaps.contains(text) || (strings && text.isEmpty());
  }

  /** Returns whether there is no category: an empty string is one. */
  boolean isCategoryGap(Object value) {
    return value instanceof String ? gaps.contains(strip((String) value)) : isNothing(value);
  }

  private static boolean isNothing(Object value) {
    return value == null || value == Json.ABSENT || (value instanceof Double && ((Double) value).isNaN());
  }

  /** Returns a category of MongoDB's extended JSON as it is in JSON; anything else as it is. */
  static Object fromExtended(Object value) {
    String kind = onlyKey(value);
    if (kind.isEmpty()) return value;
    Object content = ((Map) value).get(kind);
    if (kind.equals("$oid") && content instanceof String) return content;
    double[] found = new double[1];
    boolean isNumber = EXTENDED.matcher(kind).matches() && new Values(false).number(content, found, 0) == null;
    return isNumber ? Double.valueOf(found[0]) : value;
  }

  /** Returns the name of an object's field, if it has one field; otherwise "". */
  private static String onlyKey(Object value) {
    if (!(value instanceof Map) || ((Map) value).size() != 1) return "";
    return (String) ((Map) value).keySet().iterator().next();
  }

  private static String strip(String text) {
    return BLANKS.matcher(text).replaceAll("");
  }
}
