package streaming_nn;

import com.fasterxml.jackson.databind.node.TextNode;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.OpenOption;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;

/**
 * Records of one partition, in the order of their offsets, column by column in a file that Python maps: so their bytes
 * need not pass through the heap, Spark's rows, Arrow's and a socket.
 */
final class Columns {
  private static final int CONTENTS = 4;  // values, keys, headers and packed
  private static final OpenOption[] WRITE = {StandardOpenOption.CREATE, StandardOpenOption.WRITE};

  final int size;
  final long bytes;
  private final TopicPartition partition;
  private final long[] offsets;
  private final File file;  // null: there is no record

  /** Takes the records of a poll; the values that `plain` can read (null: none) are packed. */
  Columns(TopicPartition partition, List records, Plain plain, Buffer buffer) throws IOException {
    this.partition = partition;
    this.size = records.size();
    this.offsets = new long[size];
    ByteBuffer[] contents = new ByteBuffer[CONTENTS * size];
    long bytes = 8 + (16 + 4 * CONTENTS) * (long) size;
    for (int i = 0; i < size; i++) {
      ConsumerRecord record = (ConsumerRecord) records.get(i);
      offsets[i] = record.offset();
      ByteBuffer value = (ByteBuffer) record.value();
      ByteBuffer packed = plain == null || value == null ? null : packed(plain, value);
      contents[i] = packed == null ? value : null;
      contents[size + i] = (ByteBuffer) record.key();
      contents[2 * size + i] = json(record.headers().toArray());
      contents[3 * size + i] = packed;
    }
    for (int i = 0; i < contents.length; i++) if (contents[i] != null) bytes += contents[i].remaining();
    this.bytes = bytes;
    this.file = size == 0 ? null : buffer.write(fill(buffer.clear(bytes), records, contents));
  }

  /** Writes their number, then offsets, times, lengths (-1: null) of all contents, and these, column by column. */
  private ByteBuffer fill(ByteBuffer all, List records, ByteBuffer[] contents) {
    all.putLong(size);
    for (int i = 0; i < size; i++) all.putLong(offsets[i]);
    for (int i = 0; i < size; i++) all.putLong(((ConsumerRecord) records.get(i)).timestamp());
    for (int i = 0; i < contents.length; i++) all.putInt(contents[i] == null ? -1 : contents[i].remaining());
    for (int i = 0; i < contents.length; i++) if (contents[i] != null) all.put(contents[i]);
    return all;
  }

  private static ByteBuffer packed(Plain plain, ByteBuffer value) {
    int from = value.arrayOffset() + value.position();
    byte[] row = plain.pack(value.array(), from, from + value.remaining());
    return row == null ? null : ByteBuffer.wrap(row);
  }

  /** Returns how many of the records come before an offset. */
  int before(long offset) {
    int index = Arrays.binarySearch(offsets, offset);
    return index < 0 ? -index - 1 : index;
  }

  /** Returns some as a row (PIECES of reader.py); the reader of the last ones deletes the file. */
  Row row(int from, int until) {
    return RowFactory.create(new Object[] {partition.topic(), Integer.valueOf(partition.partition()), file.getPath(),
        Integer.valueOf(from), Integer.valueOf(until), Boolean.valueOf(until == size)});
  }

  /** Deletes the file, which is not needed. */
  void drop() {
    if (file != null) file.delete();
  }

  /** Returns headers as Spark's to_json writes them: values in base64, none for null; null: no headers. */
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

  /** A thread's buffer for columns, off the heap and reused, and the directory of its files. */
  static final class Buffer {
    private final File directory;
    private ByteBuffer all = ByteBuffer.allocateDirect(0);

    Buffer(String directory) {
      this.directory = new File(directory);
    }

    ByteBuffer clear(long bytes) {
      if (all.capacity() < bytes) {
        int more = (int) Math.min(2 * bytes, Integer.MAX_VALUE - 8);
        all = ByteBuffer.allocateDirect(more).order(ByteOrder.LITTLE_ENDIAN);
      }
      all.clear();
      return all;
    }

    File write(ByteBuffer columns) throws IOException {
      columns.flip();
      File file = File.createTempFile("piece-", "", directory);
      FileChannel channel = FileChannel.open(file.toPath(), WRITE);
      try {
        while (columns.hasRemaining()) channel.write(columns);
      } finally {
        channel.close();
      }
      return file;
    }
  }
}
