"""The commands of `streaming-nn versions`: look at what was learned, keep it, go back to it, mend it."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streaming_nn.errors import DamagedVersionError
from streaming_nn.settings import load
from streaming_nn.versions.diff import diff, flat
from streaming_nn.versions.environment import now, writer
from streaming_nn.versions.repair import Finding, Repair, check, repair
from streaming_nn.versions.retention import prune
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.tags import find, tag, tags, untag
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

app = typer.Typer(
    help="Look at versions, tag them, go back to one, thin and repair the log.", no_args_is_help=True
)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings; ./streaming-nn.toml without.")]
Model = Annotated[Path | None, typer.Option(help="The model directory: a log of versions.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Name = Annotated[str, typer.Argument(help="A number, a tag, or head.")]

RUN = "versions"  # what a version written by hand says of its run
UNREADABLE = "unreadable"  # the kind of a version whose file is damaged or missing
WIDE = 160  # columns where no terminal says how many: a name that is cut is of no use in a file
# The metrics that a table shows; --json has all of them
SHOWN = re.compile(
    r"(prequential|served)\.window\.(accuracy|f1_macro|log_loss|mae|rmse|r2)"
    r"|baselines\.\w+\.window\.(accuracy|mae)|rows"
)


def _log(config: Path | None, model: Path | None) -> VersionLog:
    directory = load(config, {"model": model}).model
    log = VersionLog(directory)
    if not log.numbers():  # the head's number is none where version 0 is missing, which `repair` mends
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
    log = _log(config, model)
    head = max(log.numbers())  # not the head's: what is behind a gap must be seen
    named: dict[int, list[str]] = {}
    for name, number in tags(log).items():
        named.setdefault(number, []).append(name)
    rows = [_row(log, n, named.get(n, [])) for n in range(max(head - last + 1, 0), head + 1)]
    if as_json:
        print(json.dumps(rows))
    else:
        titles = max((list(row) for row in rows), key=len)
        _print(_table(titles, [[_text(row.get(title)) for title in titles] for row in rows]))
    if unreadable := [row["version"] for row in rows if row["kind"] == UNREADABLE]:
        raise DamagedVersionError(
            f"{_versions(unreadable)} of {log.directory} can't be read; `versions check` says why"
        )


def _row(log: VersionLog, number: int, named: list[str]) -> dict[str, Any]:
    try:
        record = log.manifest(number)
    except (DamagedVersionError, LookupError):
        return {"version": number, "kind": UNREADABLE, "kept": False, "tags": named}
    prequential = record.metrics.get("prequential", {}).get("window", {})
    served = record.metrics.get("served", {}).get("window", {})
    figure = "mae" if "mae" in prequential else "accuracy"
    return {
        "version": record.number,
        "kind": record.kind,
        "written": record.written_at[5:19].replace("T", " "),
        "trained": record.counts["trained"],
        "rejected": record.counts["rejected"],
        figure: prequential.get(figure),
        "served": served.get(figure),
        "kept": record.kept,
        "tags": named,
    }


@app.command()
def show(name: Name = "head", config: Config = None, model: Model = None, as_json: Json = False) -> None:
    """Show how a version came to be: what it learned, from where, and how well it answered."""
    log = _log(config, model)
    record = log.manifest(find(log, name))
    if as_json:
        print(json.dumps(record.to_json(), indent=2))
        return
    _print(_table(("", f"version {record.number}"), list(_shown(record, log)), title=False))


def _shown(record: Manifest, log: VersionLog) -> Iterator[tuple[str, str]]:
    named = [tag for tag, number in tags(log).items() if number == record.number]
    by, ranges = record.written_by, record.ranges
    yield "version", f"{record.number}, {record.kind}" + ("" if record.kept else ", a stub without tensors")
    if record.restored_from >= 0:
        yield "taken from", f"version {record.restored_from}"
    if named:
        yield "tags", ", ".join(named)
    yield (
        "written",
        f"{record.written_at} by host {by.get('host')}, process {by.get('pid')}, run {by.get('run')}",
    )
    yield "learner", _pairs(record.learner)
    yield "schema", _pairs(record.schema)
    for topic, partitions in record.offsets.items():
        batch = {p: ranges.get(topic, {}).get(p) for p in partitions}
        spans = {p: f"{r[0]} to {r[1]}" if r else str(partitions[p]) for p, r in batch.items()}
        yield f"offsets of {topic}", _pairs(spans)
    yield "counts", _pairs(record.counts)
    if record.rejected_by_reason:
        yield "rejected_by_reason", _pairs(record.rejected_by_reason)
    for path, value in flat(record.metrics).items():
        if SHOWN.fullmatch(path) and value is not None:
            yield path, _text(value)
    for member in record.metrics.get("members", []):
        yield f"member {member['member']}", _pairs({key: member[key] for key in ("weight", "restarts")})
    if record.seconds:
        yield "seconds", _pairs(record.seconds)
    for event in record.events:
        yield "event", json.dumps(event)
    yield "digest", record.digest


def _pairs(values: Mapping[Any, Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in values.items() if value is not None)


@app.command("compare")
def compare_(a: Name, b: Name, config: Config = None, model: Model = None, as_json: Json = False) -> None:
    """Compare two versions: options, metrics, and how far their weights are apart."""
    log = _log(config, model)
    found = diff(log, find(log, a), find(log, b))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    x, y = found["versions"]
    print(f"versions {x} and {y}: " + ("equal to the bit" if found["identical"] else "not equal"))
    _print(_table(("", str(x), str(y), "change"), list(_changed(found))))
    if found["tensors"] and not found["identical"]:
        _print(_table(("model's tensors", "distance", "relative", "largest"), list(_apart(found["tensors"]))))
    elif found["thinned"]:
        has = "has" if len(found["thinned"]) == 1 else "have"
        print(f"{_versions(found['thinned'])} {has} no tensors any more: no distance of the weights")
    print("every metric and tensor: --json")


def _changed(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """What differs, a line each: of the metrics the most telling ones."""
    yield "kind", *found["kinds"], ""
    yield "written", *(str(at)[:19] for at in found["written_at"]), ""
    for section in ("learner", "schema", "environment"):
        for key, pair in found[section].items():
            yield f"{section}.{key}", *map(_text, pair), ""
    for topic, partitions in found["offsets"].items():
        for partition, pair in partitions.items():
            yield f"offset of {topic}, partition {partition}", *map(_text, pair), _change(*pair)
    for key, pair in found["metrics"].items():
        if SHOWN.fullmatch(key):
            yield key, *map(_text, pair), _change(*pair)


def _change(a: Any, b: Any) -> str:
    if isinstance(a, float) and isinstance(b, float):
        return f"{b - a:+.3f}"
    return f"{b - a:+,}" if isinstance(a, int) and isinstance(b, int) else ""


def _apart(tensors: dict[str, dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for name, apart in tensors.items():
        if name.startswith("model."):
            figures = (apart[key] for key in ("distance", "relative", "largest"))
            yield name, *("–" if figure is None else f"{figure:.3g}" for figure in figures)


@app.command("tag")
def tag_(
    tag_name: Annotated[str | None, typer.Argument(metavar="TAG", help="Without one: list all tags.")] = None,
    name: Name = "head",
    delete: Annotated[bool, typer.Option("--delete", help="Take the tag away.")] = False,
    config: Config = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Give a version a name, or list the names; a tagged version is never thinned."""
    log = _log(config, model)
    if tag_name is not None and delete:
        untag(log, tag_name)
    elif tag_name is not None:
        tag(log, tag_name, find(log, name))
    found = tags(log)
    if as_json:
        print(json.dumps(found))
        return
    for each, number in found.items():
        if tag_name in (None, each):
            print(f"{each}: version {number}")


