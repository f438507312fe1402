"""`streaming-nn versions`: list, compare, explain, tag, roll back, prune, check and repair versions."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_nn.cli.options import Config, Json, Model, load_settings
from streaming_nn.cli.progress import progress
from streaming_nn.errors import DamagedVersionError
from streaming_nn.nn.figures import leading

if TYPE_CHECKING:  # imported where they are needed, as in options.py
    from rich.table import Table

    from streaming_nn.explain import Batches, Explanation
    from streaming_nn.settings import Settings
    from streaming_nn.versions.repair import Finding, Repair
    from streaming_nn.versions.version import Manifest
    from streaming_nn.versions.version_log import VersionLog

logger = logging.getLogger(__name__)

app = typer.Typer(
    help="List, compare, explain, tag, roll back, prune, check and repair versions.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="A number, a tag, or head.")]

RUN = "versions"  # the run of a version that these commands write
UNREADABLE = "unreadable"  # the kind of a version whose file is damaged or missing
WIDTH = 160  # columns without a terminal: a name that is cut off is of no use in a file
SHOWN_CHANGE = 0.1  # of a column or class
SHOWN_NAMES = 10  # of what was added
SHOWN_EVENTS = 20  # the newest
SHOWN_WEIGHT = 0.05  # change of a member's weight
# The metrics that a table shows; --json has all of them
SHOWN = re.compile(
    r"(prequential|as_served)\.window\.(accuracy|f1_macro|roc_auc|average_precision|mcc|log_loss|mae|rmse|r2"
    r"|subset_accuracy|hamming_loss|f1_micro)|baselines\.\w+\.window\.(accuracy|mae|subset_accuracy)|rows"
)


def _log(config: Path | None, model: Path | None) -> "VersionLog":
    from streaming_nn.versions.version_log import VersionLog

    directory = load_settings(config, None, model=model).model
    log = VersionLog(directory, run=RUN)
    if log.last() < 0:  # head_number() is None if version 0 is missing, which `repair` fixes
        raise LookupError(f"model {directory}: there is no version yet")
    return log


@app.command("list")
def list_(
    config: Config = None,
    model: Model = None,
    last: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 20,
    as_json: Json = False,
) -> None:
    """List the newest versions."""
    from streaming_nn.versions.tags import tags

    log = _log(config, model)
    head = log.last()  # not head_number(): what is behind a gap must be listed
    tags_of: dict[int, list[str]] = {}
    for name, number in tags(log).items():
        tags_of.setdefault(number, []).append(name)
    rows = [_row(log, n, tags_of.get(n, [])) for n in range(max(head - last + 1, 0), head + 1)]
    if as_json:
        print(json.dumps(rows))
    else:
        titles = max((list(row) for row in reversed(rows)), key=len)  # the first version has no metrics
        _print(_table(titles, [[_text(row.get(title)) for title in titles] for row in rows]))
    if unreadable := [row["version"] for row in rows if row["kind"] == UNREADABLE]:
        raise DamagedVersionError(
            f"cannot read {_versions(unreadable)} of {log.directory}; run `versions check` for the reason"
        )


def _row(log: "VersionLog", number: int, tag_names: list[str]) -> dict[str, Any]:
    try:
        manifest = log.manifest(number)
    except (DamagedVersionError, LookupError):
        return {"version": number, "kind": UNREADABLE, "kept": False, "tags": tag_names}
    prequential = manifest.metrics.get("prequential", {}).get("window", {})
    as_served = manifest.metrics.get("as_served", {}).get("window", {})
    metric = next(iter(leading(prequential)))
    return {
        "version": manifest.number,
        "kind": manifest.kind,
        "written": manifest.written_at[5:19].replace("T", " "),
        "trained": manifest.counts["trained"],
        "rejected": manifest.counts["rejected"],
        metric: prequential.get(metric),
        "as_served": as_served.get(metric),
        "kept": manifest.kept,
        "tags": tag_names,
    }


@app.command()
def show(name: Name = "head", config: Config = None, model: Model = None, as_json: Json = False) -> None:
    """Show a version: what it learned, from where, and how well it predicts."""
    from streaming_nn.versions.tags import find

    log = _log(config, model)
    manifest = log.manifest(find(log, name))
    if as_json:
        print(json.dumps(manifest.to_json(), indent=2))
        return
    _print(_table(("", f"version {manifest.number}"), list(_describe(manifest, log)), title=False))


def _describe(manifest: "Manifest", log: "VersionLog") -> Iterator[tuple[str, str]]:
    from streaming_nn.versions.diff import flat
    from streaming_nn.versions.tags import tags

    tag_names = [tag for tag, number in tags(log).items() if number == manifest.number]
    by, ranges = manifest.written_by, manifest.ranges
    yield "version", f"{manifest.number}, {manifest.kind}" + ("" if manifest.kept else ", pruned")
    if manifest.restored_from >= 0:
        yield "restored from", f"version {manifest.restored_from}"
    if tag_names:
        yield "tags", ", ".join(tag_names)
    yield (
        "written",
        f"{manifest.written_at} by host {by.get('host')}, process {by.get('pid')}, run {by.get('run')}",
    )
    yield "arithmetic", f"{manifest.arithmetic}, of {manifest.releases}"
    yield "learner", _pairs({name: value for name, value in manifest.learner.items() if name != "members"})
    yield from _members(manifest)
    yield "schema", _pairs(manifest.schema)
    for topic, partitions in manifest.offsets.items():
        batch = {p: ranges.get(topic, {}).get(p) for p in partitions}
        spans = {p: f"{r[0]} to {r[1]}" if r else str(partitions[p]) for p, r in batch.items()}
        yield f"offsets of {topic}", _pairs(spans)
    yield "counts", _pairs(manifest.counts)
    if manifest.rejected_by_reason:
        yield "rejected by reason", _pairs(manifest.rejected_by_reason)
    for path, value in flat(manifest.metrics).items():
        if SHOWN.fullmatch(path) and value is not None:
            yield path, _text(value)
    if manifest.seconds:
        yield "seconds", _pairs(manifest.seconds)
    for event in manifest.events:
        yield "event", json.dumps(event)
    yield "digest", manifest.digest


def _members(manifest: "Manifest") -> Iterator[tuple[str, str]]:
    """Yield what all members of an ensemble have in common, then what each has of its own, and its weight."""
    members, figures = manifest.learner.get("members", []), manifest.metrics.get("members", [])
    if members:
        shared = {
            key: value for key, value in members[0].items() if all(m.get(key) == value for m in members)
        }
        yield "members", f"{len(members)}, each with {_pairs(shared)}"
        members = [{key: value for key, value in m.items() if key not in shared} for m in members]
    pairs: Any = zip_longest(members, figures, fillvalue={})
    for i, (own, measured) in enumerate(pairs):
        title = f"member {i}, {measured['member']}" if measured else f"member {i}"
        yield title, _pairs({**own, **{key: value for key, value in measured.items() if key != "member"}})


def _pairs(values: Mapping[Any, Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in values.items() if value is not None)


@app.command("diff")
def diff_(a: Name, b: Name, config: Config = None, model: Model = None, as_json: Json = False) -> None:
    """Compare two versions: their options, metrics and weights."""
    from streaming_nn.versions.diff import diff
    from streaming_nn.versions.tags import find

    log = _log(config, model)
    difference = diff(log, find(log, a), find(log, b))
    if as_json:
        print(json.dumps(difference, indent=2))
        return
    x, y = difference["versions"]
    print(f"versions {x} and {y}: " + ("identical" if difference["identical"] else "different"))
    _print(_table(("", str(x), str(y), "change"), list(_changes(difference))))
    if difference["tensors"] and not difference["identical"]:
        _print(_table(("tensor", "distance", "relative", "largest"), list(_distances(difference["tensors"]))))
    elif difference["pruned"]:
        has = "has" if len(difference["pruned"]) == 1 else "have"
        print(f"{_versions(difference['pruned'])} {has} no tensors, so their weights cannot be compared")
    print("for every metric and tensor: --json")


def _changes(difference: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield what differs, one row each; of the metrics only the most important ones."""
    yield "kind", *difference["kinds"], ""
    yield "written", *(str(at)[:19] for at in difference["written_at"]), ""
    for section in ("learner", "schema", "environment"):
        for key, pair in difference[section].items():
            yield f"{section}.{key}", *map(_text, pair), ""
    for topic, partitions in difference["offsets"].items():
        for partition, pair in partitions.items():
            yield f"offset of {topic}, partition {partition}", *map(_text, pair), _change(*pair)
    for key, pair in difference["metrics"].items():
        if SHOWN.fullmatch(key):
            yield key, *map(_text, pair), _change(*pair)


