"""Schedules of the learning rate: its factor after a number of rows, whatever the mini-batch."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, log1p, pi
from typing import Protocol

import numpy as np

from streaming_nn.nn import validation


class Schedule(Protocol):
    """Options of a schedule, immutable."""

    def factor(self, rows: float) -> float:
        """Return the factor of the rate for the next step, after `rows` rows."""


def _check_rows(rows: object) -> None:
    validation.integer("a schedule's rows", rows)


@dataclass(frozen=True)
class Constant:
    """A constant rate."""

    def factor(self, rows: float) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class InverseScaling:
    """(1 + r / rows) ** -power: halved after `rows` at power 1; Robbins & Monro 1951 require (0.5, 1]."""

    rows: int = 10_000
    power: float = 0.5

    def __post_init__(self) -> None:
        _check_rows(self.rows)
        validation.between("a schedule's power", self.power, 0, np.inf)

    def factor(self, rows: float) -> float:
        """Return (1 + r / rows) ** -power."""
        return float((1 + rows / self.rows) ** -self.power)


@dataclass(frozen=True)
class Step:
    """Times `drop` after each `rows`."""

    rows: int = 100_000
    drop: float = 0.5

    def __post_init__(self) -> None:
        _check_rows(self.rows)
        validation.between("a schedule's drop", self.drop, 0, 1)

    def factor(self, rows: float) -> float:
        """Return drop ** (r // rows)."""
        return float(self.drop ** (rows // self.rows))


@dataclass(frozen=True)
class Cosine:
    """From 1 to `least` along half a cosine over `rows`, and again (Loshchilov & Hutter 2017, equation 5).

    Each period is `growth` times as long as the one before.
    """

    rows: int = 100_000
    growth: float = 2.0
    least: float = 0.0

    def __post_init__(self) -> None:
        _check_rows(self.rows)
        validation.between("a schedule's growth", self.growth, 1, np.inf, low_in=True)
        validation.between("a schedule's least", self.least, 0, 1, low_in=True, high_in=True)

    def factor(self, rows: float) -> float:
        """Return least + (1 - least) / 2 * (1 + cos(pi * part of the period))."""
        return self.least + (1 - self.least) / 2 * (1 + cos(pi * self._part(rows)))

    def _part(self, rows: float) -> float:
        periods = rows / self.rows
        if self.growth == 1:
            return periods % 1
        more = self.growth - 1
        full = int(log1p(periods * more) / log1p(more))  # rounded, it may be one off
        while self._start(full + 1) <= periods:
            full += 1
        while self._start(full) > periods:
            full -= 1
        return float((periods - self._start(full)) / self.growth**full)

    def _start(self, full: int) -> float:
        return float((self.growth**full - 1) / (self.growth - 1))


@dataclass(frozen=True)
class WarmUp:
    """A linear rise over the first `rows`, followed by the schedule `then`."""

    rows: int
    then: Schedule = Constant()

    def __post_init__(self) -> None:
        _check_rows(self.rows)

    def factor(self, rows: float) -> float:
        """Return (r + 1) / rows of the first factor of `then`; afterwards the factor of `then`."""
        if rows < self.rows:
            return (rows + 1) / self.rows * self.then.factor(0)
        return self.then.factor(rows - self.rows)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "inverse": InverseScaling,
    "step": Step,
    "cosine": Cosine,
}
