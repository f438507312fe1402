"""The graph answers as the learner does: ONNX Runtime against `predict`, whatever the options."""

import json
import re
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from exported import MLP, PORTFOLIO, rows, told_apart, trained
from typer.testing import CliRunner

from streaming_nn import arrays, frames
from streaming_nn.cli import app
from streaming_nn.export_onnx import OPSET, to_onnx
from streaming_nn.log.log import Log
from streaming_nn.model import Model, answers, loaded, saved
from streaming_nn.nn.activations import ACTIVATIONS
from streaming_nn.nn.inputs import MISSING, SCALES
from streaming_nn.records.schema import Schema

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
THREE = ("c", "a", "b")
LOSSES: list[dict[str, Any]] = [
    {"loss": "softmax", "classes": THREE},
    {"loss": "logistic", "classes": (7, 3)},
    {"loss": "squared"},
    {"loss": "absolute"},
    {"loss": "huber"},
    {"loss": "quantile", "quantiles": (0.1, 0.5, 0.9)},
    {"loss": "poisson"},
]


def described(model: Model) -> Schema:
    return Schema(model.learner.inputs, model.learner.classes)


def run(made: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"features": x}), strict=True))


def check(model: Model, x: np.ndarray) -> None:
    """Hold that the graph's answers are the learner's, to 1e-5 of their size."""
    made = to_onnx(model, described(model))
    onnx.checker.check_model(made, full_check=True)
    expected, found = answers(model, x), run(made, x)
    assert np.isfinite(expected).all()
    if model.learner.classes is None:
        np.testing.assert_allclose(found["prediction"], expected, rtol=1e-5, atol=1e-5 * expected.std())
        return
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-5)
    named = np.array(model.learner.classes)[found["probabilities"].argmax(axis=1)]
    assert found["label"].tolist() == named.tolist()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss["loss"])
def test_every_activation_with_every_loss(activation: str, loss: dict[str, Any]) -> None:
    check(trained(**MLP, **loss, activation=activation), told_apart(rows(100, False, 5)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("classes", [THREE, None])
def test_the_mixture_with_every_activation(activation: str, classes: Any) -> None:
    check(trained(**PORTFOLIO, activation=activation, classes=classes), told_apart(rows(100, False, 5)))


@pytest.mark.parametrize(("scale", "missing"), list(product(SCALES, MISSING)))
@pytest.mark.parametrize("kind", [MLP, PORTFOLIO], ids=lambda kind: kind["learner"])
def test_every_scaling_with_every_way_with_gaps(kind: dict[str, Any], scale: str, missing: str) -> None:
    x = rows(100, missing != "refuse", 5)
    if scale == "none":
        x[:, 1] -= 1000  # a network whose inputs are that large learns nothing that is finite
    model = trained(**kind, classes=(True, False), scale=scale, missing=missing)
    check(model, x if scale == "none" else told_apart(x))
