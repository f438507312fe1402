"""Records of series: learned as pandas shifts them, served as of the version, replayed to the same bits."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
from lagged_records import (
    COLUMNS,
    SCHEMA,
    commit_model,
    encoded,
    inputs,
    learner_of,
    readings,
    record_batch,
)
from numpy.testing import assert_array_equal

from streaming_nn.nn.learner import Batch, Counts, Predicted, State, learn_part, test_then_train
from streaming_nn.nn.series import Series
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema
from streaming_nn.records.series import KEY_BYTES
from streaming_nn.settings import Settings
from streaming_nn.spark.rejected import NotLearned
from streaming_nn.spark.replay.backtest import _initial_tensors as initial_tensors
from streaming_nn.spark.replay.plan import ReplayPlan
from streaming_nn.spark.replay.tasks import Replay
from streaming_nn.spark.replay.trials import Trial
from streaming_nn.spark.score.predictions import Predict
from streaming_nn.spark.score.realtime.supported import check
from streaming_nn.spark.series import initial_state, record_times, series_of
from streaming_nn.spark.tasks import (
    Learn,
    TaskResult,
    decode_batches,
    learn_records,
    pack,
    result_from_row,
    unpack,
)
from streaming_nn.spark.train.executor import learn_micro_batch
from streaming_nn.spark.train.micro_batch import Work, combine_results
from streaming_nn.spark.train.resume import check_settings
from streaming_nn.versions.rollback import combine_tensors, rollback
from streaming_nn.versions.version import Manifest, state_digest

pytestmark = pytest.mark.commit

FRAME = readings(200)
VALUES = encoded(FRAME)
LEARNER = learner_of()
CUTS = [slice(0, 7), slice(7, 100), slice(100, 200)]  # micro-batches
assert SCHEMA.input_columns == COLUMNS


def batches(rows: slice, cut: int = 5) -> list[pa.RecordBatch]:
    """Return the records in two batches, with a bad one between them."""
    values, at = [*VALUES[rows]], FRAME["at"][rows].tolist()
    values.insert(cut, b'{"hour": 1, "heat": 2, "load": 3}')
    at.insert(cut, at[cut])
    whole = record_batch(values, at, rows.start)
    return [whole.slice(0, cut + 1), whole.slice(cut + 1)]


def learn(state: State[Any], rows: slice) -> TaskResult:
    """Learn the records here, ahead, and as a task does; all must return the same bits."""
    here = learn_records(LEARNER, SCHEMA, state, batches(rows), None, samples=3)
    (row,) = Learn(LEARNER, SCHEMA, SimpleNamespace(value=pack(state)), None, 3)(iter(batches(rows, 6)))
    others = [
        learn_records(LEARNER, SCHEMA, state, batches(rows, 2), None, True, samples=3),
        result_from_row(LEARNER, row.to_pylist()[0]),
    ]
    for other in others:
        assert digest(after(state, other)) == digest(after(state, here))
        assert (other.counts, other.rejected, other.samples) == (here.counts, here.rejected, here.samples)
    return here


def after(state: State[Any], result: TaskResult) -> State[Any]:
    return combine_results(Work(LEARNER, SCHEMA, state), [result]).state


def digest(state: State[Any]) -> str:
    return state_digest(flatten(state))


def states() -> list[State[Any]]:
    """Return the state before, and after each micro-batch."""
    found = [initial_state(LEARNER, SCHEMA.options())]
    for rows in CUTS:
        found.append(after(found[-1], learn(found[-1], rows)))
    return found


def test_a_model_is_that_of_the_rows_that_pandas_shifts() -> None:
    x, y = inputs(FRAME), FRAME.load.to_numpy()
    state = by_hand = initial_state(LEARNER, SCHEMA.options())
    products = list[tuple[float, float]]()
    for rows in CUTS:
        result = learn(state, rows)
        assert result.counts == Counts(len(y[rows]) + 1, len(y[rows]), 0, 1)
        assert result.rejected == {"series missing: meter": 1}
        state = after(state, result)
        by_hand, _ = test_then_train(LEARNER, by_hand, [Batch(x[rows], y[rows])])
        products.append((float(state.model.correction[2, 0]), float(by_hand.model.correction[2, 0])))
        by_hand.model.correction[2] = state.model.correction[2]
        for name, tensor in flatten(by_hand.model).items():
            assert_array_equal(flatten(state.model)[name], tensor, err_msg=name)
    assert len(set(products[-1])) == 2  # with the errors as served, whose lags are older


def served(state: State[Any], rows: slice) -> list[Predicted]:
    """Return what the trainer measures as served."""
    heard: list[Predicted] = []
    series = series_of(SCHEMA, state)
    learn_part(
        LEARNER,
        state,
        decode_batches(batches(rows), SCHEMA, NotLearned(None), series=series),
        heard.append,
    )
    return heard


def test_a_scorer_predicts_what_is_measured_as_served() -> None:
    state = states()[2]
    heard = served(state, CUTS[2])
    expected = np.concatenate([each.as_served[:, LEARNER.point] for each in heard])
    unlabeled = [json.dumps({k: v for k, v in json.loads(value).items() if k != "load"}) for value in VALUES]
    values = [b"no JSON", *(value.encode() for value in unlabeled[CUTS[2]])]
    records = record_batch(values, [0, *FRAME["at"][CUTS[2]]])
    (out,) = Predict(LEARNER, SCHEMA, SimpleNamespace(value=pack(state)), {"version": 1})(iter([records]))
    _, *predicted = [json.loads(value)["prediction"] for value in out.column("value").to_pylist()]
    assert predicted == expected.astype(np.float64).tolist()
    prequential = np.concatenate([each.output[:, LEARNER.point] for each in heard])
    assert (prequential != expected).mean() > 0.5


def test_what_is_served_is_as_old_as_the_version() -> None:
    """All rows of a series have the same lagged values, and an age from the version's newest one."""
    state, rows = states()[2], CUTS[2]
    x = np.concatenate([each.x_served for each in served(state, rows)])  # type: ignore[misc]
    before = FRAME[: rows.start].groupby("meter")
    frame = FRAME[rows]
    assert_array_equal(x[:, 2], frame.meter.map(before.load.last()))
    assert_array_equal(x[:, 3], frame.meter.map(before.load.apply(lambda each: each.iloc[-3])))
    assert_array_equal(x[:, 5], (frame["at"] - frame.meter.map(before["at"].last())) / 1000)


