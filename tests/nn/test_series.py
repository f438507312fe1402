"""Lagged values against pandas' shift, and against a slow second implementation with expiry and a bound."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import (
    Batch,
    ServedBatch,
    combine,
    continues,
    initial,
    learn_part,
    load_state,
    test_then_train,
)
from streaming_nn.nn.series import KEY_BYTES, UNKNOWN, Histories, Lags, Series, empty, split_series
from streaming_nn.nn.state_dict import flatten

pytestmark = pytest.mark.commit

PAIRS = ((0, 1), (0, 3), (1, 2))  # of value and lag
FREE = Lags(PAIRS, 2, max_series=100)
STRICT = Lags(PAIRS, 2, max_series=4, expiry=3_000)


class Stream(NamedTuple):
    """Rows in the order in which they are learned."""

    keys: list[bytes]
    times: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]


def stream(seed: int, rows: int = 300, series: int = 8) -> Stream:
    """Return rows of several series with gaps between them; some are late, and some have no time."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(series, 0.5))
    keys = [bytes([k]) * KEY_BYTES for k in rng.choice(series, rows, p=shares).tolist()]
    times = np.cumsum(rng.choice([0, 100, 900, 4_000], rows, p=[0.2, 0.6, 0.17, 0.03])) + 10_000
    late = rng.random(rows) < 0.1
    times = np.where(late, times - rng.integers(0, 5_000, rows), times)
    return Stream(keys, np.where(rng.random(rows) < 0.03, UNKNOWN, times), rng.normal(size=(rows, 2)))


def learn(lags: Lags, rows: Stream, cuts: list[int]) -> tuple[np.ndarray[Any, Any], Series, Any]:
    """Learn the rows in micro-batches; return what they had, the last histories, and what was served."""
    columns, served, series = [], [], empty(lags)
    for start, end in pairwise([0, *cuts, len(rows.keys)]):
        part = slice(start, end)
        histories = Histories(lags, series)
        served.append(histories.serve(rows.keys[part], rows.times[part]))
        columns.append(histories.learn(rows.keys[part], rows.times[part], rows.values[part]))
        series = histories.state()
    return np.concatenate(columns), series, np.concatenate(served)


class Slow:
    """The same with lists: what has expired is dropped at once, and the oldest series is searched for."""

    def __init__(self, lags: Lags) -> None:
        self.lags, self.clock = lags, UNKNOWN
        self.rows: dict[bytes, list[Any]] = {}
        self.newest: dict[bytes, int] = {}

    def row(self, key: bytes, time: int, clock: int) -> list[float]:
        """Return what a row has of its series."""
        past = self.rows.get(key, [])
        if past and self.lags.expiry is not None and clock - self.newest[key] > self.lags.expiry:
            past = []
        found = [past[-lag][value] if lag <= len(past) else np.nan for value, lag in self.lags.lags]
        known = bool(past) and time >= 0 and self.newest[key] >= 0
        return [*found, (time - self.newest[key]) / 1000 if known else np.nan]

    def drop_expired(self) -> None:
        for other in [*self.rows]:
            if self.lags.expiry is not None and self.clock - self.newest[other] > self.lags.expiry:
                del self.rows[other], self.newest[other]

    def add(self, key: bytes, time: int, values: Any) -> list[float]:
        self.clock = max(self.clock, time)
        self.drop_expired()
        found = self.row(key, time, self.clock)
        if key not in self.rows and len(self.rows) == self.lags.max_series:
            oldest = min(self.rows, key=lambda each: (self.newest[each], each))
            del self.rows[oldest], self.newest[oldest]
        self.rows.setdefault(key, []).append(values)
        self.newest[key] = max(self.newest.get(key, UNKNOWN), time if time >= 0 else self.clock)
        return found


def slowly(lags: Lags, rows: Stream, cuts: list[int]) -> tuple[list[Any], list[Any], Slow]:
    slow, columns, served = Slow(lags), list[Any](), list[Any]()
    triples = [*zip(rows.keys, rows.times.tolist(), rows.values.tolist(), strict=True)]
    for start, end in pairwise([0, *cuts, len(rows.keys)]):
        served += [slow.row(key, time, max(slow.clock, time)) for key, time, _ in triples[start:end]]
        columns += [slow.add(*each) for each in triples[start:end]]
    return columns, served, slow


@pytest.mark.parametrize("seed", range(3))
def test_lagged_values_are_those_of_pandas(seed: int) -> None:
    rows = stream(seed)
    rows = rows._replace(times=np.sort(np.maximum(rows.times, 0)))
    columns, *_ = learn(FREE, rows, [17, 18, 140])
    frame = pd.DataFrame({"key": rows.keys, "y": rows.values[:, 0], "x": rows.values[:, 1], "t": rows.times})
    groups = frame.groupby("key")
    ages = groups.t.diff() / 1000
    expected = np.column_stack([groups.y.shift(1), groups.y.shift(3), groups.x.shift(2), ages])
    assert_array_equal(columns, expected)


