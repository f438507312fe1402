"""A streaming query whose micro-batches are ours: how the trainer and the scorer start, wait and drain."""

from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_nn.stream.session import in_one_line

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


class Job:
    """What the two jobs share. Each says in `_guarded` what a micro-batch is and what it died of."""

    def __init__(self) -> None:
        self.query: StreamingQuery | None = None
        self.failure: BaseException | None = None  # of our own, which Spark would wrap

    def _launch(self, frame: DataFrame, checkpoint: str, trigger: str, once: bool) -> StreamingQuery:
        when: dict[str, Any] = {"availableNow": True} if once else {"processingTime": trigger}
        self.query = (
            frame.writeStream.foreachBatch(self._guarded)
            .option("checkpointLocation", checkpoint)
            .trigger(**when)
            .start()
        )
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
