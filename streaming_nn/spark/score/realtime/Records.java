package streaming_nn;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.regex.Pattern;

/** Decodes unlabeled records, packed or JSON with an array of features, as records/ does, with the same reasons. */
final class Records {
  private static final Pattern NUMBER = Pattern.compile("[+-]?(\\d+\\.?\\d*|\\.\\d+)([eE][+-]?\\d+)?");
  private static final Pattern BLANKS = Pattern.compile("^[ \\t\\r\\n]+|[ \\t\\r\\n]+$");
  private static final Pattern WORD = Pattern.compile("[+-]?(nan|inf|infinity)", Pattern.CASE_INSENSITIVE);
  private static final Pattern BOOLEAN = Pattern.compile("true|True|TRUE|false|False|FALSE");
  private static final Pattern DATE = Pattern.compile("\\d{4}-\\d\\d-\\d\\d([T ]\\d\\d:\\d\\d.*)?", Pattern.UNIX_LINES);
  private static final Pattern EXTENDED = Pattern.compile("\\$number(Int|Long|Double|Decimal)");  // MongoDB's
  private static final Pattern CONSTANT = Pattern.compile("NaN|-?Infinity");  // what Python's parser accepts
  private static final String NOT_JSON = "not JSON";
  private static final String NO_SCHEMA_ID = "no schema id";
  private static final int HEADER = 5;  // bytes before a record in Confluent's wire format
  private static final int MAX_DEPTH = 200;  // levels that Python's parser accepts
  private static final int MAX_DIGITS = 4300;  // of a number that Python's parser accepts, before the point

  private final boolean packed;
  private final boolean confluent;  // a zero byte and the schema's ID come before each record
  private final String features;
  private final boolean missing;
  private final boolean strings;  // "1.5" is a number
  private final int labelBytes;  // of a packed record
  private final int maxBytes;
  private final String notANumber;  // reasons with the field, as `reasons.key` returns them
  private final String isDate;
  private final String notFinite;
  private final String wrongWidth;
  private final JsonFactory json;

  Records(JsonNode schema) throws IOException {
    String format = Version.at(schema, "format").asText();
    this.packed = format.equals("packed");
    boolean array = Version.at(schema, "features").isTextual() && Version.at(schema, "categories").isEmpty();
    if (!packed && !(format.equals("json") && array)) {
      throw new IOException("in real-time mode records must be packed, or JSON with an array of features; "
          + "use --engine batch");
    }
    this.confluent = Version.at(schema, "framing").asText().equals("confluent");
    this.features = Version.at(schema, "features").asText();
    this.missing = Version.at(schema, "missing").asBoolean();
    this.strings = Version.at(schema, "numbers_as_strings").asBoolean();
    JsonNode several = Version.at(schema, Version.at(schema, "multilabel").asBoolean() ? "classes" : "label");
    this.labelBytes = 4 * (several.isArray() ? several.size() : 1);
    this.maxBytes = Version.at(schema, "max_bytes").asInt();
    this.notANumber = "not a number: " + features;
    this.isDate = "date, not in records.datetimes: " + features;
    this.notFinite = "not finite: " + features;
    this.wrongWidth = packed ? "wrong width" : "wrong width: " + features;
    this.json = factory();
  }

