package streaming_nn;

import com.fasterxml.jackson.databind.node.TextNode;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;

/** Records of one partition, in the order of their offsets, column by column: one copy, and no object a record. */
final class Columns {
  final String topic;
  final int partition;
  final int size;
  private final long[] offsets;
  private final long[] times;
  private final Bytes values;
  private final Bytes keys;
  private final Bytes headers;
  private final Bytes packed;  // null where a record's value is as it came

  /** Takes what a poll gave; plain records' values (null: of none) are packed. */
  Columns(String topic, int partition, List records, Plain plain) {
    this.topic = topic;
    this.partition = partition;
    this.size = records.size();
    this.offsets = new long[size];
    this.times = new long[size];
    ByteBuffer[] parts = new ByteBuffer[4 * size];
    for (int i = 0; i < size; i++) {
      ConsumerRecord record = (ConsumerRecord) records.get(i);
      offsets[i] = record.offset();
      times[i] = record.timestamp();
      ByteBuffer value = (ByteBuffer) record.value();
      parts[3 * size + i] = plain == null || value == null ? null : packed(plain, value);
      parts[i] = parts[3 * size + i] == null ? value : null;
      parts[size + i] = (ByteBuffer) record.key();
      parts[2 * size + i] = json(record.headers().toArray());
    }
    this.values = new Bytes(parts, 0, size);
    this.keys = new Bytes(parts, size, 2 * size);
    this.headers = new Bytes(parts, 2 * size, 3 * size);
    this.packed = new Bytes(parts, 3 * size, 4 * size);
  }

  private static ByteBuffer packed(Plain plain, ByteBuffer value) {
    int from = value.arrayOffset() + value.position();
    byte[] row = plain.packed(value.array(), from, from + value.remaining());
    return row == null ? null : ByteBuffer.wrap(row);
  }

  /** How many of the records come before an offset. */
  int before(long offset) {
    int place = Arrays.binarySearch(offsets, offset);
    return place < 0 ? -place - 1 : place;
  }

  long bytes() {
    return 32L * size + values.all.length + keys.all.length + headers.all.length + packed.all.length;
  }

  /** Gives some as a row: offsets, times, lengths of values, keys, headers and packed in one, then each one's bytes. */
  Row row(int from, int until) {
    int n = until - from;
    ByteBuffer numbers = ByteBuffer.allocate(32 * n).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = from; i < until; i++) numbers.putLong(offsets[i]);
    for (int i = from; i < until; i++) numbers.putLong(times[i]);
    values.lengths(from, until, numbers);
    keys.lengths(from, until, numbers);
    headers.lengths(from, until, numbers);
    packed.lengths(from, until, numbers);
    return RowFactory.create(new Object[] {topic, Integer.valueOf(partition), numbers.array(),
        values.of(from, until), keys.of(from, until), headers.of(from, until), packed.of(from, until)});
  }

  /** As Spark's to_json writes them: values in base64, none where it is null; null: there are no headers. */
  private static ByteBuffer json(Header[] headers) {
    if (headers.length == 0) return null;
    StringBuilder text = new StringBuilder("[");
    for (int i = 0; i < headers.length; i++) {
      text.append(i > 0 ? ",{\"key\":" : "{\"key\":").append(TextNode.valueOf(headers[i].key()).toString());
      byte[] value = headers[i].value();
      if (value != null) text.append(",\"value\":\"").append(Base64.getEncoder().encodeToString(value)).append('"');
      text.append('}');
    }
    return ByteBuffer.wrap(text.append(']').toString().getBytes(StandardCharsets.UTF_8));
  }

  /** Byte strings one after the other; one may be null. */
  private static final class Bytes {
    final byte[] all;
    private final int[] ends;
    private final boolean[] absent;

    Bytes(ByteBuffer[] parts, int from, int until) {
      this.ends = new int[until - from];
      this.absent = new boolean[until - from];
      int end = 0;
      for (int i = from; i < until; i++) {
        if (parts[i] == null) absent[i - from] = true; else end += parts[i].remaining();
        ends[i - from] = end;
      }
      this.all = new byte[end];
      int place = 0;
      for (int i = from; i < until; i++) {
        if (parts[i] == null) continue;
        int length = parts[i].remaining();
        parts[i].get(all, place, length);
        place += length;
      }
    }

    private int start(int i) {
      return i > 0 ? ends[i - 1] : 0;
    }

    /** Puts each one's length; -1: it is null. */
    void lengths(int from, int until, ByteBuffer numbers) {
      for (int i = from; i < until; i++) numbers.putInt(absent[i] ? -1 : ends[i] - start(i));
    }

    byte[] of(int from, int until) {
      int first = start(from);
      int last = until > 0 ? ends[until - 1] : 0;
      return first == 0 && last == all.length ? all : Arrays.copyOfRange(all, first, last);
    }
  }
}
