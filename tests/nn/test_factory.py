import json
from typing import Any

import numpy as np
import pytest

from streaming_nn.nn import state_dict
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.mlp import MLP

pytestmark = pytest.mark.commit


@pytest.mark.parametrize(
    "learner",
    [
        MLP(inputs=3),
        MLP(inputs=3, hidden=(), initializer=0.1),
        MLP(inputs=64, classes=(0, 1, 2), hidden=(8, 8), optimizer="sgd", learning_rate=0.05, mini_batch=1),
        MLP(inputs=2, classes=tuple(np.array(["no", "yes"])), initializer="orthogonal", seed=7, fading=0.99),
        MLP(
            inputs=3, loss="quantile", quantiles=(0.1, 0.9), schedule="cosine", schedule_growth=1.0, warmup=9
        ),
        MLP(
            inputs=3, loss="huber", huber_delta=2.0, optimizer="ftrl", beta=2.0, l1=0.1, bias_initializer=0.1
        ),
        MLP(inputs=3, classes=("a", 1, True), class_weight={True: 2.0, "a": 0.5}, focal_gamma=1.0),
        MLP(
            inputs=3, classes=(0, 1), class_weight="effective", dropout=0.2, optimizer="adamw", clip_norm=1.0
        ),
        Ensemble(inputs=3),
        Ensemble(inputs=3, classes=("a", True), class_weight={True: 2.0}, missing="indicate", scale="minmax"),
        Ensemble(inputs=3, classes=(0, 1), class_weight="effective", class_beta=0.9, drift="none"),
        Ensemble(
            inputs=2,
            classes=(0, 1),
            activation="tanh",
            members=(
                {"optimizer": "nadam", "learning_rate": 0.1, "beta1": 0.8, "focal_gamma": 1.0},
                {"optimizer": "ftrl", "learning_rate": 0.01, "replay": 2, "focal_gamma": 1.0},
            ),
            buffer_rows=50,
        ),
    ],
)
def test_options_rebuild_the_same_learner(learner: MLP | Ensemble) -> None:
    again = learner_from(json.loads(json.dumps(learner.options())))
    assert again == learner
    assert again.options() == learner.options()
    one, other = state_dict.flatten(again.init()), state_dict.flatten(learner.init())
    assert {name: one[name].tobytes() for name in one} == {name: other[name].tobytes() for name in other}


def test_the_ensemble_is_the_default_and_an_optimizer_means_one_network() -> None:
    given = {"inputs": 3, "classes": ["a", "b"]}
    assert learner_from(given) == Ensemble(inputs=3, classes=("a", "b"))
    one = learner_from({**given, "optimizer": "sgd"})
    assert one == MLP(inputs=3, classes=("a", "b"), optimizer="sgd")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learner": "mpl", "inputs": 3}, "^learner must be one of 'mlp', 'ensemble'; got 'mpl'$"),
        (
            {"inputs": 3, "optimizer": "sgd", "lerning_rate": 1},
            r"^unknown option of learner 'mlp': 'lerning_rate'; did you mean 'learning_rate'\?$",
        ),
        ({"inputs": 3, "hidden": "[16"}, r"^hidden must be a list of integers >= 1; got '\[16'$"),
        (
            {"learner": "mlp", "inputs": 3, "hidden": 16},
            "^hidden must be a list of integers >= 1; got 16$",
        ),
        ({"inputs": 3, "dropout": 0.5}, "^option 'dropout' requires learner 'mlp'; got learner 'ensemble'$"),
        (
            {"learner": "mlp", "inputs": 3, "eta": 1},
            "^option 'eta' requires learner 'ensemble'; got learner 'mlp'$",
        ),
        (
            {"hidden": [3]},
            r"^options of learner 'ensemble' must have 'inputs', the features of a row; got \['hidden'\]$",
        ),
    ],
)
def test_invalid_options_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner_from(given)