def test_rows_may_be_learned_as_they_are_served() -> None:
    schema = replace(SCHEMA, lags_as_of="version")
    x_served = np.concatenate([each.x_served for each in served(states()[2], CUTS[2])])  # type: ignore[misc]
    state = states()[2]
    result = learn_records(LEARNER, schema, state, batches(CUTS[2]), None)
    by_hand, _ = test_then_train(LEARNER, state, [Batch(x_served, FRAME.load[CUTS[2]].to_numpy())])
    learned = after(state, result)
    for name, tensor in flatten(by_hand._replace(series=())).items():
        assert_array_equal(flatten(learned)[name], tensor, err_msg=name)
    assert isinstance(learned.series, Series)
    for a, b in zip(learned.series, states()[3].series, strict=True):
        assert_array_equal(a, b)


def test_a_record_without_a_series_has_no_prediction() -> None:
    state = states()[1]
    records = record_batch([b'{"hour": 1, "heat": 2}', b'{"hour": 1, "heat": 2, "meter": "new"}'], [5, 6])
    (out,) = Predict(LEARNER, SCHEMA, SimpleNamespace(value=pack(state)), {"version": 1})(iter([records]))
    bad, new = map(json.loads, out.column("value").to_pylist())
    assert (bad["prediction"], bad["error"]) == (None, "series missing: meter")
    row = np.array([[1, 2, *[np.nan] * 4]])
    assert new["prediction"] == LEARNER.predict(state.model, row)[0, LEARNER.point]


def test_one_series_needs_no_field() -> None:
    schema = Schema(1, None, ("hour",), "load", lags=(2,))
    learner = learner_of(schema)
    state = initial_state(learner, schema.options())
    result = learn_records(
        learner, schema, state, [record_batch(VALUES[:50], FRAME["at"][:50].tolist())], None
    )
    y = FRAME.load[:50]
    x = np.column_stack([FRAME.hour[:50], y.shift(2), FRAME["at"][:50].diff() / 1000])
    by_hand, _ = test_then_train(learner, state, [Batch(x, y.to_numpy())])
    assert result.part is not None
    assert isinstance(result.part.series, Series)
    assert_array_equal(result.part.series.values[0, :, 0], [y[49], y[48]])
    for name, tensor in flatten(by_hand.model).items():
        assert_array_equal(flatten(result.part.model)[name], tensor, err_msg=name)


def test_a_batch_that_is_learned_again_adds_its_rows_once() -> None:
    """A category is unseen, so the schema grows first."""
    schema = Schema(
        3, None, ("meter", "heat"), "load", lags=(1,), series="meter", categories={"meter": {"one_hot": 2}}
    )
    learner = learner_of(schema)
    batch = record_batch(VALUES[:60], FRAME["at"][:60].tolist())

    class Here:
        def learn(self, work: Work, plan: Any) -> list[TaskResult]:
            return [learn_records(work.learner, work.schema, work.start, [batch], None)]

    work, learned = learn_micro_batch(
        Here(), Work(learner, schema, initial_state(learner, schema.options())), None
    )  # type: ignore[arg-type]
    assert len(work.schema.vocabulary["meter"]) == 2
    series = learned.state.series
    assert isinstance(series, Series)
    assert sorted(series.values[:, 0, 0]) == sorted(FRAME[:60].groupby("meter").load.last())


