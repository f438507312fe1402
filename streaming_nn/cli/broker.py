"""`streaming-nn broker`: a real single-node Kafka on this machine."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streaming_nn.cli.options import Json
from streaming_nn.cli.progress import progress
from streaming_nn.kafka import EMBEDDED

if TYPE_CHECKING:
    from streaming_nn.kafka.broker import Broker

app = typer.Typer(
    help="Run a real single-node Kafka on this machine, for tests and trials.", no_args_is_help=True
)

Directory = Annotated[Path, typer.Option("--dir", help="The broker's directory.")]


@app.command()
def start(
    directory: Directory = Path(EMBEDDED),
    port: Annotated[int, typer.Option(help="0 to 65535; 0: any free port.")] = 9092,
    as_json: Json = False,
) -> None:
    """Start a broker in the background; its data stays in its directory."""
    if not 0 <= port <= 65_535:
        raise ValueError(f"--port must be 0 to 65535; got {port}")
    from streaming_nn.kafka.broker import Broker

    with progress() as show:
        bootstrap = Broker.start(directory, port=port, detached=True, progress=show).bootstrap
    print(json.dumps({"bootstrap": bootstrap}) if as_json else bootstrap)


@app.command()
def topics(
    names: Annotated[list[str], typer.Argument(metavar="NAME[:PARTITIONS]...")],
    directory: Directory = Path(EMBEDDED),
    as_json: Json = False,
) -> None:
    """Create topics on this directory's broker; an existing one stays as it is."""
    from streaming_nn.kafka import admin

    partitions_of = dict(_parse_topic(text) for text in names)
    kafka = {"bootstrap.servers": _find(directory).bootstrap}
    for name, partitions in partitions_of.items():
        admin.create(kafka, name, partitions, exist_ok=True)
    counts = {name: len(numbers) for name, numbers in admin.partitions(kafka, partitions_of).items()}
    if as_json:
        print(json.dumps(counts))
        return
    for name, count in counts.items():
        print(f"{name}: {count} partition" + ("s" if count > 1 else ""))


def _parse_topic(text: str) -> tuple[str, int]:
    name, _, partitions = text.partition(":")
    if partitions and not (partitions.isdigit() and int(partitions) > 0):
        raise ValueError(f"a topic must be NAME or NAME:PARTITIONS, such as labeled:3; got {text!r}")
    return name, int(partitions or 1)


def _find(directory: Path) -> "Broker":
    from streaming_nn.kafka.broker import Broker

    running = Broker.find(directory)
    if running is None:
        raise LookupError(f"no broker is running in {directory}; start one: streaming-nn broker start")
    return running


@app.command()
def stop(directory: Directory = Path(EMBEDDED), as_json: Json = False) -> None:
    """Stop this directory's broker."""
    running = _find(directory)
    running.stop()
    print(json.dumps({"stopped": running.bootstrap}) if as_json else f"stopped {running.bootstrap}")


@app.command()
def status(directory: Directory = Path(EMBEDDED), as_json: Json = False) -> None:
    """Print the address of this directory's broker; exit code 1 if it is not running."""
    from streaming_nn.kafka.broker import Broker

    running = Broker.find(directory)
    bootstrap = running.bootstrap if running else None
    print(json.dumps({"bootstrap": bootstrap}) if as_json else bootstrap or "not running")
    if running is None:
        raise typer.Exit(1)
