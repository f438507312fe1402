"""Members: a manifest describes each network, so no default of a later release changes what it learns."""

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any
from unittest import mock

import numpy as np
import pytest

from streaming_nn.nn import members, options
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.factory import LEARNERS, difference, given, learner_from
from streaming_nn.nn.learner import Batch, initial, test_then_train
from streaming_nn.nn.options import Option
from streaming_nn.nn.state_dict import flatten
from streaming_nn.versions.version import state_digest

pytestmark = pytest.mark.commit

RNG = np.random.default_rng(1)
X = RNG.normal(size=(60, 3))
SGD = {"optimizer": "sgd", "learning_rate": 0.1}


def digest(learner: Any) -> str:
    y = (X[:, 0] > 0).astype(np.int32) if learner.classes else X[:, 0] * 3
    return state_digest(flatten(test_then_train(learner, initial(learner), [Batch(X, y)])[0]))


@pytest.fixture
def other_defaults() -> Iterator[None]:
    """Change every default that a member or one network has."""

    def other(table: options.Table) -> dict[str, dict[str, Option]]:
        return {
            name: {key: each._replace(default=each.default * 0.5 + 0.1) for key, each in of.items()}
            for name, of in table.items()
        }

    tables = {name: other(getattr(options, name)) for name in ("LOSSES", "OPTIMIZERS")}
    schedules = {"constant": {}, "cosine": {**options.SCHEDULES["cosine"], "rows": Option(7, 1)}}
    constants = {
        "HIDDEN": (2,),
        "ACTIVATION": "tanh",
        "SGD_RATES": (0.5, 0.4, 0.3),
        "REPLAY_RATES": (0.2, 0.4),
        "BIASES": 1.0,
        "OUTPUTS": 0.5,
    }
    with (
        mock.patch.multiple(options, QUANTILES=(0.3,), SCHEDULES=schedules, **tables),
        mock.patch.multiple(members, **constants),
    ):
        yield


@pytest.mark.parametrize(
    "settings",
    [
        {"classes": [0, 1]},
        {"mini_batch": 4, "members": [SGD, {**SGD, "optimizer": "nadam", "replay": 2}]},
        {"learner": "mlp", "loss": "quantile", "schedule": "cosine", "optimizer": "adamw", "dropout": 0.1},
        {"optimizer": "ftrl", "classes": [0, 1]},
    ],
    ids=str,
)
def test_a_manifest_s_options_depend_on_no_default(
    settings: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    learner = learner_from({"inputs": 3, **settings})
    recorded, expected = json.loads(json.dumps(learner.options())), digest(learner)
    assert digest(learner_from({"inputs": 3, **settings})) == expected
    request.getfixturevalue("other_defaults")
    assert digest(learner_from({"inputs": 3, **settings})) != expected, "the other defaults matter"
    again = learner_from(recorded)
    assert (again.options(), digest(again)) == (recorded, expected)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_manifest_has_every_option_but_those_of_its_members(name: str) -> None:
    every = {field.name for field in fields(LEARNERS[name])}
    of_members = {"hidden", "activation"} if name == "ensemble" else set()
    assert LEARNERS[name](inputs=3).options().keys() == (every - of_members) | {"learner"}


def test_a_manifest_lists_the_members() -> None:
    first, *_, replaying, _, last = Ensemble(3).options()["members"]
    expected = {"inputs": "plain", "hidden": [64], "optimizer": "sgd", "replay": 0, "target": "level"}
    assert first | expected == first
    assert (first["learning_rate"], first["loss"], first["huber_delta"]) == (0.0009, "huber", 1.0)
    assert (replaying["optimizer"], replaying["beta2"], replaying["replay"]) == ("adam", 0.999, 1)
    assert (last["optimizer"], last["replay"], last["inputs"]) == ("adam", 4, "ramps")
    assert (last["hidden"], replaying["hidden"]) == ([64, 32], [64])
    assert "beta2" not in first


def test_what_is_given_for_all_members_holds_for_all() -> None:
    learner = Ensemble(3, hidden=(4,), members=(SGD, {**SGD, "hidden": [9]}))
    assert [member["hidden"] for member in learner.described] == [(4,), (4,)]


def test_default_members_are_not_given_again() -> None:
    recorded = Ensemble(3, (0, 1), hidden=(8,)).options()
    assert given(recorded).keys() & {"members", "hidden", "activation"} == {"hidden"}
    assert given(recorded)["hidden"] == [8]
    assert not given(Ensemble(3, (0, 1)).options()).keys() & {"members", "hidden", "activation"}
    of_tanh = given(Ensemble(3, (0, 1), activation="tanh").options())
    assert of_tanh.keys() & {"members", "hidden", "activation"} == {"activation"}
    assert given(Ensemble(3, members=[SGD]).options()).keys() & {"members", "hidden"} == {"members"}


def test_a_difference_names_the_member() -> None:
    default, wide = Ensemble(3).options(), Ensemble(3, hidden=(9,)).options()
    assert difference(default, wide) == "members[0].hidden = [64], now [9]"
    assert difference(Ensemble(3, hidden=(8,)).options(), wide) == "hidden = [8], now [9]"
    two, other = (Ensemble(3, members=[SGD, {**SGD, "replay": n}]).options() for n in (1, 2))
    assert difference(two, other) == "members[1].replay = 1, now 2"
    assert difference(default, two).startswith("members = [{")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "^members must be a list of tables, one for each member; got 5$"),
        ([], "^members must be one or more; got none$"),
        ([SGD, 0.1], r"^members\[1\] must be a table, such as {'optimizer': 'sgd', .*; got 0.1$"),
        ([{**SGD, "rate": 1}], r"^unknown option of members\[0\]: 'rate'; must be one of .*"),
        ([SGD, {}], r"^members\[1\].optimizer must be one of 'sgd', .*; got None$"),
        ([{**SGD, "optimizer": "lbfgs"}], r"^members\[0\].optimizer must be one of .*; got 'lbfgs'$"),
        ([{"optimizer": "sgd"}], r"^members\[0\].learning_rate must be a number in \(0, inf\); got None$"),
        ([{**SGD, "beta1": 0.9}], r"^members\[0\].beta1 must be left out with optimizer 'sgd'; got 0.9$"),
        ([{**SGD, "loss": "squared"}], r"^members\[0\].loss must be one of 'huber'; got 'squared'$"),
        ([{**SGD, "huber_delta": 0}], r"^members\[0\].huber_delta must be a number in \(0, inf\); got 0$"),
        (
            [{**SGD, "focal_gamma": 1}],
            r"^members\[0\].focal_gamma must be left out with loss 'huber'; got 1$",
        ),
        ([{**SGD, "replay": -1}], r"^members\[0\].replay must be a number in \[0, inf\); got -1$"),
        ([{**SGD, "inputs": "bins"}], r"^members\[0\].inputs must be one of 'plain', 'ramps'; got 'bins'$"),
        ([{**SGD, "target": "change"}], r"^members\[0\].target must be one of 'level'; got 'change'$"),
        ([{**SGD, "linear": 1}], r"^members\[0\].linear must be true or false; got 1$"),
        ([{**SGD, "hidden": [0]}], r"^members\[0\].hidden must be an integer >= 1; got 0$"),
        ([{**SGD, "activation": "rleu"}], r"^members\[0\].activation must be one of .*; got 'rleu'$"),
        ([{**SGD, "initializer": "he"}], r"^members\[0\].initializer must be one of .*; got 'he'$"),
    ],
)
def test_invalid_members_are_refused_by_their_number(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner_from({"inputs": 3, "members": given})
