"""The graph predicts as the learner does: ONNX Runtime against `predict`, with all options."""

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
from each_member import thetas
from exported import ENSEMBLE, MLP, rows, rows_to_scale, trained, with_outliers
from paths import ROOT
from typer.testing import CliRunner

from streaming_nn.cli.app import app
from streaming_nn.cli.app import run as run_command
from streaming_nn.core.structures import ACTIVATIONS, MISSING, SCALES
from streaming_nn.estimators import river, sklearn
from streaming_nn.export.onnx import OPSET, to_onnx
from streaming_nn.model import Model, describe, load, new_model, predict
from streaming_nn.nn.factory import learner_from
from streaming_nn.records.schema import Schema
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

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


def schema_of(model: Model) -> Schema:
    return describe(model.learner)


def run(proto: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"features": x}), strict=True))


def check(model: Model, x: np.ndarray) -> None:
    """Check that the graph's predictions are the learner's, to 1e-5 of their size."""
    proto = to_onnx(model, schema_of(model))
    onnx.checker.check_model(proto, full_check=True)
    expected, found = predict(model, x), run(proto, x)
    assert np.isfinite(expected).all()
    if model.learner.classes is None:
        np.testing.assert_allclose(found["prediction"], expected, rtol=1e-5, atol=1e-5 * expected.std())
        return
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-5)
    if model.learner.multilabel:
        assert found["label"].tolist() == (found["probabilities"] > 0.5).astype(int).tolist()
        return
    named = np.array(model.learner.classes)[found["probabilities"].argmax(axis=1)]
    assert found["label"].tolist() == named.tolist()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss["loss"])
def test_every_activation_with_every_loss(activation: str, loss: dict[str, Any]) -> None:
    check(trained(**MLP, **loss, activation=activation), with_outliers(rows(100, False, 5)))


