"""What a second executor gives: averaged training on Spark's local cluster, with one executor and with two.

One case computes (images with the default learner), one mostly reads; each executor has one core, one task
and one BLAS thread. Also, the driver's cost per MB of state: from these constants follows when its part of a
micro-batch becomes the limit.
"""

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyspark
import typer
from pyspark.sql import SparkSession
from rich.table import Table

from benchmarks import topics
from benchmarks.output import Json, print_results
from benchmarks.queries import bench, noop, rate, run_ours, run_plain
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch, combine, initial, learn_part
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.decode import encode
from streaming_nn.records.schema import Schema
from streaming_nn.spark.session import rows_of, shared
from streaming_nn.spark.tasks import pack_part, unpack_part
from streaming_nn.versions.version_log import VersionLog

EXECUTORS = (1, 2)
PARTITIONS = 2
PIXELS, DIGITS = 784, 10
IMAGES, NUMBERS, ONLY_READ = "images", "numbers", "numbers_only_read"
DEEP = {"hidden": [512], "mini_batch": 256}
SMALL = {"hidden": [16], "mini_batch": 256}
FLAT = {"learner": "mlp", "optimizer": "sgd", "hidden": [64], "mini_batch": 256}
IMAGE = Schema(inputs=PIXELS, classes=tuple(range(DIGITS)), format="packed")
Figures = dict[tuple[str, int], list[float]]  # case, executors: records per second


def measure(
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    images: Annotated[int, typer.Option(min=1, help="Images per micro-batch.")] = 32_768,
    numbers: Annotated[int, typer.Option(min=1, help="Records of 54 numbers per micro-batch.")] = 250_000,
    micro_batches: Annotated[int, typer.Option(min=2, help="Micro-batches per case.")] = 5,
    short: Annotated[bool, typer.Option("--short", help="Few records, small nets: does it work?")] = False,
    json_: Json = False,
) -> None:
    """Learn with one executor and with two, in turns; print a table and one JSON line."""
    if short:
        rounds, images, numbers, micro_batches = 1, 512, 2_000, 2
    case = _Case(SMALL if short else DEEP, images, numbers, micro_batches)
    rates: Figures = defaultdict(list)
    constants: dict[str, float] = {}
    turns = [executors for number in range(rounds) for executors in EXECUTORS[:: -1 if number % 2 else 1]]
    with _home():
        for executors in turns:
            with _cluster(executors) as (spark, kafka):
                case.run(spark, kafka, executors, rates)
                constants = constants or _constants(spark, case.learner)
    line = _line(rates) | constants
    print_results(line, json_, _table(rates), _driver(constants))


@contextmanager
def _home() -> Iterator[None]:
    """Set Spark's home to a directory of links to pyspark's: a local cluster writes its logs there.

    The JVM outlives a cluster, and keeps its home.
    """
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as home:
        for entry in Path(pyspark.__file__).parent.iterdir():
            (Path(home) / entry.name).symlink_to(entry)
        os.environ["SPARK_HOME"] = home
        yield


def _cluster(executors: int) -> AbstractContextManager[tuple[SparkSession, dict[str, str]]]:
    """Start a local cluster whose executors find this package, and a broker."""
    root = str(Path(__file__).parents[1])
    return bench(f"local-cluster[{executors},1,2048]", **{"spark.executorEnv.PYTHONPATH": root})


@dataclass(frozen=True)
class _Case:
    """Both topics, and how much of each a micro-batch takes."""

    deep: dict[str, Any]
    images: int
    numbers: int
    micro_batches: int

    @property
    def learner(self) -> Ensemble:
        return Ensemble(PIXELS, tuple(range(DIGITS)), **self.deep)

    def run(self, spark: SparkSession, kafka: dict[str, str], executors: int, rates: Figures) -> None:
        topics.send(spark, kafka, IMAGES, _images(), self.images * self.micro_batches, PARTITIONS)
        topics.fill(spark, kafka, NUMBERS, "packed", self.numbers * self.micro_batches, PARTITIONS)
        for topic, schema, learner, size in (
            (IMAGES, IMAGE, self.deep, self.images),
            (NUMBERS, topics.SCHEMAS["packed"], FLAT, self.numbers),
        ):
            how = {"update": "averaged", "max_offsets_per_trigger": size, "keep_bytes": 10**9}
            settings = topics.settings_of(kafka, topic, schema, learner, **how)
            rates[topic, executors].append(rate(run_ours(spark, settings)[0]))
        plain = run_plain(spark, kafka, NUMBERS, self.numbers, noop)
        rates[ONLY_READ, executors].append(rate(plain[0]))