def by_version() -> Iterator[pa.RecordBatch]:
    for version, rows in enumerate(CUTS, 1):
        for batch in batches(rows):
            yield batch.append_column("version", pa.array([version] * batch.num_rows, pa.int64()))


@pytest.mark.parametrize("trials", [1, 2])
def test_a_replay_has_the_same_bits(trials: int) -> None:
    before, *wanted = states()
    learners = dict.fromkeys((1, 2, 3), (LEARNER,) * trials)
    work = Replay(learners, SCHEMA, (SimpleNamespace(value=pack(before)),) * trials)
    results = [each.to_pylist()[0] for each in work(by_version())]
    found = [state_digest(safetensors.numpy.load(each["state"])) for each in results]
    assert found == [digest(state) for state in wanted for _ in range(trials)]
    digests = {version: digest(state) for version, state in enumerate(wanted, 1)}
    compared = Replay(learners, SCHEMA, work.states, digests=digests)
    assert [each.to_pylist()[0]["digest"] for each in compared(by_version())][::trials] == [*digests.values()]


def test_a_rollback_keeps_the_newest_values_of_the_series(tmp_path: Path) -> None:
    log = commit_model(tmp_path)
    old, head = log.read(1), log.read(3)
    restored = rollback(log, 1)
    for name, tensor in restored.tensors.items():
        assert_array_equal(tensor, (old if name.startswith("model.") else head).tensors[name], err_msg=name)
    others = {name: t for name, t in old.tensors.items() if not name.startswith("series.")}
    assert not any(name.startswith("series.") for name in combine_tensors(others, head.tensors))
    wider = old.tensors | {"series.values": np.zeros((2, 9, 2))}
    assert combine_tensors(wider, head.tensors)["series.keys"] is old.tensors["series.keys"]


def test_trials_begin_with_the_series_of_the_version(tmp_path: Path) -> None:
    log = commit_model(tmp_path)
    start = log.read(2)
    plan = ReplayPlan([log.manifest(3)], log.manifest(2), {}, {}, Trial({}, "original"), start)
    for learner in (LEARNER, learner_of(hidden=[8])):
        tensors, _ = initial_tensors(plan, learner, lambda options: LEARNER)
        for name in ("keys", "values", "times", "clock"):
            assert_array_equal(tensors[f"series.{name}"], start.tensors[f"series.{name}"])
    untrained, _ = initial_tensors(replace(plan, start=None), LEARNER, lambda options: LEARNER)
    assert untrained["series.keys"].shape == (0, KEY_BYTES)


def test_several_tasks_and_the_real_time_engine_are_refused() -> None:
    records = {"inputs": 2, "features": ["hour", "heat"], "label": "load", "regression": True, "lags": [1]}
    settings = Settings(model=Path("m"), records=records, train={"update": "averaged"})
    with pytest.raises(
        ValueError, match=r"^train\.update must be 'sequential' with records\.lags; got 'averaged'$"
    ):
        check_settings(settings, None)
    with pytest.raises(ValueError, match=r"records\.lags must not be set; got \[1, 3\]; use --engine batch"):
        check(Manifest(0, schema=replace(SCHEMA, lags=(1, 3)).options()))


def test_a_state_without_series_is_refused(tmp_path: Path) -> None:
    log = commit_model(tmp_path)
    tensors = {name: t for name, t in log.read(3).tensors.items() if not name.startswith("series.")}
    state = unpack(LEARNER, safetensors.numpy.save(tensors))
    with pytest.raises(ValueError, match="must have series, because its schema has lags; it has none"):
        series_of(SCHEMA, state)


def test_times_are_milliseconds_however_they_are_read() -> None:
    ms = [5, -1, 1 << 60]
    assert record_times(record_batch([None] * 3, ms)).tolist() == [5, -1, 1 << 53]
    spark = pa.array([5_000, None, 6_999], pa.timestamp("us", "UTC"))
    batch = pa.record_batch({"timestamp": spark, "value": [1, 2, 3]})
    assert record_times(batch).tolist() == [5, -1, 6]
    assert record_times(batch.select(["value"])).tolist() == [-1, -1, -1]


def test_samples_have_what_was_served(tmp_path: Path) -> None:
    log = commit_model(tmp_path)
    rows = log.manifest(3).samples["rows"]
    before = readings(120)[:80]
    newest = before.groupby("meter").load.last()
    assert [len(row["inputs"]) for row in rows] == [len(COLUMNS)] * 5
    expected = readings(120)[115:].meter.map(newest)
    np.testing.assert_allclose([row["inputs"][2] for row in rows], expected, rtol=1e-5)
