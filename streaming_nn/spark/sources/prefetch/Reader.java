package streaming_nn;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.Iterator;
import org.apache.spark.TaskContext;
import org.apache.spark.api.java.function.MapPartitionsFunction;
import org.apache.spark.sql.Row;
import org.apache.spark.util.TaskCompletionListener;

/** Reads ranges of partitions: a task gets the ranges' numbers, and returns their records, many in a row. */
public final class Reader implements MapPartitionsFunction {
  private String request;  // of reader.py, as JSON: more calls from Python would take longer than parsing it

  public void configure(String request) {
    this.request = request;
  }

  public Iterator call(Iterator indices) throws Exception {
    Pieces pieces = new Pieces();
    TaskContext.get().addTaskCompletionListener(pieces);
    JsonNode parsed = new ObjectMapper().readTree(request);
    while (indices.hasNext()) take(parsed, (int) ((Row) indices.next()).getLong(0), pieces);
    return pieces;
  }

  /** Reads all ranges in the driver, without a task; returns the rows' cells, one after the other. */
  public String readInDriver() throws Exception {
    StringBuilder cells = new StringBuilder();
    Pieces pieces = new Pieces();
    JsonNode parsed = new ObjectMapper().readTree(request);
    try {
      for (int i = 0; i < Plain.at(parsed, "ranges").size(); i++) take(parsed, i, pieces);
      while (pieces.hasNext()) cells.append(((Row) pieces.next()).mkString("\0")).append('\0');
    } finally {
      pieces.close();
    }
    return cells.toString();
  }

  private static void take(JsonNode request, int index, Pieces pieces) throws Exception {
    JsonNode range = (JsonNode) Plain.at(request, "ranges").path(index);
    pieces.add(Feed.take(request, range), Plain.at(range, "until").asLong());
  }

  /** Takes from the feeds in turn, from each to its end. */
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
      Row next = piece;
      piece = null;
      return next;
    }

    private void advance() throws Exception {
      turn = (turn + 1) % feeds.size();
      Feed feed = (Feed) feeds.get(turn);
      piece = feed.next(((Long) untils.get(turn)).longValue());
      if (piece == null) {
        feeds.remove(turn);
        untils.remove(turn);
        feed.release();
      }
    }

    public void onTaskCompletion(TaskContext context) {
      close();
    }

    /** Closes the feeds that are not at their end: something failed, or was cancelled. */
    void close() {
      for (int i = 0; i < feeds.size(); i++) ((Feed) feeds.get(i)).close();
      feeds.clear();
    }
  }
}
