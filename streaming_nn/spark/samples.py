"""Samples of a micro-batch, which its version keeps for a page: its newest rows, and rejected records.

They are in the manifest, at most 64 KB of JSON, as long as the version has its file; no bit of the model
depends on them.
"""

import json
import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn.learner import Learner, Predicted, point_prediction
from streaming_nn.spark.rejected import DeadLetter

REJECTED = 8  # records
VALUE_BYTES = 200  # of a rejected record
ROWS_BYTES = 45_000  # of all rows; the rejected records take at most 8 * 2,500
DIGITS = 6
LONGEST, OTHERS = len("-1.23457e-300,"), 100  # bytes of a number, and of a row besides its inputs

Row = dict[str, Any]


class NewestRows:
    """The newest rows of a task that were learned, with what the model predicted as it was served.

    A row is {"inputs": its numbers (null: missing), or null if they are too many, "label": class index,
    target, or a list of them, "predicted": the same, "probability": of the predicted class}. Of multilabel
    rows `predicted` has the labels' probabilities.
    """

    def __init__(self, learner: Learner[Any], rows: int) -> None:
        self._learner = learner
        self._rows = min(rows, _that_fit(learner.inputs) or rows)
        self._blocks = deque[Predicted]()
        self._count = 0

    def add(self, predicted: Predicted) -> None:
        """Take a block of rows; older ones that are no longer needed are released."""
        if not self._rows:
            return
        self._blocks.append(predicted)
        self._count += len(predicted.batch.y)
        while self._count - len(self._blocks[0].batch.y) >= self._rows:
            self._count -= len(self._blocks.popleft().batch.y)

    def rows(self) -> list[Row]:
        """Return the newest rows, the newest last; fewer of those with many inputs."""
        found: list[Row] = []
        for block in reversed(self._blocks):
            take = min(self._rows - len(found), len(block.batch.y))
            if take:
                found = [*_rows(self._learner, block, take), *found]
        return found


def newest(tasks: Iterable[Sequence[Row]], rows: int) -> list[Row]:
    """Return the newest rows of each task, as many of each, at most `rows` in all, and ROWS_BYTES of JSON."""
    shares = [share for share in tasks if share]
    if not shares or not rows:
        return []
    most = min(rows, _that_fit(len(shares[-1][-1]["inputs"] or ())))
    each = max(most // len(shares), 1)
    return [row for share in shares for row in share[-each:]][-most:]


def _that_fit(inputs: int) -> int:
    """Return how many rows of so many inputs have at most ROWS_BYTES of JSON, whatever their numbers are."""
    return ROWS_BYTES // (LONGEST * inputs + OTHERS)


def _rows(learner: Learner[Any], block: Predicted, take: int) -> list[Row]:
    x = block.batch.x if block.x_served is None else block.x_served
    fits = isinstance(x, np.ndarray) and _that_fit(x.shape[1]) > 0
    y = block.batch.y[-take:]
    output = point_prediction(learner, block.as_served[-take:])
    inputs = _lists(x[-take:]) if fits else [None] * take
    if learner.classes is not None and not learner.multilabel:
        predicted = output.argmax(axis=1)
        shares = _lists(output[np.arange(take), predicted])
        named = zip(inputs, y.tolist(), predicted.tolist(), shares, strict=True)
        return [{"inputs": i, "label": t, "predicted": p, "probability": s} for i, t, p, s in named]
    single = learner.columns_of_y is None
    labels, predictions = _lists(y), _lists(output[:, 0] if single else output)
    return [
        {"inputs": i, "label": t, "predicted": p} for i, t, p in zip(inputs, labels, predictions, strict=True)
    ]


def _lists(values: NDArray[Any]) -> list[Any]:
    """Return numbers with DIGITS digits as lists; None for those that are not finite."""
    if values.dtype.kind in "iub":
        return list(values.tolist())
    numbers = np.asarray(values, np.float64)
    with np.errstate(all="ignore"):
        digits = DIGITS - 1 - np.floor(np.log10(np.abs(numbers)))
        factor = 10.0 ** np.clip(np.where(np.isfinite(digits), digits, 0), 0, 22)
        rounded: list[Any] = (np.round(numbers * factor) / factor).tolist()
    return rounded if np.isfinite(numbers).all() else _nulls(rounded)


def _nulls(values: list[Any]) -> list[Any]:
    return [_nulls(v) if isinstance(v, list) else v if math.isfinite(v) else None for v in values]


def rejected(letters: Iterable[DeadLetter]) -> list[dict[str, Any]]:
    """Return up to 8 rejected records, of as many reasons as there are: where, why, and how they begin."""
    by_reason: dict[tuple[str, str], DeadLetter] = {}
    others: list[DeadLetter] = []
    for letter in letters:
        if by_reason.setdefault((letter.reason, letter.field), letter) is not letter:
            others.append(letter)
        if len(by_reason) == REJECTED:
            break
    return [_described(letter) for letter in [*by_reason.values(), *others][:REJECTED]]


def _described(letter: DeadLetter) -> dict[str, Any]:
    return {
        "reason": escape(letter.reason.encode()),
        "field": escape(letter.field.encode()),
        "found": escape(letter.found.encode()),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "value": None if letter.value is None else escape(letter.value),
    }


def escape(data: bytes) -> str:
    """Return the first 200 bytes as a string; what is not printable UTF-8 is escaped, to 400 characters."""
    text = data[:VALUE_BYTES].decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)[: 2 * VALUE_BYTES]
