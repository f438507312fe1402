"""Why a version is worse than an earlier one: what has changed between the two.

The earlier state's statistics and the later one's give those of the rows that were learned between them:
docs/arithmetic.md, "Merges", *task's part*. Each change is ranked by how much of it chance does not explain:
its size less two standard errors; of a column, also less its largest change in up to five stretches of as
many versions before, since values may be rare or follow each other.

| of | size |
|---|---|
| a mean | the difference in the earlier one's deviations (Cohen 1988, d) |
| a deviation | the logarithm of the ratio |
| a share: of rows with a value, of a class, recall | the difference of 2 arcsin √ share (Cohen 1988, h) |
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from math import asin, hypot, sqrt
from math import log as natural_log
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.errors import DamagedVersionError
from streaming_nn.nn import metrics, moments, multioutput
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.figures import leading
from streaming_nn.nn.learner import Learner, State, load_state
from streaming_nn.nn.metrics import ClassCounts, TargetSums
from streaming_nn.nn.moments import Moments
from streaming_nn.nn.multioutput import MultiMetrics
from streaming_nn.records.schema import schema_from
from streaming_nn.versions.diff import changes
from streaming_nn.versions.version import Manifest, Version, no_counts
from streaming_nn.versions.version_log import VersionLog

SPAN = 1_000  # kept versions among which an earlier one is chosen, and versions that are summed up before it
LOST = 0.25  # of what was lost since the best of them, at most, by the chosen one
STRETCHES = 5  # before the earlier version, in which columns have changed as they usually do
ERRORS = 2.0  # standard errors that chance may explain
ROUNDING = 1e-14  # of all rows' squares; less of the rows between is what the difference was rounded by
MOST = 1e9  # a change beyond it is as large

Floats = NDArray[np.float64]
Pair = tuple[float | None, float | None]  # before, and of the rows between; None: undefined


class ColumnChange(NamedTuple):
    """A column, in all rows until the earlier version and in those between."""

    name: str
    mean: Pair
    deviation: Pair
    # Share of the rows with a value, of "sparse" one that is not 0; None where every row must have one
    present: Pair
    shift: float | None  # of the mean, in deviations until the earlier version; None: there are none
    change: float  # by which columns are ranked


class ClassChange(NamedTuple):
    """A class or label, in the window of the earlier version and in the rows between."""

    label: Any
    share: Pair
    recall: Pair  # prequential
    mistaken_for: Any  # most frequent wrong prediction of the rows between; None: unknown, or there is none
    change: float


class TargetChange(NamedTuple):
    """A target, in the window of the earlier version and in the rows between."""

    name: str | None  # None: it is the only one
    mean: Pair
    deviation: Pair
    shift: float | None  # of the mean, in the earlier deviations
    mae: Pair  # prequential
    change: float


class MemberChange(NamedTuple):
    """A member of an ensemble, at both versions."""

    member: str
    weight: tuple[float, float]
    restarts: tuple[int, int]


class Batches(NamedTuple):
    """What the manifests of consecutive versions sum up to."""

    versions: int
    counts: dict[str, int]
    rejected_by_reason: dict[str, int]
    seconds: dict[str, float]  # by step of a micro-batch
    per_second: float | None  # records received per second of the step "learn"
    lag: int | None  # the largest, in offsets
    delay: float | None  # the largest from a record to its version, in seconds


class Explanation(NamedTuple):
    """What changed between two versions. Pairs are (earlier, later) unless they are described otherwise."""

    versions: tuple[int, int]
    notes: list[str]  # how the versions were chosen, and what is missing, in sentences
    written_at: tuple[str, str]
    metric: str  # the leading one: accuracy, subset_accuracy or mae
    figures: dict[str, Pair]  # "prequential", "as_served" and the baselines: the metric in the window
    between: float | None  # the prequential metric in the rows between
    rows: int  # learned between, or since a rollback or a repair that lies between
    columns: list[ColumnChange]  # those that changed most
    added_columns: list[str]
    removed_columns: list[str]
    classes: list[ClassChange]  # those that changed most
    added_classes: list[Any]
    targets: list[TargetChange]  # those that changed most
    members: list[MemberChange]
    leaders: tuple[str, str] | None  # the members of most weight
    mini_batch: tuple[int | None, int | None]
    learner: dict[str, list[Any]]  # options that differ, as `versions diff` has them
    schema: dict[str, list[Any]]
    batches: tuple[Batches, Batches]  # as many versions up to the earlier one, and those after it
    events: list[dict[str, Any]]  # of the earlier version and of those after it, each with its `version`

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        values: dict[str, Any] = _plain(self)
        return values


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def explain(log: VersionLog, later: int, earlier: int | None = None, most: int = 10) -> Explanation:
    """Return what changed between two versions; of columns, classes and targets the `most` changed ones.

    `earlier` None: the newest that had lost at most a quarter of what the later one has lost, since the best
    of the 1,000 versions that are kept before it; where nothing was lost, the nearest one before it. Of a
    pruned version the nearest kept one is taken. The earlier version's own events are among the events: when
    a drift is detected little is lost yet, so that version is the one to compare with. Errors: LookupError:
    there is no such version, or none is kept; ValueError: the earlier one is not before the later one;
    DamagedVersionError: one is damaged.
    """
    notes = list[str]()
    requested = later
    for number in (later,) if earlier is None else (later, earlier):
        log.manifest(number)
    if earlier is not None and earlier >= later:
        raise ValueError(f"the earlier version must be before {later}; got {earlier}")
    later, untrained = _kept(log, later, notes), log.initial_number()
    if 0 < later <= untrained:
        raise ValueError(
            f"versions must be trained to be explained; got {later}, and {untrained} is untrained"
        )
    earlier = _choose(log, later, notes) if earlier is None else _kept(log, earlier, notes)
    if earlier >= later:
        raise LookupError(
            f"no version is kept between which to compare: the one nearest to {requested} is {later}, "
            f"and to the earlier one {earlier}"
        )
    if earlier < untrained:
        notes.append(f"version {untrained} is the last that is untrained: {earlier} is of other settings")
        earlier = untrained
    return _explain(log, log.read(earlier), log.read(later), notes, most)


def _kept(log: VersionLog, number: int, notes: list[str]) -> int:
    """Return the kept version that is nearest to a number, of two the earlier."""
    if log.manifest(number).kept:
        return number
    near = log.readable(sorted(log.files(), key=lambda n: (abs(n - number), n)))
    kept = (manifest for manifest in near if manifest.kept)
    nearest = next(kept, None)
    if nearest is None:
        raise LookupError(f"no version of {log.directory} is kept")
    notes.append(f"version {number} was pruned; {nearest.number} is the nearest that is kept")
    return nearest.number


def _choose(log: VersionLog, later: int, notes: list[str]) -> int:
    """Return the version to compare with: see `explain`."""
    window = _window(log.manifest(later))
    metric, better = next(iter(leading(window).items()))
    now, found = window.get(metric), dict[int, float]()
    earlier = log.readable(n for n in reversed(log.files()) if n < later)
    before = list(islice((manifest for manifest in earlier if manifest.kept), SPAN))
    if not before:
        raise LookupError(f"version {later} has no earlier one that is kept, to compare with")
    for manifest in before:
        value = _window(manifest).get(metric)
        if value is not None:
            found[manifest.number] = value
    if now is not None and found:
        best = better(found.values())
        if better(now, best) != now:
            enough = best + LOST * (now - best)
            chosen = next(number for number, value in found.items() if better(value, enough) == value)
            least = f"within a quarter of what was lost from the best, {best:.4g}, to {now:.4g}"
            notes.append(f"version {chosen} is the newest whose {metric} was {least}")
            return chosen
    notes.append(f"version {before[0].number} is the nearest that is kept before it")
    return before[0].number


def _window(manifest: Manifest, who: str = "prequential") -> dict[str, Any]:
    found: dict[str, Any] = manifest.metrics.get(who, {}).get("window", {})
    return found


class _Model(NamedTuple):
    """A version's state, and the names of what it has."""

    learner: Learner[Any]
    state: State[Any]
    columns: tuple[str, ...]

    @property
    def has_gaps(self) -> bool:
        """Whether a row may lack values that count."""
        return self.learner.missing != "refuse" or getattr(self.learner, "scale", None) == "sparse"


