"""A job's position in its topics, every second: for its lag, and for a consumer group that shows it."""

import logging
import threading
from collections.abc import Callable, Mapping

from streaming_nn.kafka.admin import KafkaAdmin, Offsets
from streaming_nn.sinks.lag import Lag

POLL = 1.0  # seconds between two looks

logger = logging.getLogger(__name__)


class PositionThread(threading.Thread):
    """Looks at a job's position until `stop`, and commits it to `group`, unless that is empty.

    The job never reads the group: it is for tools that show lags. A failure is retried at the next look; each
    outage logs one line at its start and one at its end.
    """

    def __init__(self, kafka: Mapping[str, str], position: Callable[[], Offsets], group: str = "") -> None:
        super().__init__(name="position", daemon=True)
        self._admin, self._group = KafkaAdmin(kafka), group
        self._find, self._position, self._committed = position, Offsets(), Offsets()
        self.lag = Lag(lambda: self._position, self._admin.ends)
        self._stopped = threading.Event()
        self._failed = set[str]()

    def run(self) -> None:
        """Look, and once more after `stop`."""
        while True:
            stopping = self._stopped.is_set()
            self._try("position", self._look)
            self._try("lag", self.lag.look)
            if self._group:
                self._try(f"consumer group {self._group}", self._commit)
            if stopping:
                break
            self._stopped.wait(POLL)
        self._admin.close()

    def _look(self) -> None:
        self._position = self._find()  # here only: a scorer's is Spark's to know

    def _commit(self) -> None:
        position = self._position
        if position != self._committed:
            self._admin.commit(self._group, position)
            self._committed = position

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever the client raises
            if name not in self._failed and not self._stopped.is_set():  # Spark may have ended before
                logger.warning("%s: %s; retrying", name, str(error).splitlines()[0][:500])
            self._failed.add(name)
            return
        if name in self._failed:
            logger.info("%s: resumed", name)
        self._failed.discard(name)

    def stop(self) -> None:
        """End soon; one that waits for its broker is abandoned."""
        self._stopped.set()
        self.join(2.0)
