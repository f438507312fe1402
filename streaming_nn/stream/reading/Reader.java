package streaming_nn;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import org.apache.spark.TaskContext;
import org.apache.spark.api.java.function.MapPartitionsFunction;
import org.apache.spark.sql.Row;
import org.apache.spark.util.TaskCompletionListener;

/** Reads ranges of partitions: a task gets the ranges' numbers, and gives their records, many in a row. */
public final class Reader implements MapPartitionsFunction {
  private final HashMap options = new HashMap();  // a consumer's
  private final ArrayList ranges = new ArrayList();  // of Range
  private long ahead;  // bytes of each partition that may be read ahead
  private String plain;  // what Plain takes; empty: records stay as they are
  private String folder;  // of the files

  public void of(Map options, long ahead, String plain, String folder) {
    this.options.putAll(options);
    this.ahead = ahead;
    this.plain = plain;
    this.folder = folder;
  }

  public void add(String topic, String id, int partition, long from, long until) {
    ranges.add(new Range(topic, id, partition, from, until));
  }

  public Iterator call(Iterator numbers) throws Exception {
    Pieces pieces = new Pieces();
    TaskContext.get().addTaskCompletionListener(pieces);
    while (numbers.hasNext()) {
      Range range = (Range) ranges.get((int) ((Row) numbers.next()).getLong(0));
      Feed feed = Feed.take(options, range.topic, range.id, range.partition, range.from, ahead, plain, folder);
      pieces.add(feed, range.until);
    }
    return pieces;
  }

  private static final class Range implements java.io.Serializable {
    final String topic;
    final String id;
    final int partition;
    final long from;
    final long until;

    Range(String topic, String id, int partition, long from, long until) {
      this.topic = topic;
      this.id = id;
      this.partition = partition;
      this.from = from;
      this.until = until;
    }
  }

  /** Takes from the feeds in turns, each to its end. */
  private static final class Pieces implements Iterator, TaskCompletionListener {
    private final ArrayList feeds = new ArrayList();
    private final ArrayList untils = new ArrayList();
    private int turn;
    private Row piece;

    void add(Feed feed, long until) {
      feeds.add(feed);
      untils.add(Long.valueOf(until));
    }

    public boolean hasNext() {
      try {
        while (piece == null && !feeds.isEmpty()) advance();
      } catch (Exception error) {
        throw new RuntimeException(error.getMessage(), error);
      }
      return piece != null;
    }

    public Object next() {
      hasNext();
      Row given = piece;
      piece = null;
      return given;
    }

    private void advance() throws Exception {
      turn = (turn + 1) % feeds.size();
      Feed feed = (Feed) feeds.get(turn);
      piece = feed.next(((Long) untils.get(turn)).longValue());
      if (piece == null) {
        feeds.remove(turn);
        untils.remove(turn);
        feed.give();
      }
    }

    /** Closes those that stand somewhere in the middle: the task has failed, or was ended. */
    public void onTaskCompletion(TaskContext context) {
      for (int i = 0; i < feeds.size(); i++) ((Feed) feeds.get(i)).close();
      feeds.clear();
    }
  }
}
