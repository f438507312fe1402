"""`streaming-nn demo`: a broker, a producer, training, scoring and a verified replay, in one command."""

import json
import logging
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from streaming_nn.cli import options
from streaming_nn.cli.live import History, Row, Shown, live, number
from streaming_nn.cli.progress import draws_table, progress

logger = logging.getLogger(__name__)

WAITING = "waiting for the first micro-batch"
SECONDS = (5, 86_400)  # shortest: a few versions; longest: a day


def demo(
    seconds: Annotated[float, typer.Option(help="Duration of the stream, 5 to 86400.")] = 60,
    rate: Annotated[
        float | None, typer.Option(help="Rows per second (default: 1000 for digits, 20 for machine).")
    ] = None,
    stream: Annotated[
        str, typer.Option(help="digits, or machine: this machine's CPU use one second ahead.")
    ] = "digits",
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Run in this directory, or resume a run in it.")
    ] = None,
    page: Annotated[bool, typer.Option(help="Serve a web page of it, and open it on a desktop.")] = True,
    as_json: options.Json = False,
) -> None:
    """Watch a network learn a stream through a real Kafka and Spark, and verify what it learned."""
    if not SECONDS[0] <= seconds <= SECONDS[1]:
        raise ValueError(f"--seconds must be {SECONDS[0]} to {SECONDS[1]}; got {seconds:g}")
    from streaming_nn.demo.run import run

    with progress() as show:
        summary = run(directory, seconds, rate, stream, page, view=_view, progress=show)
    if summary is None:
        raise typer.Exit(130)
    _print(summary, as_json)
    if directory is None:
        again = "its directory was temporary; to look at it afterwards: streaming-nn demo --dir DIR, then"
        logger.info("%s streaming-nn page DIR/model", again)
    else:
        logger.info("look at it with: streaming-nn page %s", shlex.quote(str(directory / "model")))
    if not (summary["accounted"] and summary["verify"] == "identical"):
        raise typer.Exit(1)


@contextmanager
def _view(title: str) -> Iterator[Any]:
    """Show the stream while it runs: a live table, or without a terminal a line per second."""
    view = _Table(title)
    if draws_table(as_json=False):
        with live(view.shown, keep=False):
            yield view.update
    else:
        yield _log


def _log(seconds: float, rows: int, values: Mapping[str, Any]) -> None:
    line = "  ".join(f"{name} {number(value)}" for name, value in values.items())
    logger.info("%4.0f s  %s", seconds, line or WAITING)


class _Table:
    """The live table of a demo; figures have sparklines."""

    def __init__(self, title: str) -> None:
        self._title, self._subtitle = title, ""
        self._rows = [Row(WAITING, "")]
        self._histories: dict[str, History] = {}

    def update(self, seconds: float, rows: int, values: Mapping[str, Any]) -> None:
        """Show these values from now on."""
        for name, value in values.items():
            if value is None or isinstance(value, float):
                self._histories.setdefault(name, History()).add(value)
        found = {name: history.values for name, history in self._histories.items()}
        self._rows = [Row(name, number(value), found.get(name, ())) for name, value in values.items()]
        self._subtitle = f", {seconds:.0f} s, last {rows:,} rows"

    def shown(self) -> Shown:
        """Return the table as it is now."""
        return Shown(self._title + self._subtitle, self._rows)


def _print(summary: dict[str, Any], as_json: bool) -> None:
    """Print the summary as a table, or as JSON on the last line of stdout."""
    if as_json:
        print(json.dumps(summary), flush=True)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Summary", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in summary.items():
        table.add_row(name.replace("_", " "), number(value))
    Console().print(table)
