package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.TextNode;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.NoSuchFileException;
import java.time.OffsetDateTime;
import java.util.HashSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.spark.sql.api.java.UDF5;
import org.apache.spark.sql.expressions.UserDefinedFunction;
import org.apache.spark.sql.functions;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.util.LongAccumulator;

/**
 * Maps a record's value, topic, partition, offset and timestamp (milliseconds, or null) to a prediction in JSON, by the
 * newest version; null: filtered.
 */
public final class Predictor implements UDF5 {
  private static final ConcurrentHashMap NEWEST = new ConcurrentHashMap();  // by directory, in each JVM

  private String directory;
  private double maxAge;  // seconds after which a version's predictions are stale; 0: never
  private String probabilities;  // object, array or none
  private boolean events;  // predictions are the data of CloudEvents
  private String paths;  // of the fields that predictions have: a JSON object; "": none
  private int longest;  // bytes of them
  private LongAccumulator[] counted;  // see `count`; null: nothing is counted
  private long[] bounds;  // of latencies, in milliseconds, ascending
  private transient Newest newest;
  private transient Model model;
  private transient Network.Work work;  // each task has its own copy of this object
  private transient StringBuilder text;
  private transient Fields fields;  // null: none

  public void configure(String directory, double maxAge, String probabilities, boolean events,
      String paths, int longest) {
    this.directory = directory;
    this.maxAge = maxAge;
    this.probabilities = probabilities;
    this.events = events;
    this.paths = paths;
    this.longest = longest;
  }

  /**
   * Sets what counts records: predicted, rejected and filtered ones, the sum of the latencies in milliseconds, then the
   * predictions up to each bound, and beyond the last. Spark adds up those of tasks that ended.
   */
  public void count(LongAccumulator[] counted, String bounds) {
    String[] texts = bounds.split(",");
    this.bounds = new long[texts.length];
    for (int i = 0; i < texts.length; i++) this.bounds[i] = Long.parseLong(texts[i]);
    this.counted = counted;
  }

  private void count(String reason, Object timestamp) {
    boolean filtered = Where.isFiltered(reason);
    counted[reason == null ? 0 : filtered ? 2 : 1].add(1L);
    if (filtered || timestamp == null || ((Long) timestamp).longValue() < 0) return;  // Kafka's -1: it has none
    long latency = Math.max(0, System.currentTimeMillis() - ((Long) timestamp).longValue());
    int i = 0;
    while (i < bounds.length && latency > bounds[i]) i++;
    counted[3].add(latency);
    counted[4 + i].add(1L);
  }

  /** This as a function of Spark, not deterministic, or a filter would call it again; py4j may take another overload. */
  public UserDefinedFunction function() {
    return functions.udf((UDF5) this, DataTypes.BinaryType).asNondeterministic();
  }

  public Object call(Object value, Object topic, Object partition, Object offset, Object timestamp) throws Exception {
    Model current = newest();
    if (current != model) {
      work = current.network.work();
      model = current;
    }
    text.setLength(0);
    if (events) beginEvent(topic, partition, offset);
    byte[] content = model.records.content((byte[]) value);
    String reason = model.records.read(content, ((byte[]) value).length, work.x);
    if (counted != null) count(reason, timestamp);
    if (Where.isFiltered(reason)) return null;
    if (reason == null) predict();
    else text.append("{\"prediction\":null,\"error\":").append(toJson(reason));
    if (fields != null) {
      text.append(",\"fields\":");
      fields.append(Records.isJson(reason) ? content : null, text);
    }
    text.append(model.versionFields);
    long age = Math.max(0, System.currentTimeMillis() - model.writtenAt);
    text.append(",\"age_seconds\":").append(age / 1000.0);
    text.append(",\"stale\":").append(maxAge > 0 && age > 1000 * maxAge);
    text.append(",\"topic\":\"").append(topic).append("\",\"partition\":").append(partition);
    text.append(",\"offset\":").append(offset).append(events ? "}}" : "}");
    return text.toString().getBytes(StandardCharsets.UTF_8);
  }

  /** Begins an event as `_events` of score/predictions.py. */
  private void beginEvent(Object topic, Object partition, Object offset) {
    text.append("{\"specversion\":\"1.0\",\"type\":\"streaming-nn.prediction\",\"source\":\"streaming-nn:");
    text.append(topic).append("\",\"id\":\"").append(partition).append('-').append(offset);
    text.append("\",\"datacontenttype\":\"application/json\",\"data\":");
  }

  private Model newest() throws Exception {
    if (newest == null) {
      NEWEST.putIfAbsent(directory, new Newest(new File(directory)));
      newest = (Newest) NEWEST.get(directory);
      text = new StringBuilder();
      if (!paths.isEmpty()) fields = new Fields(paths, longest);
    }
    return newest.model();
  }

  private void predict() {
    model.network.predict(work);
    double[] output = work.output;
    if (model.targets != null) {
      text.append("{\"prediction\":{");
      for (int j = 0; j < output.length; j++) {
        text.append(j > 0 ? "," : "").append(model.targets[j]).append(':').append(output[j]);
      }
      text.append('}');
      return;
    }
    if (model.labels == null) {
      text.append("{\"prediction\":").append(output[model.network.point]);
      return;
    }
    int known = model.labels.length;  // classes that grow may be fewer than the outputs
    text.append("{\"prediction\":");
    if (model.multilabel) appendLabels(output, known);
    else text.append(known > 0 ? model.labels[best(output, known)] : "null");
    if (probabilities.equals("none")) return;
    boolean keyed = probabilities.equals("object");
    text.append(keyed ? ",\"probabilities\":{" : ",\"probabilities\":[");
    for (int j = 0; j < known; j++) {
      if (j > 0) text.append(',');
      if (keyed) text.append(model.keys[j]).append(':');
      appendProbability(output[j]);
    }
    text.append(keyed ? '}' : ']');
  }

