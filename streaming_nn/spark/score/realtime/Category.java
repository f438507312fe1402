package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HashMap;

/** Encodes a field's categories as columns, as records/categories.py does. */
final class Category {
  final int columns;
  private final HashMap known;  // the column of each value's key; null: values are hashed

  /** Takes a field's encoding, and its vocabulary. */
  Category(JsonNode encoding, JsonNode vocabulary) {
    boolean hashed = encoding.has("hash");
    this.columns = Version.at(encoding, hashed ? "hash" : "one_hot").asInt();
    this.known = hashed ? null : new HashMap();
    for (int i = 0; !hashed && i < vocabulary.size(); i++) {
      JsonNode value = Version.at(vocabulary, i);
      String kind = value.isTextual() ? "s" : value.isBoolean() ? "b" : "i";
      known.put(kind + value.asText(), Integer.valueOf(i));
    }
  }

  /** Writes a value into its columns, which are all zeros; returns whether it is a category. */
  boolean encode(Object value, double[] x, int start) {
    String key = key(value);
    if (key == null) return false;
    if (known == null) {
      long h = hash(key);
      x[start + column(h, columns)] = sign(h);
    } else if (known.containsKey(key)) {
      x[start + ((Integer) known.get(key)).intValue()] = 1;
    }
    return true;
  }

  /** Returns a letter and a string, of which the hash is taken; null: it is not a category. */
  private static String key(Object value) {
    if (value instanceof String) return "s" + value;
    if (value instanceof Boolean) return "b" + value;
    if (!(value instanceof Double)) return value instanceof Number ? "i" + value : null;
    double number = ((Double) value).doubleValue();
    boolean whole = Math.rint(number) == number && !Double.isInfinite(number);
    return whole ? "i" + new BigDecimal(number).toBigInteger() : null;  // since 1.0 means 1
  }

  /** Returns the first eight bytes of the sha256 of a key, of which `column` and `sign` are made. */
  static long hash(String key) {
    byte[] digest;
    try {
      digest = MessageDigest.getInstance("SHA-256").digest(key.getBytes(StandardCharsets.UTF_8));
    } catch (NoSuchAlgorithmException error) {  // each Java has it
      throw new IllegalStateException(error);
    }
    return ByteBuffer.wrap(digest).order(ByteOrder.LITTLE_ENDIAN).getLong();
  }

  static int column(long h, int columns) {
    return (int) ((h >>> 1) % columns);
  }

  static double sign(long h) {
    return (h & 1) == 0 ? 1.0 : -1.0;
  }
}
