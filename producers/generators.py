"""Streams drawn from a formula, with drift at known rows: the seeded generators of the literature.

Each is implemented from its paper and vectorised; none is bit-equal to MOA's or River's, which draw row by
row.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from producers.streams import BLOCK, Block, Stream, checked_drift, concepts
from producers.validation import check_count, check_not_negative, check_share

Floats = NDArray[np.float64]
Concepts = NDArray[np.int64]  # (rows,) number of drifts before the row

SEA_THETA = np.array([8.0, 9.0, 7.0, 9.5])
LED_SEGMENTS = np.array(
    [
        [1, 1, 1, 0, 1, 1, 1],
        [0, 0, 1, 0, 0, 1, 0],
        [1, 0, 1, 1, 1, 0, 1],
        [1, 0, 1, 1, 0, 1, 1],
        [0, 1, 1, 1, 0, 1, 0],
        [1, 1, 0, 1, 0, 1, 1],
        [1, 1, 0, 1, 1, 1, 1],
        [1, 0, 1, 0, 0, 1, 0],
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 0, 1, 1],
    ]
)
LED_IRRELEVANT = 17
AGRAWAL_NAMES = ("salary", "commission", "age", "elevel", "car", "zipcode", "hvalue", "hyears", "loan")


def sea(seed: int, drift_at: tuple[int, ...] = (), noise: float = 0.1) -> Stream:
    """Stream three features in [0, 10]; class 1 where the first two sum to at most theta (8, 9, 7, 9.5, …).

    Street & Kim, "A streaming ensemble algorithm (SEA) for large-scale classification", KDD 2001.
    """
    noise = check_share("noise", noise)

    def draw(rng: np.random.Generator, concept: Concepts) -> tuple[Floats, Floats]:
        x = rng.uniform(0, 10, (len(concept), 3))
        y = x[:, 0] + x[:, 1] <= SEA_THETA[concept % len(SEA_THETA)]
        return x, _flipped(y, noise, rng)

    return Stream(3, (0, 1), _blocks(draw, seed, drift_at, np.int32))


def sine(seed: int, drift_at: tuple[int, ...] = (), noise: float = 0.0) -> Stream:
    """Stream two features in [0, 1]; class 1 below sin(x), then above it, then below 0.5 + 0.3 sin(3 pi x), …

    Gama et al., "Learning with drift detection", SBIA 2004: SINE1 and SINE2, each then reversed.
    """
    noise = check_share("noise", noise)

    def draw(rng: np.random.Generator, concept: Concepts) -> tuple[Floats, Floats]:
        x = rng.uniform(0, 1, (len(concept), 2))
        first = concept % 4 < 2
        curve = np.where(first, np.sin(x[:, 0]), 0.5 + 0.3 * np.sin(3 * np.pi * x[:, 0]))
        y = (x[:, 1] < curve) ^ (concept % 2 == 1)
        return x, _flipped(y, noise, rng)

    return Stream(2, (0, 1), _blocks(draw, seed, drift_at, np.int32))


def hyperplane(
    seed: int,
    drift_at: tuple[int, ...] = (),
    inputs: int = 10,
    magnitude: float = 0.001,
    turn: float = 0.1,
    noise: float = 0.05,
) -> Stream:
    """Stream points of [0, 1]^inputs; class 1 above a hyperplane whose weights move by `magnitude` a row.

    Every weight reverses its direction with probability `turn` a row; a drift draws all weights again.
    Hulten, Spencer & Domingos, "Mining time-changing data streams", KDD 2001.
    """
    noise, turn = check_share("noise", noise), check_share("turn", turn)
    inputs = check_count("inputs", inputs)
    weights, direction, last = np.empty(inputs), np.ones(inputs), -1

    def draw(rng: np.random.Generator, concept: Concepts) -> tuple[Floats, Floats]:
        nonlocal weights, direction, last
        x = rng.uniform(0, 1, (len(concept), inputs))
        turns = np.where(rng.uniform(size=x.shape) < turn, -1.0, 1.0)
        fresh = rng.uniform(0, 1, (len(concept), inputs))
        w = np.empty_like(x)
        for i, now in enumerate(concept):
            if now != last:
                weights, last = fresh[i], now
            direction = direction * turns[i]
            weights = weights + magnitude * direction
            w[i] = weights
        y = (w * x).sum(axis=1) >= w.sum(axis=1) / 2
        return x, _flipped(y, noise, rng)

    return Stream(inputs, (0, 1), _blocks(draw, seed, drift_at, np.int32))


def agrawal(seed: int, drift_at: tuple[int, ...] = (), function: int = 1, noise: float = 0.05) -> Stream:
    """Stream nine features of loan applicants; class 1 is group A of one of ten functions.

    A drift moves on to the next function. `noise` moves the numeric features by up to that share of
    their range.
    Agrawal, Imielinski & Swami, "Database mining: a performance perspective", IEEE TKDE 5(6), 1993.
    """
    noise = check_share("noise", noise)
    if not 1 <= function <= len(_AGRAWAL):
        raise ValueError(f"function must be 1 to {len(_AGRAWAL)}; got {function}")

    def draw(rng: np.random.Generator, concept: Concepts) -> tuple[Floats, Floats]:
        x = _applicants(rng, len(concept))
        group = np.empty(len(concept), bool)
        for k in np.unique(concept):
            rows = concept == k
            group[rows] = _AGRAWAL[(function - 1 + k) % len(_AGRAWAL)](x[rows])
        return _perturbed(x, noise, rng), group.astype(float)

    return Stream(9, (0, 1), _blocks(draw, seed, drift_at, np.int32), AGRAWAL_NAMES)


def led(seed: int, drift_at: tuple[int, ...] = (), noise: float = 0.1) -> Stream:
    """Stream the seven segments of a display, each wrong with probability `noise`, among 17 others.

    Each drift shifts the segments by two columns.
    Breiman et al., "Classification and regression trees", 1984.
    """
    noise = check_share("noise", noise)
    width = LED_SEGMENTS.shape[1] + LED_IRRELEVANT

    def draw(rng: np.random.Generator, concept: Concepts) -> tuple[Floats, Floats]:
        y = rng.integers(0, 10, len(concept))
        wrong = rng.uniform(size=(len(concept), LED_SEGMENTS.shape[1])) < noise
        lit = LED_SEGMENTS[y] ^ wrong
        x = np.concatenate([lit, rng.integers(0, 2, (len(concept), LED_IRRELEVANT))], axis=1)
        column = (np.arange(width) - 2 * concept[:, None]) % width
        return np.take_along_axis(x, column, axis=1).astype(float), y.astype(float)

    return Stream(width, tuple(range(10)), _blocks(draw, seed, drift_at, np.int32))


def random_rbf(
    seed: int,
    drift_at: tuple[int, ...] = (),
    inputs: int = 10,
    classes: int = 2,
    centroids: int = 50,
    speed: float = 0.0,
) -> Stream:
    """Stream points around weighted centroids in [0, 1]^inputs; the class is the centroid's.

    Each centroid has its spread, and moves by `speed` a row in its direction, reflected at the walls; a drift
    draws them all again. Bifet et al., "New ensemble methods for evolving data streams", KDD 2009, section 4.
    """
    inputs, classes, centroids = (
        check_count(name, value)
        for name, value in (("inputs", inputs), ("classes", classes), ("centroids", centroids))
    )
    if not 2 <= classes <= centroids:
        raise ValueError(f"classes must be 2 to the {centroids} centroids; got {classes}")
    check_not_negative("speed", speed)
    row = 0

    def draw(rng: np.random.Generator, concept: Concepts) -> tuple[Floats, Floats]:
        nonlocal row
        rows = row + np.arange(len(concept))[:, None]
        row += len(concept)
        pick, direction = rng.uniform(size=len(concept)), _unit(rng.uniform(-1, 1, (len(concept), inputs)))
        far = rng.standard_normal((len(concept), 1))
        x, y = np.empty_like(direction), np.empty(len(concept))
        for k in np.unique(concept):
            at = concept == k
            centroid = _centroids(np.random.default_rng([seed, 2, k]), centroids, inputs, classes)
            i = np.searchsorted(centroid.until, pick[at], side="right")
            centre = _reflected(centroid.centre[i] + speed * rows[at] * centroid.direction[i])
            x[at], y[at] = centre + far[at] * centroid.spread[i, None] * direction[at], centroid.label[i]
        return x, y

    return Stream(inputs, tuple(range(classes)), _blocks(draw, seed, drift_at, np.int32))


class _Centroids(NamedTuple):
    centre: Floats  # (centroids, inputs) in [0, 1]
    direction: Floats  # (centroids, inputs) of length 1
    spread: Floats  # (centroids,) standard deviation of the distance
    label: NDArray[np.int64]  # (centroids,)
    until: Floats  # (centroids,) cumulative probability, 1 at the end


def _centroids(rng: np.random.Generator, number: int, inputs: int, classes: int) -> _Centroids:
    weight = np.cumsum(rng.uniform(size=number))
    return _Centroids(
        rng.uniform(size=(number, inputs)),
        _unit(rng.uniform(-1, 1, (number, inputs))),
        rng.uniform(size=number),
        rng.permutation(number) % classes,  # each class has some
        weight / weight[-1],
    )


def _unit(x: Floats) -> Floats:
    length: Floats = np.linalg.norm(x, axis=1, keepdims=True)
    return x / length


def _reflected(x: Floats) -> Floats:
    """Fold positions into [0, 1]: they are reflected at the walls."""
    return 1 - np.abs(1 - x % 2)


def friedman(seed: int, drift_at: tuple[int, ...] = (), noise: float = 1.0) -> Stream:
    """Stream ten features in [0, 1], target 10 sin(pi a b) + 20 (c - 0.5)^2 + 10 d + 5 e + N(0, noise).

    Each drift shifts the roles a to e by three of the ten features.
    Friedman, "Multivariate adaptive regression splines", Annals of Statistics 19(1), 1991; the drift after
    Ikonomovska, Gama & Dzeroski, "Learning model trees from evolving data streams", DMKD 23, 2011.
    """
    check_not_negative("noise", noise)

    def draw(rng: np.random.Generator, concept: Concepts) -> tuple[Floats, Floats]:
        x = rng.uniform(0, 1, (len(concept), 10))
        a, b, c, d, e = np.take_along_axis(x, (np.arange(5) + 3 * concept[:, None]) % 10, axis=1).T
        y = 10 * np.sin(np.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e
        return x, y + noise * rng.standard_normal(len(concept))

    return Stream(10, None, _blocks(draw, seed, drift_at, np.float32))


def _blocks(
    draw: Callable[[np.random.Generator, Concepts], tuple[Floats, Floats | NDArray[np.bool_]]],
    seed: int,
    drift_at: tuple[int, ...],
    kind: type[np.int32] | type[np.float32],
) -> Iterator[Block]:
    checked_drift(drift_at)
    rng, start = np.random.default_rng(seed), 0

    def forever() -> Iterator[Block]:
        nonlocal start
        while True:
            x, y = draw(rng, concepts(start, BLOCK, drift_at))
            yield Block(x.astype(np.float32), y.astype(kind))
            start += BLOCK

    return forever()


def _applicants(rng: np.random.Generator, rows: int) -> Floats:
    """Draw applicants (rows, 9) by table 1 of the paper."""
    salary = rng.uniform(20_000, 150_000, rows)
    commission = np.where(salary >= 75_000, 0.0, rng.uniform(10_000, 75_000, rows))
    age = rng.integers(20, 81, rows)
    elevel = rng.integers(0, 5, rows)
    car = rng.integers(1, 21, rows)
    zipcode = rng.integers(0, 9, rows)
    hvalue = (9 - zipcode) * 100_000 * rng.uniform(0.5, 1.5, rows)
    hyears = rng.integers(1, 31, rows)
    loan = rng.uniform(0, 500_000, rows)
    return np.stack([salary, commission, age, elevel, car, zipcode, hvalue, hyears, loan], axis=1)


def _perturbed(x: Floats, noise: float, rng: np.random.Generator) -> Floats:
    """Move salary, commission, age, house value, its years and the loan, and clip them to their range."""
    numeric = np.array([0, 1, 2, 6, 7, 8])
    low = np.array([20_000, 0, 20, 50_000, 1, 0], float)
    high = np.array([150_000, 75_000, 80, 1_350_000, 30, 500_000], float)
    moved = x.copy()
    shift = noise * (high - low) * rng.uniform(-1, 1, (len(x), len(numeric)))
    moved[:, numeric] = np.clip(x[:, numeric] + shift, low, high)
    return moved


def _by_age(
    x: Floats, young: NDArray[np.bool_], middle: NDArray[np.bool_], old: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    age = x[:, 2]
    return np.where(age < 40, young, np.where(age < 60, middle, old)).astype(bool)


def _within(values: Floats, low: float, high: float) -> NDArray[np.bool_]:
    return (low <= values) & (values <= high)


def _salary_by_level(
    x: Floats, level: NDArray[np.bool_], inside: tuple[float, float], other: tuple[float, float]
) -> NDArray[np.bool_]:
    return np.where(level, _within(x[:, 0], *inside), _within(x[:, 0], *other)).astype(bool)


def _f1(x: Floats) -> NDArray[np.bool_]:
    return (x[:, 2] < 40) | (x[:, 2] >= 60)


def _f2(x: Floats) -> NDArray[np.bool_]:
    s = x[:, 0]
    return _by_age(x, _within(s, 50_000, 100_000), _within(s, 75_000, 125_000), _within(s, 25_000, 75_000))


def _f3(x: Floats) -> NDArray[np.bool_]:
    e = x[:, 3]
    return _by_age(x, _within(e, 0, 1), _within(e, 1, 3), _within(e, 2, 4))


def _f4(x: Floats) -> NDArray[np.bool_]:
    e = x[:, 3]
    return _by_age(
        x,
        _salary_by_level(x, e <= 1, (25_000, 75_000), (50_000, 100_000)),
        _salary_by_level(x, _within(e, 1, 3), (50_000, 100_000), (75_000, 125_000)),
        _salary_by_level(x, e >= 2, (50_000, 100_000), (25_000, 75_000)),
    )


def _f5(x: Floats) -> NDArray[np.bool_]:
    s, loan = x[:, 0], x[:, 8]
    return _by_age(
        x,
        np.where(
            _within(s, 50_000, 100_000), _within(loan, 100_000, 300_000), _within(loan, 200_000, 400_000)
        ),
        np.where(
            _within(s, 75_000, 125_000), _within(loan, 200_000, 400_000), _within(loan, 300_000, 500_000)
        ),
        np.where(
            _within(s, 25_000, 75_000), _within(loan, 300_000, 500_000), _within(loan, 100_000, 300_000)
        ),
    )


def _f6(x: Floats) -> NDArray[np.bool_]:
    total = x[:, 0] + x[:, 1]
    return _by_age(
        x, _within(total, 50_000, 100_000), _within(total, 75_000, 125_000), _within(total, 25_000, 75_000)
    )


def _equity(x: Floats) -> Floats:
    return 0.1 * x[:, 6] * np.maximum(x[:, 7] - 20, 0)


def _f7(x: Floats) -> NDArray[np.bool_]:
    return 2 * (x[:, 0] + x[:, 1]) / 3 - x[:, 8] / 5 - 20_000 > 0


def _f8(x: Floats) -> NDArray[np.bool_]:
    return 2 * (x[:, 0] + x[:, 1]) / 3 - 5_000 * x[:, 3] - 20_000 > 0


def _f9(x: Floats) -> NDArray[np.bool_]:
    return 2 * (x[:, 0] + x[:, 1]) / 3 - 5_000 * x[:, 3] - x[:, 8] / 5 - 10_000 > 0


def _f10(x: Floats) -> NDArray[np.bool_]:
    return 2 * (x[:, 0] + x[:, 1]) / 3 - 5_000 * x[:, 3] + _equity(x) / 5 - 10_000 > 0


_AGRAWAL = (_f1, _f2, _f3, _f4, _f5, _f6, _f7, _f8, _f9, _f10)


def _flipped(y: NDArray[np.bool_], noise: float, rng: np.random.Generator) -> Floats:
    return (y ^ (rng.uniform(size=len(y)) < noise)).astype(float)