@app.command("rollback")
def rollback_(name: Name, config: Config = None, model: Model = None, as_json: Json = False) -> None:
    """Append a version with an old one's model and the head's offsets; a live trainer goes on from it."""
    log = _log(config, model)
    record = rollback(log, find(log, name), writer(RUN), now()).manifest
    if as_json:
        print(json.dumps({"version": record.number, "restored_from": record.restored_from}))
        return
    print(f"version {record.number} has the model of version {record.restored_from}")


@app.command("thin")
def thin_(
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest keep their tensors.")],
    config: Config = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Turn older versions into stubs: the record stays, the tensors go, the number stays taken."""
    thinned = prune(_log(config, model), keep)
    print(json.dumps({"thinned": thinned}) if as_json else f"thinned {_versions(thinned)}")


@app.command("check")
def check_(config: Config = None, model: Model = None, as_json: Json = False) -> None:
    """Read every version, and name those that are not what was written; exit code 1 where there are any."""
    log = _log(config, model)
    findings = check(log)
    if as_json:
        print(json.dumps({"whole": not findings, "findings": [finding._asdict() for finding in findings]}))
    else:
        for line in _checked(log, findings):
            print(line)
    raise typer.Exit(1 if findings else 0)


def _checked(log: VersionLog, findings: list[Finding]) -> Iterator[str]:
    for finding in findings:
        yield (
            finding.what
            if finding.what.startswith("version ")
            else f"version {finding.number}: {finding.what}"
        )
    if not findings:
        noted = [number for number in log.numbers() if log.manifest(number).kind == "damaged"]
        yield "every version is whole" + (f"; lost before, and noted: {_versions(noted)}" if noted else "")
    elif any(finding.lost for finding in findings):
        try:
            head = log.head()
            assert head is not None  # there are versions
            yield f"version {head.number}, the newest, is whole; `versions repair` mends the log"
        except DamagedVersionError as error:
            yield f"nothing can be learned on: {error}"


@app.command("repair")
def repair_(config: Config = None, model: Model = None, as_json: Json = False) -> None:
    """Mend a damaged log so that learning can go on; what is damaged is kept aside."""
    log = _log(config, model)
    result = repair(log, writer(RUN), now())
    if as_json:
        print(json.dumps(result._asdict()))
        return
    for line in _repaired(result):
        print(line)


def _repaired(result: Repair) -> Iterator[str]:
    if result.put_back:
        yield f"put back in their places: {_versions(result.put_back)}"
    if result.lost:
        yield f"lost, and only their numbers kept: {_versions(result.lost)}; what was there is in damaged/"
    if result.good is not None:
        yield f"version {result.head} goes on from version {result.good}, the last good one"
    elif not (result.put_back or result.lost):
        yield f"every version is whole: there is nothing to mend; the newest is {result.head}"
    else:
        yield f"version {result.head}, the newest, was whole"


def _versions(numbers: list[int]) -> str:
    """Name versions: "no version", "version 4", "versions 4, 5", "versions 4 to 9 (5 of them)"."""
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


def _table(titles: Any, rows: list[Any], title: bool = True) -> Table:
    """A table whose columns of numbers end at the right."""
    table = Table(box=None, show_header=title, pad_edge=False, padding=(0, 2, 0, 0))
    for position, name in enumerate(titles):
        numbers = all(row[position].lstrip("+-")[:1] in "0123456789–" for row in rows if row[position])
        table.add_column(name, justify="right" if numbers and position else "left")
    for row in rows:
        table.add_row(*(text.replace("[", r"\[") for text in row))
    return table


def _print(table: Table) -> None:
    console = Console()
    Console(width=None if console.is_terminal else WIDE).print(table)
