"""Importance of fields: beside scikit-learn's permutation importance, and where it must be 0."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.inspection import permutation_importance

from streaming_nn.importance import ROWS, importance
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, initial, test_then_train
from streaming_nn.nn.replay_buffer import latest
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema
from streaming_nn.versions.version import Manifest, Version

pytestmark = pytest.mark.commit

KINDS: dict[str, dict[str, Any]] = {
    "classes": {"classes": ["a", "b", "c"]},
    "multilabel": {"classes": ["p", "q"], "multilabel": True},
    "regression": {},
    "targets": {"targets": ["p", "q"]},
}


def learned(kind: str, schema: Schema | None = None, rows: int = 1500) -> tuple[Version, Any, Any]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 5))
    score = 2 * x[:, 1] + 0.5 * x[:, 3]
    y: Any = {
        "classes": (score > 0).astype(np.int32) + (score > 1),
        "multilabel": np.stack([score > 0, x[:, 1] > 1], axis=1).astype(np.int32),
        "regression": 10 * score,
        "targets": np.stack([score, 100 * x[:, 1]], axis=1),
    }[kind]
    learner: Any = learner_from({"inputs": 5, "hidden": [8], "mini_batch": 8, **KINDS[kind]})
    state, _ = test_then_train(learner, initial(learner), [Batch(x, y)])
    manifest = Manifest(7, learner=learner.options(), schema=schema.options() if schema else {})
    return Version(manifest, flatten(state)), learner, state.model


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_scikit_learns_within_its_error(kind: str) -> None:
    version, learner, model = learned(kind)
    found = importance(version)
    assert (found.version, found.rows) == (7, ROWS)
    assert [each.field for each in found.fields][:2] == ["features[1]", "features[3]"]
    rows = latest(model, ROWS)
    x, y = rows[:, :5], rows[:, 5:-1]

    def score(_: Any, x: Any, __: Any) -> float:
        output = learner.predict(model, np.ascontiguousarray(x)).astype(float)
        if kind == "classes":
            return float(np.log(output[np.arange(len(x)), y[:, 0].astype(int)]).mean())
        if kind == "multilabel":
            return float(np.log(np.where(y, output, 1 - output)).sum(axis=1).mean())
        return float(-(np.abs(output - y) / y.std(axis=0)).mean())

    class Fitted:
        def fit(self) -> None: ...

    expected = permutation_importance(Fitted(), x, y, scoring=score, n_repeats=5, random_state=0)
    means = dict(zip([f"features[{i}]" for i in range(5)], expected.importances_mean, strict=True))
    for each in found.fields:
        assert abs(each.loss - means[each.field]) < 5 * each.error + 1e-9, each.field
    for name in ("features[0]", "features[2]", "features[4]"):
        assert abs(means[name]) < 0.1 * means["features[1]"]


def test_a_correction_by_the_last_error_is_not_part_of_it() -> None:
    version, _, model = learned("regression")
    expected = importance(version)
    model.correction[0] = 1e6
    tensors = version.tensors | {"model.correction": model.correction}
    assert importance(Version(version.manifest, tensors)) == expected


def test_the_columns_of_a_field_are_exchanged_together() -> None:
    schema = Schema(
        5,
        None,
        ("a", "city", "b"),
        categories={"city": {"one_hot": 3}},
        vocabulary={"city": ("x", "y")},
        label="y",
    )
    found = importance(learned("regression", schema)[0])
    assert sorted(each.field for each in found.fields) == ["a", "b", "city"]
    assert found.fields[0].field == "city", "columns 1 and 3 are both its own"
    assert len(importance(learned("regression", schema)[0], 2).fields) == 2


def test_what_has_no_rows_is_refused_in_one_line(tmp_path: Path) -> None:
    learner = learner_from({"inputs": 2, "learner": "mlp", "classes": [0, 1]})
    version = Version(Manifest(0, learner=learner.options()), flatten(initial(learner)))
    with pytest.raises(ValueError, match="version 0 has no replay buffer"):
        importance(version)
    with pytest.raises(ValueError, match="version 7 has learned too few rows: 1"):
        importance(learned("classes", rows=1)[0])
    wide = learner_from({"inputs": 2_001, "hidden": [1]})
    with pytest.raises(ValueError, match="fields must be at most 2000 for their importance; got 2001"):
        importance(Version(Manifest(0, learner=wide.options()), flatten(initial(wide))))
