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
 * Sends records at an even rate, each with its number as the key, and reads the predictions, which have the
 * same key; both times are of one clock. It sends until all records are sent or its standard input ends, and
 * then waits for the missing predictions. Arguments: bootstrap, topic, topic of the predictions, rate, maximum
 * of records, seconds to wait, values, result.
 */
public final class Client implements Runnable {
  private static final byte[] VERSION = "\"version\":".getBytes();
  private static final long SECOND = 1000000000L;

  private final String bootstrap;
  private final KafkaConsumer predictions;
  private final long[] sent;  // nanoseconds since the start
  private final long[] received;  // the first prediction, since the start; 0: none yet
  private final int[] counts;  // predictions
  private final int[] versions;  // of the first prediction; -1: it names none
  private volatile long start;
  private volatile int count;  // records sent
  private volatile int predicted;
  private volatile boolean stopping;
  private volatile boolean done;

  public static void main(String[] given) throws Exception {
    new Client(given[0], given[2], Integer.parseInt(given[4])).run(given);
    System.exit(0);  // a thread may still wait for the standard input
  }

  private Client(String bootstrap, String from, int most) {
    this.bootstrap = bootstrap;
    this.sent = new long[most];
    this.received = new long[most];
    this.counts = new int[most];
    this.versions = new int[most];
    this.predictions = new KafkaConsumer(client("Deserializer"));
    List partitions = new ArrayList();
    for (Iterator each = predictions.partitionsFor(from).iterator(); each.hasNext();) {
      partitions.add(new TopicPartition(from, ((PartitionInfo) each.next()).partition()));
    }
    predictions.assign(partitions);
    predictions.seekToEnd(partitions);
    for (Iterator each = partitions.iterator(); each.hasNext();) predictions.position((TopicPartition) each.next());
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
    options.setProperty("linger.ms", "0");  // the client's own delay, up to 5 ms by default, is not part of the scorer's latency
    KafkaProducer producer = new KafkaProducer(options);
    int partitions = producer.partitionsFor(given[1]).size();
    Thread reader = new Thread(this, "predictions");
    reader.start();
    new Thread(new Stop(), "stop").start();
    start = System.nanoTime();
    System.out.println(System.currentTimeMillis());
    send(producer, given[1], partitions, values, Integer.parseInt(given[3]));
    producer.flush();
    long end = System.nanoTime() + Long.parseLong(given[5]) * SECOND;
    while (predicted < count && System.nanoTime() < end) Thread.sleep(20);
    Thread.sleep(1000);  // for duplicates
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

  /** Reads predictions until the end. */
  public void run() {
    while (!done) {
      Iterator batch = predictions.poll(Duration.ofMillis(10)).iterator();
      long now = System.nanoTime();
      while (batch.hasNext()) record((ConsumerRecord) batch.next(), now);
    }
  }

  private void record(ConsumerRecord prediction, long now) {
    int i = ByteBuffer.wrap((byte[]) prediction.key()).getInt();
    if (counts[i]++ > 0) return;
    received[i] = now - start;
    versions[i] = version((byte[]) prediction.value());
    predicted++;
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
      file.writeLong(received[i]);
      file.writeInt(counts[i]);
      file.writeInt(versions[i]);
    }
    file.close();
  }

  /** Waits for the end of the standard input, with which the parent process stops the sending. */
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
