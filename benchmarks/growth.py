"""What grows and what does not: a log of very many versions, and a trainer that commits thousands of them."""

import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import psutil
import typer

from benchmarks import topics
from benchmarks.output import Json, print_results
from benchmarks.queries import bench
from streaming_nn.sinks.sink import Sinks
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version import Manifest, Version, encode, stub
from streaming_nn.versions.version_log import VersionLog

COMMITS = 100  # of which the median is taken
WARM_UP = 200  # micro-batches before memory is measured
LARGE = {"learner": "mlp", "optimizer": "sgd", "hidden": [1500, 1500], "mini_batch": 1, "drift": "none"}
TENSORS = {"theta": np.arange(100, dtype=np.float32)}
ALONE = "alone"
HEAP = {  # allocated at the start: a heap that grows to its limit looks like a leak
    "spark.driver.memory": "1g",
    "spark.driver.defaultJavaOptions": "-Xms1g -XX:+AlwaysPreTouch",
}


def measure(
    versions: Annotated[int, typer.Option(min=1000, help="Versions of the long log.")] = 100_000,
    batches: Annotated[int, typer.Option(min=0, help="Micro-batches with a state of 10 MB.")] = 2_000,
    short: Annotated[bool, typer.Option("--short", help="2,000 versions, 40 micro-batches.")] = False,
    json_: Json = False,
) -> None:
    """Write a long log and measure it, then run a trainer; print a table and one JSON line."""
    if short:
        versions, batches = 2_000, 40
    line: dict[str, Any] = {"benchmark": "growth", "versions": versions, "batches": batches}
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder:
        line |= long_log(Path(folder), versions)
    if batches:
        for where, few in (("driver", 1000), ("tasks", 0)):
            line |= {f"{name}_{where}": value for name, value in training(batches, few).items()}
    print_results(line, json_)


def long_log(folder: Path, versions: int) -> dict[str, float]:
    """Measure a log of `versions`, all but the last of them pruned, beside one of ten.

    The pruned ones are real files, but written without fsync, which would take a quarter of an hour.
    """
    short, long = VersionLog(folder / "short"), VersionLog(folder / "long")
    heads = {"short": short.commit(None, TENSORS)}
    for _ in range(10):
        heads["short"], _ = _commit(short, heads["short"])
    _write_pruned(long, versions)
    started = time.perf_counter()
    head = VersionLog(long.directory).head_number()
    finding = time.perf_counter() - started
    assert head == versions - 1
    before = psutil.Process().memory_info().rss
    sink = _WaitingSink(head - 1)
    started = time.perf_counter()
    sinks = Sinks(long, [sink])
    assert sink.written.wait(60)
    resuming = time.perf_counter() - started
    sinks.stop()
    times: dict[str, list[float]] = {"short": [], "long": []}
    heads["long"] = long.read(head)
    for _ in range(COMMITS):  # alternating, because the disk's speed varies
        for name, log in (("short", short), ("long", long)):
            heads[name], seconds = _commit(log, heads[name])
            times[name].append(seconds)
    grown = psutil.Process().memory_info().rss - before
    return {
        "head_ms_100k": round(1000 * finding, 3),
        "commit_ratio_100k": round(median(times["long"]) / median(times["short"]), 3),
        "commit_ms": round(1000 * median(times["long"]), 2),
        "sink_start_s": round(resuming, 3),
        "memory_mb": round(grown / 1e6, 1),
    }


def _write_pruned(log: VersionLog, count: int) -> None:
    """Write a log of so many versions, all but the last of which are pruned."""
    log.versions.mkdir(parents=True)
    manifest = Manifest(0, kind="learned", nonce="0" * 32)
    for number in range(count):
        data = encode(Version(replace(manifest, number=number), TENSORS))
        log.path(number).write_bytes(data if number == count - 1 else stub(data))


def _commit(log: VersionLog, head: Version) -> tuple[Version, float]:
    started = time.perf_counter()
    return log.commit(head, TENSORS), time.perf_counter() - started


class _WaitingSink:
    """A sink that sets an event when a version is written to it."""

    name = "waiting"

    def __init__(self, position: int) -> None:
        self.at, self.written = position, threading.Event()

    def position(self) -> int:
        return self.at

    def write(self, manifest: Manifest) -> None:
        self.at = manifest.number
        self.written.set()

    def close(self) -> None:
        pass


def training(batches: int, few: int) -> dict[str, float]:
    """Commit a version of 10 MB for each of `batches` records; return the growth of memory and files.

    `few` as in the trainer: with 0 tasks learn, and the state is broadcast to them.
    """
    samples: list[tuple[dict[str, float], float]] = []
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder:
        local = Path(folder, "local")
        with bench("local[2]", **HEAP, **{"spark.local.dir": str(local)}) as (spark, kafka):
            topics.fill(spark, kafka, ALONE, "packed", batches, 1)
            how = {"max_offsets_per_trigger": 1, "keep_versions": 5, "once": True}
            settings = topics.settings_of(kafka, ALONE, topics.SCHEMAS["packed"], LARGE, **how)
            process = psutil.Process()

            class Watched(Trainer):
                def _publish(self, *what: Any) -> None:
                    super()._publish(*what)
                    if self.head.number % 20 == 0:
                        samples.append((_resident(process), _size(local)))

            with patch("streaming_nn.spark.train.executor.DRIVER_RECORDS", few):
                trainer = Watched.open(spark, settings.model_copy(update={"model": Path(folder, "model")}))
                trainer.start()
                trainer.wait()
            assert trainer.head.number == batches
            state = sum(tensor.nbytes for tensor in trainer.head.tensors.values())
    warm = samples[min(WARM_UP // 20, len(samples) // 2) :]
    memory, files = zip(*warm, strict=True)
    tenth = max(1, len(memory) // 10)
    first, last = (_medians(part) for part in (memory[:tenth], memory[-tenth:]))
    return {
        "state_mb": round(state / 1e6, 1),
        "memory_ratio": round(sum(last.values()) / sum(first.values()), 3),
        "memory_mb": round(sum(last.values()) / 1e6),
        **{f"{name}_growth_mb": round((last[name] - first[name]) / 1e6, 1) for name in last},
        "temporary_mb": round(files[-1] / 1e6, 1),
        "temporary_growth_mb": round((files[-1] - files[0]) / 1e6, 1),
    }


def _medians(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: median(sample[name] for sample in samples) for name in samples[0]}


def _resident(process: psutil.Process) -> dict[str, float]:
    """Return the bytes of this process, of Spark's JVM and of the workers, without the broker."""
    bytes_ = {"python": float(process.memory_info().rss), "jvm": 0.0, "workers": 0.0}
    for each in process.children(recursive=True):
        try:
            command, resident = each.cmdline(), each.memory_info().rss
        except psutil.Error:  # it has ended
            continue
        if any("pyspark.daemon" in word for word in command):
            bytes_["workers"] += resident
        elif any("SparkSubmit" in word for word in command):
            bytes_["jvm"] += resident
    return bytes_


def _size(folder: Path) -> float:
    """Return the bytes of a directory's files; those that are deleted meanwhile count 0."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return float(total)


if __name__ == "__main__":
    typer.run(measure)
