"""`explain` of streams whose change is known, against NumPy on the rows and predictions between versions."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from logs import prune_all_but
from numpy.typing import NDArray

from streaming_nn.explain import explain
from streaming_nn.nn import learner as loop
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch
from streaming_nn.nn.mlp import MLP
from streaming_nn.nn.preprocessing import ColumnGrowth
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

ROWS = 50  # of a version
CHANGED = 12  # the last version before the change
VERSIONS = 16
WINDOW = 200
MEMBERS = (
    {"optimizer": "sgd", "learning_rate": 0.1},
    {"optimizer": "adam", "learning_rate": 0.01, "replay": 1},
)
FEATURES = ("height", "width", "depth")

Rows = NDArray[Any]


class Learned(NamedTuple):
    """A model directory, and the rows that it has learned with the predictions from before."""

    log: VersionLog
    x: Rows
    y: Rows
    output: Rows

    def of(self, earlier: int, later: int) -> tuple[Rows, Rows, Rows]:
        rows = slice(earlier * ROWS, later * ROWS)
        return self.x[rows], self.y[rows], self.output[rows]

    def window(self, version: int) -> tuple[Rows, Rows]:
        rows = slice(max(0, version * ROWS - WINDOW), version * ROWS)
        return self.y[rows], self.output[rows]


def learn(
    directory: Path, learner: Any, x: Rows, y: Rows, schema: Schema | None = None, **fields: Any
) -> Learned:
    log, state, found = VersionLog(directory), loop.initial(learner), list[loop.Predicted]()
    described = {"learner": learner.options(), "schema": schema.options() if schema else {}}
    head = log.commit(None, flatten(state), **described)
    for start in range(0, len(y), ROWS):
        batch = Batch(x[start : start + ROWS], y[start : start + ROWS])
        state, counts = loop.test_then_train(learner, state, [batch], found.append)
        fields |= {"counts": counts._asdict(), "metrics": loop.report(learner, state)}
        head = log.commit(head, flatten(state), **described, **fields)
    return Learned(log, x, y, np.concatenate([each.output for each in found]))


def stream(change: Callable[[Rows, Rows], tuple[Rows, Rows]]) -> tuple[Rows, Rows]:
    """Return rows of three columns and classes 0 to 2, changed after version `CHANGED`."""
    x = np.random.default_rng(7).normal(size=(VERSIONS * ROWS, 3)) * [1, 20, 0.1] + [5, -3, 0]
    y = (x[:, 0] > 5).astype(np.int32) + (x[:, 1] > -3)
    later = slice(CHANGED * ROWS, None)
    x[later], y[later] = change(x[later], y[later])
    return x, y.astype(np.int32)


def classifier(**options: Any) -> Ensemble:
    members = {"hidden": (8,), "members": MEMBERS, "window": WINDOW, "mini_batch": 10, "buffer_rows": 50}
    return Ensemble(inputs=3, classes=("a", "b", "c"), **(members | options))


def regressor(**options: Any) -> MLP:
    return MLP(inputs=3, hidden=(4,), window=WINDOW, mini_batch=10, learning_rate=0.01, **options)


def moved(x: Rows, y: Rows) -> tuple[Rows, Rows]:
    return x + np.array([0, 60, 0]), y


def far(x: Rows, y: Rows) -> tuple[Rows, Rows]:
    return x + np.array([0, 0, 1e6]), y


def stuck(x: Rows, y: Rows) -> tuple[Rows, Rows]:
    return x * [0, 1, 1] + [5.1, 0, 0], y


def noisy(x: Rows, y: Rows) -> tuple[Rows, Rows]:
    return x * [1, 1, 4], y


@pytest.mark.parametrize(
    ("change", "column"), [(moved, "width"), (far, "depth"), (stuck, "height"), (noisy, "depth")]
)
def test_the_column_that_changed_comes_first(tmp_path: Path, change: Callable[..., Any], column: str) -> None:
    found = learn(tmp_path, classifier(), *stream(change), Schema(3, ("a", "b", "c"), FEATURES))
    for later in (CHANGED + 1, VERSIONS):
        check_columns(found, column, later)


def check_columns(found: Learned, column: str, later: int) -> None:
    result = explain(found.log, later, CHANGED)
    assert result.versions == (CHANGED, later)
    assert result.rows == (later - CHANGED) * ROWS
    assert result.columns[0].name == column
    if column == "height":
        assert result.columns[0].deviation[1] == 0
    assert result.columns[0].change > 2 * max(each.change for each in result.columns[1:])
    before, between = found.of(0, CHANGED)[0], found.of(CHANGED, later)[0]
    for each in result.columns:
        i = FEATURES.index(each.name)
        a, b = before[:, i], between[:, i]
        assert each.mean == pytest.approx((a.mean(), b.mean()), rel=1e-9)
        assert each.deviation == pytest.approx((a.std(), b.std()), rel=1e-6, abs=1e-6)
        assert each.shift == pytest.approx((b.mean() - a.mean()) / a.std(), rel=1e-6)
        assert each.present == (None, None)


def test_a_column_that_is_missing_comes_first(tmp_path: Path) -> None:
    def gaps(x: Rows, y: Rows) -> tuple[Rows, Rows]:
        return np.where(np.arange(x.size).reshape(x.shape) % 6 == 2, np.nan, x), y

    found = learn(tmp_path, classifier(missing="impute"), *stream(gaps))
    first = explain(found.log, VERSIONS, CHANGED).columns[0]
    assert first.name == "features[2]"
    assert first.present == (1, 0.5)
    assert first.mean[1] == pytest.approx(np.nanmean(found.of(CHANGED, VERSIONS)[0][:, 2]), rel=1e-9)


def vanished(x: Rows, y: Rows) -> tuple[Rows, Rows]:
    return np.where((y == 1)[:, None], x[y != 1][: len(x)][0], x), np.where(y == 1, y[y != 1][0], y)


def swapped(x: Rows, y: Rows) -> tuple[Rows, Rows]:
    return x, np.array([2, 1, 0])[y]


@pytest.mark.parametrize(("change", "first"), [(vanished, {"b"}), (swapped, {"a", "c"})])
def test_the_classes_that_changed_come_first(
    tmp_path: Path, change: Callable[..., Any], first: set[str]
) -> None:
    found = learn(tmp_path, classifier(), *stream(change))
    later = CHANGED + 3
    result = explain(found.log, later, CHANGED)
    assert {each.label for each in result.classes[: len(first)]} == first
    (y, output), (_, y_between, between) = found.window(CHANGED), found.of(CHANGED, later)
    for each in result.classes:
        i = "abc".index(each.label)
        shares, recalls = list[float](), list[float | None]()
        for truth, predicted in ((y, output.argmax(axis=1)), (y_between, between.argmax(axis=1))):
            shares.append((truth == i).mean())
            recalls.append((predicted[truth == i] == i).mean() if (truth == i).any() else None)
        assert each.share == pytest.approx(tuple(shares), abs=1e-12)
        assert each.recall == pytest.approx(tuple(recalls), abs=1e-12)
        wrong = between.argmax(axis=1)[(y_between == i) & (between.argmax(axis=1) != i)]
        counts = np.bincount(wrong, minlength=3)
        assert each.mistaken_for == ("abc"[counts.argmax()] if len(wrong) else None)
    assert result.between == pytest.approx((between.argmax(axis=1) == y_between).mean(), abs=1e-12)
    manifests = [found.log.manifest(number) for number in (CHANGED, later)]
    assert result.figures["as_served"] == tuple(
        manifest.metrics["as_served"]["window"]["accuracy"] for manifest in manifests
    )
    weights = [[each["weight"] for each in manifest.metrics["members"]] for manifest in manifests]
    assert [each.weight for each in result.members] == [*zip(*weights, strict=True)]


def test_labels_are_compared_each_by_itself(tmp_path: Path) -> None:
    x, _ = stream(lambda x, y: (x, y))
    y = np.stack([x[:, 0] > 5, x[:, 1] > -3], axis=1).astype(np.int32)
    y[CHANGED * ROWS :, 1] = 0
    learner = MLP(3, classes=("tall", "wide"), multilabel=True, hidden=(4,), window=WINDOW, mini_batch=10)
    found = learn(tmp_path, learner, x, y)
    result = explain(found.log, VERSIONS, CHANGED)
    _, truth, output = found.of(CHANGED, VERSIONS)
    assert result.classes[0].label == "wide"
    assert result.classes[0].share == pytest.approx((found.window(CHANGED)[0][:, 1].mean(), 0))
    assert result.between == pytest.approx(((output > 0.5) == truth).all(axis=1).mean())
    assert result.metric == "subset_accuracy"


@pytest.mark.parametrize("targets", [None, ("price", "tax")])
def test_targets_are_compared_by_mean_spread_and_error(
    tmp_path: Path, targets: tuple[str, ...] | None
) -> None:
    x, _ = stream(lambda x, y: (x, y))
    y = np.stack([x[:, 0], x[:, 1] / 20], axis=1) if targets else x[:, 0].copy()
    y[CHANGED * ROWS :] += [0, 3] if targets else 3
    found = learn(tmp_path, regressor(targets=targets), x, y)
    result = explain(found.log, VERSIONS, CHANGED)
    (before, output), (_, between, later) = found.window(CHANGED), found.of(CHANGED, VERSIONS)
    columns = [each.reshape(len(each), -1) for each in (before, output, between, later)]
    for each in result.targets:
        i = targets.index(each.name) if targets and each.name else 0
        a, of_a, b, of_b = (part[:, i] for part in columns)
        assert each.mean == pytest.approx((a.mean(), b.mean()), rel=1e-9)
        assert each.deviation == pytest.approx((a.std(), b.std()), rel=1e-9)
        assert each.mae == pytest.approx((np.abs(a - of_a).mean(), np.abs(b - of_b).mean()), rel=1e-6)
        assert each.shift == pytest.approx((b.mean() - a.mean()) / a.std(), rel=1e-9)
    assert result.targets[0].name == (targets and "tax")
    assert result.between == pytest.approx(np.abs(columns[2] - columns[3]).mean(), rel=1e-6)


def test_the_default_is_the_newest_that_was_still_good(tmp_path: Path) -> None:
    found = learn(tmp_path, classifier(), *stream(swapped))
    accuracy = [
        found.log.manifest(n).metrics["prequential"]["window"]["accuracy"] for n in range(1, VERSIONS + 1)
    ]
    later = CHANGED + 3
    enough = max(accuracy[: later - 1]) + 0.25 * (accuracy[later - 1] - max(accuracy[: later - 1]))
    expected = max(n for n in range(1, later) if accuracy[n - 1] >= enough)
    result = explain(found.log, later)
    assert result.versions == (expected, later)
    assert f"version {expected} is the newest whose accuracy was within a quarter" in result.notes[0]
    best = accuracy.index(max(accuracy)) + 1
    assert explain(found.log, best).versions == (best - 1, best), "nothing was lost"
    assert explain(found.log, 1).versions == (0, 1), "version 0 has no metrics"


def test_a_drift_of_the_version_that_is_compared_with_is_among_the_events(tmp_path: Path) -> None:
    x, y = stream(swapped)
    found = learn(tmp_path, classifier(), x[: CHANGED * ROWS], y[: CHANGED * ROWS])
    log, drift = found.log, {"event": "drift", "detected": 1}
    head = log.read(CHANGED)
    for events in ([drift], []):
        described = {"learner": head.manifest.learner, "metrics": head.manifest.metrics}
        head = log.commit(head, head.tensors, **described, events=events)
    assert explain(log, CHANGED + 2).versions == (CHANGED + 1, CHANGED + 2)
    assert explain(log, CHANGED + 2).events == [{**drift, "version": CHANGED + 1}]
    assert explain(log, CHANGED + 2, CHANGED).events == [{**drift, "version": CHANGED + 1}]
    assert explain(log, CHANGED).events == []


def test_of_pruned_versions_the_nearest_kept_ones_are_compared(tmp_path: Path) -> None:
    fields = {"lag": 7, "record_times": [1_767_225_600_500] * 2, "written_at": "2026-01-01T00:00:02+00:00"}
    fields |= {"rejected_by_reason": {"not JSON": 2}, "seconds": {"learn": 0.5}}
    found = learn(tmp_path, classifier(), *stream(moved), **fields)
    prune_all_but(found.log, [10, CHANGED, 15])
    result = explain(found.log, 14, 11)
    assert result.versions == (10, 15)
    assert result.notes == [
        "version 14 was pruned; 15 is the nearest that is kept",
        "version 11 was pruned; 10 is the nearest that is kept",
    ]
    before, after = result.batches
    assert (before.versions, after.versions) == (5, 5)
    assert (
        before.counts
        == after.counts
        == {"received": 250, "trained": 250} | dict.fromkeys(("skipped", "rejected", "filtered"), 0)
    )
    assert after.rejected_by_reason == {"not JSON": 10}
    assert after.per_second == 100
    assert (after.lag, after.delay) == (7, 1.5)
    with pytest.raises(LookupError, match="the one nearest to 9 is 10, and to the earlier one 10"):
        explain(found.log, 9, 8)


def test_after_a_rollback_the_rows_since_are_compared(tmp_path: Path) -> None:
    found = learn(tmp_path, classifier(), *stream(moved))
    log, later = found.log, VERSIONS + 2
    number = rollback(log, 5).number
    head, learner = log.head(), classifier()
    assert head is not None
    state, _ = loop.test_then_train(
        learner,
        loop.load_state(learner, head.tensors),
        [Batch(np.full((30, 3), 9.0), np.zeros(30, np.int32))],
    )
    log.commit(head, flatten(state), metrics=loop.report(learner, state))
    result = explain(log, later, CHANGED)
    assert result.notes == [f"rows are those since version {number}, which is rolled-back"]
    assert result.rows == 30
    assert [each.mean[1] for each in result.columns] == pytest.approx([9, 9, 9])
    assert [each.share[1] for each in sorted(result.classes)] == [1, 0, 0]
    assert result.events == [{"event": "rolled back", "from": VERSIONS, "to": 5, "version": number}]
    assert explain(log, number, CHANGED).rows == 0


def test_what_has_changed_as_often_before_does_not_count(tmp_path: Path) -> None:
    x, y = stream(moved)
    x[:, 2] = np.arange(len(x)) % (2 * ROWS) == 0  # a value in every second version
    found = learn(tmp_path, classifier(), x, y)
    changes = {each.name: each.change for each in explain(found.log, CHANGED + 2, CHANGED + 1).columns}
    assert x[CHANGED * ROWS : (CHANGED + 1) * ROWS, 2].std() > 0
    assert x[(CHANGED + 1) * ROWS : (CHANGED + 2) * ROWS, 2].std() == 0
    assert changes["features[2]"] == 0
    assert explain(found.log, CHANGED + 1, CHANGED).columns[0].name == "features[1]"


def test_values_that_are_kept_apart_count(tmp_path: Path) -> None:
    x, y = stream(lambda x, y: (x, y))
    x[CHANGED * ROWS + 10 :: 100, 0] += 1e5  # too few to replace the column's statistics
    x[CHANGED * ROWS + 1, 2] = 1e30
    found = learn(tmp_path, classifier(), x, y)
    first, second, _ = explain(found.log, CHANGED + 1, CHANGED).columns
    assert (first.name, second.name) == ("features[2]", "features[0]")
    for each, i in ((first, 2), (second, 0)):
        between = found.of(CHANGED, CHANGED + 1)[0][:, i]
        assert (each.mean[1], each.deviation[1]) == pytest.approx((between.mean(), between.std()))


def test_rows_that_several_tasks_have_learned_are_compared(tmp_path: Path) -> None:
    (x, y), learner, log = stream(moved), classifier(), VersionLog(tmp_path)
    state = loop.initial(learner)
    head = log.commit(None, flatten(state), learner=learner.options())
    for rows in np.split(np.arange(len(y)), VERSIONS):
        parts = [
            loop.learn_part(learner, state, [Batch(x[part], y[part])]) for part in (rows[:20], rows[20:])
        ]
        state = loop.combine(learner, state, parts)
        head = log.commit(head, flatten(state), metrics=loop.report(learner, state))
    result = explain(log, VERSIONS, CHANGED)
    between = slice(CHANGED * ROWS, None)
    assert result.columns[0].name == "features[1]"
    for each in result.columns:
        i = int(each.name[-2])
        expected = x[between, i].mean(), x[between, i].std()
        assert (each.mean[1], each.deviation[1]) == pytest.approx(expected, rel=1e-6)
    for one in result.classes:
        assert one.share[1] == pytest.approx((y[between] == "abc".index(one.label)).mean())


def test_versions_of_other_settings_are_not_compared(tmp_path: Path) -> None:
    log, two = VersionLog(tmp_path), MLP(3, classes=(0, 1), hidden=(4,))
    first = MLP(2, classes=(0, 1, 2), hidden=(4,))
    head = log.commit(None, flatten(loop.initial(first)), learner=first.options())
    state = loop.initial(two)
    head = log.commit(head, flatten(state), kind="initial", learner=two.options())
    state, _ = loop.test_then_train(two, state, [Batch(np.ones((30, 3)), np.zeros(30, np.int32))])
    log.commit(head, flatten(state), metrics=loop.report(two, state))
    result = explain(log, 2, 0)
    assert result.versions == (1, 2)
    assert result.notes == ["version 1 is the last that is untrained: 0 is of other settings"]
    assert [each.mean for each in result.columns] == [(None, 1)] * 3
    assert result.between == 1
    with pytest.raises(ValueError, match="must be trained to be explained; got 1, and 1 is untrained"):
        explain(log, 1)


def test_a_long_log_without_rows_is_explained_without_reading_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = learn(tmp_path, classifier(), *(part[: 2 * ROWS] for part in stream(moved)))
    log, head = found.log, found.log.head()
    for _ in range(20):
        assert head is not None
        head = log.commit(head, head.tensors, counts={"received": 0, "trained": 0})
    read, numbers = log.read, list[int]()
    monkeypatch.setattr(log, "read", lambda number: numbers.append(number) or read(number))
    assert explain(log, 22).rows == 0
    assert len(numbers) <= 8


def test_columns_and_classes_that_were_added_are_named(tmp_path: Path) -> None:
    x, y = stream(moved)
    schema = Schema(3, ("a", "b", "c"), FEATURES)
    found = learn(tmp_path, classifier(), x[: CHANGED * ROWS], y[: CHANGED * ROWS], schema)
    head = found.log.head()
    assert head is not None
    growth = ColumnGrowth(3, np.array([0, -1, 1, 2]), np.zeros(4))
    grown = replace(classifier(), inputs=4, classes=("a", "b", "c", "d"))
    state = loop.load_state(classifier(), head.tensors)
    state = loop.grow(grown, loop.grow_inputs(replace(classifier(), inputs=4), state, growth))
    rows = np.insert(x[CHANGED * ROWS :], 1, 1.0, axis=1)
    labels = np.where(np.arange(len(rows)) % 2, 3, y[CHANGED * ROWS :]).astype(np.int32)
    state, _ = loop.test_then_train(grown, state, [Batch(rows, labels)])
    wide = Schema(4, ("a", "b", "c", "d"), ("height", "new", "width", "depth"))
    options = {"learner": grown.options(), "schema": wide.options()}
    found.log.commit(head, flatten(state), metrics=loop.report(grown, state), **options)
    result = explain(found.log, CHANGED + 1)
    assert result.added_columns == ["new"]
    assert result.added_classes == ["d"]
    assert result.columns[0].name == "width"
    assert result.columns[0].mean == pytest.approx((x[: CHANGED * ROWS, 1].mean(), rows[:, 2].mean()))
    assert {each.label: each.share for each in result.classes}["d"] == (0, 0.5)
    assert result.learner["inputs"] == [3, 4]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> VersionLog:
    """The log of a stream with a change."""
    return learn(tmp_path_factory.mktemp("model"), classifier(), *stream(far)).log


def test_versions_that_cannot_be_compared_are_refused_in_a_line(log: VersionLog) -> None:
    for later, earlier in ((5, 5), (5, 9)):
        with pytest.raises(ValueError, match=f"earlier version must be before 5; got {earlier}"):
            explain(log, later, earlier)
    with pytest.raises(LookupError, match="no version 99"):
        explain(log, 99)
    with pytest.raises(LookupError, match="no version 99"):
        explain(log, 5, 99)
    with pytest.raises(LookupError, match="version 0 has no earlier one"):
        explain(log, 0)


def test_it_is_json(log: VersionLog) -> None:
    values = explain(log, VERSIONS).to_json()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["batches"][1]["counts"]["trained"] == values["rows"]
    assert len(explain(log, VERSIONS, CHANGED, most=2).columns) == 2
