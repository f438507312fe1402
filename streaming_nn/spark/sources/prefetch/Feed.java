package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteBufferDeserializer;
import org.apache.spark.sql.Row;

/** A partition's records, read ahead by a thread: while a micro-batch is learned, the next one is read. */
final class Feed implements Runnable {
  private static final ConcurrentHashMap IDLE = new ConcurrentHashMap();  // by key: those that no task uses
  private static final long KEPT = 60000;  // milliseconds that an idle feed waits for its next task
  private static final long PATIENCE = 120000;  // milliseconds without a record although there should be one
  private static final Duration POLL = Duration.ofMillis(200);
  private static final Duration LINGER = Duration.ofMillis(20);  // that few records wait for more, to share a file
  private static final int MANY = 1000;  // records that justify a file

  private final String key;
  private final TopicPartition partition;
  private final KafkaConsumer consumer;
  private final Plain plain;  // null: records are not packed
  private final Columns.Buffer buffer;
  private final ArrayDeque waiting = new ArrayDeque();  // of Polled
  private long bytes;  // that wait
  private long ahead;  // bytes that may wait
  private long next;  // the offset of the first record that was not taken
  private long idle;  // since when, in milliseconds; 0: a task uses it
  private boolean closed;
  private Throwable failure;

  /** Returns the feed that is at a range's begin, or a new one; a recreated topic has another id. */
  static Feed take(JsonNode request, JsonNode range) throws IOException {
    long begin = Plain.at(range, "begin").asLong();
    long ahead = Plain.at(request, "ahead").asLong();
    String topic = Plain.at(range, "topic").asText();
    TopicPartition partition = new TopicPartition(topic, Plain.at(range, "partition").asInt());
    String client = Plain.at(request, "options").toString() + Plain.at(request, "plain");
    String key = partition + " " + Plain.at(range, "id").asText() + " " + client;
    Feed feed = (Feed) IDLE.remove(key);
    if (feed != null && feed.resumed(begin, ahead)) return feed;
    if (feed != null) feed.close();
    return new Feed(key, request, partition, begin, ahead);
  }

  private Feed(String key, JsonNode request, TopicPartition partition, long begin, long ahead) throws IOException {
    this.key = key;
    this.partition = partition;
    this.next = begin;
    this.ahead = ahead;
    String plain = Plain.at(request, "plain").asText();
    this.plain = plain.isEmpty() ? null : new Plain(plain);
    this.buffer = new Columns.Buffer(Plain.at(request, "directory").asText());
    HashMap all = new HashMap();
    for (Iterator each = Plain.at(request, "options").fieldNames(); each.hasNext();) {
      String name = (String) each.next();
      all.put(name, Plain.at(Plain.at(request, "options"), name).asText());
    }
    all.remove("group.id");  // nothing is committed or shared
    all.put("enable.auto.commit", "false");
    all.put("auto.offset.reset", "none");  // an expired record is an error
    this.consumer = new KafkaConsumer(all, new ByteBufferDeserializer(), new ByteBufferDeserializer());
    consumer.assign(Collections.singletonList(partition));
    consumer.seek(partition, begin);
    Thread thread = new Thread(this, "streaming-nn-feed-" + partition);
    thread.setDaemon(true);
    thread.start();
  }

  public void run() {
    try {
      long position = next;
      long began = 0;
      ArrayList records = new ArrayList();
      while (wanted()) {
        if (records.isEmpty()) began = System.nanoTime();
        records.addAll(consumer.poll(records.isEmpty() ? POLL : LINGER).records(partition));
        long reached = consumer.position(partition);
        boolean few = records.size() < MANY && System.nanoTime() - began < LINGER.toNanos();
        if (reached == position || (few && !records.isEmpty())) continue;
        add(new Polled(new Columns(partition, records, plain, buffer), reached));
        position = reached;
        records.clear();
      }
    } catch (Throwable error) {
      fail(error);
    } finally {
      IDLE.remove(key, this);
      consumer.close(Duration.ZERO);
      drop();
    }
  }

  // Janino drops `synchronized` from private methods: none of these is private.

  /** Waits until more may be read ahead; returns false if the feed is closed. */
  synchronized boolean wanted() throws InterruptedException {
    while (!closed && bytes >= ahead && !forgotten()) wait(1000);
    if (forgotten()) closed = true;
    return !closed;
  }

  private boolean forgotten() {
    return idle > 0 && System.currentTimeMillis() - idle > KEPT;
  }

  synchronized void add(Polled polled) {
    waiting.add(polled);
    bytes += polled.columns.bytes;
    notifyAll();
  }

  synchronized void fail(Throwable error) {
    failure = error;
    closed = true;
    notifyAll();
  }

  /** Deletes what was not taken. */
  synchronized void drop() {
    for (Object polled = waiting.poll(); polled != null; polled = waiting.poll()) ((Polled) polled).columns.drop();
  }

  synchronized boolean resumed(long from, long ahead) {
    if (closed || next != from) return false;
    this.ahead = ahead;
    this.idle = 0;
    return true;
  }

  /** Returns the next records before an offset, many in a row; null: there are none left. */
  synchronized Row next(long until) throws Exception {
    while (next < until) {
      await();
      Polled head = (Polled) waiting.peek();
      int from = head.taken;
      head.taken = head.columns.before(until);
      next = head.taken < head.columns.size ? until : Math.min(head.reached, until);
      if (head.taken == head.columns.size && head.reached <= until) {
        waiting.poll();
        bytes -= head.columns.bytes;
        notifyAll();
      }
      if (head.taken > from) return head.columns.row(from, head.taken);
    }
    return null;
  }

  private void await() throws Exception {
    long began = System.currentTimeMillis();
    while (waiting.isEmpty()) {
      if (failure != null) throw new IOException(partition + " from offset " + next + ": " + failure, failure);
      if (System.currentTimeMillis() - began > PATIENCE) {
        throw new IOException(partition + " from offset " + next + ": no record arrived in " + PATIENCE / 1000 + " s");
      }
      wait(1000);
    }
  }

  /** Releases it for the task of the next micro-batch. */
  synchronized void release() {
    idle = System.currentTimeMillis();
    Feed other = (Feed) IDLE.put(key, this);
    if (other != null) other.close();
  }

  synchronized void close() {
    closed = true;
    notifyAll();
  }

  /** The records of one poll, and the offset after it, which skips aborted and compacted records. */
  private static final class Polled {
    final Columns columns;
    final long reached;
    int taken;  // records

    Polled(Columns columns, long reached) {
      this.columns = columns;
      this.reached = reached;
    }
  }
}
