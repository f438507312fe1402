from dataclasses import fields

import pytest
from parameters import keywords, options
from pyspark.ml.param import Param

from streaming_nn.mllib.estimators import StreamingClassifier, StreamingRegressor
from streaming_nn.mllib.params import NAMES, LearnerParams, spark_names_in_errors
from streaming_nn.nn.factory import LEARNERS, learner_from

pytestmark = pytest.mark.commit


def test_every_option_of_every_learner_is_a_param() -> None:
    options = {field.name for learner in LEARNERS.values() for field in fields(learner)}
    assert options - {"inputs", "multilabel", "targets"} == NAMES.keys()
    params = {param.name for param in LearnerParams().params}
    assert set(NAMES.values()) | {"learner", "layers", "maxIter", "weightCol"} == params


def test_a_param_that_is_not_set_has_the_learner_s_default() -> None:
    learner = learner_from({**LearnerParams()._options(), "inputs": 3})
    assert learner == LEARNERS["ensemble"](3)


@pytest.mark.parametrize("kind", [StreamingClassifier, StreamingRegressor])
def test_every_param_is_a_parameter_of_the_constructor_with_its_type(kind: type) -> None:
    found = keywords(kind.__init__)
    for option, option_type in options().items():
        expected = {"hidden": "Sequence[int] | None"}.get(option, option_type)
        assert found[NAMES[option]] == (expected, None), option
    params = {name for name in dir(kind) if isinstance(getattr(kind, name), Param)}
    assert found.keys() == params - ({"classes"} if kind is StreamingRegressor else set())


@pytest.mark.parametrize(
    ("param", "given", "option", "kept"),
    [
        ("hiddenLayers", (8, 4), "hidden", [8, 4]),
        ("layers", [3, 8, 1], "hidden", [8]),
        ("stepSize", 1, "learning_rate", 1.0),
        (
            "members",
            ({"optimizer": "sgd", "hidden": (2,)},),
            "members",
            [{"optimizer": "sgd", "hidden": [2]}],
        ),
        ("classWeight", {1: 2.0}, "class_weight", [[1, 2.0]]),
        ("classWeight", "balanced", "class_weight", "balanced"),
    ],
)
def test_params_are_kept_as_json_has_them(param: str, given: object, option: str, kept: object) -> None:
    assert LearnerParams()._set_params({param: given})._options()[option] == kept


@pytest.mark.parametrize(
    ("params", "learner"),
    [
        ({}, "ensemble"),
        ({"eta": 0.1}, "ensemble"),
        ({"stepSize": 0.1}, "mlp"),
        ({"weightDecay": 0.1, "optimizer": "adamw"}, "mlp"),
        ({"hiddenLayers": [3], "learner": "mlp"}, "mlp"),
        ({"drift": "adwin"}, "ensemble"),
    ],
)
def test_a_learner_s_own_params_choose_it(params: dict[str, object], learner: str) -> None:
    assert LearnerParams()._set_params(params)._options()["learner"] == learner


def test_an_option_of_both_learners_does_not_choose_one() -> None:
    assert LearnerParams()._set_params({"blockSize": 4})._options(only_set=True) == {"mini_batch": 4}


def test_errors_name_the_params() -> None:
    with (
        pytest.raises(ValueError, match=r"^option 'hiddenLayers' is not mini_batch$"),
        spark_names_in_errors(),
    ):
        raise ValueError("option 'hidden' is not mini_batch")
    with pytest.raises(ValueError, match=r"^blockSize must"), spark_names_in_errors():
        raise ValueError("mini_batch must")
