"""A streaming query whose micro-batches are ours: how the trainer and the scorer start, wait and drain."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_nn.spark.session import in_one_line, on_one_machine

MANAGER = "spark.sql.streaming.checkpointFileManagerClass"
QUICK_MANAGER = "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"

INTERRUPTIONS = (
    "java.nio.channels.ClosedByInterruptException",
    "java.io.InterruptedIOException",
    "java.lang.InterruptedException",
)


def shortened(error: BaseException) -> RuntimeError:
    """Give Spark its own error back in a line.

    When a query is stopped, Spark looks for an interruption in what a micro-batch raised, by a regular
    expression that overflows Java's stack on a text as long as its own errors are.
    """
    text = str(error)
    found = next((name for name in INTERRUPTIONS if name in text), None)
    if found is None:
        return RuntimeError(in_one_line(error))
    return RuntimeError(f"py4j.protocol.Py4JJavaError: An error occurred while calling it: {found}")


def local(spark: SparkSession, checkpoint: str) -> Path | None:
    """Give the path of a checkpoint that is certainly on a local file system; None: it may be elsewhere."""
    asked = urlsplit(checkpoint)
    here = asked.scheme == "file" or (not asked.scheme and on_one_machine(spark))
    return Path(asked.path) if here else None


@contextmanager
def quick_checkpoint(spark: SparkSession, checkpoint: str) -> Iterator[None]:
    """Let a query that starts in here write its checkpoint in a way that is quick on a local file system.

    Spark's default one starts a process for each file there, to ask about symbolic links: 80 ms of every
    micro-batch, where this one takes 20. Both rename a file into its place, and on a local file system that
    is atomic either way.
    """
    if local(spark, checkpoint) is None:
        yield
        return
    before = spark.conf.get(MANAGER, None)
    spark.conf.set(MANAGER, before or QUICK_MANAGER)
    try:
        yield
    finally:
        if before is None:
            spark.conf.unset(MANAGER)


class Job:
    """What the two jobs share. Each says in `_guarded` what a micro-batch is and what it died of."""

    def __init__(self) -> None:
        self.query: StreamingQuery | None = None
        self.failure: BaseException | None = None  # of our own, which Spark would wrap

    def _launch(self, frame: DataFrame, checkpoint: str, trigger: str, once: bool) -> StreamingQuery:
        when: dict[str, Any] = {"availableNow": True} if once else {"processingTime": trigger}
        query = frame.writeStream.foreachBatch(self._guarded).option("checkpointLocation", checkpoint)
        with quick_checkpoint(frame.sparkSession, checkpoint):
            self.query = query.trigger(**when).start()
        return self.query

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the query ends (or so long); whether it has. Raises what it died of."""
        assert self.query is not None, "start() comes first"
        try:
            ended = self.query.awaitTermination(seconds)  # type: ignore[arg-type]
        except PySparkException as error:
            self._close()
            raise self._cause(error) from None
        if ended is not False:
            self._close()
        return ended is not False

    def drain(self) -> None:
        """Work through all that the topics hold now. Raises what the query died of."""
        assert self.query is not None, "start() comes first"
        try:
            self.query.processAllAvailable()
        except PySparkException as error:
            raise self._cause(error) from None

    def _guarded(self, frame: DataFrame, batch_id: int) -> None:
        raise NotImplementedError

    def _cause(self, error: PySparkException) -> BaseException:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError
