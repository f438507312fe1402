"""The figures of a model directory over time: what the page's charts are drawn from.

A row is a version, or up to 100 archived ones, as the log keeps of them (`versions.archive.Point`). Rows are
in the order of their numbers and are never changed, so a reader needs only those since it last looked.
"""

import io
import json
import threading
import zipfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.errors import DamagedVersionError
from streaming_nn.versions import atomic_files
from streaming_nn.versions.archive import Point, add
from streaming_nn.versions.diff import flat_numbers
from streaming_nn.versions.version import Manifest, seconds_of
from streaming_nn.versions.version_log import VersionLog

FORMAT = 1  # of saved timelines
SPANS = ("fading", "cumulative")  # of metrics, besides the window, whose figures are left out
NONE = float("nan")


class Mark(NamedTuple):
    """An event of a version, as a mark on the charts."""

    version: int
    time: float  # seconds since 1970
    event: dict[str, Any]


class Series(NamedTuple):
    """Some columns between two times; of many rows, the least and the largest of each interval."""

    numbers: NDArray[np.int64]  # (points): the newest version of each
    times: NDArray[np.float64]  # (points), seconds since 1970
    columns: dict[str, NDArray[np.float64]]  # (points) each; NaN: none


class Timeline:
    """The rows of one log so far; `follow` reads those that were added. Safe to share between threads."""

    def __init__(self, log: VersionLog) -> None:
        self.log = log
        self.marks: list[Mark] = []
        self._numbers, self._times = array("q"), array("d")
        self._columns: dict[str, array[float]] = {}
        self._next = 0  # the version that is read next
        self._archived: Iterator[Point] | None = None  # what is left of the archives, while they are read
        self._lock = threading.Lock()

    def load(self, file: Path) -> None:
        """Take the rows that `save` has written, if they are of this log; else leave the timeline empty."""
        with suppress(OSError, EOFError, ValueError, zipfile.BadZipFile, DamagedVersionError, LookupError):
            with np.load(file) as saved:
                about = json.loads(str(saved["about"]))
                numbers, times, values = saved["numbers"], saved["times"], saved["values"]
            if about["format"] != FORMAT or self.log.manifest(int(numbers[-1])).nonce != about["nonce"]:
                return
            with self._lock:
                self._numbers, self._times = array("q", numbers.tobytes()), array("d", times.tobytes())
                columns = zip(about["columns"], values, strict=True)
                self._columns = {name: array("d", column.tobytes()) for name, column in columns}
                self.marks = [Mark(*mark) for mark in about["marks"]]
                self._next = int(numbers[-1]) + 1

    def save(self, file: Path) -> None:
        """Write the rows to a file, from which another process takes them; do nothing if that fails."""
        with self._lock:
            if not self._numbers:
                return
            numbers, times = np.array(self._numbers), np.array(self._times)
            names, values = list(self._columns), np.array([*self._columns.values()])
            marks = list(self.marks)
        with suppress(OSError, DamagedVersionError, LookupError):
            nonce = self.log.manifest(int(numbers[-1])).nonce
            about = {"format": FORMAT, "nonce": nonce, "columns": names, "marks": marks}
            data = io.BytesIO()
            np.savez(data, about=json.dumps(about), numbers=numbers, times=times, values=values)
            atomic_files.put(file, data.getvalue())

    def follow(self, most: int = 1_000_000) -> int:
        """Read up to so many rows that the log has got, and return how many; 0: there is nothing new."""
        count = 0
        for point, more in self._new():
            with self._lock:
                self._append(point, more)
            count += 1
            if count == most:
                break
        return count

    def _new(self) -> Iterator[tuple[Point, dict[str, float]]]:
        if self._archived is None and self._next < self.log.archives.refresh():
            self._archived = self.log.archives.points()
        for point in self._archived or ():  # resumes where the last call stopped
            if point.last >= self._next:
                self._next = point.last + 1
                yield point, {}
        self._archived = None
        head = self.log.head_number()
        if self._next and (head is None or head < self._next - 1):  # another log has taken the directory
            self._clear()
        while head is not None and self._next <= head:
            number, self._next = self._next, self._next + 1
            for manifest in self.log.readable([number]):
                yield add(None, manifest), _steps(manifest)

    def _clear(self) -> None:
        with self._lock:
            self._numbers, self._times, self._columns = array("q"), array("d"), {}
            self.marks, self._next = [], 0

    def _append(self, point: Point, more: dict[str, float]) -> None:
        written = seconds_of(point.written_at)
        time = NONE if written is None else written
        values = (
            dict(flat_numbers(point.metrics, without=SPANS))
            | dict(flat_numbers(point.counts, "counts."))
            | more
        )
        values |= {
            name: value for name, value in (("lag", point.lag), ("delay", point.delay)) if value is not None
        }
        values |= {f"weight.{each['member']}": each["weight"] for each in point.metrics.get("members", ())}
        passed = time - self._times[-1] if len(self._times) else 0.0
        if passed > 0:
            values["records_per_second"] = point.counts.get("received", 0) / passed
        for name in values:
            if name not in self._columns:
                self._columns[name] = array("d", [NONE]) * len(self._numbers)
        self._numbers.append(point.last)
        self._times.append(time)
        for name, column in self._columns.items():
            column.append(values.get(name, NONE))
        self.marks += [Mark(int(event["version"]), time, event) for event in point.events]

    @property
    def size(self) -> int:
        """The number of rows."""
        return len(self._numbers)

    def newest(self) -> int | None:
        """Return the newest version that has a row; None: there is none."""
        with self._lock:
            return self._numbers[-1] if self._numbers else None

    def names(self) -> list[str]:
        """Return the columns' names: the paths of figures, such as prequential.window.accuracy."""
        with self._lock:
            return sorted(self._columns)

    def nearest(self, number: int) -> int:
        """Return the newest version up to `number` that has a row; the oldest one if none has."""
        with self._lock:
            numbers = np.array(self._numbers)
        return int(numbers[max(int(np.searchsorted(numbers, number, "right")) - 1, 0)])

    def figures(self, number: int) -> dict[str, float]:
        """Return the figures of the row of a version, by their columns' names."""
        with self._lock:
            row = int(np.searchsorted(np.array(self._numbers), number))
            return {name: column[row] for name, column in self._columns.items()}

    def select(
        self, names: Iterable[str], start: float | None, end: float | None, intervals: int = 500
    ) -> Series:
        """Return columns between two times, or of all rows; unknown ones are NaN."""
        with self._lock:
            times, numbers = np.array(self._times), np.array(self._numbers)
            every = {
                name: np.array(self._columns[name]) if name in self._columns else np.full(len(times), NONE)
                for name in names
            }
        first = 0 if start is None else int(np.searchsorted(times, start))
        last = len(times) if end is None else int(np.searchsorted(times, end, "right"))
        rows = slice(first, max(last, first))
        return decimate(
            Series(numbers[rows], times[rows], {name: column[rows] for name, column in every.items()}),
            intervals,
        )


