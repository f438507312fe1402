package streaming_nn;

import java.io.BufferedOutputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.Path;
import org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager;

/**
 * Spark's manager of a checkpoint's files, for local file systems.
 *
 * <p>Hadoop starts a process (chmod) for each file that it creates there, and another for the checksum beside it.
 */
public final class CheckpointFiles extends FileSystemBasedCheckpointFileManager {
  public CheckpointFiles(Path path, Configuration conf) {
    super(path, conf);
  }

  /** Creates a file that Spark renames when it is complete. */
  @Override
  public FSDataOutputStream createTempFile(Path path) {
    try {
      return new FSDataOutputStream(new BufferedOutputStream(new FileOutputStream(path.toUri().getPath())), null);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
