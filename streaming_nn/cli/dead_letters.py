"""`streaming-nn dead-letters`: look at rejected records, and send them back once their cause is fixed."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_nn.cli import options

if TYPE_CHECKING:
    from streaming_nn.kafka.dead_letters import DeadLetterRecord, Redriven
    from streaming_nn.settings import Settings

app = typer.Typer(help="Look at rejected records, and send them back to their topic.", no_args_is_help=True)

Topic = Annotated[str | None, typer.Option(help="Topic of the dead letters (default: train.dead_letters).")]


@app.command()
def show(
    last: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    topic: Topic = None,
    config: options.Config = None,
    bootstrap: options.Bootstrap = None,
    as_json: options.Json = False,
    set_: options.Sets = None,
) -> None:
    """Show the latest dead letters, the newest one last: when, from where, and why."""
    from streaming_nn.kafka.dead_letters import latest

    settings = _settings(config, bootstrap, topic, set_)
    letters = latest(settings.kafka, settings.train.dead_letters, last)
    if as_json:
        print(json.dumps([letter.to_json() for letter in letters]))
    elif letters:
        _print_table(letters)
    else:
        print(f"no dead letters in {settings.train.dead_letters}")


@app.command()
def redrive(
    topic: Topic = None,
    config: options.Config = None,
    bootstrap: options.Bootstrap = None,
    as_json: options.Json = False,
    set_: options.Sets = None,
) -> None:
    """Send the dead letters back to their topics, each once: after the schema or the producer is fixed.

    One that was cut is not sent; exit code 1 if there are any.
    """
    from streaming_nn.kafka import dead_letters

    settings = _settings(config, bootstrap, topic, set_)
    done = dead_letters.redrive(settings.kafka, settings.train.dead_letters)
    if as_json:
        counts = {"sent": done.sent, "repeated": done.repeated, "foreign": done.foreign}
        print(json.dumps({**counts, "cut": [letter.to_json() for letter in done.cut]}))
    else:
        for line in _describe_redriven(done, settings.train.dead_letters):
            print(line)
    if done.cut:
        raise RuntimeError(_describe_cut(done.cut))


def _describe_redriven(done: "Redriven", topic: str) -> Iterator[str]:
    for name, records in done.sent.items():
        yield f"sent {records:,} records back to {name}"
    if done.repeated:
        yield f"{done.repeated:,} were duplicates, and were sent once"
    if done.foreign:
        yield f"{done.foreign:,} records lack our headers, and were not sent"
    if not any((done.sent, done.repeated, done.foreign, done.cut)):
        yield f"no dead letters in {topic} that were not sent back before"


def _describe_cut(letters: "list[DeadLetterRecord]") -> str:
    positions = ", ".join(_position(letter) for letter in letters[:3])
    more = ", …" if len(letters) > 3 else ""
    return (
        f"{len(letters):,} dead letters were cut, and cannot be sent back; their records are at {positions}"
        f"{more}, while the topic holds them"
    )


def _settings(config: Any, bootstrap: str | None, topic: str | None, sets: list[str] | None) -> "Settings":
    return options.require_kafka(
        options.load_settings(config, sets, bootstrap, train={"dead_letters": topic})
    )


def _print_table(letters: "list[DeadLetterRecord]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for title in ("rejected", "record", "reason", "field", "value", "cut"):
        table.add_column(title, overflow="fold")
    for letter in letters:
        time = letter.time.strftime("%m-%d %H:%M:%S")
        table.add_row(time, _position(letter), letter.reason, letter.field, letter.value, letter.cut)
    Console(markup=False, highlight=False).print(table)


def _position(letter: "DeadLetterRecord") -> str:
    topic, partition, offset = letter.position or ("?", "?", "?")
    return f"{topic}/{partition}/{offset}"
