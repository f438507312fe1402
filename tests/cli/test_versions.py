"""The commands of `versions`, on a log with a few versions of a small network."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from streaming_nn.cli.versions import app
from streaming_nn.errors import DamagedVersionError
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch, initial, load_state, test_then_train
from streaming_nn.nn.learner import report as report_of
from streaming_nn.nn.metrics import report
from streaming_nn.nn.mlp import MLP
from streaming_nn.nn.state_dict import flatten
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

VERSIONS = 4


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory with version 0 and four more, each of which learned 50 rows."""
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


MEMBERS = (
    {"optimizer": "sgd", "learning_rate": 0.1},
    {"optimizer": "adam", "learning_rate": 0.01, "replay": 1},
)


def run(model: Path, *command: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*command, "--model", str(model)])
    assert result.exit_code == code, result.output
    return result.output


def test_list_shows_the_newest(model: Path) -> None:
    rows = json.loads(run(model, "list", "--last", "2", "--json"))
    assert [row["version"] for row in rows] == [VERSIONS - 1, VERSIONS]
    assert [row["trained"] for row in rows] == [50, 50]
    assert f"{rows[-1]['accuracy']:.3f}" in run(model, "list")


def test_list_names_unreadable_versions_and_shows_the_others(model: Path) -> None:
    VersionLog(model).path(VERSIONS).write_bytes(b"")
    VersionLog(model).path(2).unlink()
    result = CliRunner().invoke(app, ["list", "--json", "--model", str(model)])
    assert f"cannot read versions 2, {VERSIONS} of {model}" in str(result.exception)
    kinds = {row["version"]: row["kind"] for row in json.loads(result.stdout)}
    assert kinds == {0: "initial", 1: "learned", 2: "unreadable", 3: "learned", 4: "unreadable"}
    assert CliRunner().invoke(app, ["list", "--model", str(model)]).stdout.count("unreadable") == 2


def test_a_table_without_a_terminal_is_not_cut_off(model: Path) -> None:
    name = "a-tag-" + "x" * 50
    run(model, "tag", name)
    run(model, "rollback", "1")
    table = run(model, "list")
    assert all(word in table for word in ("rejected", "as_served", "rolled-back", name))
    assert "…" not in table


def test_show_prints_the_manifest(model: Path) -> None:
    assert json.loads(run(model, "show", "2", "--json")) == json.loads(
        json.dumps(VersionLog(model).manifest(2).to_json())
    )
    assert json.loads(run(model, "show", "--json"))["number"] == VERSIONS


def test_show_names_the_members_with_their_weights(tmp_path: Path) -> None:
    learner = Ensemble(inputs=3, classes=(0, 1), hidden=(4,), members=MEMBERS)
    state = initial(learner)
    options, metrics = learner.options(), report_of(learner, state)
    VersionLog(tmp_path).commit(None, flatten(state), learner=options, metrics=metrics)
    table = " ".join(run(tmp_path, "show").split())
    shared = "activation relu, bias_initializer lecun_normal, focal_gamma 0.000, hidden 4"
    assert f"members 2, each with {shared}" in table
    own = "learning_rate 0.100, optimizer sgd, replay 0"
    assert f"member 0, sgd 0.1 {own}, exponent 0.500, restarts 0, weight 0.500" in table
    own = "beta1 0.900, beta2 0.999, epsilon 1e-08, learning_rate 0.01, optimizer adam, replay 1"
    assert f"member 1, adam 0.01, replay 1:1 {own}, exponent 0.500, restarts 0, weight 0.500" in table


def test_show_prints_a_table(model: Path) -> None:
    run(model, "tag", "best", "2")
    manifest, table = VersionLog(model).manifest(2), " ".join(run(model, "show", "best").split())
    assert "version 2, learned tags best" in table
    assert "received 50" in table
    assert "learning_rate 0.003" in table
    assert f"prequential.window.accuracy {manifest.metrics['prequential']['window']['accuracy']:.3f}" in table
    assert manifest.digest in table
    run(model, "prune", "--keep", "1 B")
    assert "1, learned, pruned" in run(model, "show", "1")
    run(model, "rollback", "best")
    assert "restored from version 2" in " ".join(run(model, "show").split())


