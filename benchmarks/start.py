"""How long `streaming-nn demo` takes from its command to the first metric, and what it does meanwhile."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks.tell import Json, tell

DEMO = str(Path(sys.executable).with_name("streaming-nn"))
MARKS = {  # phases, each by what the demo says at its end
    "imports_s": "starting Kafka and Spark",
    "kafka_and_spark_s": "warming up",
    "first_micro_batch_s": "waiting for the first micro-batch",
    "first_records_s": "  version ",
}


def measure(
    runs: Annotated[int, typer.Option(min=1)] = 5,
    short: Annotated[bool, typer.Option("--short", help="One run.")] = False,
    json_: Json = False,
) -> None:
    """Start the demo, stop it at its first metric, and again; a table and one JSON line."""
    phases = [_phases() for _ in range(1 if short else runs)]
    totals = [sum(each.values()) for each in phases]
    line = {
        "benchmark": "start",
        "runs": len(phases),
        "start_s": round(median(totals), 2),
        "most_s": round(max(totals), 2),
        **{name: round(median(each[name] for each in phases), 2) for name in MARKS},
    }
    tell(line, json_)


def _phases() -> dict[str, float]:
    """Start one demo, and stop it as Ctrl-C does once it has shown a metric."""
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder:
        command = [DEMO, "demo", "--seconds", "30", "--dir", folder]
        began = time.monotonic()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as demo:
            assert demo.stderr is not None
            try:
                return phases_of((time.monotonic() - began, line) for line in demo.stderr)
            finally:
                demo.send_signal(signal.SIGINT)
                demo.stderr.read()  # to its end: nothing of it runs on into the next measurement


def phases_of(told: Iterable[tuple[float, str]]) -> dict[str, float]:
    """Give the seconds of each phase, from lines and when they came; ValueError where one is missing."""
    found: dict[str, float] = {}
    marks, before = iter(MARKS.items()), 0.0
    name, mark = next(marks)
    for when, line in told:
        if mark in line:
            found[name], before = when - before, when
            if len(found) == len(MARKS):
                return found
            name, mark = next(marks)
    raise ValueError(f"the demo ended before it said {mark!r}")


if __name__ == "__main__":
    typer.run(measure)
