"""The commands of `streaming-nn versions`: look at what was learned, keep it, go back to it, mend it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streaming_nn.log.compare import compare
from streaming_nn.log.environment import now, writer
from streaming_nn.log.log import Log
from streaming_nn.log.repair import check, repair
from streaming_nn.log.rollback import rollback
from streaming_nn.log.tags import find, tag, tags, untag
from streaming_nn.log.thin import thin
from streaming_nn.log.version import Record
from streaming_nn.settings import load

app = typer.Typer(
    help="Look at versions, tag them, go back to one, thin and repair the log.", no_args_is_help=True
)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings; ./streaming-nn.toml without.")]
Model = Annotated[Path | None, typer.Option(help="The model directory: a log of versions.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Name = Annotated[str, typer.Argument(help="A number, a tag, or head.")]

RUN = "versions"  # what a version written by hand says of its run


def _log(config: Path | None, model: Path | None) -> Log:
    directory = load(config, {"model": model}).model
    log = Log(directory)
    if log.head_number() is None:
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
    head = log.head_number() or 0
    named: dict[int, list[str]] = {}
    for name, number in tags(log).items():
        named.setdefault(number, []).append(name)
    records = [log.record(number) for number in range(max(head - last + 1, 0), head + 1)]
    rows = [_row(record, named.get(record.number, [])) for record in records]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(box=None)
    for name in rows[0]:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    Console().print(table)


def _row(record: Record, named: list[str]) -> dict[str, Any]:
    prequential = record.metrics.get("prequential", {}).get("window", {})
    served = record.metrics.get("served", {}).get("window", {})
    figure = "mae" if "mae" in prequential else "accuracy"
    return {
        "version": record.number,
        "kind": record.kind,
        "written": record.written_at[5:19].replace("T", " "),
        "trained": record.rows["trained"],
        "rejected": record.rows["rejected"],
        figure: prequential.get(figure),
        "served": served.get(figure),
        "kept": record.kept,
        "tags": named,
    }


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "stub"
    if isinstance(value, float):
        return f"{value:.3f}"
    return ", ".join(value) if isinstance(value, list) else "–" if value is None else str(value)


@app.command()
def show(name: Name = "head", config: Config = None, model: Model = None) -> None:
    """Print a version's record as JSON."""
    log = _log(config, model)
    print(json.dumps(log.record(find(log, name)).to_json(), indent=2))


@app.command("compare")
def compare_(a: Name, b: Name, config: Config = None, model: Model = None) -> None:
    """Compare two versions: options, metrics, and how far their weights are apart."""
    log = _log(config, model)
    print(json.dumps(compare(log, find(log, a), find(log, b)), indent=2))


@app.command("tag")
def tag_(
    tag_name: Annotated[str, typer.Argument(metavar="TAG")],
    name: Name = "head",
    delete: Annotated[bool, typer.Option("--delete", help="Take the tag away.")] = False,
    config: Config = None,
    model: Model = None,
) -> None:
    """Give a version a name; a tagged version is never thinned."""
    log = _log(config, model)
    if delete:
        untag(log, tag_name)
        return
    number = find(log, name)
    tag(log, tag_name, number)
    print(f"{tag_name}: version {number}")


@app.command("rollback")
def rollback_(name: Name, config: Config = None, model: Model = None) -> None:
    """Append a version with an old one's model and the head's offsets; a live trainer goes on from it."""
    log = _log(config, model)
    version = rollback(log, find(log, name), writer(RUN), now())
    print(f"version {version.number} has the model of version {version.record.taken_from}")


@app.command("thin")
def thin_(
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest keep their tensors.")],
    config: Config = None,
    model: Model = None,
) -> None:
    """Turn older versions into stubs: the record stays, the tensors go, the number stays taken."""
    print(f"{len(thin(_log(config, model), keep)):,} versions thinned")


@app.command("check")
def check_(config: Config = None, model: Model = None) -> None:
    """Read every version, and name those that are not what was written."""
    findings = check(_log(config, model))
    for finding in findings:
        print(f"version {finding.number}: {finding.what}")
    print("every version is whole" if not findings else "`versions repair` mends the log")
    raise typer.Exit(1 if findings else 0)


@app.command("repair")
def repair_(config: Config = None, model: Model = None) -> None:
    """Mend a damaged log so that learning can go on; what is damaged is kept aside."""
    log = _log(config, model)
    result = repair(log, writer(RUN), now())
    for line in _repaired(result):
        print(line)


def _repaired(result: Any) -> Iterator[str]:
    yield f"put back: {list(result.put_back) or 'none'}; lost: {list(result.lost) or 'none'}"
    yield f"the last good version was {result.good}; the head is now {result.head}"