def test_diff_of_equal_and_different_versions(model: Path) -> None:
    assert json.loads(run(model, "diff", "2", "2", "--json"))["identical"] is True
    assert json.loads(run(model, "diff", "1", "3", "--json"))["identical"] is False


def test_diff_prints_a_table(model: Path) -> None:
    log = VersionLog(model)
    log.commit(log.head(), log.read(1).tensors, learner={"learning_rate": 0.5})
    difference = json.loads(run(model, "diff", "2", "5", "--json"))
    lines = [" ".join(line.split()) for line in run(model, "diff", "2", "5").splitlines()]
    assert lines[0] == "versions 2 and 5: different"
    assert "learner.learning_rate 0.003 0.500" in lines
    a, b = difference["metrics"]["prequential.window.accuracy"]
    assert f"prequential.window.accuracy {a:.3f} {b:.3f} {b - a:+.3f}" in lines
    apart = difference["tensors"]["model.theta"]
    assert f"model.theta {apart['distance']:.3g} {apart['relative']:.3g} {apart['largest']:.3g}" in lines
    assert "versions 3 and 3: identical" in run(model, "diff", "3", "3")
    run(model, "prune", "--keep", "1 B")
    assert "versions 1, 2 have no tensors, so their weights cannot be compared" in run(
        model, "diff", "1", "2"
    )


def test_explain_prints_what_changed(model: Path) -> None:
    log = VersionLog(model)
    head, learner = log.read(VERSIONS), MLP(inputs=3, classes=(0, 1), hidden=(4,))
    x = np.random.default_rng(1).normal(size=(50, 3)) + np.array([0, 0, 8])
    state, rows = test_then_train(
        learner, load_state(learner, head.tensors), [Batch(x, np.zeros(50, np.int32))]
    )
    log.commit(
        head,
        flatten(state),
        counts=rows._asdict() | {"received": 53, "rejected": 3},
        rejected_by_reason={"not JSON": 3},
        metrics=report(state.metrics),
        events=[{"event": "drift", "detected": 1}],
    )
    found = json.loads(run(model, "explain", "head", "2", "--json"))
    assert found["versions"] == [2, VERSIONS + 1]
    lines = [" ".join(line.split()) for line in run(model, "explain", "head", "2").splitlines()]
    accuracy = found["figures"]["prequential"]
    text = [f"{each:.3f}" for each in accuracy]
    assert (
        f"accuracy of the window, prequential {text[0]} {text[1]} {accuracy[1] - accuracy[0]:+.3f}" in lines
    )
    column = found["columns"][0]
    assert column["name"] == "features[2]"
    shift = f"{column['shift']:+.2f} deviations"
    assert any(line.startswith("column features[2]: mean") and line.endswith(shift) for line in lines)
    assert "rejected: not JSON 0 3 +3" in lines
    assert lines[-1] == f'version {VERSIONS + 1}: {{"detected": 1, "event": "drift"}}'
    result = CliRunner().invoke(app, ["explain", "2", "3", "--model", str(model)])
    assert str(result.exception) == "the earlier version must be before 2; got 3"


def test_a_tagged_version_is_found_and_never_pruned(model: Path) -> None:
    assert run(model, "tag", "best", "1") == "best: version 1\n"
    assert json.loads(run(model, "show", "best", "--json"))["number"] == 1
    assert run(model, "tag") == "best: version 1\n"
    assert json.loads(run(model, "tag", "newest", "--json")) == {"best": 1, "newest": VERSIONS}
    assert run(model, "prune", "--keep", "1 B") == "pruned versions 2, 3\n"
    assert [VersionLog(model).manifest(n).kept for n in range(VERSIONS + 1)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    run(model, "tag", "best", "--delete")
    assert json.loads(run(model, "prune", "--keep", "1 B", "--json")) == {"pruned": [1]}
    assert run(model, "prune") == "pruned no version\n"


def test_rollback_commits_the_old_model(model: Path) -> None:
    assert "version 5 has the model of version 2" in run(model, "rollback", "2")
    log = VersionLog(model)
    np.testing.assert_array_equal(log.read(5).tensors["model.theta"], log.read(2).tensors["model.theta"])
    assert json.loads(run(model, "rollback", "3", "--json")) == {"version": 6, "restored_from": 3}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def swap(path: Path) -> None:
    before = path.with_name(f"{VERSIONS - 2:012d}.safetensors")
    data, data_before = path.read_bytes(), before.read_bytes()
    path.write_bytes(data_before)
    before.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, swap, Path.unlink])
