"""Lagged values: what the earlier rows of a row's series had, as inputs of the row.

A series is all rows with the same key. Its history lives in the version beside the weights, so what is
learned and what is served follow from the version alone.
"""

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16
ALL = bytes(KEY_BYTES)  # the key of the one series of rows that name none
NO_SLOT = -1
UNKNOWN = -1  # a time that a record does not have
SERIES = "series."  # with which the names of a history's tensors begin


class Lags(NamedTuple):
    """Which lagged values a row has, and which series are kept."""

    lags: tuple[tuple[int, int], ...]  # of each column: the index of the value (0: the target), and its lag
    values: int  # of a row that are kept: the target, and columns
    max_series: int
    expiry: int | None = None  # ms of record time after a series' newest row; None: it never expires

    @property
    def longest(self) -> int:
        """The largest lag: so many rows of each series are kept."""
        return max(lag for _, lag in self.lags)


class Series(NamedTuple):
    """The histories of the series that are kept, in the order of their keys."""

    keys: NDArray[np.uint8]  # (series, KEY_BYTES)
    values: NDArray[np.float64]  # (series, longest lag, values) the newest row first; NaN: no row yet
    times: NDArray[np.int64]  # (series,) of the newest row, in ms since 1970; UNKNOWN: before any had a time
    clock: NDArray[np.int64]  # () of the newest row of all that were ever learned


def empty(lags: Lags) -> Series:
    """Return the histories before the first row."""
    return Series(
        np.empty((0, KEY_BYTES), np.uint8),
        np.empty((0, lags.longest, lags.values)),
        np.empty(0, np.int64),
        np.asarray(UNKNOWN, np.int64),
    )


def split_series(
    tensors: Mapping[str, NDArray[Any]],
) -> tuple[dict[str, NDArray[Any]], Series | tuple[()]]:
    """Return a version's tensors without its histories, and these; (): it has none.

    Errors: ValueError for names or types that are not those of `Series`.
    """
    found = {name.removeprefix(SERIES): each for name, each in tensors.items() if name.startswith(SERIES)}
    rest = {name: each for name, each in tensors.items() if not name.startswith(SERIES)}
    if not found:
        return rest, ()
    kinds = {"keys": "uint8", "values": "float64", "times": "int64", "clock": "int64"}
    if {name: each.dtype.name for name, each in found.items()} != kinds:
        raise ValueError(f"tensors of series must be {', '.join(kinds)}; got {', '.join(sorted(found))}")
    series: Any = found
    return rest, Series(**series)


class _Groups(NamedTuple):
    """The rows of a batch by their series: a group for each, and another one where it starts from nothing."""

    of: NDArray[np.int64]  # (rows,) each row's group
    newest: NDArray[np.int64]  # (rows,) the time of the series' newest row before it; UNKNOWN: it has none
    slots: NDArray[np.int64]  # (groups,) where a group's earlier rows are; NO_SLOT: it has none
    last: Mapping[bytes, int]  # the group of each key that is still kept


class _Order(NamedTuple):
    """The rows of a batch, group by group."""

    rows: NDArray[np.int64]  # (rows,) their indices
    starts: NDArray[np.int64]  # (groups,) the index of a group's first row in `rows`
    counts: NDArray[np.int64]  # (groups,)