def _images() -> list[bytes]:
    """Return packed records of 1,000 images: integers from 0 to 255, as float32."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1_000, PIXELS), np.uint8)
    y = (pixels @ rng.normal(size=(PIXELS, DIGITS))).argmax(axis=1)
    return encode(IMAGE, pixels, y)


def _constants(spark: SparkSession, learner: Ensemble) -> dict[str, float]:
    """Measure what a state costs the driver: a job that does nothing, and seconds per MB."""
    state = initial(learner)
    batch = Batch(np.ones((256, PIXELS), np.float32), np.zeros(256, np.int32))
    part = learn_part(learner, state, [batch])
    tensors, packed = flatten(state), pack_part(part)
    size = len(packed) / 1e6

    def job(tensors: dict[str, Any], tasks: int) -> None:
        with shared(spark, tensors) as given:
            rows_of(spark.range(0, tasks, 1, tasks).mapInArrow(_Back(given), "part binary"))

    def commit() -> None:
        with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder:
            VersionLog(folder).commit(None, tensors, learner=learner.options())

    empty = _seconds(lambda: job({"nothing": np.zeros(1)}, PARTITIONS))
    one, three = (_seconds(partial(job, tensors, tasks)) for tasks in (1, 3))
    two, four = (_seconds(partial(combine, learner, state, [part] * tasks)) for tasks in (2, 4))
    row = (three - one) / 2
    return {
        "state_mb": size,
        "job_s": empty,
        "broadcast_s_per_mb": (one - empty - row) / size,
        "row_s_per_mb": row / size,
        "unpack_s_per_mb": _seconds(lambda: unpack_part(learner, packed, part.counts)) / size,
        "average_s_per_mb": (four - two) / 2 / size,
        "commit_s_per_mb": _seconds(commit) / size,
    }


def _seconds(work: Callable[[], object]) -> float:
    """Return the wall time: the median of three runs after a warm-up."""
    times = []
    for _ in range(4):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return median(times[1:])


@dataclass(frozen=True)
class _Back:
    """Send the broadcast bytes back to the driver, once per task."""

    state: Any  # Broadcast[bytes]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            pass
        yield pa.record_batch({"part": pa.array([self.state.value], pa.binary())})


def _line(rates: Figures) -> dict[str, Any]:
    def speedup(what: str) -> float:
        return median(two / one for one, two in zip(rates[what, 1], rates[what, 2], strict=True))

    return {
        "benchmark": "scale",
        "speedup_2": speedup(IMAGES),
        "speedup_2_read": speedup(NUMBERS),
        "speedup_2_only_read": speedup(ONLY_READ),
        "per_s": {f"{what}_{executors}": median(values) for (what, executors), values in rates.items()},
    }


def _table(rates: Figures) -> Table:
    table = Table(title="records per second, averaged training, median of the rounds", title_justify="left")
    for column in ("case", "one executor", "two", "ratio"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for what in (IMAGES, NUMBERS, ONLY_READ):
        one, two = (median(rates[what, executors]) for executors in EXECUTORS)
        table.add_row(what, f"{one:,.0f}", f"{two:,.0f}", f"{two / one:.2f}")
    return table


def _driver(constants: dict[str, float]) -> Table:
    table = Table("step", "seconds", title="cost of a state in the driver", title_justify="left")
    for name, value in constants.items():
        table.add_row(name, f"{value:.4f}")
    return table


if __name__ == "__main__":
    typer.run(measure)
