"""What `--trial` means: the options of a learner that it changes, and its name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_nn.nn.factory import learner_from
from streaming_nn.spark.replay.trials import NAME_LENGTH, Trial, parse_trials

pytestmark = pytest.mark.commit

MLP = learner_from({"learner": "mlp", "inputs": 3, "classes": [0, 1], "hidden": [8], "seed": 7}).options()


@pytest.mark.parametrize(
    ("text", "changes", "name"),
    [
        ("learning_rate=0.01", {"learning_rate": 0.01}, "learning_rate=0.01"),
        ("learner.learning_rate = 0.01", {"learning_rate": 0.01}, "learning_rate=0.01"),
        (
            "optimizer=sgd,learning_rate=0.1",
            {"optimizer": "sgd", "learning_rate": 0.1},
            "optimizer=sgd,learning_rate=0.1",
        ),
        ("hidden=[64, 32],seed=3", {"hidden": [64, 32], "seed": 3}, "hidden=64-32,seed=3"),
        ("hidden=[]", {"hidden": []}, "hidden=none"),
        ('optimizer="sgd"', {"optimizer": "sgd"}, "optimizer=sgd"),
        ("activation='a,b'", {"activation": "a,b"}, "activation=a-b"),
        (
            'members=[{optimizer="sgd",learning_rate=0.1}, {optimizer = "adam", hidden = [8, 8]}],eta=1',
            {
                "members": [
                    {"optimizer": "sgd", "learning_rate": 0.1},
                    {"optimizer": "adam", "hidden": [8, 8]},
                ],
                "eta": 1,
            },
            "members=optimizer-sgd-learning_rate-0.1-optimizer-adam-hidden-8-8,eta=1",
        ),
        ("initializer=../up", {"initializer": "../up"}, "initializer=..-up"),
        ("learner=ensemble", {"learner": "ensemble"}, "learner=ensemble"),
    ],
)
def test_a_trial_is_assignments_and_has_a_name(text: str, changes: dict[str, object], name: str) -> None:
    assert parse_trials([text]) == [Trial(changes, name)]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["learning_rate"], "a trial must be key=value"),
        ([""], "a trial must be key=value"),
        (["=3"], "a trial must be key=value"),
        (["hidden=64,32"], r"a list in brackets: hidden=\[64,32\]; got '32' in 'hidden=64,32'"),
        (["seed=1,seed=2"], "seed twice"),
        (["seed=1", "learner.seed=1"], "got seed=1 twice"),
        (["classes=[1,2]"], "a trial cannot change classes"),
    ],
)
def test_a_bad_trial_is_refused_in_one_line(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_trials(texts)
    assert "\n" not in str(caught.value)


@given(st.text(st.characters(exclude_characters="=,[]{}'\"", exclude_categories=["Cc", "Cs"]), min_size=1))
def test_every_name_is_one_directory(text: str) -> None:
    if not text.strip():
        return
    name = parse_trials([f"activation={text}"])[0].name
    assert "/" not in name
    assert "\0" not in name
    assert name not in (".", "..")
    assert len(name) <= NAME_LENGTH


def test_long_names_differ() -> None:
    trials = parse_trials([f"quantiles=[{'1.5,' * 80}{i}]" for i in (1, 2)])
    assert len({trial.name for trial in trials}) == 2


def test_other_options_stay_as_they_are() -> None:
    learner = learner_from(parse_trials(["learning_rate=0.5,mini_batch=4"])[0].options(MLP))
    assert learner.options() == {**MLP, "learning_rate": 0.5, "mini_batch": 4}


def test_another_optimizer_has_its_own_options() -> None:
    adam = learner_from({"inputs": 3, "optimizer": "adam"}).options()
    assert adam["beta1"] == 0.9
    learner = learner_from(parse_trials(["optimizer=sgd"])[0].options(adam))
    assert learner.options() == learner_from({"inputs": 3, "optimizer": "sgd"}).options()
    given = learner_from({"inputs": 3, "optimizer": "adam", "beta1": 0.8}).options()
    with pytest.raises(ValueError, match=r"^beta1 must be left out with optimizer 'sgd'; got 0\.8$"):
        learner_from(parse_trials(["optimizer=sgd"])[0].options(given))


def test_another_learner_keeps_the_options_that_it_has() -> None:
    learner = learner_from(parse_trials(["learner=ensemble,eta=0.5"])[0].options(MLP))
    options = learner.options()
    assert (options["learner"], options["eta"], options["seed"]) == ("ensemble", 0.5, 7)
    assert [member["hidden"] for member in options["members"]] == [[8]] * 8
    assert "optimizer" not in options


def test_an_optimizer_selects_the_mlp_if_the_learner_has_none() -> None:
    ensemble = learner_from({"inputs": 3, "classes": [0, 1], "hidden": [8], "seed": 7}).options()
    assert ensemble["learner"] == "ensemble"
    options = learner_from(parse_trials(["optimizer=sgd"])[0].options(ensemble)).options()
    names = ("learner", "optimizer", "hidden", "seed")
    assert [options[name] for name in names] == ["mlp", "sgd", [8], 7]
