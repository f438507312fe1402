from dataclasses import fields

import pytest

from streaming_nn.mllib.params import NAMES, LearnerParams, in_sparks_names
from streaming_nn.nn.factory import LEARNERS, learner_from


def test_every_option_of_every_learner_is_a_param() -> None:
    options = {field.name for learner in LEARNERS.values() for field in fields(learner)}
    assert options - {"inputs"} == NAMES.keys()
    params = {param.name for param in LearnerParams().params}
    assert set(NAMES.values()) | {"learner", "layers", "maxIter", "weightCol"} == params


def test_what_is_not_set_is_the_learner_s_default() -> None:
    learner = learner_from({**LearnerParams()._options(), "inputs": 3})
    assert learner == LEARNERS["ensemble"](3)


@pytest.mark.parametrize(
    ("param", "given", "option", "kept"),
    [
        ("hiddenLayers", (8, 4), "hidden", [8, 4]),
        ("layers", [3, 8, 1], "hidden", [8]),
        ("stepSize", 1, "learning_rate", 1.0),
        ("replay", ((0.1, 2),), "replay", [[0.1, 2]]),
        ("classWeight", {1: 2.0}, "class_weight", [[1, 2.0]]),
        ("classWeight", "balanced", "class_weight", "balanced"),
    ],
)
def test_params_are_kept_as_json_has_them(param: str, given: object, option: str, kept: object) -> None:
    assert LearnerParams()._given({param: given})._options()[option] == kept


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
    assert LearnerParams()._given(params)._options()["learner"] == learner


def test_what_is_only_shared_leaves_a_model_s_learner_alone() -> None:
    assert LearnerParams()._given({"blockSize": 4})._options(only_set=True) == {"mini_batch": 4}


def test_options_are_told_by_their_params_names() -> None:
    with pytest.raises(ValueError, match=r"^option 'hiddenLayers' is not mini_batch$"), in_sparks_names():
        raise ValueError("option 'hidden' is not mini_batch")
    with pytest.raises(ValueError, match=r"^blockSize must"), in_sparks_names():
        raise ValueError("mini_batch must")
