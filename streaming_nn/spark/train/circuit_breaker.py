"""When a run stops by itself: too many bad records, or no finite step for too long."""

from streaming_nn.errors import TooManyRejectedError, TooManySkippedError
from streaming_nn.settings import Train
from streaming_nn.spark.train.micro_batch import Learned

MIN_RECORDS = 100  # over which a share is checked: one rejected record of one means nothing


class CircuitBreaker:
    """Checks each micro-batch before anything of it is sent or committed."""

    def __init__(self, limits: Train) -> None:
        self._limits = limits
        self._received = self._rejected = 0  # since the share was last checked; without filtered records
        self._skipped = 0  # consecutive micro-batches without a finite step

    def check(self, learned: Learned, head: int) -> None:
        """Raise TooManyRejectedError or TooManySkippedError; `head` is the version that is safe."""
        safe = f"Nothing of this batch is learned or lost; version {head} is the last one"
        self._check_rejected(learned, safe)
        self._check_skipped(learned, safe)

    def _check_rejected(self, learned: Learned, safe: str) -> None:
        reasons = ", ".join(f"{reason}: {n:,}" for reason, n in learned.rejected.items())
        received = self._received + learned.counts.received - learned.counts.filtered
        rejected = self._rejected + learned.counts.rejected
        if received >= MIN_RECORDS and rejected > self._limits.max_rejected * received:
            raise TooManyRejectedError(
                f"{rejected:,} of {received:,} records cannot be learned ({reasons}), more than "
                f"train.max_rejected = {self._limits.max_rejected:g} allows: is the schema right? {safe}"
            )
        self._received, self._rejected = (0, 0) if received >= MIN_RECORDS else (received, rejected)

    def _check_skipped(self, learned: Learned, safe: str) -> None:
        if learned.counts.skipped or learned.counts.trained:
            self._skipped = 0 if learned.counts.trained else self._skipped + 1
        if self._skipped >= self._limits.max_skipped_batches:
            raise TooManySkippedError(
                f"no step was finite in {self._skipped} consecutive micro-batches "
                "(train.max_skipped_batches): are there values near float32's limits, or is the learning "
                f"rate too high? {safe}"
            )