def _load(version: Version) -> _Model:
    learner = learner_from(version.manifest.learner)
    state = load_state(learner, version.tensors)
    columns: tuple[str, ...] = ()
    if version.manifest.schema:
        columns = schema_from(version.manifest.schema).input_columns
    if len(columns) != learner.inputs:
        columns = tuple(f"features[{i}]" for i in range(learner.inputs))
    return _Model(learner, state, columns)


def _explain(log: VersionLog, a: Version, b: Version, notes: list[str], most: int) -> Explanation:
    start, end = a.number, b.number
    manifests = [*log.readable(range(start + 1, end + 1))]
    if len(manifests) < end - start:
        notes.append(f"{end - start - len(manifests)} versions between cannot be read")
    replaced = [m for m in manifests if m.restored_from >= 0]
    base = a
    if replaced:  # the later model has not learned all that lies between
        base = log.read(replaced[-1].number)
        notes.append(f"rows are those since version {base.number}, which is {base.manifest.kind}")
    before, now = _load(a), _load(b)
    since = before if base is a else _load(base)
    rows = max(0, int(now.state.model.learned - since.state.model.learned))
    columns, added, removed = _columns(before, since, now, rows, _stretches(log, start, end - start))
    outputs = [*_outputs(before, since, now)]
    of_classes = [change for change in outputs if isinstance(change, ClassChange)]
    of_targets = [change for change in outputs if isinstance(change, TargetChange)]
    members = _members(a.manifest, b.manifest)
    metric = next(iter(leading(_window(b.manifest))))
    until = [*log.readable(range(max(0, start + 1 - min(len(manifests), SPAN)), start + 1))]
    return Explanation(
        (start, end),
        notes,
        (a.manifest.written_at, b.manifest.written_at),
        metric,
        dict(_figures(a.manifest, b.manifest, metric)),
        _between(before, since, now),
        rows,
        _first(columns, most),
        added,
        removed,
        _first(of_classes, most),
        [label for label in now.learner.classes or () if label not in (before.learner.classes or ())],
        _first(of_targets, most),
        members,
        None if not members else (_leader(members, 0), _leader(members, 1)),
        (a.manifest.learner.get("mini_batch"), b.manifest.learner.get("mini_batch")),
        changes(a.manifest.learner, b.manifest.learner),
        changes(a.manifest.schema, b.manifest.schema),
        (_sums(until), _sums(manifests)),
        [{**event, "version": m.number} for m in [a.manifest, *manifests] for event in m.events],
    )


