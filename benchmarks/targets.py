"""What the default learner should reach, and whether it does."""

from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

LEAST = {  # accuracy
    "elec2": 0.910,
    "covtype20k": 0.815,
    "weather": 0.796,
    "phishing": 0.885,
    "segment": 0.880,
    "bananas": 0.80,
    "sea50k": 0.882,
    "occupancy": 0.992,
    "kdd99_10pct": 0.998,
    "mnist70k": 0.96,
}
MOST = {  # mean absolute error, to stay below
    "chick_weights": 22.3,
    "bike_hour": 76.0,
    "fried": 1.10,
    "nyc_taxi": 4.38,
    "kafkaml_no3": 0.56,
    "water_flow": 2.2,
}
FOREST = {  # accuracy of an adaptive random forest of 10 trees, to be above
    "elec2": 0.877,
    "weather": 0.782,
    "covtype20k": 0.748,
    "segment": 0.808,
    "sea50k": 0.881,
    "occupancy": 0.985,
    "kdd99_10pct": 0.993,
    "phishing": 0.905,
    "bananas": 0.879,
}
BEHIND_BEST = {1: 0.005, 8: 0.005, 32: 0.01}  # accuracy that the mixture may lack to its best member
LONG = 5_000  # rows past which it is held to that


class Target(NamedTuple):
    """One thing to reach."""

    stream: str
    what: str
    value: float
    limit: float
    met: bool


def judged(
    stream: str,
    rows: int,
    regression: bool,
    ours: Mapping[int, float],
    best: Mapping[int, float],
    forest: Mapping[str, float],
) -> list[Target]:
    """Judge a stream by the means over the seeds, at the smallest mini-batch where none is said.

    `ours` and `best`, the best member alone, are by mini-batch; `forest` has the forest's and our accuracy
    on its rows, and the rows a second of both, or is empty.
    """
    if not ours:
        return []
    first = min(ours)
    targets = []
    if stream in LEAST:
        targets.append(_at_least(stream, f"accuracy at mini-batch {first}", ours[first], LEAST[stream]))
    if stream in MOST:
        value = ours[first]
        what = f"MAE at mini-batch {first}"
        targets.append(Target(stream, what, value, MOST[stream], value < MOST[stream]))
    if not regression and rows > LONG:
        for size in sorted(ours.keys() & best.keys() & BEHIND_BEST.keys()):
            what, least = f"beside its best member at {size}", best[size] - BEHIND_BEST[size]
            targets.append(_at_least(stream, what, ours[size], least))
    if stream in FOREST:
        what = f"above the forest as published, at {first}"
        targets.append(_above(stream, what, ours[first], FOREST[stream]))
    if forest and not regression:
        targets.append(_above(stream, "above the forest, its rows", forest["ours"], forest["forest"]))
    if forest:
        rates = forest["our_rate"], forest["forest_rate"]
        targets.append(_above(stream, "rows/s of a core above the forest's", *rates))
    return targets


def _at_least(stream: str, what: str, value: float, limit: float) -> Target:
    return Target(stream, what, value, limit, value >= limit)


def _above(stream: str, what: str, value: float, limit: float) -> Target:
    return Target(stream, what, value, limit, value > limit)


def mean_by(results: list[dict[str, Any]], key: str, of: str = "score") -> dict[Any, float]:
    """Give the mean of a figure over the results that share a key."""
    groups: dict[Any, list[float]] = {}
    for result in results:
        groups.setdefault(result[key], []).append(result[of])
    return {value: fmean(figures) for value, figures in groups.items()}


def best_member(results: list[dict[str, Any]], regression: bool) -> dict[int, tuple[str, float]]:
    """Name for each mini-batch the member with the best mean over the seeds, and give that mean."""
    best: dict[int, tuple[str, float]] = {}
    choose: Callable[..., Any] = min if regression else max
    for size in sorted({result["mini_batch"] for result in results}):
        means = mean_by([r for r in results if r["mini_batch"] == size], "who")
        who = choose(means, key=means.__getitem__)
        best[size] = (who, means[who])
    return best