  private static int best(double[] output, int known) {
    int best = 0;
    for (int j = 1; j < known; j++) if (output[j] > output[best]) best = j;
    return best;
  }

  /** Appends the list of the labels that apply. */
  private void appendLabels(double[] output, int known) {
    text.append('[');
    String separator = "";
    for (int j = 0; j < known; j++) {
      if (!(output[j] > 0.5)) continue;
      text.append(separator).append(model.labels[j]);
      separator = ",";
    }
    text.append(']');
  }

  /** Appends a probability with six digits, rounded half to even. */
  private void appendProbability(double p) {
    long digits = 1000000 + (long) Math.rint(p * 1e6);
    text.append(digits / 1000000 - 1).append('.').append(digits % 1000000 + 1000000);
    text.deleteCharAt(text.length() - 7);
  }

  private static String toJson(String text) {
    return TextNode.valueOf(text).toString();
  }

  /** What predictions need of a version: how records are read, the network, the labels, fields about the version. */
  private static final class Model {
    final int number;
    final Records records;
    final Network network;
    final String[] labels;  // in JSON; null for regression
    final String[] keys;  // of the labels, in JSON
    final boolean multilabel;  // any number of the labels applies
    final String[] targets;  // names in JSON; null: one target, or classes
    final String versionFields;
    final long writtenAt;  // milliseconds since 1970

    Model(Version version) throws IOException {
      JsonNode manifest = version.manifest;
      this.number = Version.at(manifest, "number").asInt();
      this.records = new Records(Version.at(manifest, "schema"));
      this.network = new Network(version);
      JsonNode classes = Version.at(Version.at(manifest, "learner"), "classes");
      this.labels = classes.isArray() ? new String[classes.size()] : null;
      for (int i = 0; i < classes.size(); i++) labels[i] = Version.at(classes, i).toString();
      this.keys = keys(classes);
      this.multilabel = Version.at(Version.at(manifest, "learner"), "multilabel").asBoolean();
      JsonNode names = Version.at(Version.at(manifest, "learner"), "targets");
      this.targets = names.isArray() ? new String[names.size()] : null;
      for (int i = 0; i < names.size(); i++) targets[i] = Version.at(names, i).toString();
      String digest = Version.at(manifest, "digest").asText().substring(0, 12);
      this.versionFields = ",\"version\":" + number + ",\"digest\":\"" + digest + '"';
      String writtenAt = Version.at(manifest, "written_at").asText();
      this.writtenAt = OffsetDateTime.parse(writtenAt).toInstant().toEpochMilli();
    }

    /** Returns the labels' keys, as `label_keys` of score/predictions.py. */
    private static String[] keys(JsonNode classes) {
      String[] keys = new String[classes.size()];
      HashSet different = new HashSet();
      for (int i = 0; i < keys.length; i++) different.add(Version.at(classes, i).asText());
      boolean unique = different.size() == keys.length;
      for (int i = 0; i < keys.length; i++) {
        JsonNode label = Version.at(classes, i);
        keys[i] = toJson(unique ? label.asText() : label.toString());
      }
      return keys;
    }
  }

  /**
   * The newest version of a directory. At most every 10 ms, a prediction first checks whether there is a newer one; if
   * so, that is read in the background, in a fifth of the time at most. After a second without a record, it waits for
   * that.
   */
  private static final class Newest implements Runnable {
    private static final long CHECK_AFTER = 10000000L;  // nanoseconds
    private static final long WAIT_AFTER = 1000000000L;

    private final File directory;
    private final AtomicBoolean reading = new AtomicBoolean();
    private volatile Model model;
    private volatile long checkedAt;
    private volatile long checkAfter = CHECK_AFTER;
    private volatile Exception failure;

    Newest(File directory) {
      this.directory = directory;
    }

    Model model() throws Exception {
      long now = System.nanoTime();
      if (model == null || now - checkedAt > WAIT_AFTER) {
        read();
      } else if (now - checkedAt > checkAfter) {
        checkedAt = now;
        int known = model.number;
        if (Version.newest(directory, known) > known && reading.compareAndSet(false, true)) {
          Thread reader = new Thread(this, "streaming-nn-reload");
          reader.setDaemon(true);
          reader.start();
        }
      }
      Exception failed = failure;
      failure = null;
      if (failed != null) throw failed;
      return model;
    }

    public void run() {
      long began = System.nanoTime();
      try {
        read();
        checkAfter = Math.max(CHECK_AFTER, 4 * (System.nanoTime() - began));
      } catch (Exception error) {
        failure = error;
      } finally {
        reading.set(false);
      }
    }

    private synchronized void read() throws Exception {
      int known = model == null ? -1 : model.number;
      int number = Version.newest(directory, known);
      if (number < 0) throw new IOException(directory + " has no version here: in real-time mode the model "
          + "directory must be at this path on every executor; --engine batch needs it on the driver only");
      while (number != known) {
        try {
          Version version = new Version(Version.file(directory, number));
          if (!version.pruned()) {
            model = new Model(version);
            break;
          }
        } catch (NoSuchFileException error) {
          if (Version.newest(directory, -1) == number) throw error;
        }
        number = Version.newest(directory, number);  // it was just pruned, so there is a newer one
      }
      checkedAt = System.nanoTime();
    }
  }
}
