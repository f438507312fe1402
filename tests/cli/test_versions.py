"""The commands of `versions`, on a log that holds a few versions of a small network."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from streaming_nn.cli.versions import app
from streaming_nn.errors import DamagedVersionError
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch, initial, test_then_train
from streaming_nn.nn.learner import report as report_of
from streaming_nn.nn.metrics import report
from streaming_nn.nn.mlp import MLP
from streaming_nn.nn.state_dict import flatten
from streaming_nn.versions.version_log import VersionLog

VERSIONS = 4


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory of version 0 and four that have learned 50 rows each."""
    learner, rng, log = (
        MLP(inputs=3, classes=(0, 1), hidden=(4,)),
        np.random.default_rng(0),
        VersionLog(tmp_path),
    )
    state = initial(learner)
    head = log.commit(None, flatten(state), learner=learner.options())
    for _ in range(VERSIONS):
        x = rng.normal(size=(50, 3)).astype(np.float32)
        state, rows = test_then_train(learner, state, [Batch(x, (x[:, 0] > 0).astype(np.int32))])
        head = log.commit(head, flatten(state), counts=rows._asdict(), metrics=report(state.metrics))
    return tmp_path


def run(model: Path, *command: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*command, "--model", str(model)])
    assert result.exit_code == code, result.output
    return result.output


def test_list_shows_the_newest(model: Path) -> None:
    rows = json.loads(run(model, "list", "--last", "2", "--json"))
    assert [row["version"] for row in rows] == [VERSIONS - 1, VERSIONS]
    assert [row["trained"] for row in rows] == [50, 50]
    assert f"{rows[-1]['accuracy']:.3f}" in run(model, "list")


def test_list_names_what_cannot_be_read_and_shows_the_others(model: Path) -> None:
    VersionLog(model).path(VERSIONS).write_bytes(b"")
    VersionLog(model).path(2).unlink()
    result = CliRunner().invoke(app, ["list", "--json", "--model", str(model)])
    assert f"versions 2, {VERSIONS} of {model} can't be read" in str(result.exception)
    kinds = {row["version"]: row["kind"] for row in json.loads(result.stdout)}
    assert kinds == {0: "initial", 1: "learned", 2: "unreadable", 3: "learned", 4: "unreadable"}
    assert CliRunner().invoke(app, ["list", "--model", str(model)]).stdout.count("unreadable") == 2


def test_a_table_that_goes_into_a_file_is_not_cut(model: Path) -> None:
    name = "a-tag-" + "x" * 50
    run(model, "tag", name)
    run(model, "rollback", "1")
    said = run(model, "list")
    assert all(word in said for word in ("rejected", "served", "rolled-back", name))
    assert "…" not in said


def test_show_is_the_record(model: Path) -> None:
    assert json.loads(run(model, "show", "2", "--json")) == json.loads(
        json.dumps(VersionLog(model).manifest(2).to_json())
    )
    assert json.loads(run(model, "show", "--json"))["number"] == VERSIONS


def test_show_names_the_members_with_their_weights(tmp_path: Path) -> None:
    learner = Ensemble(inputs=3, classes=(0, 1), hidden=(4,), follow=(0.1,), replay=((0.01, 1),))
    state = initial(learner)
    options, metrics = learner.options(), report_of(learner, state)
    VersionLog(tmp_path).commit(None, flatten(state), learner=options, metrics=metrics)
    said = " ".join(run(tmp_path, "show").split())
    assert "member sgd 0.1 weight 0.500, restarts 0" in said
    assert "member adam 0.01, replay 1:1 weight 0.500, restarts 0" in said


def test_show_is_a_table_for_people(model: Path) -> None:
    run(model, "tag", "best", "2")
    record, said = VersionLog(model).manifest(2), " ".join(run(model, "show", "best").split())
    assert "version 2, learned tags best" in said
    assert "received 50" in said
    assert "learning_rate 0.003" in said
    assert f"prequential.window.accuracy {record.metrics['prequential']['window']['accuracy']:.3f}" in said
    assert record.digest in said
    run(model, "thin", "--keep", "1")
    assert "a stub without tensors" in run(model, "show", "1")
    run(model, "rollback", "best")
    assert "taken from version 2" in " ".join(run(model, "show").split())


def test_compare_finds_what_differs(model: Path) -> None:
    assert json.loads(run(model, "compare", "2", "2", "--json"))["identical"] is True
    assert json.loads(run(model, "compare", "1", "3", "--json"))["identical"] is False


def test_compare_is_a_table_for_people(model: Path) -> None:
    log = VersionLog(model)
    log.commit(log.head(), log.read(1).tensors, learner={"learning_rate": 0.5})
    found = json.loads(run(model, "compare", "2", "5", "--json"))
    said = [" ".join(line.split()) for line in run(model, "compare", "2", "5").splitlines()]
    assert said[0] == "versions 2 and 5: not equal"
    assert "learner.learning_rate 0.003 0.500" in said
    a, b = found["metrics"]["prequential.window.accuracy"]
    assert f"prequential.window.accuracy {a:.3f} {b:.3f} {b - a:+.3f}" in said
    apart = found["tensors"]["model.theta"]
    assert f"model.theta {apart['distance']:.3g} {apart['relative']:.3g} {apart['largest']:.3g}" in said
    assert "versions 3 and 3: equal to the bit" in run(model, "compare", "3", "3")
    run(model, "thin", "--keep", "2")
    assert "versions 1, 2 have no tensors any more" in run(model, "compare", "1", "2")


