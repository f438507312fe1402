package streaming_nn;

import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Sends records to a topic from the driver: a Spark job for a few of them takes longer than predicting them. */
public final class Sender {
  private KafkaProducer producer;
  private String topic;

  /** Sets the topic, and the producer's options: names and values in turn, each ended by a zero. */
  public void configure(String topic, String options) {
    Map properties = new HashMap();
    String[] cells = options.split("\0", -1);
    for (int i = 0; i + 1 < cells.length; i += 2) properties.put(cells[i], cells[i + 1]);
    this.topic = topic;
    producer = new KafkaProducer(properties, new ByteArraySerializer(), new ByteArraySerializer());
  }

  /** Sends records (their number, then of each: key, value, number of headers, their keys and values); waits for all. */
  public void send(byte[] records) throws Exception {
    DataInputStream input = new DataInputStream(new ByteArrayInputStream(records));
    List sent = new ArrayList();
    for (int left = input.readInt(); left > 0; left--) {
      ProducerRecord record = new ProducerRecord(topic, bytes(input), bytes(input));
      for (int headers = input.readInt(); headers > 0; headers--)
        record.headers().add(new String(bytes(input), StandardCharsets.UTF_8), bytes(input));
      sent.add(producer.send(record));
    }
    producer.flush();
    try {
      for (int i = 0; i < sent.size(); i++) ((Future) sent.get(i)).get();
    } catch (ExecutionException error) {
      throw (Exception) error.getCause();
    }
  }

  public void close() {
    producer.close();
  }

  private static byte[] bytes(DataInputStream input) throws IOException {
    int length = input.readInt();
    if (length < 0) return null;
    byte[] found = new byte[length];
    input.readFully(found);
    return found;
  }
}