class Histories:
    """The histories at a micro-batch's start, by which rows are served, and those that rows are added to."""

    def __init__(self, lags: Lags, series: Series) -> None:
        self.lags, self._series = lags, series
        keys: list[bytes] = series.keys.view(f"V{KEY_BYTES}").ravel().tolist()
        self._index = {key: i for i, key in enumerate(keys)}
        self._slots = dict(self._index)  # of each key's rows in the values
        self._values = series.values
        self._free = list[int]()
        self._times = dict(zip(keys, series.times.tolist(), strict=True))
        self._clock = int(series.clock)
        self._oldest: list[tuple[int, bytes]] = []  # a heap, once it is needed; its times may be earlier ones

    def serve(self, keys: Sequence[bytes], times: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return lagged values and age (rows, lags + 1) as a scorer has them: as of the start."""
        series, found = self._series, np.array([self._index.get(key, -1) for key in keys], np.int64)
        columns = np.full((len(keys), len(self.lags.lags) + 1), np.nan)
        known = found >= 0
        if self.lags.expiry is not None:  # what had expired by the clock is not among them
            known[known] = times[known] - series.times[found[known]] <= self.lags.expiry
        values, lags = np.array(self.lags.lags).T
        columns[known, :-1] = series.values[found[known, None], lags - 1, values]
        columns[known, -1] = _ages(times[known], series.times[found[known]])
        return columns

    def learn(
        self, keys: Sequence[bytes], times: NDArray[np.int64], values: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return lagged values and age (rows, lags + 1) of rows in their order; each is added after its own.

        `values` (rows, values) are the rows' own: the target, and columns.
        """
        groups = self._group(keys, times.tolist())
        rows = groups.of.argsort(kind="stable")
        counts = np.bincount(groups.of, minlength=len(groups.slots))
        order = _Order(rows, np.cumsum(counts) - counts, counts)
        columns = [self._lagged(groups, order, values[:, i], i, lag) for i, lag in self.lags.lags]
        self._add(groups, order, values)
        return np.column_stack([*columns, _ages(times, groups.newest)])

    def state(self) -> Series:
        """Return the histories after all rows that were learned."""
        keys = sorted(key for key, time in self._times.items() if not self._expired(time))
        return Series(
            np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES),
            self._values[[self._slots[key] for key in keys]],
            np.array([self._times[key] for key in keys], np.int64),
            np.asarray(self._clock, np.int64),
        )

    def _group(self, keys: Sequence[bytes], times: Sequence[int]) -> _Groups:
        """Find each row's series, in order: it may be new, have expired, or be dropped for a later one."""
        of, newest, slots, last = list[int](), list[int](), list[int](), dict[bytes, int]()
        for key, time in zip(keys, times, strict=True):
            self._clock = max(self._clock, time)
            before = self._times.get(key)
            if before is None:
                last.pop(self._make_room(key), None)
            if before is None or self._expired(before):
                last[key] = len(slots)
                slots.append(NO_SLOT)
                newest.append(UNKNOWN)
            else:
                if key not in last:
                    last[key] = len(slots)
                    slots.append(self._slots[key])
                newest.append(before)
            of.append(last[key])
            self._times[key] = max(UNKNOWN if before is None else before, time if time >= 0 else self._clock)
        return _Groups(np.array(of, np.int64), np.array(newest, np.int64), np.array(slots, np.int64), last)

    def _lagged(
        self, groups: _Groups, order: _Order, own: NDArray[np.float64], value: int, lag: int
    ) -> NDArray[np.float64]:
        """Return each row's value `lag` rows before (rows,); `own` are the rows' own values."""
        position = np.empty(len(own), np.int64)  # in its group
        position[order.rows] = np.arange(len(own)) - np.repeat(order.starts, order.counts)
        found = np.full(len(own), np.nan)
        inside = position >= lag
        found[inside] = own[order.rows[order.starts[groups.of[inside]] + position[inside] - lag]]
        slots = groups.slots[groups.of]
        earlier = ~inside & (slots != NO_SLOT)
        found[earlier] = self._values[slots[earlier], lag - position[earlier] - 1, value]
        return found

    def _add(self, groups: _Groups, order: _Order, values: NDArray[np.float64]) -> None:
        """Write the newest values of the series that are kept, whose rows may be more than the lags."""
        kept = np.array([*groups.last.values()], np.int64)
        count, back = order.counts[kept, None], np.arange(self.lags.longest)
        newest = np.full((len(kept), self.lags.longest, values.shape[1]), np.nan)
        group, i = np.nonzero(back < count)
        newest[group, i] = values[order.rows[(order.starts[kept, None] + count - 1 - back)[group, i]]]
        group, i = np.nonzero((back >= count) & (groups.slots[kept, None] != NO_SLOT))
        newest[group, i] = self._values[groups.slots[kept[group]], (back - count)[group, i]]
        new = [key for key in groups.last if key not in self._slots]
        self._slots |= zip(new, self._take_slots(len(new)), strict=True)
        self._values[[self._slots[key] for key in groups.last]] = newest

    def _take_slots(self, count: int) -> list[int]:
        """Return slots that may be written, in values of its own."""
        lacking = max(count - len(self._free), 0)
        if lacking or self._values is self._series.values:
            more = max(lacking, len(self._values) // 4) if lacking else 0
            self._free += range(len(self._values), len(self._values) + more)
            self._values = np.concatenate([self._values, np.empty((more, *self._values.shape[1:]))])
        taken, self._free = self._free[:count], self._free[count:]
        return taken

    def _expired(self, time: int) -> bool:
        return self.lags.expiry is not None and self._clock - time > self.lags.expiry

    def _make_room(self, new: bytes) -> bytes:
        """Drop the series whose newest row is the oldest, by time and key, if a new one is one too many.

        Return its key, or that of no series.
        """
        key = b""
        if len(self._times) >= self.lags.max_series:
            if not self._oldest:
                self._oldest = [(time, key) for key, time in self._times.items()]
                heapq.heapify(self._oldest)
            while (now := self._times[self._oldest[0][1]]) != self._oldest[0][0]:
                heapq.heapreplace(self._oldest, (now, self._oldest[0][1]))
            _, key = heapq.heappop(self._oldest)
            del self._times[key]
            if key in self._slots:
                self._free.append(self._slots.pop(key))
        if self._oldest:
            heapq.heappush(self._oldest, (UNKNOWN, new))
        return key


def _ages(times: NDArray[np.int64], newest: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the seconds from each series' newest row to a row; NaN where one of the times is unknown."""
    known = (times >= 0) & (newest >= 0)
    return np.where(known, (times.astype(np.float64) - newest) / 1000, np.nan)
