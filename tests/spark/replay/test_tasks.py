"""The task that learns recorded versions again: one learner that is compared, or several side by side."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
from kafka_topics import SCHEMA, labeled, rows
from numpy.testing import assert_array_equal

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Counts, State, initial
from streaming_nn.nn.state_dict import flatten
from streaming_nn.spark.replay.tasks import REPLAYED, Replay
from streaming_nn.spark.tasks import pack
from streaming_nn.spark.train.micro_batch import learn_tasks
from streaming_nn.versions.version import state_digest

pytestmark = pytest.mark.commit

LEARNER = learner_from({"inputs": 3, "classes": [0, 1], "hidden": [4], "mini_batch": 4})
OTHER = learner_from({**LEARNER.options(), "mini_batch": 8})
ROWS = 40  # of a version
VERSIONS = (3, 4, 5)


def batches(partitions: int = 1, cut: int = 70) -> list[pa.RecordBatch]:
    """Return the versions' records, partition by partition, and one bad record in version 4."""
    values, columns = labeled(ROWS * len(VERSIONS)), list[dict[str, Any]]()
    for i, version in enumerate(VERSIONS):
        chosen = values[ROWS * i : ROWS * (i + 1)]
        for j, value in enumerate([b"no JSON", *chosen] if version == 4 else chosen):
            partition = j * partitions // (ROWS + 1)
            columns.append({"version": version, "topic": "t", "partition": partition, "value": value})
    types = {"version": pa.int64(), "topic": pa.string(), "partition": pa.int32(), "value": pa.binary()}
    whole = pa.RecordBatch.from_pylist(columns, pa.schema(list(types.items())))
    return [whole.slice(0, cut), whole.slice(cut)]


def replay(**options: Any) -> list[dict[str, Any]]:
    """Run the task over all records, from the initial states."""
    learners = options.pop("learners", dict.fromkeys(VERSIONS, (LEARNER,)))
    records = options.pop("records", batches())
    states = tuple(SimpleNamespace(value=pack(initial(each))) for each in learners[VERSIONS[0]])
    results = list(Replay(learners, SCHEMA, states, **options)(iter(records)))
    assert all(each.schema.names == [c.split()[0] for c in REPLAYED.split(", ")] for each in results)
    return [each.to_pylist()[0] for each in results]


def expected(learner: Any = LEARNER) -> list[State[Any]]:
    """Learn the versions' rows without the task; return the state after each."""
    x, y = rows(ROWS * len(VERSIONS))
    states, state = [], initial(learner)
    for i in range(len(VERSIONS)):
        chosen = slice(ROWS * i, ROWS * (i + 1))
        state, _ = learn_tasks(learner, state, [[Batch(x[chosen], y[chosen])]])
        states.append(state)
    return states


DIGESTS = {n: state_digest(flatten(state)) for n, state in zip(VERSIONS, expected(), strict=True)}


def test_equal_digests_return_the_last_state_only() -> None:
    results = replay(digests=DIGESTS)
    assert {row["version"]: row["digest"] for row in results} == DIGESTS
    assert [row["state"] is None for row in results] == [True, True, False]
    assert state_digest(safetensors.numpy.load(results[-1]["state"])) == DIGESTS[5]
    counts = [row["counts"] for row in results]
    assert counts == ["[40, 40, 0, 0, 0]", "[41, 40, 0, 1, 0]", "[40, 40, 0, 0, 0]"]
    assert [row["rejected"] for row in results] == ["{}", '{"not JSON": 1}', "{}"]


def test_the_first_different_digest_ends_the_replay() -> None:
    results = replay(digests=DIGESTS | {4: "another"})
    assert [row["version"] for row in results] == [3, 4]
    assert [row["state"] is None for row in results] == [True, False]


def test_learners_side_by_side_return_every_state() -> None:
    results = replay(learners=dict.fromkeys(VERSIONS, (LEARNER, OTHER)))
    assert [(row["version"], row["learner"]) for row in results] == [(n, i) for n in VERSIONS for i in (0, 1)]
    for index, learner in enumerate((LEARNER, OTHER)):
        states = [safetensors.numpy.load(row["state"]) for row in results if row["learner"] == index]
        for tensors, state in zip(states, expected(learner), strict=True):
            assert state_digest(tensors) == state_digest(flatten(state))
    assert {row["digest"] for row in results} == {""}, "nothing is compared"


def test_a_learner_may_change_its_mini_batch_between_versions() -> None:
    (*_, last) = replay(learners={3: (LEARNER,), 4: (OTHER,), 5: (LEARNER,)})
    assert safetensors.numpy.load(last["state"])["metrics.rows"] == ROWS * len(VERSIONS)


@pytest.mark.parametrize("cut", [1, 30, 100])
def test_averaged_versions_are_learned_partition_by_partition(cut: int) -> None:
    digests = [replay(records=batches(2, at), averaged=True)[-1]["state"] for at in (cut, 70)]
    assert digests[0] == digests[1], "the cut does not matter"
    assert digests[0] != replay(records=batches(2))[-1]["state"]
    x, y = rows(ROWS * len(VERSIONS))
    state = initial(LEARNER)
    for i, version in enumerate(VERSIONS):
        split = [ROWS * i, ROWS * i + (20 if version == 4 else 21), ROWS * (i + 1)]
        tasks = [[Batch(x[a:b], y[a:b])] for a, b in pairwise(split)]
        state, counts = learn_tasks(LEARNER, state, tasks)
        assert counts == Counts(ROWS, ROWS)
    tensors = safetensors.numpy.load(digests[0])
    assert_array_equal(tensors["metrics.rows"], np.int64(ROWS * len(VERSIONS)))
    assert state_digest(tensors) == state_digest(flatten(state))
