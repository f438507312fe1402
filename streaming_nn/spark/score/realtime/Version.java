package streaming_nn;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.security.MessageDigest;
import java.util.Iterator;
import java.util.TreeSet;

/** One version of the model, read from its file and verified as versions/version.py does it. */
final class Version {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String SEAL = ",\"seal\":\"";
  private static final int SEAL_LENGTH = SEAL.length() + 64 + 2;

  final JsonNode manifest;
  private final JsonNode header;
  private final byte[] bytes;
  private final int start;  // of the tensors

  /** Returns the file of a version; a number that exists is never freed. */
  static File file(File directory, int number) {
    String digits = Integer.toString(number);
    String name = "000000000000".substring(digits.length()) + digits + ".safetensors";
    return new File(directory, "versions/" + name);
  }

  /** Returns the newest number, or -1: by steps that double, then bisection, as versions/version_log.py. */
  static int newest(File directory, int known) {
    int low = Math.max(archived(directory) - 1, known >= 0 && file(directory, known).exists() ? known : -1);
    int step = 1;
    while (file(directory, low + step).exists()) {
      low += step;
      step *= 2;
    }
    int high = low + step;
    while (high - low > 1) {
      int middle = (low + high) / 2;
      if (file(directory, middle).exists()) low = middle; else high = middle;
    }
    return low;
  }

  /** Returns the number before which all versions are in archives, so that their files may have been deleted. */
  private static int archived(File directory) {
    int until = 0;
    String[] names = new File(directory, "versions/archive").list();
    for (int i = 0; names != null && i < names.length; i++) {
      if (names[i].matches("\\d{12}-\\d{12}\\.safetensors")) {
        until = Math.max(until, Integer.parseInt(names[i].substring(13, 25)));
      }
    }
    return until;
  }

  Version(File file) throws Exception {
    this.bytes = Files.readAllBytes(file.toPath());
    check(bytes.length >= 8, file, "it is truncated");
    long size = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong();
    check(size >= 2 && size <= bytes.length - 8, file, "it ends in its header");
    this.start = 8 + (int) size;
    this.header = header(file, (int) size);
    String text = at(at(header, "__metadata__"), "manifest").asText();
    check(text.length() > SEAL_LENGTH, file, "its header has no manifest");
    int end = text.length() - SEAL_LENGTH;
    String sum = hex(MessageDigest.getInstance("SHA-256"), utf8(text.substring(0, end) + "}"));
    check(text.substring(end).equals(SEAL + sum + "\"}"), file, "its manifest does not match its seal");
    this.manifest = JSON.readTree(text);
    check(!at(manifest, "kind").asText().equals("damaged"), file, "only its number and manifest are kept");
    boolean intact = pruned() || digest().equals(at(manifest, "digest").asText());
    check(intact, file, "its tensors do not have the digest in its manifest");
  }

  private JsonNode header(File file, int size) throws IOException {
    try {
      return JSON.readTree(bytes, 8, size);
    } catch (JsonProcessingException error) {
      throw new IOException(file + " is damaged: its header is not JSON");
    }
  }

  private static void check(boolean condition, File file, String what) throws IOException {
    if (!condition) throw new IOException(file + " is damaged: " + what);
  }

  /** Returns whether its tensors were deleted; the newest version always has them. */
  boolean pruned() {
    return !at(manifest, "original_sha256").asText().isEmpty();
  }

  /** Returns a part of a node; the cast is for Janino, which sees two methods where javac sees one. */
  static JsonNode at(JsonNode node, String name) {
    return (JsonNode) node.path(name);
  }

  static JsonNode at(JsonNode node, int index) {
    return (JsonNode) node.path(index);
  }

  boolean has(String name) {
    return header.has(name);
  }

  /** Returns the numbers of a float64 or float32 tensor, whatever its shape. */
  double[] doubles(String name) throws IOException {
    ByteBuffer data = data(name);
    boolean wide = at(at(header, name), "dtype").asText().equals("F64");
    double[] values = new double[data.remaining() / (wide ? 8 : 4)];
    for (int i = 0; i < values.length; i++) values[i] = wide ? data.getDouble() : (double) data.getFloat();
    return values;
  }

  /** Returns the numbers of a tensor that must have so many. */
  double[] doubles(String name, int count) throws IOException {
    double[] values = doubles(name);
    if (values.length == count) return values;
    throw new IOException("tensor " + name + " must have " + count + " numbers; got " + values.length);
  }

  /** Returns the numbers of a float32 tensor, whatever its shape. */
  float[] floats(String name) throws IOException {
    ByteBuffer data = data(name);
    float[] values = new float[data.remaining() / 4];
    data.asFloatBuffer().get(values);
    return values;
  }

  private ByteBuffer data(String name) throws IOException {
    if (!has(name)) throw new IOException("version " + at(manifest, "number") + " has no tensor " + name);
    JsonNode ends = at(at(header, name), "data_offsets");
    int begin = start + at(ends, 0).asInt();
    return ByteBuffer.wrap(bytes, begin, start + at(ends, 1).asInt() - begin).order(ByteOrder.LITTLE_ENDIAN);
  }

  /** The sha256 of names, dtypes, shapes and bytes in the names' order: `state_digest` of versions/version.py. */
  private String digest() throws Exception {
    TreeSet names = new TreeSet();
    for (Iterator each = header.fieldNames(); each.hasNext();) names.add(each.next());
    names.remove("__metadata__");
    MessageDigest digest = MessageDigest.getInstance("SHA-256");
    for (Iterator each = names.iterator(); each.hasNext();) {
      String name = (String) each.next();
      JsonNode tensor = at(header, name);
      String dtype = numpy(at(tensor, "dtype").asText());
      digest.update(utf8(name + "\0" + dtype + "\0" + tuple(at(tensor, "shape")) + "\0"));
      digest.update(data(name));
    }
    return hex(digest, new byte[0]);
  }

  /** Returns NumPy's name for safetensors' F32, I64, U8 or BOOL. */
  private static String numpy(String dtype) {
    if (dtype.equals("BOOL")) return "|b1";
    int size = Integer.parseInt(dtype.substring(1)) / 8;
    return (size == 1 ? "|" : "<") + dtype.substring(0, 1).toLowerCase() + size;
  }

  /** Returns a shape as Python writes it: (), (3,), (3, 4). */
  private static String tuple(JsonNode shape) {
    StringBuilder text = new StringBuilder("(");
    for (int i = 0; i < shape.size(); i++) text.append(i > 0 ? ", " : "").append(at(shape, i).asInt());
    return text.append(shape.size() == 1 ? ",)" : ")").toString();
  }

  private static byte[] utf8(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private static String hex(MessageDigest digest, byte[] last) {
    byte[] sum = digest.digest(last);
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < sum.length; i++) {
      text.append(Character.forDigit((sum[i] >> 4) & 15, 16)).append(Character.forDigit(sum[i] & 15, 16));
    }
    return text.toString();
  }
}
