package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.regex.Pattern;

/** Reads lines of CSV, as records/csv.py does, with the same reasons. */
final class Lines {
  private static final Pattern INTEGER = Pattern.compile("-?(0|[1-9]\\d{0,18})");
  private static final Pattern BOOLEAN = Pattern.compile("true|True|TRUE|false|False|FALSE");
  private static final Pattern FLOAT = Pattern.compile("-?(0|[1-9]\\d*)\\.\\d+([eE][+-]?\\d+)?");
  private static final String NOT_CSV = "not CSV";
  private static final int LONGEST = 131072;  // characters of a field that Python's reader of CSV accepts

  private final Features features;
  private final char delimiter;
  private final int quote;  // -1: fields are not quoted
  private final int width;  // of a line with labels
  private final int labels;
  private final Where where;  // null: every line is kept
  private final String[] columns;  // the names of a line's fields, for `where`
  private final int[] at;  // where a line with labels has each value of a row
  private final int[] empty;  // where it has the labels, in ascending order

  Lines(JsonNode schema, Features features, Where where) {
    this.features = features;
    this.where = where;
    this.delimiter = Version.at(schema, "delimiter").asText().charAt(0);
    String mark = Version.at(schema, "quote").asText();
    this.quote = mark.isEmpty() ? -1 : (int) mark.charAt(0);
    JsonNode label = Version.at(schema, "label");
    JsonNode list = Version.at(schema, "csv_columns");
    this.labels = label.isArray() ? label.size() : label.isTextual() ? 1 : 0;
    this.width = list.isEmpty() ? features.width + labels : list.size();
    String[] names = new String[width];  // as written
    for (int i = 0; i < width && !list.isEmpty(); i++) names[i] = Version.at(list, i).asText();
    if (list.isEmpty()) System.arraycopy(features.names, 0, names, 0, features.width);
    this.empty = new int[labels];
    for (int j = 0; j < labels; j++) {
      String name = label.isArray() ? Version.at(label, j).asText() : label.asText();
      empty[j] = list.isEmpty() ? features.width + j : Arrays.asList(names).indexOf(name);
      names[empty[j]] = name;
    }
    Arrays.sort(empty);
    this.at = new int[features.width];
    for (int i = 0; i < features.width; i++) {
      at[i] = list.isEmpty() ? i : Arrays.asList(names).indexOf(features.names[i]);
    }
    this.columns = new String[width];
    for (int i = 0; i < width; i++) columns[i] = Features.column(names[i]);
  }

  /** Writes the row of a line; returns the reason if it is bad. */
  String read(byte[] line, double[] x) {
    ArrayList found = split(line);
    if (found == null) return NOT_CSV;
    if (found.size() == width - labels) for (int j = 0; j < labels; j++) found.add(empty[j], "");
    if (found.size() != width) return "wrong number of fields";
    String filtered = where == null ? null : where.check(record(found));
    if (filtered != null) return filtered;
    Object[] row = new Object[features.width];
    for (int i = 0; i < row.length; i++) {
      String text = (String) found.get(at[i]);
      row[i] = features.isCategory(i) && !features.values.isCategoryGap(text) ? category(text) : text;
    }
    return features.encode(row, x);
  }

  private LinkedHashMap record(ArrayList found) {
    LinkedHashMap record = new LinkedHashMap();
    for (int i = 0; i < width; i++) {
      Object value = category((String) found.get(i));
      boolean isFloat = value instanceof String && FLOAT.matcher((String) value).matches();
      record.put(columns[i], isFloat ? Double.valueOf((String) value) : value);
    }
    return record;
  }

  /** Returns what a string is written like: an integer, a boolean, null if it is empty, else itself. */
  private static Object category(String text) {
    if (text.isEmpty()) return null;
    if (INTEGER.matcher(text).matches()) return new BigInteger(text);
    return BOOLEAN.matcher(text).matches() ? (Object) Boolean.valueOf(text) : text;
  }

  /** Takes a line apart; null: it is not CSV. A line break at its end is not part of it. */
  private ArrayList split(byte[] line) {
    int from = line.length >= 3 && line[0] == -17 && line[1] == -69 && line[2] == -65 ? 3 : 0;
    String text;
    try {
      text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(line, from, line.length - from)).toString();
    } catch (CharacterCodingException malformed) {
      return null;
    }
    if (text.endsWith("\n")) text = text.substring(0, text.length() - 1);
    if (text.endsWith("\r")) text = text.substring(0, text.length() - 1);
    boolean plain = text.indexOf('\n') < 0 && text.indexOf('\r') < 0 && (quote < 0 || text.indexOf(quote) < 0);
    return plain ? plain(text) : quoted(text);
  }

  private ArrayList plain(String text) {
    ArrayList fields = new ArrayList();
    int start = 0;
    for (int end = text.indexOf(delimiter); end >= 0; end = text.indexOf(delimiter, start)) {
      fields.add(text.substring(start, end));
      start = end + 1;
    }
    fields.add(text.substring(start));
    return fields;
  }

  /** Takes a line with quotes or line breaks apart as Python's strict reader does: null if it is not CSV. */
  private ArrayList quoted(String text) {
    ArrayList fields = new ArrayList();
    int end = text.length();
    int at = end > 0 && isBreak(text.charAt(0)) ? 0 : -1;  // of the mark before a field
    while (at < end && (at < 0 || text.charAt(at) == delimiter)) {
      StringBuilder field = new StringBuilder();
      at++;
      if (at < end && text.charAt(at) == quote) {
        at = endOfQuoted(text, at, field);
        if (at < 0) return null;
      } else {
        int start = at;
        while (at < end && text.charAt(at) != delimiter && !isBreak(text.charAt(at))) at++;
        field.append(text, start, at);
      }
      if (field.codePointCount(0, field.length()) > LONGEST) return null;
      fields.add(field.toString());
    }
    while (at < end) if (!isBreak(text.charAt(at++))) return null;
    return fields;
  }

  /** Appends what is in quotes, doubled ones once; returns where it ends, or -1 if it does not. */
  private int endOfQuoted(String text, int at, StringBuilder field) {
    while (true) {
      int close = text.indexOf(quote, at + 1);
      if (close < 0) return -1;
      field.append(text, at + 1, close);
      at = close + 1;
      if (at == text.length() || text.charAt(at) != quote) return at;
      field.append((char) quote);
    }
  }

  private static boolean isBreak(char c) {
    return c == '\n' || c == '\r';
  }
}
