"""The measuring client: a separate Java process, so that latencies include no delay of Python."""

import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from os import pathsep
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from streaming_nn.kafka import jars, java
from streaming_nn.spark import java_compiler

RESULT = np.dtype([("sent", ">i8"), ("received", ">i8"), ("count", ">i4"), ("version", ">i4")])
BEFORE, AFTER = (
    0.5,
    1.0,
)  # seconds around a batch's end: predictions then belong to its turnover


@dataclass(frozen=True)
class Run:
    """A client's result: one row per record, in the order of sending; times in ns since `started`."""

    rows: NDArray[Any]
    started: float  # of time.time

    def after(self, seconds: float) -> "Run":
        """Return the run without the records of the first seconds: the warm-up."""
        return Run(self.rows[self.rows["sent"] >= seconds * 1e9], self.started)

    @property
    def lost(self) -> int:
        """Count records without a prediction."""
        return int((self.rows["count"] == 0).sum())

    @property
    def duplicates(self) -> int:
        """Count predictions beyond the first of each record."""
        return int(np.maximum(self.rows["count"] - 1, 0).sum())

    @property
    def latencies(self) -> NDArray[np.float64]:
        """Return the milliseconds from sending to the first prediction, for records that have one."""
        rows = self.rows[self.rows["count"] > 0]
        latencies: NDArray[np.float64] = (rows["received"] - rows["sent"]) / 1e6
        return latencies

    def figures(self, turnovers: Sequence[float] = ()) -> dict[str, float]:
        """Return p50 and p99 of all latencies, and the longest one at the turnovers (of time.time).

        A record belongs to a turnover if its prediction was received within the second and a half around it.
        """
        rows = self.rows[self.rows["count"] > 0]
        received, latencies = self.started + rows["received"] / 1e9, self.latencies
        near = [(received > at - BEFORE) & (received < at + AFTER) for at in turnovers]
        gaps = [float(latencies[each].max()) for each in near if each.any()]
        outside = latencies[~np.any(near, axis=0)] if near else latencies
        return {
            "records": len(latencies),
            "p50_ms": round(float(np.percentile(latencies, 50)), 3),
            "p99_ms": round(float(np.percentile(latencies, 99)), 3),
            "p99_outside_gaps_ms": round(float(np.percentile(outside, 99)), 3),
            "gaps": len(gaps),
            "gap_ms": round(max(gaps, default=0.0), 1),
        }

    def reload_seconds(self, number: int, committed: float) -> float:
        """Return the seconds from a version's commit until the last prediction by an older one."""
        older = self.rows[(self.rows["version"] < number) & (self.rows["count"] > 0)]
        return max(self.started + float(older["received"].max()) / 1e9 - committed, 0.0)

    def longest_repeat(self) -> float:
        """Return the seconds of sending that the longest run of duplicates spans: those of one restart."""
        repeated = self.rows["sent"][self.rows["count"] > 1] / 1e9
        stretches = np.split(repeated, np.flatnonzero(np.diff(repeated) > 1) + 1) if len(repeated) else []
        return max((float(each[-1] - each[0]) for each in stretches), default=0.0)


class Client:
    """The client: compiled once, run any number of times."""

    def __init__(self, spark: SparkSession, bootstrap: str, values: Sequence[bytes], folder: Path) -> None:
        self.bootstrap, self.folder = bootstrap, folder
        java_compiler.write(
            folder / "client.jar", java_compiler.compile_classes(spark, ("Client",), Path(__file__).parent)
        )
        framed = b"".join(struct.pack(">i", len(value)) + value for value in values)
        (folder / "values").write_bytes(struct.pack(">i", len(values)) + framed)

    def start(self, topic: str, predictions: str, rate: int, most: int, timeout: int) -> "Running":
        """Send up to `most` records, `rate` per second; then wait up to `timeout` seconds for predictions."""
        path = pathsep.join([str(self.folder / "client.jar"), *map(str, jars.broker())])
        result = Path(tempfile.mkstemp(dir=self.folder)[1])
        arguments = [self.bootstrap, topic, predictions, rate, most, timeout, self.folder / "values", result]
        command = [str(java.find()), "-Xmx256m", "-cp", path, "benchmarks.Client", *map(str, arguments)]
        return Running(command, result)


class Running:
    """A client that is running."""

    def __init__(self, command: list[str], result: Path) -> None:
        self.result = result
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the measuring client did not start")
        self.started = int(line) / 1000

    def finish(self, stop: bool = False) -> Run:
        """Wait until everything is sent, or `stop` sending now; return the result."""
        if stop and self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.wait():
            raise RuntimeError(f"the measuring client ended with {self.process.returncode}")
        return Run(np.fromfile(self.result, RESULT), self.started)
