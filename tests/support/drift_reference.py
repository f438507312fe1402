"""The second implementation of docs/arithmetic.md, "Drift": value by value, in Python's floats."""

from math import isfinite, sqrt
from typing import Any

import core_reference as core

HUGE = 1e100


def step_losses(
    y: Any, output: Any, size: int, moments: tuple[float, float] | None
) -> tuple[list[float], list[int]]:
    """Return each step's loss and rows; `moments` are a regression's count and sum of squared deviations."""
    losses, rows = [], []
    for start in range(0, len(y), size):
        total, count = 0.0, 0
        for truth, p in zip(y[start : start + size], output[start : start + size], strict=True):
            total, count = total + row_loss(truth, p, moments), count + 1
        losses.append(total)
        rows.append(count)
    return losses, rows


def row_loss(truth: Any, p: Any, moments: tuple[float, float] | None) -> float:
    if moments is None:
        right = float(p[int(truth)])
        return -core.one(core.logarithm, min(max(right, 1e-4), 1.0)) if isfinite(right) else 10.0
    count, squares = moments
    unit = sqrt(squares / max(count, 1.0)) or 1.0
    error = abs(float(p[0]) - float(truth)) / unit
    return error if error < 10.0 else 10.0


def page_hinkley(o: Any, values: list[float]) -> tuple[list[float], list[int]]:
    """Return the state after the values, and the indices at which it fired."""
    n = mean = rise = low = fall = high = fired = 0.0
    found = []
    for i, x in enumerate(values):
        if not isfinite(x):
            continue
        if fired:
            n = mean = rise = low = fall = high = fired = 0.0
        x = min(max(x, -HUGE), HUGE)
        n = n + 1
        mean = mean + 1 / n * (x - mean)
        d = x - mean
        rise = o.alpha * rise + d - o.delta
        fall = o.alpha * fall + d + o.delta
        low, high = min(low, rise), max(high, fall)
        up = o.mode != "down" and rise - low > o.threshold
        down = o.mode != "up" and high - fall > o.threshold
        if (up or down) and n >= o.min_instances:
            fired = 1.0
            found.append(i)
    return [n, mean, rise, low, fall, high, fired], found


class Window:
    """ADWIN's buckets, the newest last: each (values, sum, squares)."""

    def __init__(self) -> None:
        self.buckets: list[tuple[int, float, float]] = []  # the oldest first
        self.width, self.total, self.squares, self.since, self.fired = 0, 0.0, 0.0, 0, 0

    def append(self, x: float, most: int) -> None:
        if self.width:
            d = x - self.total / self.width
            self.squares = self.squares + self.width * d * d / (self.width + 1)
        self.width, self.total, self.since = self.width + 1, self.total + x, self.since + 1
        self.buckets.append((1, x, 0.0))
        size = 1
        while len(same := [i for i, each in enumerate(self.buckets) if each[0] == size]) > most:
            (_, a, va), (_, b, vb) = self.buckets[same[0]], self.buckets[same[1]]
            d = (a - b) / size
            self.buckets[same[0] : same[1] + 1] = [(2 * size, a + b, va + vb + size / 2 * d * d)]
            size *= 2

    def change(self, o: Any) -> float:
        least = o.min_window_length
        if self.width <= o.grace_period or self.width < 2 * least:
            return 0.0
        confidence = core.one(core.logarithm, 2 * core.one(core.logarithm, float(self.width)) / o.delta)
        spread, bound = 2 * (self.squares / self.width) * confidence, 2 / 3 * confidence
        n0, n1, u0, u1 = 0.0, float(self.width), 0.0, self.total
        for n, u, _ in self.buckets:
            n0, n1, u0, u1 = n0 + n, n1 - n, u0 + u, u1 - u
            if n0 >= least and n1 >= least:
                change = u1 / n1 - u0 / n0
                m = 1 / (n0 - (least - 1)) + 1 / (n1 - (least - 1))
                if abs(change) > sqrt(spread * m) + bound * m:
                    return change
        return 0.0

    def drop_oldest(self) -> None:
        del self.buckets[0]
        n, total, squares = 0.0, 0.0, 0.0
        sizes = sorted({bucket[0] for bucket in self.buckets})
        for k, u, v in (each for size in sizes for each in self.buckets if each[0] == size):
            d = u / k - total / n if n else 0.0
            squares = squares + (v + n * k * d * d / (n + k))
            total, n = total + u, n + k
        self.width, self.total, self.squares = int(n), total, squares


def adwin(o: Any, values: list[float]) -> tuple[Window, list[int]]:
    """Return the window after the values, and the indices at which it fired."""
    window, found = Window(), []
    for i, x in enumerate(values):
        if not isfinite(x):
            continue
        if window.fired:
            window = Window()
        window.append(min(max(x, -HUGE), HUGE), o.max_buckets)
        if window.since < o.clock:
            continue
        window.since = 0
        change = first = window.change(o)
        while change:
            window.drop_oldest()
            change = window.change(o)
        if (first > 0 and o.mode != "down") or (first < 0 and o.mode != "up"):
            window.fired = 1
            found.append(i)
    return window, found
