"""The time that `streaming-nn demo` takes from its command to the first metric, by phases."""

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

from benchmarks.output import Json, print_results

DEMO = str(Path(sys.executable).with_name("streaming-nn"))
PHASES = {  # each with the text that the demo prints at its end
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
    """Start the demo and stop it at its first metric, several times; a table and one JSON line."""
    phases = [_run_demo() for _ in range(1 if short else runs)]
    totals = [sum(each.values()) for each in phases]
    line = {
        "benchmark": "start",
        "runs": len(phases),
        "start_s": round(median(totals), 2),
        "most_s": round(max(totals), 2),
        **{name: round(median(each[name] for each in phases), 2) for name in PHASES},
    }
    print_results(line, json_)


def _run_demo() -> dict[str, float]:
    """Start one demo, and stop it with Ctrl-C's signal once it has shown a metric."""
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder:
        command = [DEMO, "demo", "--seconds", "30", "--dir", folder]
        started = time.monotonic()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as demo:
            assert demo.stderr is not None
            try:
                return phases_of((time.monotonic() - started, line) for line in demo.stderr)
            finally:
                demo.send_signal(signal.SIGINT)
                demo.stderr.read()  # to its end: it must not run during the next measurement


def phases_of(lines: Iterable[tuple[float, str]]) -> dict[str, float]:
    """Return the seconds of each phase, from lines and their times; raise ValueError if one is missing."""
    found: dict[str, float] = {}
    phases, before = iter(PHASES.items()), 0.0
    name, text = next(phases)
    for when, line in lines:
        if text in line:
            found[name], before = when - before, when
            if len(found) == len(PHASES):
                return found
            name, text = next(phases)
    raise ValueError(f"cannot measure the demo: it ended before it printed {text!r}")


if __name__ == "__main__":
    typer.run(measure)
