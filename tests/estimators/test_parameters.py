"""Every option of every learner is a written-out parameter, so that editors complete it."""

from typing import Any

import pytest
from parameters import keywords, options

from streaming_nn.estimators.river import (
    RiverClassifier,
    RiverMultiLabelClassifier,
    RiverMultiTargetRegressor,
    RiverRegressor,
)
from streaming_nn.estimators.sklearn import OnlineClassifier, OnlineRegressor

pytestmark = pytest.mark.commit

SKLEARN = {"member", "random_state"}
RIVER = {"features", "categories", "label", "extra", "absent", "max_bytes", "seed"}


@pytest.mark.parametrize(
    ("kind", "others", "defaults"),
    [
        (OnlineClassifier, SKLEARN, {"mini_batch": 32}),
        (OnlineRegressor, SKLEARN, {"mini_batch": 32}),
        (RiverClassifier, RIVER | {"classes"}, {"missing": "impute"}),
        (RiverRegressor, RIVER, {"missing": "impute"}),
        (RiverMultiLabelClassifier, RIVER | {"classes"}, {"missing": "impute"}),
        (RiverMultiTargetRegressor, RIVER, {"missing": "impute"}),
    ],
)
def test_every_option_is_a_parameter_with_its_type(
    kind: Any, others: set[str], defaults: dict[str, Any]
) -> None:
    found = keywords(kind.__init__)
    assert found.keys() == options().keys() | others
    for name, option_type in options().items():
        annotation, default = found[name]
        assert default == defaults.get(name), name
        assert annotation == (option_type if default is None else option_type.removesuffix(" | None")), name


@pytest.mark.parametrize("kind", [OnlineClassifier, OnlineRegressor, RiverClassifier, RiverRegressor])
def test_every_parameter_is_kept_under_its_name(kind: Any) -> None:
    estimator = kind("mlp", hidden=(7,), clip_norm=2.0)
    assert (estimator.learner, estimator.hidden, estimator.clip_norm) == ("mlp", (7,), 2.0)
    assert all(hasattr(estimator, name) for name in keywords(kind.__init__))


@pytest.mark.parametrize("kind", [OnlineClassifier, OnlineRegressor, RiverClassifier, RiverRegressor])
def test_an_unknown_parameter_is_a_type_error(kind: Any) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'learning_rat'"):
        kind(learning_rat=0.1)
