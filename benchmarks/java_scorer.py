"""The real-time engine's Java network, beside the compiled core."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from streaming_nn.core.ensemble import Ensemble, EnsembleState, Model
from streaming_nn.spark import java_compiler
from streaming_nn.spark.score.realtime.scorer import HERE
from streaming_nn.versions.version import Manifest, encode_file, state_digest

SOURCES = ("Version", "Functions", "Scaling", "Network", "Bits")
CLASSES = ("softmax", "logistic")
Array = NDArray[Any]


def compiled(spark: SparkSession, folder: Path) -> Any:
    """Return a Java object that calls Network.java and Functions.java; `folder` gets their sources."""
    for name in SOURCES:
        shutil.copy((Path(__file__).parent if name == "Bits" else HERE) / f"{name}.java", folder)
    return java_compiler.instance(spark, folder, SOURCES)


def write(file: Path, ensemble: Ensemble, state: EnsembleState, **changes: Any) -> None:
    """Write a version's file; `changes` replace keys of its manifest, None removes one."""
    tensors = {f"model.{name}": array for name, array in state._asdict().items()}
    manifest = Manifest(7, learner=options_of(ensemble), digest=state_digest(tensors)).to_json() | changes
    file.write_bytes(encode_file({k: v for k, v in manifest.items() if v is not None}, tensors))


def predictions(
    java: Any, file: Path, ensemble: Ensemble, state: EnsembleState, x: Array
) -> tuple[Array, Array]:
    """Predict rows x (rows, columns) by a version in `file`; return Java's and the core's output, float64."""
    write(file, ensemble, state)
    expected = Model(ensemble, state).predict(x)
    if ensemble.shape.loss == "logistic" and expected.shape[1] == 1:  # both classes' probabilities
        expected = np.concatenate([1 - expected, expected], axis=1)
    found = np.frombuffer(java.predict(str(file), x.tobytes()))
    return found.reshape(expected.shape), expected.astype(np.float64)


def options_of(ensemble: Ensemble) -> dict[str, Any]:
    """Return the options that a version's manifest has of such a learner."""
    shape = ensemble.shape
    outputs = shape.units[-1]
    several = outputs > 1 and shape.loss not in ("softmax", "quantile")
    count = 2 if shape.loss == "logistic" and not several else outputs
    quantiles = shape.options["quantiles"]
    members = [
        {
            "inputs": "ramps" if ensemble.sees_ramps(each) else "plain",
            "hidden": list(each.units[1:-1]),
            "activation": each.activation,
            "linear": each.skip,
            "loss": each.loss,
            "quantiles": list(quantiles) or None,
        }
        for each in ensemble.shapes
    ]
    return {
        "inputs": ensemble.columns,
        "classes": list(range(count)) if shape.loss in CLASSES else None,
        "multilabel": several and shape.loss == "logistic",
        "targets": list(map(str, range(outputs))) if several and shape.loss not in CLASSES else None,
        "members": members,
        **{name: getattr(ensemble, name) for name in ("scale", "clip", "missing")},
    }