def _first(changed: Sequence[Any], most: int) -> list[Any]:
    return sorted(changed, key=lambda each: -each.change)[:most]


def _figures(a: Manifest, b: Manifest, metric: str) -> Iterator[tuple[str, Pair]]:
    for who in ("prequential", "as_served"):
        yield who, (_window(a, who).get(metric), _window(b, who).get(metric))
    baselines = [m.metrics.get("baselines", {}) for m in (a, b)]
    for name in baselines[1]:
        windows = [each.get(name, {}).get("window", {}) for each in baselines]
        yield name, (windows[0].get(metric), windows[1].get(metric))


def _members(a: Manifest, b: Manifest) -> list[MemberChange]:
    """Return the members that both versions have, in their order."""
    pairs = zip(a.metrics.get("members", ()), b.metrics.get("members", ()), strict=False)
    return [
        MemberChange(y["member"], (x["weight"], y["weight"]), (x["restarts"], y["restarts"]))
        for x, y in pairs
    ]


def _leader(members: list[MemberChange], when: int) -> str:
    return max(members, key=lambda each: each.weight[when]).member


def _sums(manifests: list[Manifest]) -> Batches:
    counts, reasons, seconds = Counter(no_counts()), Counter[str](), Counter[str]()
    for manifest in manifests:
        counts.update(manifest.counts)
        reasons.update(manifest.rejected_by_reason)
        for step, took in manifest.seconds.items():
            seconds[step] += took  # type: ignore[assignment]  # a Counter may hold floats
    learned = seconds.get("learn", 0)
    rate = counts["received"] / learned if learned else None
    lag = max((m.lag for m in manifests if m.lag is not None), default=None)
    delay = max((m.delay for m in manifests if m.delay is not None), default=None)
    return Batches(len(manifests), dict(counts), dict(reasons), dict(seconds), rate, lag, delay)


class _Stretch(NamedTuple):
    """What was learned between two versions."""

    moments: Moments  # (columns,)
    rows: int


