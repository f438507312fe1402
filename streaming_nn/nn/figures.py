"""Which of a version's figures come first, and whether the largest or the smallest is the best."""

from collections.abc import Container, Mapping
from typing import Any

CLASSES: dict[str, Any] = {"accuracy": max, "f1_macro": max, "log_loss": min}
LABELS: dict[str, Any] = {"subset_accuracy": max, "f1_macro": max, "hamming_loss": min}
TARGETS: dict[str, Any] = {"mae": min, "rmse": min, "r2": max}


def leading(figures: Container[str]) -> dict[str, Any]:
    """Return those of targets, of labels, or else of classes, by the names of all figures of a span."""
    return next((names for names in (TARGETS, LABELS) if next(iter(names)) in figures), CLASSES)


def describe(figures: Mapping[str, Any]) -> list[str]:
    """Return the leading ones that are defined, such as "accuracy 0.912"."""
    return [f"{name} {figures[name]:.3f}" for name in leading(figures) if figures.get(name) is not None]
