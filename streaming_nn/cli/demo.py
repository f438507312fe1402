"""`streaming-nn demo`: a broker, a producer, training, scoring and a verified replay, in one command."""

import json
from pathlib import Path
from typing import Annotated

import typer

from streaming_nn.cli import options

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

    summary = run(directory, seconds, rate, stream, page)
    if summary is None:
        raise typer.Exit(130)
    if as_json:
        print(json.dumps(summary), flush=True)
    if not (summary["accounted"] and summary["verify"] == "identical"):
        raise typer.Exit(1)