def _stretches(log: VersionLog, end: int, versions: int) -> list[_Stretch]:
    """Return the stretches of at least so many versions that end one after the other, the last with `end`."""
    first, found = log.initial_number(), list[_Stretch]()
    with suppress(DamagedVersionError, LookupError):
        now = log.read(end).tensors
        for _ in range(STRETCHES):
            if end - versions < first:
                break
            end = log.nearest_kept(end - versions)
            before, later = log.read(end).tensors, now
            now = before
            if before["model.clusters"].shape != later["model.clusters"].shape:
                break
            rows = int(later["model.learned"] - before["model.learned"])
            with np.errstate(all="ignore"):
                learned = moments.added(later["model.clusters"], before["model.clusters"])
            if rows > 0:  # there are none where all were rejected, and across a rollback
                found.append(_Stretch(learned, rows))
    return found


def _columns(
    before: _Model, since: _Model, now: _Model, rows: int, usual: list[_Stretch]
) -> tuple[list[ColumnChange], list[str], list[str]]:
    """Return the changes of the columns that were there before, and the names of added and removed ones."""
    at_before, at_since = _match(before, now), _match(since, now)
    common = np.flatnonzero(at_before >= 0)
    learned = int(before.state.model.learned)
    start = np.where(at_since >= 0, since.state.model.clusters[:, at_since], 0.0)[:, common]
    first = before.state.model.clusters[:, at_before[common]]
    with np.errstate(all="ignore"):  # what is not finite becomes None
        old = moments.added(first, np.zeros_like(first))
        clusters = now.state.model.clusters[:, common]
        new = moments.added(clusters, start)
        new = new._replace(m2=np.where(new.m2 > ROUNDING * clusters[2], new.m2, 0.0))
    columns = list[ColumnChange]()
    for i, *values in zip(common.tolist(), *old, *new, strict=True):
        a, b = _Statistics.of(*values[:3]), _Statistics.of(*values[3:])
        shift, present, change = _compare_column(a, b, learned, rows, now.has_gaps)
        earlier = [
            _compare_column(a, _Statistics.of(*each), learned, stretch.rows, now.has_gaps)[2]
            for stretch in usual
            for each in [[part[at_before[i]] for part in stretch.moments]]
        ]
        change = max(0.0, change - max(earlier, default=0.0))
        mean, deviation = (a.mean, b.mean), (a.deviation, b.deviation)
        columns.append(ColumnChange(now.columns[i], mean, deviation, present, shift, change))
    added = [name for name, at in zip(now.columns, at_before, strict=True) if at < 0]
    removed = sorted({*range(len(before.columns))} - {*at_before.tolist()})
    return columns, added, [before.columns[i] for i in removed]


def _match(earlier: _Model, now: _Model) -> NDArray[np.intp]:
    """Return where the earlier model has each column of a later one; -1: it lacks it.

    Until columns are added, they are matched by position: one for values not seen yet gets its name later.
    """
    if len(earlier.columns) == len(now.columns):
        return np.arange(len(now.columns))
    positions = {name: i for i, name in enumerate(earlier.columns)}
    return np.array([positions.get(name, -1) for name in now.columns], np.intp)


class _Statistics(NamedTuple):
    rows: float
    mean: float | None  # None: there is no row, or it is not finite
    deviation: float | None

    @classmethod
    def of(cls, rows: float, mean: float, m2: float) -> "_Statistics":
        deviation = sqrt(max(float(m2), 0.0) / rows) if rows else None
        return cls(float(rows), _finite(mean) if rows else None, _finite(deviation))


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _compare_column(
    a: _Statistics, b: _Statistics, rows_before: int, rows: int, has_gaps: bool
) -> tuple[float | None, Pair, float]:
    """Return the shift of the mean, the shares of rows with a value, and the largest change."""
    shift, change = _compare(a, b)
    present = (_share(a.rows, rows_before), _share(b.rows, rows)) if has_gaps else (None, None)
    return shift, present, max(change, _share_change(present, rows_before, rows))


def _compare(a: _Statistics, b: _Statistics) -> tuple[float | None, float]:
    """Return the shift of the mean in the first's deviations, and the larger change of mean and deviation."""
    if not a.rows or not b.rows:
        return None, 0.0
    if a.mean is None or b.mean is None or a.deviation is None or b.deviation is None:
        return None, MOST if b.deviation is None else 0.0  # it is more than a float holds
    # What was constant has no deviation: its change is measured in that of all rows
    part = b.rows / (a.rows + b.rows)
    moved = b.mean - a.mean
    unit = a.deviation or hypot(b.deviation * sqrt(part), moved * sqrt(part * (1 - part)))
    if not unit:
        return None, 0.0
    error = sqrt(1 / a.rows + 1 / b.rows)
    change = _beyond(moved / unit, error)
    if a.deviation:  # one row of the first's deviation more, so that a constant's logarithm is finite
        spread = hypot(b.deviation / unit * sqrt(b.rows), 1.0) / sqrt(b.rows + 1)
        change = max(change, _beyond(natural_log(min(spread, MOST)), error / sqrt(2)))
    return (_finite(moved / a.deviation) if a.deviation else None), change