def test_damage_is_found_and_repaired(model: Path, damage: Callable[[Path], object]) -> None:
    """In the middle of the log: the head is not damaged, and lost versions are marked."""
    assert run(model, "check") == "no version is damaged\n"
    assert run(model, "repair") == "no version is damaged; the newest is 4\n"
    damage(VersionLog(model).path(3))
    assert "version 3" in run(model, "check", code=1)
    result = json.loads(run(model, "check", "--json", code=1))
    last = result["findings"][-1]
    assert (result["ok"], last["number"], last["lost"]) == (False, 3, True)
    with pytest.raises(DamagedVersionError, match=r"version 3|000003"):
        raise CliRunner().invoke(app, ["rollback", "3", "--model", str(model)]).exception or OSError
    report = run(model, "repair")
    if damage is swap:
        assert report.startswith("restored to their names: versions 2, 3\n")
        assert run(model, "check") == "no version is damaged\n"
    else:
        assert report.startswith("lost: version 3;")
        assert run(model, "check") == "no version is damaged; lost earlier: version 3\n"
    assert report.endswith("version 4, the newest, was not damaged\n")
    head = VersionLog(model).head()
    assert head is not None
    assert head.number == VERSIONS


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
def test_a_damaged_head_is_never_skipped(model: Path, damage: Callable[[Path], object]) -> None:
    damage(VersionLog(model).path(VERSIONS))
    assert "training cannot resume" in run(model, "check", code=1)
    assert "the last good version is 3; `streaming-nn versions repair`" in run(model, "check", code=1)
    with pytest.raises(DamagedVersionError, match="the last good version is 3"):
        raise CliRunner().invoke(app, ["rollback", "2", "--model", str(model)]).exception or OSError
    assert json.loads(run(model, "repair", "--json")) == {"put_back": [], "lost": [4], "good": 3, "head": 5}
    head = VersionLog(model).head()
    assert head is not None
    assert (head.manifest.kind, head.manifest.restored_from) == ("repaired", 3)


def test_a_missing_version_and_an_empty_model(model: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["show", "42", "--model", str(model)])
    assert "42" in str(result.exception)
    result = CliRunner().invoke(app, ["list", "--model", str(tmp_path / "empty")])
    assert "there is no version yet" in str(result.exception)


def test_a_missing_first_version_is_found_and_repaired(model: Path) -> None:
    VersionLog(model).path(0).unlink()
    assert "version 0" in run(model, "check", code=1)
    assert f"version {VERSIONS}, the newest, was not damaged" in run(model, "repair")
    rows = json.loads(run(model, "list", "--json"))
    assert [row["version"] for row in rows] == [*range(VERSIONS + 1)]
    assert [row["kind"] for row in rows] == ["damaged", *["learned"] * VERSIONS]
    assert VersionLog(model).head_number() == VERSIONS


@pytest.mark.parametrize(("tag", "reason"), [("v1", "MLflow reserves"), ("good", "needs MLflow's client")])
def test_what_mlflow_cannot_register_is_not_tagged(
    model: Path, tag: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("STREAMING_NN_METRICS__MLFLOW", "http://127.0.0.1:1")
    result = CliRunner().invoke(app, ["tag", tag, "--model", str(model)])
    assert isinstance(result.exception, ValueError)
    assert reason in str(result.exception)
    assert json.loads(run(model, "tag", "--json")) == {}
