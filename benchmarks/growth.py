"""What grows and what does not: a log of very many versions, and a trainer that commits thousands of them."""

import os
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
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
from streaming_nn.versions.retention import Retention
from streaming_nn.versions.version import Manifest, Version
from streaming_nn.versions.version_log import VersionLog

COMMITS = 100  # of which the median is taken
LOOKS = 20  # for the head, likewise
HOUR = 3_600  # versions
KEEP_BYTES = 10**9  # not more than 10,000 versions of 2 kB: the bound on files is met first
WARM_UP = 200  # micro-batches before memory is measured
LARGE = {"learner": "mlp", "optimizer": "sgd", "hidden": [1500, 1500], "mini_batch": 1, "drift": "none"}
TENSORS = {"theta": np.arange(100, dtype=np.float32)}
ALONE = "alone"
HEAP = {  # allocated at the start: a heap that grows to its limit looks like a leak
    "spark.driver.memory": "1g",
    "spark.driver.defaultJavaOptions": "-Xms1g -XX:+AlwaysPreTouch",
}


def measure(
    versions: Annotated[int, typer.Option(min=2, help="Versions of the long log.")] = 2_592_000,
    batches: Annotated[int, typer.Option(min=0, help="Micro-batches with a state of 10 MB.")] = 2_000,
    short: Annotated[bool, typer.Option("--short", help="10,000 versions, 40 micro-batches.")] = False,
    json_: Json = False,
) -> None:
    """Commit a month of versions, then run a trainer; print a table and one JSON line."""
    if short:
        versions, batches = 10_000, 40
    line: dict[str, Any] = {"benchmark": "growth", "versions": versions, "batches": batches}
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder:
        line |= month(Path(folder), versions)
    if batches:
        for where, few in (("driver", 1000), ("tasks", 0)):
            line |= {f"{name}_{where}": value for name, value in training(batches, few).items()}
    print_results(line, json_)


def month(folder: Path, versions: int) -> dict[str, float]:
    """Commit so many versions, one per simulated second, and prune as a trainer does.

    Return what the log takes after its first hour and at its end. Nothing is synced until then: fsync would
    take 0.5 ms for each version. Then the time of a commit is that of synced ones, beside a log of ten.
    """
    log, short = VersionLog(folder / "long"), VersionLog(folder / "short")
    began, longest, after_an_hour = time.perf_counter(), 0.0, {}
    with patch("os.fsync", lambda descriptor: None):  # a mock would remember each call
        keeping, head = Retention(log, KEEP_BYTES), log.commit(None, TENSORS)
        for number in range(1, versions):
            head = log.commit(head, TENSORS, **_micro_batch(number))
            os.utime(log.path(number), (number, number))
            before = time.perf_counter()
            keeping.committed(number)
            longest = max(longest, time.perf_counter() - before)
            if number == min(HOUR, versions // 2):
                after_an_hour = {f"{name}_hour": value for name, value in _taken(log).items()}
    per_version = (time.perf_counter() - began) / versions
    return {
        **after_an_hour,
        **_taken(log),
        **_commit_times(short, log, head),
        **_reading(log),
        "simulated_commit_us": round(1e6 * per_version, 1),
        "longest_pause_ms": round(1000 * longest, 1),
        "archive_bytes_per_version": round(log.archives.size() / versions, 1),
    }


def _micro_batch(number: int) -> dict[str, Any]:
    """Return a manifest's fields, which differ from version to version as a trainer's do."""
    random = np.random.default_rng(number)
    figures = {name: float(random.random()) for name in ("accuracy", "f1_macro", "log_loss", "precision")}
    windows = {name: {**figures, "rows": 100 * number} for name in ("window", "fading", "cumulative")}
    return {
        "offsets": {"labeled": {p: 33 * number + p for p in range(3)}},
        "ranges": {"labeled": {p: (33 * (number - 1) + p, 33 * number + p) for p in range(3)}},
        "counts": {"received": 99, "trained": 98, "skipped": 0, "rejected": 1, "filtered": 0},
        "rejected_by_reason": {"not a number: price": 1},
        "metrics": {"prequential": windows, "as_served": windows, "rows": 100 * number},
        "seconds": {"learn": float(random.random()), "dead_letters": 0.0},
    }


def _taken(log: VersionLog) -> dict[str, float]:
    """Return disk, files, memory, open files, and the time that a new process takes to find the head."""
    process, files = psutil.Process(), log.files()
    seconds = []
    for _ in range(LOOKS):
        started = time.perf_counter()
        VersionLog(log.directory).head_number()
        seconds.append(time.perf_counter() - started)
    return {
        "versions_mb": round(sum(log.path(number).stat().st_size for number in files) / 1e6, 1),
        "archives_mb": round(log.archives.size() / 1e6, 1),
        "files": len(files) + len(os.listdir(log.archives.directory)),
        "memory_mb": round(process.memory_info().rss / 1e6, 1),
        "open_files": process.num_fds(),
        "head_ms": round(1000 * median(seconds), 3),
    }


def _commit_times(short: VersionLog, log: VersionLog, head: Version) -> dict[str, float]:
    """Return the median of synced commits to a log, beside those to a short one."""
    heads = {"short": short.commit(None, TENSORS, **_micro_batch(0)), "long": head}
    for _ in range(10):
        heads["short"], _ = _commit(short, heads["short"])
    times: dict[str, list[float]] = {"short": [], "long": []}
    for _ in range(COMMITS):  # alternating, because the disk's speed varies
        for name, each in (("short", short), ("long", log)):
            heads[name], seconds = _commit(each, heads[name])
            times[name].append(seconds)
    return {
        "commit_ratio": round(median(times["long"]) / median(times["short"]), 3),
        "commit_ms": round(1000 * median(times["long"]), 2),
    }


def _commit(log: VersionLog, head: Version) -> tuple[Version, float]:
    started = time.perf_counter()
    return log.commit(head, TENSORS), time.perf_counter() - started


def _reading(log: VersionLog) -> dict[str, float]:
    """Return the seconds until a sink has the head, and to read the history and a pruned version."""
    head = log.head_number() or 0
    sink = _WaitingSink(head - 1)
    started = time.perf_counter()
    sinks = Sinks(log, [sink])
    assert sink.written.wait(60)
    sink_start = time.perf_counter() - started
    sinks.stop()
    started = time.perf_counter()
    points = sum(1 for _ in log.points())
    history = time.perf_counter() - started
    started = time.perf_counter()
    VersionLog(log.directory).manifest(head // 2)
    pruned = time.perf_counter() - started
    return {
        "sink_start_s": round(sink_start, 3),
        "history_points": points,
        "history_s": round(history, 3),
        "pruned_manifest_ms": round(1000 * pruned, 1),
    }


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
            how = {"max_offsets_per_trigger": 1, "keep_bytes": 5 * 10**7, "once": True}
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
