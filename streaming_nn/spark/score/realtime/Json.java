package streaming_nn;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;

/** Reads JSON as Python's parser does: an object is a map, an array a list, and null is null. */
final class Json {
  static final Object ABSENT = new Object();  // the value of a field that is absent
  private static final Pattern INDEX = Pattern.compile("[0-9]{1,9}");  // of an array's element, as in records/paths.py
  private static final Pattern CONSTANT = Pattern.compile("NaN|-?Infinity");  // what Python's parser accepts
  private static final int MAX_DEPTH = 200;  // levels that Python's parser accepts
  private static final int MAX_DIGITS = 4300;  // of an integer
  private static final JsonFactory FACTORY = factory();  // of strings inside of records
  private static final ThreadLocal LAST = new ThreadLocal();  // the last one, whether in base64, and its value

  private Json() {}

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

  /** Returns the value that a record is; throws an IOException if it is not JSON. */
  static Object read(JsonFactory json, byte[] record) throws IOException {
    if (!isText(record)) throw new IOException("not text");
    JsonParser parser = json.createParser(record);
    try {
      if (parser.nextToken() == null) throw new IOException("nothing");
      Object value = value(parser);
      if (parser.nextToken() != null) throw new IOException("more than one value");
      return value;
    } finally {
      parser.close();
    }
  }

  /** Returns whether a record may be JSON: UTF-8, with whole pairs of surrogates; this parser would accept others. */
  static boolean isText(byte[] value) {
    return utf8(value) && paired(value);
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

  /** Goes to the end of a value; throws an IOException if Python's parser would not accept a constant in it. */
  static void skip(JsonParser parser) throws IOException {
    int depth = 0;
    for (JsonToken token = parser.currentToken(); true; token = parser.nextToken()) {
      if (token.isStructStart()) depth++;
      if (token.isStructEnd()) depth--;
      if (token.isNumeric()) check(parser);
      if (depth == 0) return;
    }
  }

  /** Throws an IOException if Python's parser would not accept this constant. */
  static void check(JsonParser parser) throws IOException {
    if (parser.isNaN() && !CONSTANT.matcher(parser.getText()).matches()) throw new IOException("not a constant");
  }

  /** Returns whether an integer has more digits than Python takes: it is infinite then. */
  static boolean isLong(JsonParser parser) throws IOException {
    int length = parser.getTextLength();
    return length > MAX_DIGITS + 1 || (length > MAX_DIGITS && parser.getText().charAt(0) != '-');
  }

  /** Returns a value, and goes to its end: a Map, List, String, Double, Integer, Long, BigInteger, Boolean or null. */
  static Object value(JsonParser parser) throws IOException {
    JsonToken token = parser.currentToken();
    if (token == JsonToken.START_OBJECT) {
      LinkedHashMap fields = new LinkedHashMap();  // of duplicate keys the last one counts, at the first one's place
      while (parser.nextToken() == JsonToken.FIELD_NAME) {
        String name = parser.currentName();
        parser.nextToken();
        fields.put(name, value(parser));
      }
      return fields;
    }
    if (token == JsonToken.START_ARRAY) {
      ArrayList elements = new ArrayList();
      while (parser.nextToken() != JsonToken.END_ARRAY) elements.add(value(parser));
      return elements;
    }
    if (token.isNumeric()) {
      check(parser);
      if (token == JsonToken.VALUE_NUMBER_FLOAT) return Double.valueOf(parser.getDoubleValue());
      if (!isLong(parser)) return parser.getNumberValue();
      return Double.valueOf(parser.getText().charAt(0) == '-' ? Double.NEGATIVE_INFINITY : Double.POSITIVE_INFINITY);
    }
    if (token == JsonToken.VALUE_STRING) return parser.getText();
    return token == JsonToken.VALUE_NULL ? null : Boolean.valueOf(token == JsonToken.VALUE_TRUE);
  }

  /** Returns the field at a path of an object, or ABSENT; the path may lead into strings. */
  static Object at(Object value, String[] path) {
    for (int i = 0; i < path.length; i++) {
      String name = path[i];
      if (value instanceof String) value = inside((String) value, false);
      if (value instanceof List && INDEX.matcher(name).matches() && Integer.parseInt(name) < ((List) value).size()) {
        value = ((List) value).get(Integer.parseInt(name));
      } else if (value instanceof Map && ((Map) value).containsKey(name)) {
        value = ((Map) value).get(name);
      } else if (value instanceof Map && name.equals("data") && i + 1 < path.length) {
        value = dataOfEvent((Map) value);
      } else {
        return ABSENT;
      }
    }
    return value;
  }

  /** Returns the data of a CloudEvent that has it in base64, as records/json_text.py does; null: it is not JSON. */
  private static Object dataOfEvent(Map event) {
    Object text = event.get("data_base64");
    Object kind = event.get("datacontenttype");
    boolean known = kind == null || (kind instanceof String && isJsonType((String) kind));
    return known && text instanceof String ? inside((String) text, true) : null;
  }

  private static boolean isJsonType(String kind) {
    int end = kind.indexOf(';') < 0 ? kind.length() : kind.indexOf(';');
    int start = 0;
    while (start < end && (kind.charAt(start) == ' ' || kind.charAt(start) == '\t')) start++;
    while (start < end && (kind.charAt(end - 1) == ' ' || kind.charAt(end - 1) == '\t')) end--;
    String name = kind.substring(start, end).toLowerCase(Locale.ROOT);
    return name.equals("application/json") || name.equals("text/json") || name.endsWith("+json");
  }

  /** Returns the object or array that a string is in JSON, or in base64 of it; null: it is none. */
  private static Object inside(String text, boolean base64) {
    Object[] last = (Object[]) LAST.get();  // several fields are in one text
    if (last != null && last[0] == text && ((Boolean) last[1]).booleanValue() == base64) return last[2];
    Object value = null;
    try {
      if (base64 ? isBase64(text) : begins(text)) {
        byte[] content = base64 ? Base64.getDecoder().decode(text) : text.getBytes(StandardCharsets.UTF_8);
        value = read(FACTORY, content);
      }
    } catch (IOException notJson) {
      value = null;
    }
    if (!(value instanceof Map) && !(value instanceof List)) value = null;
    LAST.set(new Object[] {text, Boolean.valueOf(base64), value});
    return value;
  }

  private static boolean begins(String text) {
    int at = text.startsWith("\ufeff") ? 1 : 0;
    while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) at++;
    return at < text.length() && (text.charAt(at) == '{' || text.charAt(at) == '[');
  }

  private static boolean isBase64(String text) {
    int end = text.length();
    if (end % 4 != 0) return false;
    for (int i = 0; i < 2 && end > 0 && text.charAt(end - 1) == '='; i++) end--;
    for (int i = 0; i < end; i++) {
      char c = text.charAt(i);
      boolean letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
      if (!letter && !(c >= '0' && c <= '9') && c != '+' && c != '/') return false;
    }
    return true;
  }
}
