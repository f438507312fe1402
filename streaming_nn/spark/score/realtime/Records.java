package streaming_nn;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Map;

/** Decodes unlabeled records as records/ does, with the same reasons; threads may share it. */
final class Records {
  private static final String NOT_JSON = "not JSON";
  private static final String NOT_AN_OBJECT = "not an object";
  private static final long LARGEST = 1 << 30;  // bytes of a record: Kafka's records are smaller

  private final boolean packed;
  private final Framing framing;
  private final int labelBytes;  // of a packed record
  private final int maxBytes;
  private final Where where;  // null: every record is kept
  private final Features features;
  private final boolean array;  // they are an array in the record itself
  private final Lines lines;  // null: records are not CSV
  private final JsonFactory json;

  Records(JsonNode schema) throws IOException {
    requireSupported(schema);
    String format = Version.at(schema, "format").asText();
    this.packed = format.equals("packed");
    this.maxBytes = (int) Math.min(Version.at(schema, "max_bytes").asLong(), LARGEST);
    this.framing = new Framing(schema, maxBytes);
    JsonNode several = Version.at(schema, Version.at(schema, "multilabel").asBoolean() ? "classes" : "label");
    this.labelBytes = 4 * (several.isArray() ? several.size() : 1);
    JsonNode filter = Version.at(schema, "where");
    this.where = filter.isTextual() ? new Where(filter.asText()) : null;
    this.features = new Features(schema);
    this.array = features.isPlainArray() && where == null && !features.values.hasGaps();
    this.lines = format.equals("csv") ? new Lines(schema, features, where) : null;
    this.json = Json.factory();
  }

  /** Throws an IOException for what `check` of supported.py refuses, should a later version have it. */
  private static void requireSupported(JsonNode schema) throws IOException {
    boolean supported = !Version.at(schema, "format").asText().equals("avro")
        && Version.at(schema, "datetimes").isEmpty() && Version.at(schema, "encoding").asText().equals("utf-8");
    if (!supported) throw new IOException("in real-time mode records must not be Avro, and not have datetimes or "
        + "an encoding; use --engine batch");
  }

  /** Returns whether a record with this reason, or null, is JSON: whether Fields can read it. */
  static boolean isJson(String reason) {
    return !NOT_JSON.equals(reason);
  }

  /** Returns a record without its framing; null: it has none. */
  byte[] content(byte[] value) {
    return framing.content(value);
  }

  /** Reads the features of a record of so many bytes into x; returns null, or the reason if it is bad. */
  String read(byte[] content, int size, double[] x) {
    if (size > maxBytes || (content != null && content.length > maxBytes)) return "too large";
    if (content == null) return framing.reason;
    String reason = packed ? packed(content, x) : lines != null ? lines.read(content, x) : json(content, x);
    return reason != null ? reason : check(x);
  }

  private String check(double[] x) {
    for (int i = 0; i < x.length; i++) {
      String bad = features.values.check(x[i]);
      if (bad != null) return Features.reason(bad, features.field(i));
    }
    return null;
  }

  /** Reads the last 4n bytes; the bytes before them would be labels or targets. */
  private String packed(byte[] value, double[] x) {
    int size = 4 * x.length;
    if (value.length != size && value.length != size + labelBytes) return "wrong width";
    ByteBuffer words = ByteBuffer.wrap(value, value.length - size, size).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < x.length; i++) x[i] = words.getFloat();
    return null;
  }

  private String json(byte[] value, double[] x) {
    try {
      if (array) return object(value, x);
      Object record = Json.read(json, value);
      if (!(record instanceof Map)) return NOT_AN_OBJECT;
      String filtered = where == null ? null : where.check(record);
      return filtered != null ? filtered : features.read(record, x);
    } catch (IOException notJson) {
      return NOT_JSON;
    }
  }

  /** Reads an array of features without a tree of the record: in half the time. */
  private String object(byte[] value, double[] x) throws IOException {
    if (!Json.isText(value)) return NOT_JSON;
    JsonParser parser = json.createParser(value);
    try {
      JsonToken first = parser.nextToken();
      if (first == null) return NOT_JSON;
      String reason = first == JsonToken.START_OBJECT ? object(parser, x) : NOT_AN_OBJECT;
      if (first != JsonToken.START_OBJECT) Json.skip(parser);
      return parser.nextToken() == null ? reason : NOT_JSON;
    } finally {
      parser.close();
    }
  }

  /** Reads to the object's end; of duplicate keys the last one counts. */
  private String object(JsonParser parser, double[] x) throws IOException {
    String name = features.fields[0];
    String reason = Features.reason("field missing", name);
    while (parser.nextToken() == JsonToken.FIELD_NAME) {
      boolean wanted = parser.currentName().equals(name);
      JsonToken value = parser.nextToken();
      if (wanted) reason = value == JsonToken.START_ARRAY ? array(parser, x) : Features.reason("not an array", name);
      if (!wanted || value != JsonToken.START_ARRAY) Json.skip(parser);
    }
    return reason;
  }

  private String array(JsonParser parser, double[] x) throws IOException {
    int width = 0;
    String bad = null;
    String overflow = null;  // of an integer: NumPy finds it after whatever is not a number
    for (JsonToken token = parser.nextToken(); token != JsonToken.END_ARRAY; token = parser.nextToken()) {
      if (width >= x.length) {
        Json.skip(parser);
      } else if (token.isNumeric() && !Json.isLong(parser)) {
        Json.check(parser);
        x[width] = parser.getDoubleValue();
        boolean infinite = token == JsonToken.VALUE_NUMBER_INT && Double.isInfinite(x[width]);
        if (infinite) overflow = features.values.check(x[width]);
      } else {
        String reason = features.values.number(Json.value(parser), x, width);
        if (bad == null) bad = reason;
      }
      width++;
    }
    if (width != x.length) return Features.reason("wrong width", features.fields[0]);
    if (bad == null) bad = overflow;
    return bad == null ? null : Features.reason(bad, features.names[0]);
  }
}
