"""The streams of benchmarks.bits: equal bits from the reference, and from every build at hand."""

import json
import os
from pathlib import Path

import core_reference as reference
import metrics_reference
import numpy as np
import pytest
from running import run

from benchmarks import bits, replayed
from streaming_nn.core import structures
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

STREAMS = {stream.name: stream for stream in bits.recorded()}
FIRST = 12  # rows of a stream that the reference learns in the commit tier


def learn_by_reference(stream: bits.Stream, rows: int) -> list[bytes]:
    ensemble, state, size = stream.ensemble, bits.start_of(stream), stream.mini_batch
    outputs, trained = [], []
    with np.errstate(all="ignore"):
        for at in range(0, rows, size):
            end = min(at + size, rows)
            weight = None if stream.weight is None else stream.weight[at:end]
            step = reference.learn(
                ensemble, state, stream.x[at:end], stream.y[at:end], weight, stream.initial
            )
            outputs.append(step[0])
            trained.append(step[1])
    output = np.concatenate(outputs)
    measured = bits.measure_here(first(stream, rows), output, metrics_reference.measure)
    return [*bits.parts_of(ensemble, state, output, np.array(trained)), *measured]


def first(stream: bits.Stream, rows: int) -> bits.Stream:
    weight = None if stream.weight is None else stream.weight[:rows]
    return stream._replace(x=stream.x[:rows], y=stream.y[:rows], weight=weight)


@pytest.mark.parametrize("name", [name for name, each in STREAMS.items() if each.mini_batch <= FIRST])
def test_the_first_rows_have_the_bits_of_the_reference(name: str) -> None:
    stream = STREAMS[name]
    assert bits.learn_here(first(stream, FIRST)) == learn_by_reference(stream, FIRST)


@pytest.mark.nightly
@pytest.mark.parametrize("name", STREAMS)
def test_whole_streams_have_the_bits_of_the_reference(name: str) -> None:
    assert bits.learn_here(STREAMS[name]) == learn_by_reference(STREAMS[name], bits.ROWS)


def test_the_streams_have_each_option_and_a_restart() -> None:
    for names in (structures.ACTIVATIONS, structures.LOSSES, structures.OPTIMIZERS):
        assert set(names) <= STREAMS.keys()
    stream = STREAMS["ensemble at 8"]
    state = bits.start_of(stream)
    stream.ensemble.bind(state, stream.initial).learn(
        stream.x, stream.y, stream.weight, mini_batch=stream.mini_batch
    )
    assert state.restarts.sum() > 0
    assert state.drawn > 0


def test_a_stream_is_its_own_digest_only() -> None:
    digests = {bits.digest(*bits.learn_here(stream)) for stream in STREAMS.values()}
    assert len(digests) == len(STREAMS)


def test_a_build_with_other_bits_is_found(tmp_path: Path) -> None:
    stream = first(STREAMS["tanh"], 8)
    expected = [bits.digest(*bits.learn_here(stream))]
    same = bits.Build("plain", ("cc", "-O1"))
    if bits.compare(same, [], [], tmp_path) == "skipped":
        pytest.skip("no compiler")
    assert bits.compare(same, [stream], expected, tmp_path) == "identical"
    assert bits.compare(same, [stream], ["another"], tmp_path) == "differ: tanh"
    assert bits.compare(bits.Build("none", ("no-such-compiler",)), [], [], tmp_path) == "skipped"


def test_the_first_version_with_another_digest_is_named() -> None:
    expected = {"a": ["1", "2", "3"], "b": ["4", "5", "6"]}
    assert bits.differing_versions(expected, json.dumps({"digests": expected})) == "identical"
    found = {"a": ["1", "2", "0"], "b": ["4", "0", "0"]}
    assert bits.differing_versions(expected, json.dumps({"digests": found})) == "differ: a 2, b 1"


@pytest.mark.merge
def test_recorded_versions_are_replayed_with_drifts_restarts_and_growth(tmp_path: Path) -> None:
    replayed.record(tmp_path)
    found = dict[str, set[str]]()
    for recording in replayed.RECORDINGS:
        folder = tmp_path / recording.name
        digests = replayed.recorded(folder)
        assert replayed.learn_again(folder) == digests
        assert len(set(digests)) == replayed.VERSIONS + 1
        manifests = [VersionLog(folder).manifest(number) for number in range(len(digests))]
        found[recording.name] = {event["event"] for each in manifests for event in each.events}
        first, last = manifests[0].learner, manifests[-1].learner
        assert (last["inputs"] > first["inputs"]) == recording.grows
        assert (last["classes"] != first["classes"]) == recording.grows
    assert {"drift", "member restarted"} <= found["classes"]
    assert "drift" in found["regression"] & found["network"]


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_every_build_and_every_python_has_the_same_bits() -> None:
    """With TOOLS_REQUIRED, only clang may be missing, as zig is one. Else what is missing is skipped."""
    required = bool(os.environ.get("TOOLS_REQUIRED"))
    done = run("bits", "--json", *(["--fetch"] if required else []))
    assert done.returncode == 0, done.stdout + done.stderr
    line = json.loads(done.stdout)
    assert line["differing"] == 0
    assert sum(result == "identical" for result in line["builds"].values()) >= 3
    skipped = {name for name, result in line["builds"].items() if result == "skipped"}
    if required:
        assert {name for name in skipped if not name.startswith("clang")} == set()
    elif any("AArch64" in name for name in skipped):
        pytest.skip("Python on AArch64: `python -m benchmarks.bits --fetch` gets it, and ziglang its core")