  /** Returns what reads JSON as Python's parser does, as far as that can be set. */
  static JsonFactory factory() {
    JsonFactoryBuilder builder = new JsonFactoryBuilder();
    builder.streamReadConstraints(StreamReadConstraints.builder().maxNestingDepth(MAX_DEPTH)
        .maxNumberLength(Integer.MAX_VALUE).maxNameLength(Integer.MAX_VALUE).build());
    builder.disable(JsonFactory.Feature.INTERN_FIELD_NAMES);  // their senders choose the names, and interned ones stay
    builder.enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS);
    builder.enable(StreamReadFeature.USE_FAST_DOUBLE_PARSER);
    return builder.build();
  }

  /** Returns whether a record with this reason, or null, is JSON: whether Fields can read it. */
  static boolean isJson(String reason) {
    return !NOT_JSON.equals(reason) && !NO_SCHEMA_ID.equals(reason);
  }

  /** Returns a record without its framing; null: it has none. */
  byte[] content(byte[] value) {
    if (!confluent) return value;
    return value.length < HEADER || value[0] != 0 ? null : Arrays.copyOfRange(value, HEADER, value.length);
  }

  /** Reads the features of a record of so many bytes into x; returns null, or the reason if it is bad. */
  String read(byte[] content, int size, double[] x) {
    if (size > maxBytes) return "too large";
    if (content == null) return NO_SCHEMA_ID;
    String reason = packed ? packed(content, x) : json(content, x);
    return reason != null ? reason : check(x);
  }

  private String check(double[] x) {
    for (int i = 0; i < x.length; i++) {
      if (Math.abs(x[i]) > Float.MAX_VALUE) return notFinite;
      if (Double.isNaN(x[i]) && !missing) return notANumber;
    }
    return null;
  }

  /** Reads the last 4n bytes; the bytes before them would be labels or targets. */
  private String packed(byte[] value, double[] x) {
    int size = 4 * x.length;
    if (value.length != size && value.length != size + labelBytes) return wrongWidth;
    ByteBuffer words = ByteBuffer.wrap(value, value.length - size, size).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < x.length; i++) x[i] = words.getFloat();
    return null;
  }

  private String json(byte[] value, double[] x) {
    if (!utf8(value) || !paired(value)) return NOT_JSON;
    try {
      JsonParser parser = json.createParser(value);
      try {
        JsonToken first = parser.nextToken();
        if (first == null) return NOT_JSON;
        String reason = first == JsonToken.START_OBJECT ? object(parser, x) : "not an object";
        if (first != JsonToken.START_OBJECT) skip(parser);
        return parser.nextToken() == null ? reason : NOT_JSON;
      } finally {
        parser.close();
      }
    } catch (IOException notJson) {
      return NOT_JSON;
    }
  }

  /** Returns whether a record is UTF-8, after one byte order mark at most; this parser would accept UTF-16 too. */
  private static boolean utf8(byte[] value) {
    int first = value.length >= 3 && value[0] == -17 && value[1] == -69 && value[2] == -65 ? 3 : 0;
    for (int i = first; i < Math.min(first + 4, value.length); i++) {
      if (value[i] == 0 || (i == first && value[i] < 0)) return false;
    }
    return ascii(value) || valid(value);
  }

  private static boolean ascii(byte[] value) {
    int any = 0;
    for (int i = 0; i < value.length; i++) any |= value[i];
    return any >= 0;
  }

  /** Returns whether this is UTF-8 without surrogates and overlong forms, which this parser would accept. */
  private static boolean valid(byte[] value) {
    try {
      StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(value));  // it reports what is malformed
      return true;
    } catch (CharacterCodingException malformed) {
      return false;
    }
  }

  /** Returns whether each escaped half of a surrogate pair has its other half, which this parser does not require. */
  private static boolean paired(byte[] value) {
    for (int i = 0; i + 1 < value.length; i++) {
      if (value[i] != '\\') continue;
      int half = half(value, i);
      if (half == 2 || (half == 1 && half(value, i + 6) != 2)) return false;
      i += half == 1 ? 11 : 1;
    }
    return true;
  }

  /** Returns 1 for the escape of a first half of a pair, 2 for that of a second half, 0 for anything else. */
  private static int half(byte[] value, int at) {
    if (at + 5 >= value.length || value[at] != '\\' || value[at + 1] != 'u' || (value[at + 2] | 32) != 'd') return 0;
    int digit = Character.digit(value[at + 3], 16);
    return digit < 8 ? 0 : digit < 12 ? 1 : 2;
  }

  /** Goes to the end of a value; throws an IOException if Python's parser would not accept a number in it. */
  private static void skip(JsonParser parser) throws IOException {
    int depth = 0;
    for (JsonToken token = parser.currentToken(); true; token = parser.nextToken()) {
      if (token.isStructStart()) depth++;
      if (token.isStructEnd()) depth--;
      if (token.isNumeric()) check(parser, token);
      if (depth == 0) return;
    }
  }

  private static void check(JsonParser parser, JsonToken number) throws IOException {
    if (parser.isNaN() && !CONSTANT.matcher(parser.getText()).matches()) throw new IOException(NOT_JSON);
    if (parser.getTextLength() <= MAX_DIGITS) return;
    String text = parser.getText();
    int end = text.startsWith("-") ? 1 : 0;
    int start = end;
    while (end < text.length() && Character.isDigit(text.charAt(end))) end++;
    if (end - start > MAX_DIGITS) throw new IOException(NOT_JSON);
  }

  /** Reads to the object's end; of duplicate keys the last one counts. */
  private String object(JsonParser parser, double[] x) throws IOException {
    String reason = "field missing: " + features;
    while (parser.nextToken() == JsonToken.FIELD_NAME) {
      boolean wanted = parser.currentName().equals(features);
      JsonToken value = parser.nextToken();
      if (wanted) reason = value == JsonToken.START_ARRAY ? array(parser, x) : "not an array: " + features;
      if (!wanted || value != JsonToken.START_ARRAY) skip(parser);
    }
    return reason;
  }

  private String array(JsonParser parser, double[] x) throws IOException {
    int width = 0;
    String reason = null;
    for (JsonToken token = parser.nextToken(); token != JsonToken.END_ARRAY; token = parser.nextToken()) {
      if (width < x.length) {
        String bad = number(parser, token, x, width, strings);
        if (reason == null) reason = bad;
      }
      width++;
      if (parser.currentToken() != JsonToken.END_OBJECT) skip(parser);
    }
    return width == x.length ? reason : wrongWidth;
  }

  /** Reads a number; `read` is whether it may be a string. Of an object, it goes to the end. */
  private String number(JsonParser parser, JsonToken token, double[] x, int index, boolean read) throws IOException {
    if (token == JsonToken.VALUE_NUMBER_FLOAT) {
      x[index] = parser.getDoubleValue();
    } else if (token == JsonToken.VALUE_NUMBER_INT) {
      double value = parser.getDoubleValue();
      if (Double.isInfinite(value)) return notFinite;
      x[index] = value;
    } else if (token == JsonToken.VALUE_NULL && missing) {
      x[index] = Double.NaN;
    } else if (token == JsonToken.VALUE_TRUE || token == JsonToken.VALUE_FALSE) {
      x[index] = token == JsonToken.VALUE_TRUE ? 1 : 0;
    } else if (token == JsonToken.VALUE_STRING) {
      String text = BLANKS.matcher(parser.getText()).replaceAll("");
      return read ? string(text, x, index) : date(text);
    } else if (token == JsonToken.START_OBJECT) {
      return extended(parser, x, index);
    } else {
      return notANumber;
    }
    return null;
  }

  /** Reads an object of one number in MongoDB's extended JSON, as records/values.py does. */
  private String extended(JsonParser parser, double[] x, int index) throws IOException {
    String reason = notANumber;
    String last = null;
    boolean one = true;
    while (parser.nextToken() == JsonToken.FIELD_NAME) {
      String name = parser.currentName();
      JsonToken value = parser.nextToken();
      reason = name.equals("$date") ? isDate : notANumber;
      if (EXTENDED.matcher(name).matches()) reason = number(parser, value, x, index, true);
      if (parser.currentToken() != JsonToken.END_OBJECT) skip(parser);
      one = one && (last == null || last.equals(name));
      last = name;
    }
    return one ? reason : notANumber;
  }

  private String date(String text) {
    return DATE.matcher(text).matches() ? isDate : notANumber;
  }

  /** Reads a number that is a string, as records/values.py does. */
  private String string(String text, double[] x, int index) {
    if (NUMBER.matcher(text).matches()) {
      x[index] = Double.parseDouble(text);
    } else if (WORD.matcher(text).matches()) {
      x[index] = text.toLowerCase().endsWith("nan") ? Double.NaN : Double.POSITIVE_INFINITY;
    } else if (BOOLEAN.matcher(text).matches()) {
      x[index] = text.charAt(0) == 't' || text.charAt(0) == 'T' ? 1 : 0;
    } else if (text.isEmpty() && missing) {
      x[index] = Double.NaN;
    } else {
      return date(text);
    }
    return null;
  }
}