def _beyond(size: float, error: float) -> float:
    return min(max(0.0, abs(size) - ERRORS * error), MOST)


def _share(part: float, rows: float) -> float | None:
    return min(1.0, float(part) / rows) if rows > 0 else None


def _share_change(shares: Pair, rows_before: float, rows: float) -> float:
    a, b = shares
    if a is None or b is None:
        return 0.0
    return _beyond(2 * (asin(sqrt(b)) - asin(sqrt(a))), sqrt(1 / rows_before + 1 / rows))


def _counts(before: _Model, since: _Model, now: _Model) -> Iterator[tuple[Any, Any]]:
    """Yield what was counted of each target or label, or of all classes: before, and in the rows between."""
    if since.state.metrics.__class__ is not now.state.metrics.__class__ or not _rows_between(since, now):
        return
    states = [each.state.metrics for each in (before, since, now)]
    if now.learner.classes is not None:
        states = [multioutput.grow(each, len(now.learner.classes)) for each in states]
    for a, b, c in zip(*map(multioutput.singles, states), strict=True):
        yield metrics.recent(a), metrics.since(c.cumulative, b.cumulative, 1.0)


def _rows_between(since: _Model, now: _Model) -> int:
    rows = [int(multioutput.singles(each.state.metrics)[0].rows) for each in (since, now)]
    return max(0, rows[1] - rows[0])


def _outputs(before: _Model, since: _Model, now: _Model) -> Iterator[ClassChange | TargetChange]:
    names: Sequence[Any] = now.learner.classes or now.learner.targets or (None,)
    counts = [*_counts(before, since, now)]
    if now.learner.classes is None:
        for name, (old, new) in zip(names, counts, strict=False):
            yield _target(name, old, new)
    elif isinstance(now.state.metrics, MultiMetrics):
        for name, (old, new) in zip(names, counts, strict=False):
            yield _class(name, old, new, 1, None)
    else:
        for old, new in counts:
            for i, name in enumerate(names):
                yield _class(name, old, new, i, names)


def _class(
    label: Any, old: ClassCounts, new: ClassCounts, i: int, names: Sequence[Any] | None
) -> ClassChange:
    (before, rows), (all_before, all_rows) = (
        [float(counts.actual[i]) for counts in (old, new)],
        [float(counts.actual.sum()) for counts in (old, new)],
    )
    share = _share(before, all_before), _share(rows, all_rows)
    recall = _share(old.correct[0, i], before), _share(new.correct[0, i], rows)
    mistaken = None
    if names is not None and new.confusion.size:
        wrong = np.where(np.arange(len(names)) == i, 0.0, new.confusion[0, i])
        mistaken = names[int(wrong.argmax())] if wrong.any() else None
    change = max(_share_change(share, all_before, all_rows), _share_change(recall, before, rows))
    return ClassChange(label, share, recall, mistaken, change)


def _target(name: str | None, old: TargetSums, new: TargetSums) -> TargetChange:
    a, b = (_Statistics.of(float(s.weight), float(s.mean), float(s.m2)) for s in (old, new))
    shift, change = _compare(a, b)
    mae = tuple(metrics.errors(sums, 0)["mae"] for sums in (old, new))
    return TargetChange(name, (a.mean, b.mean), (a.deviation, b.deviation), shift, (mae[0], mae[1]), change)


def _between(before: _Model, since: _Model, now: _Model) -> float | None:
    """Return the leading prequential metric in the rows between."""
    measured: Any = now.state.metrics
    if isinstance(measured, MultiMetrics) and measured.exact:
        earlier: Any = since.state.metrics
        exact: Any = metrics.since(measured.exact.cumulative, earlier.exact.cumulative, 1.0)
        return _share(exact.correct[0], float(exact.actual[0]))
    counts = [new for _, new in _counts(before, since, now)]
    if not counts:
        return None
    if now.learner.classes is None:
        return float(np.mean([float(sums.absolute[0] / sums.weight) for sums in counts]))
    return _share(counts[0].correct[0].sum(), float(counts[0].actual.sum()))