@pytest.mark.parametrize("lags", [FREE, STRICT, STRICT._replace(max_series=1), FREE._replace(expiry=500)])
@pytest.mark.parametrize("seed", range(8))
def test_a_slow_second_implementation_has_the_same_values(lags: Lags, seed: int) -> None:
    rows = stream(seed)
    cuts = sorted(np.random.default_rng(seed).choice(300, 6, replace=False).tolist())
    columns, series, served = learn(lags, rows, cuts)
    expected, expected_served, slow = slowly(lags, rows, cuts)
    assert_array_equal(columns, np.array(expected))
    assert_array_equal(served, np.array(expected_served))
    slow.drop_expired()
    assert [bytes(key) for key in series.keys] == sorted(slow.rows)
    assert series.times.tolist() == [slow.newest[key] for key in sorted(slow.rows)]
    assert series.clock == slow.clock
    for key, kept in zip(sorted(slow.rows), series.values, strict=True):
        newest = slow.rows[key][::-1][:3]
        assert_array_equal(kept, newest + [[np.nan] * 2] * (3 - len(newest)))


@pytest.mark.parametrize("seed", range(3))
def test_where_a_micro_batch_ends_changes_only_what_is_served(seed: int) -> None:
    rows = stream(seed)
    once, after, _ = learn(STRICT, rows, [])
    again, after_again, served = learn(STRICT, rows, [*range(1, 300)])
    assert_array_equal(once, again)
    for a, b in zip(after, after_again, strict=True):
        assert_array_equal(a, b)
    assert_array_equal(served, again)  # micro-batches of one row


def test_a_version_without_rows_keeps_its_histories() -> None:
    _, series, _ = learn(STRICT, stream(0), [100])
    histories = Histories(STRICT, series)
    assert histories.serve([], np.empty(0, np.int64)).shape == (0, 4)
    assert histories.learn([], np.empty(0, np.int64), np.empty((0, 2))).shape == (0, 4)
    for a, b in zip(histories.state(), series, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert_array_equal(a, b)


def test_dropped_series_leave_nothing_in_memory() -> None:
    keys = [i.to_bytes(KEY_BYTES, "big") for i in range(2_000)]
    histories = Histories(STRICT, empty(STRICT))
    for start in range(0, 2_000, 100):
        rows = slice(start, start + 100)
        histories.learn(keys[rows], np.arange(start, start + 100), np.zeros((100, 2)))
    assert [*histories._slots] == keys[-4:]
    assert len(histories._values) <= 8
    assert len(histories._oldest) <= 5


def test_tensors_have_the_histories_and_a_learner_loads_them() -> None:
    learner = learner_from({"inputs": 3, "hidden": [4], "missing": "impute"})
    _, series, _ = learn(STRICT, stream(0), [])
    state = initial(learner)._replace(series=series)
    tensors = flatten(state)
    assert {name for name in tensors if name.startswith("series.")} == {
        f"series.{name}" for name in ("keys", "values", "times", "clock")
    }
    loaded = load_state(learner, tensors)
    assert isinstance(loaded.series, Series)
    for a, b in zip(loaded.series, series, strict=True):
        assert_array_equal(a, b)
    assert continues(learner, learner, tensors)
    assert split_series(flatten(initial(learner)))[1] == ()
    with pytest.raises(ValueError, match=r"^tensors of series must be keys, values, times, clock; got keys$"):
        split_series({"series.keys": series.keys})


def test_a_row_is_learned_by_one_input_and_served_by_another() -> None:
    learner = learner_from({"learner": "mlp", "inputs": 1, "hidden": [4], "mini_batch": 8})
    rng = np.random.default_rng(0)
    x, x_served, y = rng.normal(size=(50, 1)), rng.normal(size=(50, 1)), rng.normal(size=50)
    start, _ = test_then_train(learner, initial(learner), [Batch(x, y)])
    heard = []
    pieces = [ServedBatch(Batch(x[i : i + 7], y[i : i + 7]), x_served[i : i + 7]) for i in range(0, 50, 7)]
    state = combine(learner, start, [learn_part(learner, start, pieces, heard.append)])
    plain, _ = test_then_train(learner, start, [Batch(x, y)])
    for name, tensor in flatten(plain.model).items():
        assert_array_equal(flatten(state.model)[name], tensor)
    served = np.concatenate([each.as_served for each in heard])
    assert_array_equal(served, learner.predict(start.model, x_served))
    one: list[Any] = []
    learn_part(learner, start, [ServedBatch(Batch(x[:1], y[:1]), x_served[:1])], one.append)
    assert_array_equal(one[0].as_served, learner.predict(start.model, x_served[:1]))
