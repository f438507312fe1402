"""What every format's decoder is given and gives back, and the reasons why a record is rejected."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records.schema import Label

NO_VALUE = "no value"
TOO_LARGE = "too large"
NOT_JSON = "not JSON"
NOT_CSV = "not CSV"
WRONG_FIELDS = "wrong number of fields"
NOT_AVRO = "not Avro"
NO_FRAME = "no schema id"
UNKNOWN_SCHEMA = "unknown schema id"
UNUSABLE_SCHEMA = "schema can't be used"
UNFIT_SCHEMA = "schema does not fit"
NOT_AN_OBJECT = "not an object"
FIELD_MISSING = "field missing"
NOT_AN_ARRAY = "not an array"
WRONG_WIDTH = "wrong width"
NOT_A_NUMBER = "not a number"
NOT_FINITE = "not finite"
NOT_A_CATEGORY = "not a category"
NO_FIELD = "no field of the features"
LABEL_MISSING = "label missing"
LABEL_NOT_IN_CLASSES = "label not in classes"
LABEL_NOT_A_NUMBER = "label not a number"
LABEL_NOT_FINITE = "label not finite"
TOO_MANY_CLASSES = "too many classes"


class BadRecord(ValueError):  # noqa: N818 (no error of the program: a record's fate)
    """A record can't be learned; the message is the reason."""


class Blobs(NamedTuple):
    """Records as one run of bytes."""

    data: bytes | memoryview
    starts: NDArray[np.int64]  # (records,) where a record begins in data
    ends: NDArray[np.int64]  # (records,) where it ends
    absent: NDArray[np.bool_]  # (records,) True: a tombstone

    def at(self, positions: NDArray[np.int64]) -> list[bytes]:
        """Return the records at these positions, which ascend."""
        if not len(positions):
            return []
        first, last = self.starts[positions[0]], self.ends[positions[-1]]
        run = bytes(self.data[first:last])
        edges = (self.starts[positions] - first).tolist(), (self.ends[positions] - first).tolist()
        return [run[start:end] for start, end in zip(*edges, strict=True)]


class Rows(NamedTuple):
    """What a format's decoder gives: rows that may still hold NaN or infinity."""

    x: NDArray[np.float32]  # (rows, inputs)
    y: NDArray[Any] | None  # (rows,) int32 place in labels, or float32 target
    kept: NDArray[np.int64]  # (rows,)
    rejected: list[tuple[int, str]]
    labels: Sequence[Label] = ()  # the classes, and after them what growing classes don't have yet
    unseen: Sequence[tuple[int, str, Label]] = ()  # position, field, value that a vocabulary doesn't have yet


def targets(labels: list[Any], classes: object) -> NDArray[Any]:
    """Return labels that were looked up already as the array that a learner takes."""
    with np.errstate(over="ignore"):
        return (
            np.array(labels, np.int32)
            if classes is not None
            else np.array(labels, np.float64).astype(np.float32)
        )
