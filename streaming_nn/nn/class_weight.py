"""Weights of classes, as an option."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streaming_nn.nn import validation

ClassWeight = str | Mapping[Any, float] | Sequence[tuple[Any, float]] | None


def validate(given: ClassWeight, classes: tuple[Any, ...] | None) -> Any:
    """Validate class weights; return pairs, or a name. A label may be a string, as a key must be in TOML."""
    if classes is None:
        raise ValueError(f"class_weight must be left out without classes; got {given!r}")
    if isinstance(given, str):
        validation.one_of("class_weight", given, ("balanced", "effective"))
        return given
    if not isinstance(given, (Mapping, tuple, list)):
        raise ValueError(f"class_weight must map labels to weights, or be a name; got {given!r}")
    pairs = []
    listed = given.items() if isinstance(given, Mapping) else given
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in listed):
        raise ValueError(f"class_weight must be pairs of label and weight; got {given!r}")
    for label, weight in listed:
        same = [c for c in classes if (type(c), c) == (type(label), label)] or [
            c for c in classes if (str(c).lower() if isinstance(c, bool) else str(c)) == label
        ]
        if not same:
            raise ValueError(f"class_weight must be for labels among {classes!r}; got {label!r}")
        validation.between("class_weight", weight, 0, np.inf, low_in=True)
        pairs.append((same[0], float(weight)))
    return tuple(pairs)


def per_class(given: Any, classes: tuple[Any, ...] | None) -> Any:
    """Return each class's weight, 1 for those without one; a name, and None, as they are."""
    if not isinstance(given, tuple):
        return given
    weights = {(type(label), label): weight for label, weight in given}
    return tuple(weights.get((type(label), label), 1.0) for label in classes or ())