def test_a_tagged_version_is_found_and_never_thinned(model: Path) -> None:
    assert run(model, "tag", "best", "1") == "best: version 1\n"
    assert json.loads(run(model, "show", "best", "--json"))["number"] == 1
    assert run(model, "tag") == "best: version 1\n"
    assert json.loads(run(model, "tag", "newest", "--json")) == {"best": 1, "newest": VERSIONS}
    assert run(model, "thin", "--keep", "2") == "thinned version 2\n"
    assert [VersionLog(model).manifest(n).kept for n in range(VERSIONS + 1)] == [
        True,
        True,
        False,
        True,
        True,
    ]
    run(model, "tag", "best", "--delete")
    assert json.loads(run(model, "thin", "--keep", "2", "--json")) == {"thinned": [1]}
    assert run(model, "thin", "--keep", "2") == "thinned no version\n"


def test_rollback_appends_the_old_model(model: Path) -> None:
    assert "version 5 has the model of version 2" in run(model, "rollback", "2")
    log = VersionLog(model)
    np.testing.assert_array_equal(log.read(5).tensors["model.theta"], log.read(2).tensors["model.theta"])
    assert json.loads(run(model, "rollback", "3", "--json")) == {"version": 6, "restored_from": 3}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def swapped(path: Path) -> None:
    before = path.with_name(f"{VERSIONS - 2:012d}.safetensors")
    ours, theirs = path.read_bytes(), before.read_bytes()
    path.write_bytes(theirs)
    before.write_bytes(ours)


@pytest.mark.parametrize("damage", [cut, flipped, emptied, swapped, Path.unlink])
def test_damage_is_found_and_mended(model: Path, damage: Callable[[Path], object]) -> None:
    """In the middle of the log: the head is whole, and what is lost is noted."""
    assert run(model, "check") == "every version is whole\n"
    assert run(model, "repair") == "every version is whole: there is nothing to mend; the newest is 4\n"
    damage(VersionLog(model).path(3))
    assert "version 3" in run(model, "check", code=1)
    found = json.loads(run(model, "check", "--json", code=1))
    assert (found["whole"], found["findings"][-1]["number"], found["findings"][-1]["lost"]) == (
        False,
        3,
        True,
    )
    with pytest.raises(DamagedVersionError, match=r"version 3|000003"):
        raise CliRunner().invoke(app, ["rollback", "3", "--model", str(model)]).exception or OSError
    said = run(model, "repair")
    if damage is swapped:
        assert said.startswith("put back in their places: versions 2, 3\n")
        assert run(model, "check") == "every version is whole\n"
    else:
        assert said.startswith("lost, and only their numbers kept: version 3;")
        assert run(model, "check") == "every version is whole; lost before, and noted: version 3\n"
    assert said.endswith("version 4, the newest, was whole\n")
    head = VersionLog(model).head()
    assert head is not None
    assert head.number == VERSIONS


@pytest.mark.parametrize("damage", [cut, flipped, emptied])
def test_a_damaged_head_is_never_passed_over(model: Path, damage: Callable[[Path], object]) -> None:
    damage(VersionLog(model).path(VERSIONS))
    assert "nothing can be learned on" in run(model, "check", code=1)
    assert "the last good version is 3; `streaming-nn versions repair`" in run(model, "check", code=1)
    with pytest.raises(DamagedVersionError, match="the last good version is 3"):
        raise CliRunner().invoke(app, ["rollback", "2", "--model", str(model)]).exception or OSError
    assert json.loads(run(model, "repair", "--json")) == {"put_back": [], "lost": [4], "good": 3, "head": 5}
    head = VersionLog(model).head()
    assert head is not None
    assert (head.manifest.kind, head.manifest.restored_from) == ("repaired", 3)


def test_what_is_not_there_is_said(model: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["show", "42", "--model", str(model)])
    assert "42" in str(result.exception)
    result = CliRunner().invoke(app, ["list", "--model", str(tmp_path / "empty")])
    assert "there is no version yet" in str(result.exception)


def test_a_missing_first_version_is_seen_and_mended(model: Path) -> None:
    VersionLog(model).path(0).unlink()
    assert "version 0" in run(model, "check", code=1)
    assert f"version {VERSIONS}, the newest, was whole" in run(model, "repair")
    rows = json.loads(run(model, "list", "--json"))
    assert [row["version"] for row in rows] == [*range(VERSIONS + 1)]
    assert [row["kind"] for row in rows] == ["damaged", *["learned"] * VERSIONS]
    assert VersionLog(model).head().number == VERSIONS
