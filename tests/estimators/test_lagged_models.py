"""A model of a topic with lags, outside of the job: lagged values are inputs that the caller supplies."""

import json
from pathlib import Path

import numpy as np
import pytest
from lagged_records import COLUMNS, SCHEMA, commit_model, inputs, readings

from streaming_nn.estimators import river, sklearn
from streaming_nn.explain import explain
from streaming_nn.importance import importance
from streaming_nn.model import load, predict
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


def test_scikit_learn_has_lags_as_columns_and_saves_the_series(tmp_path: Path) -> None:
    log = commit_model(tmp_path)
    model = sklearn.load(tmp_path)
    assert tuple(model.feature_names_in_) == COLUMNS
    x = inputs(readings(30, seed=1))
    learned, schema = load(tmp_path)
    np.testing.assert_array_equal(model.predict(x), predict(learned, x)[:, learned.learner.point])
    model.partial_fit(x, np.arange(30.0))
    number = model.save(tmp_path)
    saved, head = log.read(number), log.read(number - 1)
    assert saved.manifest.schema == head.manifest.schema == schema.options() == SCHEMA.options()
    for name in ("series.keys", "series.values", "series.times", "series.clock"):
        np.testing.assert_array_equal(saved.tensors[name], head.tensors[name])
    assert not np.array_equal(saved.tensors["model.theta"], head.tensors["model.theta"])


def test_onnx_names_the_lags_and_predicts_the_same(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    commit_model(tmp_path)
    model = sklearn.load(tmp_path)
    session = runtime.InferenceSession(model.to_onnx().SerializeToString())
    assert json.loads(session.get_modelmeta().custom_metadata_map["columns"]) == [*COLUMNS]
    x = inputs(readings(30, seed=1))
    (found, *_) = session.run(None, {session.get_inputs()[0].name: x.astype(np.float32)})
    np.testing.assert_allclose(np.ravel(found)[:30], model.predict(x), rtol=1e-3, atol=1e-4)


def test_river_refuses_a_model_with_lags(tmp_path: Path) -> None:
    commit_model(tmp_path)
    with pytest.raises(ValueError, match=r"^cannot read dicts for a model with lags; use"):
        river.load(tmp_path)


def test_each_lag_has_an_importance_and_is_explained_by_its_name(tmp_path: Path) -> None:
    log: VersionLog = commit_model(tmp_path)
    assert sorted(each.field for each in importance(log.read(3)).fields) == sorted(COLUMNS)
    assert {each.name for each in explain(log, 3, 1).columns} == {*COLUMNS}
