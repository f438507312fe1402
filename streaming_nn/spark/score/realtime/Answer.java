package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.TextNode;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.OffsetDateTime;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.spark.sql.api.java.UDF4;

/** Answers a record's value, topic, partition and offset with JSON, by the newest version. */
public final class Answer implements UDF4 {
  private static final ConcurrentHashMap NEWEST = new ConcurrentHashMap();  // one a directory, in each JVM

  private String directory;
  private double oldest;  // seconds after which a version's answers are stale; 0: never
  private transient Newest newest;
  private transient Model model;
  private transient Network.Work work;  // each task has its own copy of this object
  private transient StringBuilder text;

  public void of(String directory, double oldest) {
    this.directory = directory;
    this.oldest = oldest;
  }

  public Object call(Object value, Object topic, Object partition, Object offset) throws Exception {
    Model current = newest();
    if (current != model) {
      work = current.network.work();
      model = current;
    }
    text.setLength(0);
    String reason = model.records.read((byte[]) value, work.x);
    if (reason == null) answer();
    else text.append("{\"prediction\":null,\"error\":").append(quoted(reason));
    text.append(model.stamp);
    long age = Math.max(0, System.currentTimeMillis() - model.written);
    text.append(",\"age_seconds\":").append(age / 1000.0);
    text.append(",\"stale\":").append(oldest > 0 && age > 1000 * oldest);
    text.append(",\"topic\":\"").append(topic).append("\",\"partition\":").append(partition);
    text.append(",\"offset\":").append(offset).append('}');
    return text.toString().getBytes(StandardCharsets.UTF_8);
  }

  private Model newest() throws Exception {
    if (newest == null) {
      NEWEST.putIfAbsent(directory, new Newest(new File(directory)));
      newest = (Newest) NEWEST.get(directory);
      text = new StringBuilder();
    }
    return newest.model();
  }

  private void answer() {
    model.network.predict(work);
    float[] answer = work.answer;
    if (model.labels == null) {
      text.append("{\"prediction\":").append(answer[0]);
      return;
    }
    int known = model.labels.length;  // classes that grow may be fewer than the outputs
    int best = 0;
    for (int j = 1; j < known; j++) if (answer[j] > answer[best]) best = j;
    text.append("{\"prediction\":").append(known > 0 ? model.labels[best] : "null");
    text.append(",\"probabilities\":[");
    for (int j = 0; j < known; j++) {
      if (j > 0) text.append(',');
      millionths(answer[j]);
    }
    text.append(']');
  }

  /** Writes a probability with six digits. */
  private void millionths(float p) {
    long digits = 1000000 + Math.round(p * 1e6);
    text.append(digits / 1000000 - 1).append('.').append(digits % 1000000 + 1000000);
    text.deleteCharAt(text.length() - 7);
  }

  private static String quoted(String reason) {
    return TextNode.valueOf(reason).toString();
  }

  /** A version as it answers: how records are read, the network, and what each answer says of it. */
  private static final class Model {
    final int number;
    final Records records;
    final Network network;
    final String[] labels;  // in JSON; null for regression
    final String stamp;
    final long written;  // milliseconds

    Model(Version version) throws IOException {
      JsonNode record = version.record;
      this.number = Version.at(record, "number").asInt();
      this.records = new Records(Version.at(record, "schema"));
      this.network = new Network(version);
      JsonNode classes = Version.at(Version.at(record, "learner"), "classes");
      this.labels = classes.isArray() ? new String[classes.size()] : null;
      for (int i = 0; i < classes.size(); i++) labels[i] = Version.at(classes, i).toString();
      String digest = Version.at(record, "digest").asText().substring(0, 12);
      this.stamp = ",\"version\":" + number + ",\"digest\":\"" + digest + '"';
      String written = Version.at(record, "written_at").asText();
      this.written = OffsetDateTime.parse(written).toInstant().toEpochMilli();
    }
  }

  /**
   * The newest version of a directory. Every tenth of a second an answer first looks whether the next number
   * is taken, and if so has that version read aside; after a second without a record it waits for that.
   */
  private static final class Newest implements Runnable {
    private static final long OFTEN = 100000000L;  // nanoseconds
    private static final long LONG = 1000000000L;

    private final File directory;
    private final AtomicBoolean reading = new AtomicBoolean();
    private volatile Model model;
    private volatile long looked;
    private volatile Exception failure;

    Newest(File directory) {
      this.directory = directory;
    }

    Model model() throws Exception {
      long now = System.nanoTime();
      if (model == null || now - looked > LONG) {
        read();
      } else if (now - looked > OFTEN) {
        looked = now;
        if (Version.file(directory, model.number + 1).exists() && reading.compareAndSet(false, true)) {
          Thread aside = new Thread(this, "streaming-nn-reload");
          aside.setDaemon(true);
          aside.start();
        }
      }
      Exception failed = failure;
      failure = null;
      if (failed != null) throw failed;
      return model;
    }

    public void run() {
      try {
        read();
      } catch (Exception error) {
        failure = error;
      } finally {
        reading.set(false);
      }
    }

    private synchronized void read() throws Exception {
      int known = model == null ? -1 : model.number;
      int number = Version.newest(directory, known);
      if (number < 0) throw new IOException(directory + " holds no version here: in real-time mode the model "
          + "directory must be at this path on every executor; --engine batch needs it on the driver only");
      while (number != known) {
        Version version = new Version(Version.file(directory, number));
        if (!version.thinned()) {
          model = new Model(version);
          break;
        }
        number = Version.newest(directory, number);  // thinned just now, so there is a newer one
      }
      looked = System.nanoTime();
    }
  }
}
