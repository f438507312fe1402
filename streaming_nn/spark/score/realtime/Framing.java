package streaming_nn;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.databind.JsonNode;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.zip.CRC32;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/** Removes what is around a record, as records/framing.py does. */
final class Framing {
  private static final int HEADER = 5;  // bytes before a record in Confluent's wire format
  private static final int GZIP_HEADER = 10;  // bytes of gzip's header, without what its flags add
  private static final int GZIP_END = 8;  // bytes of the sum and the size

  final String reason;  // of a record without it
  private final String name;
  private final int maxBytes;
  private final JsonFactory json;

  Framing(JsonNode schema, int maxBytes) throws IOException {
    this.name = Version.at(schema, "framing").asText();
    this.maxBytes = maxBytes;
    this.json = Json.factory();
    if (name.equals("confluent")) this.reason = "no schema id";
    else if (name.equals("gzip")) this.reason = "not gzip";
    else this.reason = "not a JSON string";
  }

  /** Returns a record's own bytes, of which one above max_bytes is cut; null: it is without this framing. */
  byte[] content(byte[] value) {
    if (name.equals("none")) return value;
    if (name.equals("gzip")) return gunzip(value);
    if (name.equals("json_string")) return strings(value);
    return value.length < HEADER || value[0] != 0 ? null : Arrays.copyOfRange(value, HEADER, value.length);
  }

  private byte[] strings(byte[] value) {
    byte[] content = string(value);
    for (byte[] inner = content; inner != null; inner = string(inner)) content = inner;
    return content;
  }

  private byte[] string(byte[] value) {
    int start = value.length > 2 && value[0] == -17 && value[1] == -69 && value[2] == -65 ? 3 : 0;  // after the mark
    int at = start;
    while (at < value.length && (value[at] == ' ' || value[at] == '\t' || value[at] == '\r' || value[at] == '\n')) at++;
    if (at == value.length || value[at] != '"') return null;
    try {
      Object content = Json.read(json, start == 0 ? value : Arrays.copyOfRange(value, start, value.length));
      return content instanceof String ? ((String) content).getBytes(StandardCharsets.UTF_8) : null;
    } catch (IOException notJson) {
      return null;
    }
  }

  /** Returns what one member of gzip has; the JDK's stream would also take several, and others after them. */
  private byte[] gunzip(byte[] value) {
    int start = endOfHeader(value);
    if (start < 0) return null;
    Inflater inflater = new Inflater(true);
    try {
      inflater.setInput(value, start, value.length - start);
      ByteArrayOutputStream content = new ByteArrayOutputStream();
      byte[] buffer = new byte[8192];
      while (!inflater.finished()) {
        int size = inflater.inflate(buffer, 0, Math.min(buffer.length, maxBytes + 1 - content.size()));
        content.write(buffer, 0, size);
        if (content.size() > maxBytes) return content.toByteArray();
        if (size == 0 && !inflater.finished()) return null;
      }
      if (inflater.getRemaining() != GZIP_END) return null;
      ByteBuffer end = ByteBuffer.wrap(value, value.length - GZIP_END, GZIP_END).order(ByteOrder.LITTLE_ENDIAN);
      byte[] whole = content.toByteArray();
      return end.getInt() == (int) sum(whole, whole.length) && end.getInt() == whole.length ? whole : null;
    } catch (DataFormatException damaged) {
      return null;
    } finally {
      inflater.end();
    }
  }

  private static long sum(byte[] bytes, int count) {
    CRC32 sum = new CRC32();
    sum.update(bytes, 0, count);
    return sum.getValue();
  }

  /** Returns where the header of RFC 1952 ends, -1 if there is none. */
  private static int endOfHeader(byte[] value) {
    boolean isGzip = value.length >= GZIP_HEADER && value[0] == 31 && value[1] == -117 && value[2] == 8;
    if (!isGzip || (value[3] & 0xe0) != 0) return -1;
    int at = GZIP_HEADER;
    if ((value[3] & 4) != 0) {
      if (at + 2 > value.length) return -1;
      at += 2 + (value[at] & 255) + ((value[at + 1] & 255) << 8);
    }
    for (int flag = 8; flag <= 16; flag *= 2) {  // a name and a comment, each with a zero at its end
      if ((value[3] & flag) == 0) continue;
      while (at < value.length && value[at] != 0) at++;
      at++;
    }
    if ((value[3] & 2) != 0) {
      if (at + 2 > value.length) return -1;
      int expected = (value[at] & 255) + ((value[at + 1] & 255) << 8);
      if ((sum(value, at) & 0xffff) != expected) return -1;
      at += 2;
    }
    return at <= value.length ? at : -1;
  }
}