def decimate(series: Series, intervals: int) -> Series:
    """Return the least and the largest value of each interval of time, in the order in which they came.

    So a chart of few pixels shows every peak. A series with no more than two rows an interval is unchanged.
    """
    rows = len(series.times)
    if rows <= 2 * intervals:
        return series
    width = (series.times[-1] - series.times[0]) / intervals or 1.0
    interval = np.minimum(((series.times - series.times[0]) / width).astype(np.int64), intervals - 1)
    starts = np.flatnonzero(np.diff(interval, prepend=-1))
    ends = np.append(starts[1:], rows) - 1
    both = np.stack([starts, ends], axis=1).ravel()
    columns = {name: _peaks(column, starts, ends) for name, column in series.columns.items()}
    return Series(series.numbers[both], series.times[both], columns)


def _peaks(
    column: NDArray[np.float64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        least, most = np.fmin.reduceat(column, starts), np.fmax.reduceat(column, starts)
    falls = column[starts] > column[ends]
    return np.stack([np.where(falls, most, least), np.where(falls, least, most)], axis=1).ravel()


def _steps(manifest: Manifest) -> dict[str, float]:
    """Return what archives do not keep of a version: the mini-batch, and the seconds of its steps."""
    size = manifest.learner.get("mini_batch")
    steps = dict(flat_numbers(manifest.seconds, "seconds."))
    return steps | ({"mini_batch": float(size)} if isinstance(size, int) else {})
