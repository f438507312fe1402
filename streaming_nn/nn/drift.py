"""Drift detectors: they read a learner's losses in their order, and detect where these have changed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import sqrt
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from streaming_nn.core.functions import exponential, logarithm
from streaming_nn.nn import validation

Memory = TypeVar("Memory", bound=tuple[Any, ...])
Losses = NDArray[np.float64]
Indices = NDArray[np.int64]

MODES = ("up", "down", "both")  # which changes of the mean are detected
HUGE = 1e100  # bound of values: their squares, and sums of these, stay finite
LEVELS = 48  # a window of 2**48 values takes nine years at a microsecond a value: no level overflows
SIZES = [float(2**level) for level in range(LEVELS)]  # values in one bucket of a level


class Detector(Protocol[Memory]):
    """Options of a detector, immutable; its memory is the state that goes in and comes out.

    Its arrays keep their shapes, since every version holds them.
    """

    def init(self) -> Memory:
        """Return the state before the first value."""

    def update(self, state: Memory, values: Losses) -> tuple[Memory, Indices]:
        """Read values (n,) in their order: new state, and the indices in `values` at which it fired.

        A value that is not finite is left out. How values are divided into calls does not matter: the state
        has the same bits. What came in is not changed.
        """


def _finite(values: Losses) -> tuple[Indices, list[float]]:
    indices = np.flatnonzero(np.isfinite(values))
    return indices, np.clip(values[indices], -HUGE, HUGE).tolist()


class NoDriftState(NamedTuple):
    """The empty memory."""


@dataclass(frozen=True)
class NoDrift:
    """The detector that never fires."""

    def init(self) -> NoDriftState:
        """Return the empty state."""
        return NoDriftState()

    def update(self, state: NoDriftState, values: Losses) -> tuple[NoDriftState, Indices]:
        """Return the state unchanged, and no indices."""
        return state, np.zeros(0, np.int64)


class PageHinkleyState(NamedTuple):
    """The mean and the sums since the last detection."""

    seen: NDArray[np.int64]  # () values
    mean: NDArray[np.float64]  # ()
    rise: NDArray[np.float64]  # () sum of deviations less delta
    low: NDArray[np.float64]  # () least rise
    fall: NDArray[np.float64]  # () sum of deviations plus delta
    high: NDArray[np.float64]  # () greatest fall
    fired: NDArray[np.int64]  # () 1: at the last value, so the next one starts from scratch


@dataclass(frozen=True)
class PageHinkley:
    """Page-Hinkley's test (Page 1954; Gama et al., ACM Computing Surveys 2014), its sums fading by `alpha`.

    It fires where the sum of deviations from the mean so far, less `delta` each, is more than `threshold`
    above its least value ("up"), or its mirror image below its greatest ("down"), once `min_instances` values
    are in. After that it starts from scratch. Defaults and decisions are River's.
    """

    min_instances: int = 30
    delta: float = 0.005
    threshold: float = 50.0
    alpha: float = 1 - 0.0001
    mode: str = "both"

    def __post_init__(self) -> None:
        validation.integer("min_instances", self.min_instances)
        validation.between("delta", self.delta, 0, np.inf, low_in=True)
        validation.between("threshold", self.threshold, 0, np.inf)
        validation.between("alpha", self.alpha, 0, 1, high_in=True)
        validation.one_of("mode", self.mode, MODES)

    def init(self) -> PageHinkleyState:
        """Return the sums of no values."""
        zero, none = np.zeros(()), np.zeros((), np.int64)
        return PageHinkleyState(none, zero, zero, zero, zero, zero, none)

    def update(self, state: PageHinkleyState, values: Losses) -> tuple[PageHinkleyState, Indices]:
        """Read values one by one: each mean and each sum rounds as it does in River."""
        indices, xs = _finite(values)
        delta, alpha, least = self.delta, self.alpha, self.min_instances
        up = self.threshold if self.mode != "down" else np.inf
        down = self.threshold if self.mode != "up" else np.inf
        seen, mean, rise, low, fall, high, fired = (part.item() for part in state)
        found = []
        for i, x in enumerate(xs):
            if fired:
                seen, mean, rise, low, fall, high, fired = 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0
            seen += 1
            mean += 1 / seen * (x - mean)
            deviation = x - mean
            rise = alpha * rise + deviation - delta
            fall = alpha * fall + deviation + delta
            if rise < low:
                low = rise
            if fall > high:
                high = fall
            if (rise - low > up or high - fall > down) and seen >= least:
                found.append(i)
                fired = 1
        sums = (np.asarray(part) for part in (seen, mean, rise, low, fall, high, fired))
        return PageHinkleyState(*sums), indices[found]


class ADWINState(NamedTuple):
    """The window as an exponential histogram: each bucket of level i sums 2**i values, oldest first."""

    width: NDArray[np.int64]  # () values in it
    total: NDArray[np.float64]  # () their sum; total / width estimates the mean
    variance: NDArray[np.float64]  # () their sum of squared deviations
    since: NDArray[np.int64]  # () values since the last check
    fired: NDArray[np.int64]  # () 1: at the last value, so the next one starts a new window
    buckets: NDArray[np.int64]  # (levels,) how many; entries after them are 0
    totals: NDArray[np.float64]  # (levels, max_buckets) sums
    variances: NDArray[np.float64]  # (levels, max_buckets) sums of squared deviations


@dataclass(frozen=True)
class ADWIN:
    """Adaptive windowing (Bifet & Gavalda, SDM 2007, ADWIN2): a window that is cut where its means differ.

    Every `clock` values it checks for a cut into two parts of `min_window_length` values or more whose means
    differ, at confidence `delta`, and drops its oldest bucket as long as there is one; not before more than
    `grace_period` values are in. A level holds `max_buckets`, then two of them become one of the next.
    Defaults and decisions are River's, so after it has fired the window is empty, where the paper keeps its
    newer part. `mode` is an addition: with "up" or "down", a change in the other direction cuts the window as
    in the paper, and is not reported.
    """

    delta: float = 0.002
    clock: int = 32
    max_buckets: int = 5
    min_window_length: int = 5
    grace_period: int = 10
    mode: str = "both"

    def __post_init__(self) -> None:
        validation.between("delta", self.delta, 0, 1)
        validation.integer("clock", self.clock)
        validation.integer("max_buckets", self.max_buckets)
        validation.integer("min_window_length", self.min_window_length)
        validation.integer("grace_period", self.grace_period, 0)
        validation.one_of("mode", self.mode, MODES)

    def init(self) -> ADWINState:
        """Return the empty window."""
        none, zero, buckets = np.zeros((), np.int64), np.zeros(()), np.zeros((LEVELS, self.max_buckets))
        return ADWINState(none, zero, zero, none, none, np.zeros(LEVELS, np.int64), buckets, buckets)

    def update(self, state: ADWINState, values: Losses) -> tuple[ADWINState, Indices]:
        """Read values, from one check of the window to the next."""
        indices, xs = _finite(values)
        window, found, start = _Window(self, state), [], 0
        while start < len(xs):
            if window.fired:
                window = _Window(self, self.init())
            stop = min(len(xs), start + self.clock - window.since)
            window.extend(xs[start:stop])
            if window.since == self.clock:
                window.check()
            if window.fired:
                found.append(stop - 1)
            start = stop
        return window.state(), indices[found]


class _Window:
    """An ADWIN's state in lists during one update: an array costs more to touch than to sum."""

    def __init__(self, options: ADWIN, state: ADWINState) -> None:
        self.options = options
        self.width, self.since, self.fired = int(state.width), int(state.since), int(state.fired)
        self.total, self.variance = float(state.total), float(state.variance)
        counts = state.buckets.tolist()
        self.totals = [row[:count] for row, count in zip(state.totals.tolist(), counts, strict=True)]
        self.variances = [row[:count] for row, count in zip(state.variances.tolist(), counts, strict=True)]

    def state(self) -> ADWINState:
        totals, variances = np.zeros((2, LEVELS, self.options.max_buckets))
        counts = [len(level) for level in self.totals]
        for i, count in enumerate(counts):
            if count:
                totals[i, :count] = self.totals[i]
                variances[i, :count] = self.variances[i]
        figures = (self.width, self.total, self.variance, self.since, self.fired, counts, totals, variances)
        return ADWINState(*(np.asarray(figure) for figure in figures))

    def extend(self, xs: list[float]) -> None:
        """Add values to the window, each as a bucket."""
        width, total, variance = self.width, self.total, self.variance
        for x in xs:
            if width:
                apart = x - total / width
                variance += width * apart * apart / (width + 1)
            width += 1
            total += x
        self.width, self.total, self.variance = width, total, variance
        self.since += len(xs)
        self.totals[0] += xs
        self.variances[0] += [0.0] * len(xs)
        self._compress()

    def _compress(self) -> None:
        """Merge the two oldest buckets, level by level, as long as there are too many.

        At the end of a run of values, all at once: the same buckets as after each value.
        """
        for level, (totals, variances) in enumerate(zip(self.totals, self.variances, strict=True)):
            pairs = 2 * ((len(totals) - self.options.max_buckets + 1) // 2)
            if pairs <= 0:
                return
            size, half = SIZES[level], SIZES[level] / 2
            for i in range(0, pairs, 2):
                apart = (totals[i] - totals[i + 1]) / size
                self.totals[level + 1].append(totals[i] + totals[i + 1])
                self.variances[level + 1].append(variances[i] + variances[i + 1] + half * apart * apart)
            del totals[:pairs], variances[:pairs]

    def check(self) -> None:
        """Cut the window as long as it has two parts that differ; fire if the first one matches the mode."""
        self.since = 0
        change = first = self._change()
        while change:
            self._drop_oldest()
            change = self._change()
        mode = self.options.mode
        self.fired = int(first != 0 if mode == "both" else first > 0 if mode == "up" else first < 0)

    def _change(self) -> float:
        """Return the rise of the mean at the oldest cut whose two means differ; 0 without one.

        They differ by more than the paper's second epsilon_cut, which uses the window's variance. As in
        River, each length in their harmonic mean is less by `min_window_length` - 1.
        """
        least, width, taken = self.options.min_window_length, self.width, self.options.min_window_length - 1
        if width <= self.options.grace_period or width < 2 * least:
            return 0.0
        log_delta = _log(2 * _log(width) / self.options.delta)
        spread, bound = 2 * (self.variance / width) * log_delta, 2 / 3 * log_delta
        n0, n1, u0, u1 = 0.0, float(width), 0.0, self.total
        for level in range(LEVELS - 1, -1, -1):
            size = SIZES[level]
            for u in self.totals[level]:
                n0 += size
                n1 -= size
                u0 += u
                u1 -= u
                if n0 < least or n1 < least:
                    continue
                change: float = u1 / n1 - u0 / n0
                m = 1 / (n0 - taken) + 1 / (n1 - taken)
                if abs(change) > sqrt(spread * m) + bound * m:
                    return change
        return 0.0

    def _drop_oldest(self) -> None:
        """Drop the oldest bucket, and sum the others again.

        Subtracting it from the sums (as River does) leaves the rounding error of a large value that was
        dropped, and a variance below 0.
        """
        oldest = max(level for level in range(LEVELS) if self.totals[level])
        del self.totals[oldest][0], self.variances[oldest][0]
        n, total, variance = 0.0, 0.0, 0.0
        for size, totals, variances in zip(SIZES, self.totals, self.variances, strict=True):
            for u, v in zip(totals, variances, strict=True):
                apart = u / size - total / n if n else 0.0
                variance += v + n * size * apart * apart / (n + size)
                total += u
                n += size
        self.width, self.total, self.variance = int(n), total, variance


def _log(x: float) -> float:
    return float(logarithm(np.array(x, np.float64)))


DETECTORS: dict[str, type[NoDrift] | type[PageHinkley] | type[ADWIN]] = {
    "none": NoDrift,
    "page_hinkley": PageHinkley,
    "adwin": ADWIN,
}


# The detectors of a learner's loss: rises only, of means over 32 rows (see learner.DRIFT_ROWS). Thresholds
# are in units of the loss; docs/benchmarks.md has their delays and false alarms.
DEFAULT_DETECTORS: dict[str, Detector[Any]] = {
    "page_hinkley": PageHinkley(delta=0.05, threshold=5.0, mode="up"),
    "adwin": ADWIN(delta=0.05, clock=8, mode="up"),
}


RAISED_ROWS = 500  # rows after which half of a drift's boost of the learning rates has decayed


def decay_boost(boost: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """Decay a boost, 1 at a drift, over rows learned as a step does; below 1 in 1000 it becomes 0."""
    left = boost * exponential(np.asarray(rows / RAISED_ROWS * _log(0.5)))
    return np.asarray(left if left > 1e-3 else np.zeros(()))


def options(detector: NoDrift | PageHinkley | ADWIN) -> dict[str, Any]:
    """Return a detector's options, ready for JSON, with its name under "detector"."""
    name = next(name for name, kind in DETECTORS.items() if kind is type(detector))
    return {"detector": name, **asdict(detector)}


def detector_from(options: Mapping[str, Any]) -> NoDrift | PageHinkley | ADWIN:
    """Return the detector of these options; "detector" is its name, by default "none".

    Errors: ValueError for an unknown name or option (with the nearest known one) and for an invalid value.
    """
    given = dict(options)
    name = given.pop("detector", "none")
    validation.one_of("detector", name, DETECTORS)
    validation.known(f"option of detector {name!r}", given, [field.name for field in fields(DETECTORS[name])])
    return DETECTORS[name](**given)
