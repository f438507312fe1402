package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;

/**
 * Converts ordinary JSON records to rows of words (records/packed.py), as Python would read them.
 *
 * <p>Anything unusual is left to Python, which has the rules and the reasons: escapes, characters beyond ASCII, a
 * missing or duplicate field, a label that is not a class, a number whose rounding takes more than one operation.
 * Reading methods take a position, and return the one after what they read; -1: it is not plain.
 */
public final class Plain {
  private static final int DEEPEST = 16;  // levels of a value that is skipped; Python's parser goes much deeper
  private static final int LONGEST = 300;  // bytes of a number that is skipped
  private static final long EXACT = 1L << 53;  // every integer up to it is a double
  private static final double[] POWERS = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13,
      1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};  // these are exact as doubles, and no others are
  private static final byte[] TRUE = "true".getBytes(StandardCharsets.US_ASCII);
  private static final byte[] FALSE = "false".getBytes(StandardCharsets.US_ASCII);
  private static final byte[] NULL = "null".getBytes(StandardCharsets.US_ASCII);

  private final byte[][] keys;  // those of the features, then the label's if it is read, as in JSON
  private final HashMap indices;  // of the keys, by their bytes
  private final HashMap classes;  // their indices, by their bytes as in JSON; null: the label is a target
  private final int label;  // the index of the label's key; -1: it is not read, and 0 is written for it
  private final boolean array;  // the features are in one field
  private final int inputs;
  private final int maxBytes;
  private final ByteBuffer row;
  private ByteBuffer text;  // the record, for reading eight bytes at once
  private final long[] seen;  // by key: the last record that had it
  private long number;  // of this record

  /** Takes what reader.py writes about a schema. */
  public Plain(String request) throws IOException {
    JsonNode schema = new ObjectMapper().readTree(request);
    this.array = at(schema, "array").asBoolean();
    this.inputs = at(schema, "inputs").asInt();
    this.maxBytes = at(schema, "max_bytes").asInt();
    this.keys = texts(at(schema, "keys"));
    this.indices = indices(keys);
    this.label = at(schema, "labeled").asBoolean() ? keys.length - 1 : -1;
    this.classes = at(schema, "classes").isNull() ? null : indices(texts(at(schema, "classes")));
    this.row = ByteBuffer.allocate(8 * inputs + 8).order(ByteOrder.LITTLE_ENDIAN);
    this.seen = new long[keys.length];
  }

  /** The cast is for Janino, which takes the result for Jackson's TreeNode. */
  static JsonNode at(JsonNode node, String name) {
    return (JsonNode) node.path(name);
  }

  private static byte[][] texts(JsonNode list) {
    byte[][] texts = new byte[list.size()][];
    for (int i = 0; i < texts.length; i++) {
      texts[i] = ((JsonNode) list.path(i)).asText().getBytes(StandardCharsets.UTF_8);
    }
    return texts;
  }

  private static HashMap indices(byte[][] texts) {
    HashMap indices = new HashMap();
    for (int i = 0; i < texts.length; i++) indices.put(ByteBuffer.wrap(texts[i]), Integer.valueOf(i));
    return indices;
  }

  /** Returns a record packed; null: it is not plain. */
  public byte[] pack(byte[] b, int from, int end) {
    text = ByteBuffer.wrap(b).order(ByteOrder.LITTLE_ENDIAN);
    return end - from <= maxBytes && read(b, from, end) ? (byte[]) row.array().clone() : null;
  }

  private boolean read(byte[] b, int from, int end) {
    int at = space(b, from, end);
    if (at == end || b[at] != '{') return false;
    number++;
    int left = keys.length;
    int expected = 0;
    do {
      int start = space(b, at + 1, end);
      at = begins(b, start, end, keys[expected]);
      int key = expected;
      if (at < 0) {
        at = string(b, start, end);
        if (at < 0) return false;
        key = indexOf(indices, b, start, at);
      }
      at = colon(b, at, end);
      if (at < 0) return false;
      if (key < 0) {
        at = skip(b, at, end, 0);
      } else {
        if (seen[key] == number) return false;
        seen[key] = number;
        left--;
        expected = key + 1 < keys.length ? key + 1 : 0;
        at = key == label ? label(b, at, end) : array ? array(b, at, end) : number(b, at, end, 8 * key + 8);
      }
      if (at < 0) return false;
      at = space(b, at, end);
    } while (at < end && b[at] == ',');
    return left == 0 && at < end && b[at] == '}' && space(b, at + 1, end) == end;
  }

  private static int space(byte[] b, int at, int end) {
    while (at < end && b[at] <= ' ' && (b[at] == ' ' || b[at] == '\n' || b[at] == '\r' || b[at] == '\t')) at++;
    return at;
  }

  private static int begins(byte[] b, int at, int end, byte[] text) {
    if (text.length > end - at) return -1;
    return Arrays.equals(b, at, at + text.length, text, 0, text.length) ? at + text.length : -1;
  }

  private static int colon(byte[] b, int at, int end) {
    at = space(b, at, end);
    return at < end && b[at] == ':' ? space(b, at + 1, end) : -1;
  }

  private static int indexOf(HashMap indices, byte[] b, int from, int until) {
    Integer found = (Integer) indices.get(ByteBuffer.wrap(b, from, until - from));
    return found == null ? -1 : found.intValue();
  }

  private int label(byte[] b, int at, int end) {
    if (classes == null) return number(b, at, end, 0);
    int after = skip(b, at, end, DEEPEST);
    int index = after < 0 ? -1 : indexOf(classes, b, at, after);
    if (index < 0) return -1;
    row.putLong(0, index);
    return after;
  }

  private int array(byte[] b, int at, int end) {
    if (at == end || b[at] != '[') return -1;
    for (int i = 0; i < inputs; i++) {
      at = number(b, space(b, at + 1, end), end, 8 * i + 8);
      if (at < 0) return -1;
      at = space(b, at, end);
      if (at == end || b[at] != (i < inputs - 1 ? ',' : ']')) return -1;
    }
    return at + 1;
  }

  // The next two are short enough to be inlined into the loop that calls them: 325 bytes of bytecode.

  /** Writes a number into the row, at a byte. */
  private int number(byte[] b, int from, int end, int slot) {
    if (end - from > 8) {
      int sign = (b[from] & 255 ^ '-') - 1 >>> 31;  // 1: it is a minus; half of them are, which no branch can predict
      int after = brief(from + sign, sign, slot);
      if (after > 0) return after;
    }
    return any(b, from, end, slot);
  }

  /**
   * Writes a number that ends within eight bytes, which are read at once; 0: it is another one.
   *
   * <p>The number of digits is unpredictable, which makes loops over so few of them slow. They are converted as
   * in simdjson (Langdale and Lemire 2019, "Parsing Gigabytes of JSON per Second", section 3.1.4).
   */
  private int brief(int from, int sign, int slot) {
    long word = text.getLong(from) ^ 0x3030303030303030L;  // digits are 0 to 9 in it
    long others = (((word & 0x7f7f7f7f7f7f7f7fL) + 0x7676767676767676L) | word) & 0x8080808080808080L;
    int count = Long.numberOfTrailingZeros(others) >>> 3;
    if (count == 0 || count == 8 || (count > 1 && (word & 255) == 0)) return 0;
    int end = count;
    long digits = word;
    if ((word >>> 8 * count & 255) == ('.' ^ '0')) {
      end = Long.numberOfTrailingZeros(others & (others - 1)) >>> 3;
      if (end == 8 || end == count + 1) return 0;
      long whole = (1L << 8 * count) - 1;
      digits = (word & whole) | (word >>> 8 & ~whole);
    }
    if (((word >>> 8 * end ^ '0') & 0xdf) == 'E') return 0;
    int fraction = end > count ? end - count - 1 : 0;
    digits = eight(digits << 64 - 8 * (count + fraction));
    if (digits == 0 && end == count) return 0;
    put(digits, -fraction, sign, slot);
    return from + end;
  }

  /** Returns the number of eight digits, the first one in the lowest byte. */
  private static long eight(long digits) {
    long pairs = digits * 10 + (digits >>> 8);
    return ((pairs & 0xff000000ffL) * 0xf424000000064L + (pairs >>> 16 & 0xff000000ffL) * 0x271000000001L) >>> 32;
  }

  /** Writes any number into the row; at -1, only skips it. */
  private int any(byte[] b, int from, int end, int slot) {
    int sign = from < end && b[from] == '-' ? 1 : 0;
    int first = from + sign;
    int at = first;
    long digits = 0;
    while (at < end && b[at] >= '0' && b[at] <= '9') digits = 10 * digits + (b[at++] - '0');
    if (at == first || (b[first] == '0' && at > first + 1)) return -1;
    int length = at - first;
    int power = 0;
    boolean whole = true;
    if (at < end && b[at] == '.') {
      int point = ++at;
      while (at < end && b[at] >= '0' && b[at] <= '9') digits = 10 * digits + (b[at++] - '0');
      if (at == point) return -1;
      power = point - at;
      length -= power;
      whole = false;
    }
    if (at < end && (b[at] == 'e' || b[at] == 'E')) {
      at++;
      boolean down = at < end && b[at] == '-';
      if (at < end && (b[at] == '-' || b[at] == '+')) at++;
      int start = at;
      int exponent = 0;
      while (at < end && b[at] >= '0' && b[at] <= '9') exponent = 10 * exponent + (b[at++] - '0');
      if (at == start || at > start + 3) return -1;
      power += down ? -exponent : exponent;
      whole = false;
    }
    if (slot < 0) return at - from > LONGEST ? -1 : at;
    if (length > 18 || digits > EXACT || power < -22 || power > 22) return -1;
    put(digits, power, whole && digits == 0 ? 0 : sign, slot);  // -0 is 0, and -0.0 is not
    return at;
  }

  /**
   * Writes digits times a power of ten into the row.
   *
   * <p>Both are exact as doubles, so the one operation rounds correctly: the fast case of Clinger 1990, "How to Read
   * Floating Point Numbers Accurately". The largest, 2^53 times 10^22, is finite in float32.
   */
  private void put(long digits, int power, int sign, int slot) {
    double size = power < 0 ? digits / POWERS[-power] : digits * POWERS[power];
    row.putLong(slot, Double.doubleToRawLongBits(size) | (long) sign << 63);
  }

  /** Reads a string without escapes. */
  private static int string(byte[] b, int at, int end) {
    if (at == end || b[at] != '"') return -1;
    at++;
    while (at < end && b[at] >= ' ' && b[at] != '"' && b[at] != '\\') at++;
    return at < end && b[at] == '"' ? at + 1 : -1;
  }

  /** Skips any value that is valid JSON. */
  private int skip(byte[] b, int at, int end, int depth) {
    if (at == end) return -1;
    switch (b[at]) {
      case '"': return string(b, at, end);
      case '{': return inside(b, at, end, depth, '}');
      case '[': return inside(b, at, end, depth, ']');
      case 't': return begins(b, at, end, TRUE);
      case 'f': return begins(b, at, end, FALSE);
      case 'n': return begins(b, at, end, NULL);
      default: return any(b, at, end, -1);
    }
  }

  private int inside(byte[] b, int at, int end, int depth, char last) {
    if (depth >= DEEPEST) return -1;
    int first = space(b, at + 1, end);
    if (first < end && b[first] == last) return first + 1;
    do {
      at = space(b, at + 1, end);
      if (last == '}') {
        at = string(b, at, end);
        if (at >= 0) at = colon(b, at, end);
        if (at < 0) return -1;
      }
      at = skip(b, at, end, depth + 1);
      if (at < 0) return -1;
      at = space(b, at, end);
    } while (at < end && b[at] == ',');
    return at < end && b[at] == last ? at + 1 : -1;
  }
}
