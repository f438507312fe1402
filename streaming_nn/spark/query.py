"""A streaming query with our micro-batches: how the trainer and the scorer start, wait and drain."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from streaming_nn.spark import java_compiler
from streaming_nn.spark.jvm import in_one_line, not_written
from streaming_nn.spark.session import on_one_machine

MANAGER = "spark.sql.streaming.checkpointFileManagerClass"
OUR_MANAGER = "CheckpointFiles"

INTERRUPTIONS = (
    "java.nio.channels.ClosedByInterruptException",
    "java.io.InterruptedIOException",
    "java.lang.InterruptedException",
)


def shortened(error: BaseException) -> RuntimeError:
    """Return Spark's own error in one line, to be raised to Spark.

    When a query is stopped, Spark looks for an interruption in what a micro-batch raised, with a regular
    expression that overflows Java's stack on a string as long as its own errors are.
    """
    text = str(error)
    found = next((name for name in INTERRUPTIONS if name in text), None)
    if found is None:
        return RuntimeError(in_one_line(error))
    return RuntimeError(f"py4j.protocol.Py4JJavaError: An error occurred while calling it: {found}")


def url(path: Path) -> str:
    """Return a local path as Hadoop reads it: nothing in its paths is encoded, whatever they contain."""
    return f"file://{path}"


def local(spark: SparkSession, checkpoint: str) -> Path | None:
    """Return the path of a checkpoint that is certainly in a local file system; None: it may be elsewhere.

    As Hadoop does, take what is before a colon as a scheme unless it has a slash, and decode nothing.
    """
    scheme, colon, rest = checkpoint.partition(":")
    if not colon or "/" in scheme:
        return Path(checkpoint) if on_one_machine(spark) else None
    path = "/" + rest[2:].partition("/")[2] if rest.startswith("//") else rest
    return Path(path) if scheme == "file" else None


def reason(error: BaseException, *directories: str | Path) -> str:
    """Return in one line why a query ended; if it could not write, with the directories that it writes to."""
    return not_written(str(error), *directories) or in_one_line(error)


@contextmanager
def quick_checkpoint(spark: SparkSession, checkpoint: str) -> Iterator[None]:
    """Let a query that starts in this block write its checkpoint quickly to a local file system.

    Spark's default manager starts a process for each file, its other one for a file and for its checksum:
    50 and 18 ms, twice in every micro-batch, where ours takes 2. All of them rename a complete file, which
    is atomic in a local file system. A manager that is set is kept.
    """
    if local(spark, checkpoint) is None or spark.conf.get(MANAGER, None):
        yield
        return
    java_compiler.add(spark, Path(__file__).parent, (OUR_MANAGER,))
    spark.conf.set(MANAGER, f"streaming_nn.{OUR_MANAGER}")
    try:
        with java_compiler.found_by_name(spark):
            yield
    finally:
        spark.conf.unset(MANAGER)


def named(writer: DataStreamWriter, spark: SparkSession, name: str) -> DataStreamWriter:
    """Name a query for Spark's UI and listeners, unless another one has the name: Spark would refuse it."""
    active = {query.name for query in spark.streams.active}
    return writer if name in active else writer.queryName(name)


def describe_jobs(frame: DataFrame, text: str) -> None:
    """Describe the Spark jobs of a micro-batch; at the next one Spark describes them again, by its name."""
    frame.sparkSession.sparkContext.setJobDescription(text)


class Job:
    """What the two jobs share; each implements `_process`, which stores its error in `failure`."""

    def __init__(self) -> None:
        self.query: StreamingQuery | None = None
        self.failure: BaseException | None = None  # our own error, which Spark would wrap

    def _launch(
        self, name: str, frame: DataFrame, checkpoint: str, trigger: str, once: bool
    ) -> StreamingQuery:
        when: dict[str, Any] = {"availableNow": True} if once else {"processingTime": trigger}
        query = frame.writeStream.foreachBatch(self._process).option("checkpointLocation", checkpoint)
        query = named(query, frame.sparkSession, name)
        with quick_checkpoint(frame.sparkSession, checkpoint):
            self.query = query.trigger(**when).start()
        return self.query

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the query ends, or so many seconds; return whether it has ended. Raise its error."""
        assert self.query is not None, "start() must come first"
        try:
            ended = self.query.awaitTermination(seconds)  # type: ignore[arg-type]
        except PySparkException as error:
            self._close()
            raise self._find_cause(error) from None
        if ended is not False:
            self._close()
        return ended is not False

    def drain(self) -> None:
        """Process all that the topics have now. Raise the query's error."""
        assert self.query is not None, "start() must come first"
        try:
            self.query.processAllAvailable()
        except PySparkException as error:
            raise self._find_cause(error) from None

    def _process(self, frame: DataFrame, batch_id: int) -> None:
        raise NotImplementedError

    def _find_cause(self, error: BaseException) -> BaseException:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError
