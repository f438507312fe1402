"""Compare two versions: their options, their metrics, and the distance of their weights."""

from collections.abc import Container, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.versions.version_log import VersionLog

ABSENT = "(absent)"


def diff(log: VersionLog, a: int, b: int) -> dict[str, Any]:
    """Return what differs between versions `a` and `b`, JSON-able.

    {"versions": [a, b], "kinds", "written_at": [of a, of b], "identical": equal digests,
    "learner", "schema", "environment", "metrics": {"path.to.key": [in a, in b]} of what differs,
    "offsets": {topic: {partition: [a, b]}}, "pruned": those without tensors (then "tensors" is empty),
    "tensors": {name: {"distance": euclidean, "relative": to a's norm, "largest": of one element, "shapes"}}}
    LookupError: no such version; DamagedVersionError: one is damaged.
    """
    x, y = log.manifest(a), log.manifest(b)
    pruned = [number for number, manifest in ((a, x), (b, y)) if not manifest.kept]
    return {
        "versions": [a, b],
        "kinds": [x.kind, y.kind],
        "written_at": [x.written_at, y.written_at],
        "identical": x.digest == y.digest,
        "learner": changes(x.learner, y.learner),
        "schema": changes(x.schema, y.schema),
        "environment": changes(x.environment, y.environment),
        "metrics": changes(x.metrics, y.metrics),
        "offsets": _offsets(x.offsets, y.offsets),
        "pruned": pruned,
        "tensors": {} if pruned else _tensors(log.read(a).tensors, log.read(b).tensors),
    }


def changes(a: dict[str, Any], b: dict[str, Any]) -> dict[str, list[Any]]:
    """Return what differs, {"path.to.key": [in a, in b]}."""
    x, y = flat(a), flat(b)
    keys = sorted(x.keys() | y.keys())
    pairs = {key: [x.get(key, ABSENT), y.get(key, ABSENT)] for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under one key each, such as "window.accuracy" and "members[0].hidden"."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            for i, each in enumerate(value):
                result |= flat(each, f"{name}[{i}].")
            continue
        result |= flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return result


def flat_numbers(
    values: dict[str, Any], prefix: str = "", without: Container[str] = ()
) -> Iterator[tuple[str, float]]:
    """Yield the numbers outside of lists by the names of `flat`; dicts that `without` names are skipped."""
    for name, value in values.items():
        if isinstance(value, dict):
            if name not in without:
                yield from flat_numbers(value, f"{prefix}{name}.", without)
        elif isinstance(value, int | float):
            yield prefix + name, value


def _offsets(a: dict[str, dict[int, int]], b: dict[str, dict[int, int]]) -> dict[str, dict[str, list[Any]]]:
    topics = sorted(a.keys() | b.keys())
    moved = {
        t: changes({str(p): o for p, o in a.get(t, {}).items()}, {str(p): o for p, o in b.get(t, {}).items()})
        for t in topics
    }
    return {topic: partitions for topic, partitions in moved.items() if partitions}


def _tensors(a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> dict[str, dict[str, Any]]:
    return {name: _distance(a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys())}


def _distance(a: NDArray[Any] | None, b: NDArray[Any] | None) -> dict[str, Any]:
    shapes = [None if t is None else list(t.shape) for t in (a, b)]
    if a is None or b is None or a.shape != b.shape:
        return {"distance": None, "relative": None, "largest": None, "shapes": shapes}
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    # weights that are not finite are a result, not an error
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
        distance, norm = float(np.linalg.norm(difference)), float(np.linalg.norm(x))
    return {
        "distance": _finite(distance),
        "relative": _finite(distance / norm) if norm else None,
        "largest": _finite(float(difference.max())) if difference.size else 0.0,
        "shapes": shapes,
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
