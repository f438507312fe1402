"""The measuring client: a Java process beside Spark's, so that no wait of Python's is measured."""

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

RESULT = np.dtype([("sent", ">i8"), ("came", ">i8"), ("times", ">i4"), ("version", ">i4")])
BEFORE, AFTER = 0.5, 1.0  # seconds about a real-time batch's end, in which answers belong to its turnover


@dataclass(frozen=True)
class Run:
    """What a client has seen: a row a record, in the order of sending; times in ns since `began`."""

    rows: NDArray[Any]
    began: float  # of time.time

    def after(self, seconds: float) -> "Run":
        """Leave the first records out: the warm-up."""
        return Run(self.rows[self.rows["sent"] >= seconds * 1e9], self.began)

    @property
    def lost(self) -> int:
        """Records without an answer."""
        return int((self.rows["times"] == 0).sum())

    @property
    def doubled(self) -> int:
        """Answers beyond the first of each record."""
        return int(np.maximum(self.rows["times"] - 1, 0).sum())

    @property
    def waited(self) -> NDArray[np.float64]:
        """Milliseconds from sending to the first answer, of those that have one."""
        there = self.rows[self.rows["times"] > 0]
        waited: NDArray[np.float64] = (there["came"] - there["sent"]) / 1e6
        return waited

    def figures(self, turnovers: Sequence[float] = ()) -> dict[str, float]:
        """Give p50 and p99 of all, and the longest wait at each turnover (of time.time) apart from them.

        A record belongs to a turnover where its answer came in the second and a half about it.
        """
        rows = self.rows[self.rows["times"] > 0]
        came, waited = self.began + rows["came"] / 1e9, self.waited
        near = [(came > at - BEFORE) & (came < at + AFTER) for at in turnovers]
        gaps = [float(waited[each].max()) for each in near if each.any()]
        outside = waited[~np.any(near, axis=0)] if near else waited
        return {
            "records": len(waited),
            "p50_ms": round(float(np.percentile(waited, 50)), 3),
            "p99_ms": round(float(np.percentile(waited, 99)), 3),
            "p99_outside_gaps_ms": round(float(np.percentile(outside, 99)), 3),
            "gaps": len(gaps),
            "gap_ms": round(max(gaps, default=0.0), 1),
        }

    def in_force(self, number: int, committed: float) -> float:
        """Seconds from a version's commit until the last answer by an older one."""
        older = self.rows[(self.rows["version"] < number) & (self.rows["times"] > 0)]
        return max(self.began + float(older["came"].max()) / 1e9 - committed, 0.0)

    def worst_repeat(self) -> float:
        """Seconds of sending that the longest stretch of doubled records spans: one restart's."""
        doubled = self.rows["sent"][self.rows["times"] > 1] / 1e9
        stretches = np.split(doubled, np.flatnonzero(np.diff(doubled) > 1) + 1) if len(doubled) else []
        return max((float(each[-1] - each[0]) for each in stretches), default=0.0)


class Client:
    """Compiled once, run as often as is asked."""

    def __init__(self, spark: SparkSession, bootstrap: str, values: Sequence[bytes], folder: Path) -> None:
        self.bootstrap, self.folder = bootstrap, folder
        java_compiler.write(
            folder / "client.jar", java_compiler.compiled(spark, ("Client",), Path(__file__).parent)
        )
        framed = b"".join(struct.pack(">i", len(value)) + value for value in values)
        (folder / "values").write_bytes(struct.pack(">i", len(values)) + framed)

    def start(self, topic: str, answers: str, rate: int, most: int, patience: int) -> "Running":
        """Send up to `most` records, `rate` a second; at the end wait `patience` seconds for answers."""
        path = pathsep.join([str(self.folder / "client.jar"), *map(str, jars.broker())])
        result = Path(tempfile.mkstemp(dir=self.folder)[1])
        arguments = [self.bootstrap, topic, answers, rate, most, patience, self.folder / "values", result]
        command = [str(java.find()), "-Xmx256m", "-cp", path, "benchmarks.Client", *map(str, arguments)]
        return Running(command, result)


class Running:
    """A client that sends."""

    def __init__(self, command: list[str], result: Path) -> None:
        self.result = result
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the measuring client did not start")
        self.began = int(line) / 1000

    def finish(self, stop: bool = False) -> Run:
        """Wait until all is sent, or `stop` sending now, and give what was seen."""
        if stop and self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.wait():
            raise RuntimeError(f"the measuring client ended with {self.process.returncode}")
        return Run(np.fromfile(self.result, RESULT), self.began)
