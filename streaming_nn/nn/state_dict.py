"""A learner's state as named tensors, as a version's file holds them, and back."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=tuple[Any, ...])


def flatten(state: tuple[Any, ...]) -> dict[str, NDArray[Any]]:
    """Return each array of nested NamedTuples by its name: `{"model.theta": ...}`. None and () have none."""
    tensors: dict[str, NDArray[Any]] = {}
    _collect(state, "", tensors)
    return tensors


def _collect(value: Any, name: str, tensors: dict[str, NDArray[Any]]) -> None:
    if isinstance(value, tuple):
        for field, part in zip(_fields(value), value, strict=True):
            _collect(part, f"{name}.{field}" if name else field, tensors)
    elif value is not None:
        tensors[name] = np.asarray(value, order="C")


def _fields(value: tuple[Any, ...]) -> tuple[str, ...]:
    return getattr(value, "_fields", None) or tuple(map(str, range(len(value))))


def unflatten(template: T, tensors: Mapping[str, NDArray[Any]]) -> T:
    """Build a state like `template` from named tensors; only shapes may differ (else ValueError)."""
    expected = flatten(template)
    if expected.keys() != tensors.keys():
        missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
        raise ValueError(
            f"tensors must be those of {type(template).__name__}; missing {missing}, unknown {unknown}"
        )
    for name, array in expected.items():
        if tensors[name].dtype != array.dtype:
            raise ValueError(f"tensor {name} must be {array.dtype}; got {tensors[name].dtype}")
    state: T = _build(template, "", tensors)
    return state


def _build(template: Any, name: str, tensors: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(template, tuple):
        parts = [
            _build(part, f"{name}.{field}" if name else field, tensors)
            for field, part in zip(_fields(template), template, strict=True)
        ]
        return type(template)(*parts) if hasattr(template, "_fields") else tuple(parts)
    return None if template is None else tensors[name]
