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

/** One version of the model, read from its file as log/version.py does: whole and checked, or not at all. */
final class Version {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String SEAL = ",\"seal\":\"";
  private static final int SEAL_LENGTH = SEAL.length() + 64 + 2;

  final JsonNode record;
  private final JsonNode header;
  private final byte[] bytes;
  private final int start;  // of the tensors

  /** Says what the name of a version's file is; a number is a name that is never taken back. */
  static File file(File directory, int number) {
    String digits = Integer.toString(number);
    String name = "000000000000".substring(digits.length()) + digits + ".safetensors";
    return new File(directory, "versions/" + name);
  }

  /** Finds the newest number, -1 where there is none: by steps that double, then bisection, as log/log.py. */
  static int newest(File directory, int known) {
    int low = known >= 0 && file(directory, known).exists() ? known : -1;
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

  Version(File file) throws Exception {
    this.bytes = Files.readAllBytes(file.toPath());
    check(bytes.length >= 8, file, "it is cut");
    long size = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong();
    check(size >= 2 && size <= bytes.length - 8, file, "it ends in its header");
    this.start = 8 + (int) size;
    this.header = header(file, (int) size);
    String text = at(at(header, "__metadata__"), "record").asText();
    check(text.length() > SEAL_LENGTH, file, "its header holds no record");
    int end = text.length() - SEAL_LENGTH;
    String sum = hex(MessageDigest.getInstance("SHA-256"), utf8(text.substring(0, end) + "}"));
    check(text.substring(end).equals(SEAL + sum + "\"}"), file, "its record is not what its seal says");
    this.record = JSON.readTree(text);
    check(!at(record, "kind").asText().equals("damaged"), file, "only its number is kept");
    boolean same = thinned() || digest().equals(at(record, "digest").asText());
    check(same, file, "its tensors are not those whose digest its record holds");
  }

  private JsonNode header(File file, int size) throws IOException {
    try {
      return JSON.readTree(bytes, 8, size);
    } catch (JsonProcessingException error) {
      throw new IOException(file + " is damaged: its header is not JSON");
    }
  }

  private static void check(boolean holds, File file, String what) throws IOException {
    if (!holds) throw new IOException(file + " is damaged: " + what);
  }

  /** Whether its tensors were taken away, which only a version with a newer one can lose. */
  boolean thinned() {
    return !at(record, "original").asText().isEmpty();
  }

  /** Gives a part of a node; the cast is for Janino, which sees two methods where javac sees one. */
  static JsonNode at(JsonNode node, String name) {
    return (JsonNode) node.path(name);
  }

  static JsonNode at(JsonNode node, int place) {
    return (JsonNode) node.path(place);
  }

  boolean has(String name) {
    return header.has(name);
  }

  /** Gives the numbers of a float64 or float32 tensor, whatever its shape. */
  double[] doubles(String name) throws IOException {
    ByteBuffer data = data(name);
    boolean wide = at(at(header, name), "dtype").asText().equals("F64");
    double[] values = new double[data.remaining() / (wide ? 8 : 4)];
    for (int i = 0; i < values.length; i++) values[i] = wide ? data.getDouble() : (double) data.getFloat();
    return values;
  }

  /** Gives the rows of a float32 tensor (members, parameters). */
  float[][] floats(String name) throws IOException {
    int members = at(at(at(header, name), "shape"), 0).asInt();
    ByteBuffer data = data(name);
    float[][] values = new float[members][members == 0 ? 0 : data.remaining() / 4 / members];
    for (int i = 0; i < members; i++) {
      for (int j = 0; j < values[i].length; j++) values[i][j] = data.getFloat();
    }
    return values;
  }

  private ByteBuffer data(String name) throws IOException {
    if (!has(name)) throw new IOException("version " + at(record, "number") + " has no tensor " + name);
    JsonNode ends = at(at(header, name), "data_offsets");
    int begin = start + at(ends, 0).asInt();
    return ByteBuffer.wrap(bytes, begin, start + at(ends, 1).asInt() - begin).order(ByteOrder.LITTLE_ENDIAN);
  }

  /** The sha256 of names, dtypes, shapes and bytes in the names' order: `state_digest` of log/version.py. */
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

  /** Gives NumPy's name for safetensors' F32, I64, U8 or BOOL. */
  private static String numpy(String dtype) {
    if (dtype.equals("BOOL")) return "|b1";
    int size = Integer.parseInt(dtype.substring(1)) / 8;
    return (size == 1 ? "|" : "<") + dtype.substring(0, 1).toLowerCase() + size;
  }

  /** Writes a shape as Python does: (), (3,), (3, 4). */
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