@app.command("explain")
def explain_(
    later: Annotated[str, typer.Argument(metavar="LATER", help="A number, a tag, or head.")],
    earlier: Annotated[
        str | None,
        typer.Argument(metavar="EARLIER", help="Default: the newest before it that was still good."),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Columns, classes and targets, at most of each.")] = 5,
    config: Config = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Explain why a version is worse than an earlier one: what changed between them."""
    from streaming_nn.explain import explain
    from streaming_nn.versions.tags import find

    log = _log(config, model)
    found = explain(log, find(log, later), None if earlier is None else find(log, earlier), most)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
        return
    for note in found.notes:
        print(note)
    _print(_table(("", *map(str, found.versions), "change"), list(_explained(found))))
    if earlier_events := len(found.events[:-SHOWN_EVENTS]):
        print(f"{earlier_events:,} earlier events: --json")
    for event in found.events[-SHOWN_EVENTS:]:
        print(f"version {event.pop('version')}: {json.dumps(event)}")


def _explained(found: "Explanation") -> Iterator[tuple[str, ...]]:
    """Yield what changed, one row each; of columns and classes what chance does not explain."""
    yield "written", *(at[:19].replace("T", " ") for at in found.written_at), ""
    for who, values in found.figures.items():
        yield _pair(f"{found.metric} of the window, {who}", values)
    yield _pair(f"{found.metric} of the {found.rows:,} rows between", (None, found.between), "")
    columns = [column for column in found.columns if column.change >= SHOWN_CHANGE]
    classes = [one for one in found.classes if one.change >= SHOWN_CHANGE]
    for column in columns:
        yield _pair(f"column {column.name}: mean", column.mean, _shift(column.shift))
        yield _pair(f"column {column.name}: deviation", column.deviation, _ratio(*column.deviation))
        if column.present[0] != column.present[1]:
            yield _pair(f"column {column.name}: share with a value", column.present)
    for one in classes:
        yield _pair(f"class {one.label}: share", one.share)
        mistaken = "" if one.mistaken_for is None else f", mistaken for {one.mistaken_for}"
        yield _pair(f"class {one.label}: recall", one.recall, _change(*one.recall) + mistaken)
    for title, all_of_them, changed in (
        ("columns", found.columns, columns),
        ("classes", found.classes, classes),
    ):
        if all_of_them and not changed:
            yield title, "", "", "none beyond chance"
    for target in found.targets:
        name = "target" if target.name is None else f"target {target.name}"
        yield _pair(f"{name}: mean", target.mean, _shift(target.shift))
        yield _pair(f"{name}: deviation", target.deviation, _ratio(*target.deviation))
        yield _pair(f"{name}: mae", target.mae)
    for title, names in (
        ("added columns", found.added_columns),
        ("removed columns", found.removed_columns),
        ("added classes", found.added_classes),
    ):
        if names:
            more = ", …" if len(names) > SHOWN_NAMES else ""
            yield title, "", str(len(names)), _text(names[:SHOWN_NAMES]) + more
    if found.leaders and found.leaders[0] != found.leaders[1]:
        yield _pair("member of most weight", found.leaders)
    for member in found.members:
        if abs(member.weight[1] - member.weight[0]) >= SHOWN_WEIGHT:
            yield _pair(f"weight of {member.member}", member.weight)
    for key, options in (found.learner | found.schema).items():
        yield _pair(key, options, "")
    yield from _explained_batches(*found.batches)


def _explained_batches(before: "Batches", after: "Batches") -> Iterator[tuple[str, ...]]:
    yield _pair("versions until the first, and since", (before.versions, after.versions), "")
    for name in before.counts:
        values = (before.counts[name], after.counts[name])
        if any(values):
            yield _pair(f"records {name}", values)
    for reason in sorted({*before.rejected_by_reason, *after.rejected_by_reason}):
        yield _pair(
            f"rejected: {reason}", [each.rejected_by_reason.get(reason, 0) for each in (before, after)]
        )
    if before.per_second and after.per_second:
        rates = (round(before.per_second), round(after.per_second))
        yield _pair("records per second of learning", rates, _ratio(*rates))
    for title, of_both in (
        ("largest lag, records", (before.lag, after.lag)),
        ("seconds from a record to its version", (before.delay, after.delay)),
    ):
        if any(of_both):
            yield _pair(title, of_both)


def _pair(title: str, values: Any, change: str | None = None) -> tuple[str, ...]:
    return title, *map(_text, values), _change(*values) if change is None else change


def _shift(deviations: float | None) -> str:
    return "" if deviations is None else f"{deviations:+.2f} deviations"


def _ratio(a: float | None, b: float | None) -> str:
    return f"× {b / a:.3g}" if a and b is not None else ""


def _change(a: Any, b: Any) -> str:
    if isinstance(a, float) and isinstance(b, float):
        return f"{b - a:+.3f}"
    return f"{b - a:+,}" if isinstance(a, int) and isinstance(b, int) else ""


def _distances(tensors: dict[str, dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for name, values in tensors.items():
        if name.startswith("model."):
            distances = (values[key] for key in ("distance", "relative", "largest"))
            yield name, *("–" if value is None else f"{value:.3g}" for value in distances)


@app.command("tag")
def tag_(
    tag_name: Annotated[str | None, typer.Argument(metavar="TAG", help="Omit it to list all tags.")] = None,
    name: Name = "head",
    delete: Annotated[bool, typer.Option("--delete", help="Delete the tag.")] = False,
    config: Config = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Tag a version, or list the tags; a tagged version is never pruned."""
    from streaming_nn.versions.tags import find, tag, tags, untag

    log = _log(config, model)
    if tag_name is not None and delete:
        untag(log, tag_name)
    elif tag_name is not None and (settings := load_settings(config, None, model=model)).metrics.mlflow:
        number = find(log, name)
        register = _registering(settings, log, number, tag_name)
        tag(log, tag_name, number)
        logger.info("registered at %s", register())
    elif tag_name is not None:
        tag(log, tag_name, find(log, name))
    numbers = tags(log)
    if as_json:
        print(json.dumps(numbers))
        return
    for each, number in numbers.items():
        if tag_name in (None, each):
            print(f"{each}: version {number}")


def _registering(settings: "Settings", log: "VersionLog", number: int, tag_name: str) -> Callable[[], str]:
    """Return what registers a version in MLflow; all that can fail without the server is done before."""
    from streaming_nn.sinks.mlflow import Run
    from streaming_nn.sinks.mlflow_registry import alias_of, connect, register

    alias, client = alias_of(tag_name), connect(settings.metrics.mlflow)
    from streaming_nn.export.onnx import to_onnx  # MLflow's extra has onnx
    from streaming_nn.model import load

    run = Run(settings.metrics.mlflow, settings.metrics.experiment, log.directory)
    proto = to_onnx(*load(log.directory, number))

    def finish() -> str:
        registered = register(client, run, log.manifest(number), proto, alias)
        return f"{run.uri}: {run.experiment}, version {registered}, alias {alias}"

    return finish


@app.command("rollback")
def rollback_(name: Name, config: Config = None, model: Model = None, as_json: Json = False) -> None:
    """Commit a version with an older one's model and the head's offsets; a running trainer adopts it."""
    from streaming_nn.versions.rollback import rollback
    from streaming_nn.versions.tags import find

    log = _log(config, model)
    manifest = rollback(log, find(log, name)).manifest
    if as_json:
        print(json.dumps({"version": manifest.number, "restored_from": manifest.restored_from}))
        return
    print(f"version {manifest.number} has the model of version {manifest.restored_from}")


@app.command("prune")
def prune_(
    keep: Annotated[
        str | None, typer.Option(help="Size of what stays, such as '2 GB'; default: train.keep_bytes.")
    ] = None,
    config: Config = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Delete older versions as a trainer does; their manifests stay, and tagged versions."""
    from streaming_nn.versions.retention import prune

    log = _log(config, model)
    keep_bytes = load_settings(config, None, train={"keep_bytes": keep}).train.keep_bytes
    with progress() as show_progress:
        pruned = [] if keep_bytes is None else prune(log, keep_bytes, show_progress)
    print(json.dumps({"pruned": pruned}) if as_json else f"pruned {_versions(pruned)}")


@app.command("check")
def check_(config: Config = None, model: Model = None, as_json: Json = False) -> None:
    """Read every version and report the damaged ones; exit code 1 if there are any."""
    from streaming_nn.versions.repair import check

    log = _log(config, model)
    with progress() as show_progress:
        findings = check(log, progress=show_progress)
    if as_json:
        print(json.dumps({"ok": not findings, "findings": [finding._asdict() for finding in findings]}))
    else:
        for line in _report_check(log, findings):
            print(line)
    raise typer.Exit(1 if findings else 0)


def _report_check(log: "VersionLog", findings: "list[Finding]") -> Iterator[str]:
    for finding in findings:
        yield (
            finding.what
            if finding.what.startswith("version ")
            else f"version {finding.number}: {finding.what}"
        )
    if not findings:
        noted = [number for number in range(log.last() + 1) if log.manifest(number).kind == "damaged"]
        yield "no version is damaged" + (f"; lost earlier: {_versions(noted)}" if noted else "")
    elif any(finding.lost for finding in findings):
        try:
            head = log.head()
            assert head is not None  # there are versions
            yield f"version {head.number}, the newest, is not damaged; `versions repair` repairs the log"
        except DamagedVersionError as error:
            yield f"training cannot resume: {error}"


@app.command("repair")
def repair_(config: Config = None, model: Model = None, as_json: Json = False) -> None:
    """Repair a damaged log so that training can resume; damaged files are moved to damaged/."""
    from streaming_nn.versions.repair import repair

    log = _log(config, model)
    with progress() as show_progress:
        result = repair(log, show_progress)
    if as_json:
        print(json.dumps(result._asdict()))
        return
    for line in _report_repair(result):
        print(line)


def _report_repair(result: "Repair") -> Iterator[str]:
    if result.put_back:
        yield f"restored to their names: {_versions(result.put_back)}"
    if result.lost:
        yield f"lost: {_versions(result.lost)}; the damaged files are in damaged/"
    if result.good is not None:
        yield f"version {result.head} has the model of version {result.good}, the last good one"
    elif not (result.put_back or result.lost):
        yield f"no version is damaged; the newest is {result.head}"
    else:
        yield f"version {result.head}, the newest, was not damaged"


def _versions(numbers: list[int]) -> str:
    """Return numbers in words: "no version", "version 4", "versions 4, 5", "versions 4 to 9 (5 of them)"."""
    if len(numbers) > 4:
        return f"versions {numbers[0]} to {numbers[-1]} ({len(numbers):,} of them)"
    listed = ", ".join(map(str, numbers))
    return f"versions {listed}" if len(numbers) > 1 else f"version {listed}" if numbers else "no version"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 0.1 or not value else f"{value:.3g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)


def _table(titles: Any, rows: list[Any], title: bool = True) -> "Table":
    """Return a table whose columns of numbers are right-aligned."""
    from rich.table import Table

    table = Table(box=None, show_header=title, pad_edge=False, padding=(0, 2, 0, 0))
    for position, name in enumerate(titles):
        numbers = all(row[position].lstrip("+-")[:1] in "0123456789–" for row in rows if row[position])
        table.add_column(name, justify="right" if numbers and position else "left")
    for row in rows:
        table.add_row(*(text.replace("[", r"\[") for text in row))
    return table


def _print(table: "Table") -> None:
    from rich.console import Console

    console = Console()
    Console(width=None if console.is_terminal else WIDTH).print(table)
