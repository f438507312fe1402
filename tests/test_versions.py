"""The commands of `versions`, on a log that holds a few versions of a small network."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from streaming_nn.log.log import Log, child
from streaming_nn.log.version import Record, Version
from streaming_nn.nn.learner import Batch, initial, test_then_train
from streaming_nn.nn.metrics import report
from streaming_nn.nn.mlp import MLP
from streaming_nn.nn.tensors import flatten
from streaming_nn.versions import app

VERSIONS = 4


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory of version 0 and four that have learned 50 rows each."""
    learner, rng, log = MLP(inputs=3, classes=(0, 1), hidden=(4,)), np.random.default_rng(0), Log(tmp_path)
    state = initial(learner)
    record = Record(0, kind="initial", learner=learner.options(), written_at="2026-01-01T00:00:00.000+00:00")
    sha = log.append(Version(record, flatten(state)))
    for _ in range(VERSIONS):
        x = rng.normal(size=(50, 3)).astype(np.float32)
        state, rows = test_then_train(learner, state, [Batch(x, (x[:, 0] > 0).astype(np.int32))])
        record = child(record, sha, rows=rows._asdict(), metrics=report(state.metrics))
        sha = log.append(Version(record, flatten(state)))
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


def test_show_is_the_record(model: Path) -> None:
    assert json.loads(run(model, "show", "2")) == json.loads(json.dumps(Log(model).record(2).to_json()))
    assert json.loads(run(model, "show"))["number"] == VERSIONS


def test_compare_finds_what_differs(model: Path) -> None:
    assert json.loads(run(model, "compare", "2", "2"))["identical"] is True
    assert json.loads(run(model, "compare", "1", "3"))["identical"] is False


def test_a_tagged_version_is_found_and_never_thinned(model: Path) -> None:
    run(model, "tag", "best", "1")
    assert json.loads(run(model, "show", "best"))["number"] == 1
    assert run(model, "thin", "--keep", "2") == "1 versions thinned\n"
    assert [Log(model).record(n).kept for n in range(VERSIONS + 1)] == [True, True, False, True, True]
    run(model, "tag", "best", "--delete")
    assert run(model, "thin", "--keep", "2") == "1 versions thinned\n"


def test_rollback_appends_the_old_model(model: Path) -> None:
    assert "version 5 has the model of version 2" in run(model, "rollback", "2")
    log = Log(model)
    np.testing.assert_array_equal(log.read(5).tensors["model.theta"], log.read(2).tensors["model.theta"])


def test_damage_is_found_and_mended(model: Path) -> None:
    assert run(model, "check") == "every version is whole\n"
    path = Log(model).path(3)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "version 3" in run(model, "check", code=1)
    assert "lost: [3]" in run(model, "repair")
    assert Log(model).head() is not None


def test_what_is_not_there_is_said(model: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["show", "42", "--model", str(model)])
    assert "42" in str(result.exception)
    result = CliRunner().invoke(app, ["list", "--model", str(tmp_path / "empty")])
    assert "there is no version yet" in str(result.exception)
