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
 * need not go through the heap, Spark's rows, Arrow's and a socket.
 */
final class Columns {
  private static final int TEXTS = 4;  // values, keys, headers and packed
  private static final OpenOption[] WRITE = {StandardOpenOption.CREATE, StandardOpenOption.WRITE};

  final int size;
  final long bytes;
  private final TopicPartition place;
  private final long[] offsets;
  private final File file;  // null where there is no record

  /** Takes what a poll gave; plain records' values (null: of none) are packed. */
  Columns(TopicPartition place, List records, Plain plain, Room room) throws IOException {
    this.place = place;
    this.size = records.size();
    this.offsets = new long[size];
    ByteBuffer[] texts = new ByteBuffer[TEXTS * size];
    long bytes = 8 + (16 + 4 * TEXTS) * (long) size;
    for (int i = 0; i < size; i++) {
      ConsumerRecord record = (ConsumerRecord) records.get(i);
      offsets[i] = record.offset();
      ByteBuffer value = (ByteBuffer) record.value();
      ByteBuffer packed = plain == null || value == null ? null : packed(plain, value);
      texts[i] = packed == null ? value : null;
      texts[size + i] = (ByteBuffer) record.key();
      texts[2 * size + i] = json(record.headers().toArray());
      texts[3 * size + i] = packed;
    }
    for (int i = 0; i < texts.length; i++) if (texts[i] != null) bytes += texts[i].remaining();
    this.bytes = bytes;
    this.file = size == 0 ? null : room.written(laid(room.empty(bytes), records, texts));
  }

  /** Lays out how many they are, then offsets, times, lengths (-1: null) of all texts, and these, column by column. */
  private ByteBuffer laid(ByteBuffer all, List records, ByteBuffer[] texts) {
    all.putLong(size);
    for (int i = 0; i < size; i++) all.putLong(offsets[i]);
    for (int i = 0; i < size; i++) all.putLong(((ConsumerRecord) records.get(i)).timestamp());
    for (int i = 0; i < texts.length; i++) all.putInt(texts[i] == null ? -1 : texts[i].remaining());
    for (int i = 0; i < texts.length; i++) if (texts[i] != null) all.put(texts[i]);
    return all;
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

  /** Gives some as a row (PIECES of read.py); who is given the last ones deletes the file. */
  Row row(int from, int until) {
    return RowFactory.create(new Object[] {place.topic(), Integer.valueOf(place.partition()), file.getPath(),
        Integer.valueOf(from), Integer.valueOf(until), Boolean.valueOf(until == size)});
  }

  /** Deletes the file, which nobody will ask for. */
  void drop() {
    if (file != null) file.delete();
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

  /** Where a thread lays columns out, off the heap and again and again, and the folder of its files. */
  static final class Room {
    private final File folder;
    private ByteBuffer all = ByteBuffer.allocateDirect(0);

    Room(String folder) {
      this.folder = new File(folder);
    }

    ByteBuffer empty(long bytes) {
      if (all.capacity() < bytes) {
        int more = (int) Math.min(2 * bytes, Integer.MAX_VALUE - 8);
        all = ByteBuffer.allocateDirect(more).order(ByteOrder.LITTLE_ENDIAN);
      }
      all.clear();
      return all;
    }

    File written(ByteBuffer laid) throws IOException {
      laid.flip();
      File file = File.createTempFile("piece-", "", folder);
      FileChannel channel = FileChannel.open(file.toPath(), WRITE);
      try {
        while (laid.hasRemaining()) channel.write(laid);
      } finally {
        channel.close();
      }
      return file;
    }
  }
}
