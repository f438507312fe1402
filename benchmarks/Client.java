package benchmarks;

import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;

/**
 * Sends records at an even pace, each with its number as the key, and reads the answers, which have the same
 * key; both times are of one clock. It sends until all is sent, or its standard input ends, and then waits
 * for what is unanswered. Arguments: bootstrap, topic, topic of the answers, rate, most records, seconds to
 * wait, values, result.
 */
public final class Client implements Runnable {
  private static final byte[] VERSION = "\"version\":".getBytes();
  private static final long SECOND = 1000000000L;

  private final String bootstrap;
  private final KafkaConsumer answers;
  private final long[] sent;  // nanoseconds since the start
  private final long[] came;  // the first answer, since the start; 0: none has
  private final int[] times;  // answers
  private final int[] versions;  // of the first answer; -1: it names none
  private volatile long start;
  private volatile int count;  // records sent
  private volatile int answered;
  private volatile boolean stopping;
  private volatile boolean done;

  public static void main(String[] given) throws Exception {
    new Client(given[0], given[2], Integer.parseInt(given[4])).run(given);
    System.exit(0);  // a thread may wait for the standard input still
  }

  private Client(String bootstrap, String from, int most) {
    this.bootstrap = bootstrap;
    this.sent = new long[most];
    this.came = new long[most];
    this.times = new int[most];
    this.versions = new int[most];
    this.answers = new KafkaConsumer(client("Deserializer"));
    List places = new ArrayList();
    for (Iterator each = answers.partitionsFor(from).iterator(); each.hasNext();) {
      places.add(new TopicPartition(from, ((PartitionInfo) each.next()).partition()));
    }
    answers.assign(places);
    answers.seekToEnd(places);
    for (Iterator each = places.iterator(); each.hasNext();) answers.position((TopicPartition) each.next());
  }

  private Properties client(String kind) {
    Properties options = new Properties();
    options.setProperty("bootstrap.servers", bootstrap);
    String name = "org.apache.kafka.common.serialization.ByteArray" + kind;
    options.setProperty("key." + kind.toLowerCase(), name);
    options.setProperty("value." + kind.toLowerCase(), name);
    return options;
  }

  private void run(String[] given) throws Exception {
    byte[][] values = values(given[6]);
    Properties options = client("Serializer");
    options.setProperty("linger.ms", "0");  // a client's own wait, up to 5 ms by default, is none of the scorer's
    KafkaProducer producer = new KafkaProducer(options);
    int partitions = producer.partitionsFor(given[1]).size();
    Thread reader = new Thread(this, "answers");
    reader.start();
    new Thread(new Stop(), "stop").start();
    start = System.nanoTime();
    System.out.println(System.currentTimeMillis());
    send(producer, given[1], partitions, values, Integer.parseInt(given[3]));
    producer.flush();
    long end = System.nanoTime() + Long.parseLong(given[5]) * SECOND;
    while (answered < count && System.nanoTime() < end) Thread.sleep(20);
    Thread.sleep(1000);  // for those that come twice
    done = true;
    reader.join();
    write(given[7]);
  }

  private void send(KafkaProducer producer, String topic, int partitions, byte[][] values, int rate) {
    for (int i = 0; i < sent.length && !stopping; i++) {
      long due = start + i * SECOND / rate;
      while (System.nanoTime() < due) LockSupport.parkNanos(due - System.nanoTime());
      byte[] key = ByteBuffer.allocate(4).putInt(i).array();
      sent[i] = System.nanoTime() - start;
      count = i + 1;
      byte[] value = values[i % values.length];
      producer.send(new ProducerRecord(topic, Integer.valueOf(i % partitions), key, value));
    }
  }

  /** Reads answers until all is done. */
  public void run() {
    while (!done) {
      Iterator batch = answers.poll(Duration.ofMillis(10)).iterator();
      long now = System.nanoTime();
      while (batch.hasNext()) note((ConsumerRecord) batch.next(), now);
    }
  }

  private void note(ConsumerRecord record, long now) {
    int i = ByteBuffer.wrap((byte[]) record.key()).getInt();
    if (times[i]++ > 0) return;
    came[i] = now - start;
    versions[i] = version((byte[]) record.value());
    answered++;
  }

  private static int version(byte[] value) {
    for (int at = 0; at + VERSION.length < value.length; at++) {
      int same = 0;
      while (same < VERSION.length && value[at + same] == VERSION[same]) same++;
      if (same == VERSION.length) {
        int number = 0;
        for (int j = at + same; Character.isDigit(value[j]); j++) number = 10 * number + value[j] - '0';
        return number;
      }
    }
    return -1;
  }

  private static byte[][] values(String path) throws IOException {
    DataInputStream file = new DataInputStream(new FileInputStream(path));
    byte[][] values = new byte[file.readInt()][];
    for (int i = 0; i < values.length; i++) {
      values[i] = new byte[file.readInt()];
      file.readFully(values[i]);
    }
    file.close();
    return values;
  }

  private void write(String path) throws IOException {
    BufferedOutputStream bytes = new BufferedOutputStream(new FileOutputStream(path));
    DataOutputStream file = new DataOutputStream(bytes);
    for (int i = 0; i < count; i++) {
      file.writeLong(sent[i]);
      file.writeLong(came[i]);
      file.writeInt(times[i]);
      file.writeInt(versions[i]);
    }
    file.close();
  }

  /** Waits for the end of the standard input, by which who started it says that it is enough. */
  private final class Stop implements Runnable {
    public void run() {
      try {
        while (System.in.read() >= 0);
      } catch (IOException closed) {
      }
      stopping = true;
    }
  }
}
