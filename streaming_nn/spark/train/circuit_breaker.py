"""When a run stops by itself: too many bad records, or no finite step for too long."""

import logging

from streaming_nn.errors import TooManyRejectedError, TooManySkippedError
from streaming_nn.records.explain import describe_reasons, explain
from streaming_nn.records.lines import NEXT
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Train
from streaming_nn.spark.train.micro_batch import Learned
from streaming_nn.versions.version import Manifest

logger = logging.getLogger(__name__)

SAMPLE = 1000  # rejected records from which a wrong setting is found
MIN_RECORDS = 100  # over which a share is checked: one rejected record of one means nothing


class CircuitBreaker:
    """Checks each micro-batch before anything of it is sent or committed."""

    def __init__(self, limits: Train) -> None:
        self._limits = limits
        self._received = self._rejected = 0  # since the share was last checked; without filtered records
        self._skipped = 0  # consecutive micro-batches without a finite step

    def check(self, learned: Learned, schema: Schema, head: Manifest) -> None:
        """Raise TooManyRejectedError or TooManySkippedError; `head` is of the version that is safe.

        Log a warning if a model's first records are all rejected, which may be too few for an error.
        """
        safe = f"Nothing of this batch is learned or lost; version {head.number} is the last one"
        self._check_rejected(learned, schema, head, safe)
        self._check_skipped(learned, safe)
        counts = learned.counts
        if head.untrained and counts.rejected and not counts.trained + counts.skipped:
            lines = _explain(learned, schema, head)
            reasons = describe_reasons(learned.rejected)
            logger.warning("none of the first records can be learned: %s", NEXT.join([reasons, *lines]))

    def _check_rejected(self, learned: Learned, schema: Schema, head: Manifest, safe: str) -> None:
        received = self._received + learned.counts.received - learned.counts.filtered
        rejected = self._rejected + learned.counts.rejected
        if received >= MIN_RECORDS and rejected > self._limits.max_rejected * received:
            message = (
                f"{rejected:,} of {received:,} records cannot be learned, more than train.max_rejected = "
                f"{self._limits.max_rejected:g} allows: {describe_reasons(learned.rejected)}. {safe}"
            )
            raise TooManyRejectedError(NEXT.join([message, *_explain(learned, schema, head)]))
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


def _explain(learned: Learned, schema: Schema, head: Manifest) -> list[str]:
    """Return lines about the rejected records that were kept whole."""
    whole = [letter.value for letter in learned.dead_letters if letter.value is not None and not letter.cut]
    return explain(schema, whole[:SAMPLE], where="" if head.untrained else " in a new model directory")