@pytest.mark.parametrize("network", [ENSEMBLE, MLP, {**MLP, "missing": "indicate"}], ids=str)
@pytest.mark.parametrize("several", [{"targets": ("u", "v", "w")}, {"classes": THREE, "multilabel": True}])
def test_several_targets_and_labels(network: dict[str, Any], several: dict[str, Any]) -> None:
    model = trained(**network, **several)
    check(model, with_outliers(rows(100, "missing" in network, 5)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("classes", [THREE, None])
def test_the_mixture_with_every_activation(activation: str, classes: Any) -> None:
    check(trained(**ENSEMBLE, activation=activation, classes=classes), with_outliers(rows(100, False, 5)))


@pytest.mark.parametrize(("scale", "missing"), list(product(SCALES, MISSING)))
@pytest.mark.parametrize("kind", [MLP, ENSEMBLE], ids=lambda kind: kind["learner"])
def test_every_scaling_with_every_way_to_handle_missing_values(
    kind: dict[str, Any], scale: str, missing: str
) -> None:
    x = rows_to_scale(scale, missing)
    model = trained(**kind, classes=(True, False), scale=scale, missing=missing)
    check(model, x)


SHAPES = [  # of several kinds, whose order is not that of the kinds
    {"inputs": "ramps", "hidden": (), "linear": False},
    {"hidden": (6,), "activation": "tanh"},
    {"inputs": "ramps", "hidden": (5, 3)},
    {"hidden": (6,), "activation": "tanh"},
    {"hidden": (4,), "linear": False},
]
MIXED = {
    "learner": "ensemble",
    "members": [{"optimizer": "adam", "learning_rate": 0.03, **s} for s in SHAPES],
}


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize(
    "task", [{"classes": THREE}, {"classes": THREE, "multilabel": True}, {"classes": None}]
)
def test_members_of_several_shapes_and_with_ramps(task: dict[str, Any], missing: str) -> None:
    model = trained(**MIXED, **task, missing=missing)
    model.state.model.weights[:] = np.arange(1, 6) / 15
    assert np.isfinite(model.state.model.knots).sum(axis=1).tolist() == [16, 16, 0, 16]
    check(model, with_outliers(rows(100, missing != "refuse", 5)))


def test_knots_that_are_equal_in_float32_make_no_ramp() -> None:
    model = trained(**MIXED)
    model.state.model.knots[0] = np.inf
    model.state.model.knots[0, :5] = [0, 1e-50, 2e-50, 0.5, 1]
    check(model, with_outliers(rows(100, False, 5)))


def test_what_a_version_adds_is_in_the_graph() -> None:
    model = trained(**MIXED)
    x = rows(100, False, 5)
    before = predict(model, x)
    model.state.model.correction[0] = 3 * before.std()
    assert (predict(model, x) > before + 2 * before.std()).all()
    check(model, x)


def test_a_member_that_is_not_finite_is_not_in_the_graph() -> None:
    model, x = trained(**MIXED, classes=THREE), rows(50, False, 5)
    whole = sizes(to_onnx(model, schema_of(model)))
    thetas(model.learner, model.state.model)[3][:] = np.nan
    proto = to_onnx(model, schema_of(model))
    assert sizes(proto) == {(members - (members in (2, 5)), *rest) for members, *rest in whole}
    check(model, x)
    model.state.model.theta[:] = np.inf
    with pytest.raises(ValueError, match=r"^cannot export the model: no member has finite weights$"):
        to_onnx(model, schema_of(model))


def sizes(proto: onnx.ModelProto) -> set[tuple[int, ...]]:
    """Return the shapes of the constants with an axis of members."""
    return {tuple(each.dims) for each in proto.graph.initializer if len(each.dims) == 3}


@pytest.mark.parametrize("classes", [THREE, None])
@pytest.mark.parametrize("kind", [MLP, ENSEMBLE], ids=lambda kind: kind["learner"])
def test_an_untrained_model(kind: dict[str, Any], classes: Any) -> None:
    model = new_model(learner_from({**kind, "classes": classes, "inputs": 4}))
    found = run(to_onnx(model, schema_of(model)), rows(1, False))
    np.testing.assert_allclose([*found.values()][-1], predict(model, rows(1, False)), atol=1e-5)


def last_biases(model: Model) -> np.ndarray:
    _, biases = model.learner.shape.views(model.state.model.theta)[-1]
    return biases


def test_quantiles_that_cross_are_sorted() -> None:
    model = trained(**MLP, loss="quantile", quantiles=(0.2, 0.5, 0.8))
    theta = model.state.model.theta
    theta[:] = 0
    last_biases(model)[:] = 0.3, 0.1, 0.2
    (prediction,) = run(to_onnx(model, schema_of(model)), rows(1, False))["prediction"]
    assert sorted(set(prediction.tolist())) == prediction.tolist()


@pytest.mark.parametrize("bias", [-90, 90])
def test_counts_stay_finite(bias: float) -> None:
    model = trained(**MLP, loss="poisson")
    last_biases(model)[:] = bias
    check(model, rows(20, False))


@pytest.mark.parametrize("classes", [("no", "yes"), (3, -1), (False, True), ("ä", "", "1")])
def test_a_label_keeps_its_type(classes: Any) -> None:
    model = trained(**MLP, classes=classes)
    label = run(to_onnx(model, schema_of(model)), rows(20, False))["label"]
    assert set(label.tolist()) <= set(classes)
    assert {type(each) for each in label.tolist()} <= {type(classes[0])}


def test_labels_of_several_types_are_refused() -> None:
    model = trained(**MLP, classes=("1", 1))
    with pytest.raises(ValueError, match=r"^classes must be of one type to be exported; got \('1', 1\)$"):
        to_onnx(model, schema_of(model))


def test_any_number_of_rows_is_predicted_and_only_rows_of_that_width() -> None:
    model = trained(**ENSEMBLE)
    proto = to_onnx(model, schema_of(model))
    for count in (0, 1, 5000):
        assert run(proto, rows(count, False))["prediction"].shape == (count, 1)
    with pytest.raises(Exception, match="Got invalid dimensions"):
        run(proto, rows(3, False)[:, :2])


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """A model directory with two versions: the model, and the model after it has learned more."""
    X, y = rows(200, False), rows(200, False)[:, 0] > 0
    table = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    estimator = sklearn.OnlineClassifier(hidden=(4,)).fit(table, y)
    estimator.save(tmp_path)
    estimator.partial_fit(table, ~y).save(tmp_path)
    return tmp_path


def test_the_command_writes_the_requested_version(
    versions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.onnx"
    for words, number in ((["--version", "0"], 0), ([], 1)):
        assert run_command(["export", "--model", str(versions), "--to", str(file), *words]) == 0
        assert capsys.readouterr() == (f"{file}: version {number} of {versions}, 4 inputs\n", "")
        model, schema = load(versions, number)
        assert file.read_bytes() == to_onnx(model, schema).SerializeToString(deterministic=True)
        proto = onnx.load(file)
        expected = predict(model, rows(50, False, 5))
        np.testing.assert_allclose(run(proto, rows(50, False, 5))["probabilities"], expected, atol=1e-5)
        metadata = {each.key: json.loads(each.value) for each in proto.metadata_props if each.key != "digest"}
        assert metadata["version"] == number
        assert metadata["columns"] == ["a", "b", "c", "d"]
        assert (metadata["classes"], metadata["label"]) == ([False, True], "label")
        assert learner_from(metadata["learner"]) == model.learner
        digest = next(each.value for each in proto.metadata_props if each.key == "digest")
        assert digest == VersionLog(versions).manifest(number).digest
        assert proto.opset_import[0].version == OPSET
    assert not [*tmp_path.glob(".model*")]
    assert run_command(["export", "--model", str(versions), "--to", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(file), "version": 1, "inputs": 4}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--version", "9"], r"^version must be 'head', a number up to 1 or one of the tags .*; got '9'$"),
        (["--model", "nowhere"], r"^model nowhere: there is no version to export yet$"),
    ],
)
def test_a_version_that_does_not_exist_is_a_one_line_error(
    versions: Path, words: list[str], error: str
) -> None:
    result = CliRunner().invoke(app, ["export", "--to", "x.onnx", "--model", str(versions), *words])
    assert isinstance(result.exception, LookupError)
    assert re.search(error, str(result.exception))


def test_without_onnx_one_line_names_the_extra(versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "streaming_nn.export.onnx")
    line = r"^streaming_nn.export.onnx needs onnx: pip install 'streaming_nn\[onnx\]'$"
    with pytest.raises(ImportError, match=line):
        sklearn.load(versions).to_onnx()
    result = CliRunner().invoke(app, ["export", "--to", "x.onnx", "--model", str(versions)])
    assert isinstance(result.exception, RuntimeError)
    assert re.search(line, str(result.exception))


def test_a_model_is_a_version_only_until_it_learns_more(versions: Path) -> None:
    estimator = sklearn.load(versions)
    keys = {each.key for each in estimator.to_onnx().metadata_props}
    X = pd.DataFrame(rows(5, False), columns=["a", "b", "c", "d"])
    estimator.partial_fit(X, [True] * 5)
    assert keys - {each.key for each in estimator.to_onnx().metadata_props} == {"version"}


def test_river_models_export_what_they_predict_with() -> None:
    X = pd.DataFrame({"x": rows(300, True)[:, 0], "city": ["Ulm", "Bonn", "Kiel"] * 100})
    model = river.RiverRegressor(hidden=(4,), categories={"city": {"one_hot": 4}})
    with pytest.raises(ValueError, match=r"^cannot export a model that has learned no row; learn one first$"):
        model.to_onnx()
    model.learn_many(X, pd.Series(np.arange(300.0)))
    proto = model.to_onnx()
    columns = next(json.loads(each.value) for each in proto.metadata_props if each.key == "columns")
    assert columns == ["city=Ulm", "city=Bonn", "city=Kiel", "city#3", "x"]
    one = np.array([[0, 1, 0, 0, np.nan]], np.float32)
    expected = model.predict_one({"x": None, "city": "Bonn"})
    assert run(proto, one)["prediction"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.skipif(not DATA.is_dir(), reason="the streams are not here")
@pytest.mark.parametrize("name", ["covtype20k", "bike_hour"])
def test_a_saved_version_of_a_real_stream(name: str, tmp_path: Path) -> None:
    with np.load(DATA / name / "stream.npz") as stream:
        X, y = stream["X"][:3000], stream["y"][:3000]
    kind = sklearn.OnlineRegressor if name == "bike_hour" else sklearn.OnlineClassifier
    kind().fit(X[:2000], y[:2000]).save(tmp_path)
    model, _ = load(tmp_path)
    check(model, X.astype(np.float32))


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "export.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "export.md", "exec"), names)
    assert names["pipeline"].score(names["X"], names["y"]) > 0.9
    assert [*names["pipeline"].named_steps] == ["scale", "clip", "mlp"]
    monkeypatch.chdir(tmp_path)
    names["model"].save("model")
    (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    for line in commands.splitlines():
        assert CliRunner().invoke(app, line.split()[1:]).exit_code == 0
    assert (tmp_path / "model.onnx").read_bytes() == (tmp_path / "first.onnx").read_bytes()
