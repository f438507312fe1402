"""What grows and what doesn't: a log of very many versions, and a trainer that has cut thousands of them."""

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
from benchmarks.queries import bench
from benchmarks.tell import Json, tell
from streaming_nn.sinks.sink import Sinks
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version import Manifest, Version, encode, stub
from streaming_nn.versions.version_log import VersionLog

APPENDS = 100  # of which the median is taken
WARM_UP = 200  # micro-batches before memory is looked at
LARGE = {"learner": "mlp", "optimizer": "sgd", "hidden": [1500, 1500], "mini_batch": 1, "drift": "none"}
TENSORS = {"theta": np.arange(100, dtype=np.float32)}
ALONE = "alone"
HEAP = {  # there from the first moment: a heap that grows to its limit looks like a leak
    "spark.driver.memory": "1g",
    "spark.driver.defaultJavaOptions": "-Xms1g -XX:+AlwaysPreTouch",
}


def measure(
    versions: Annotated[int, typer.Option(min=1000, help="Of the long log.")] = 100_000,
    batches: Annotated[int, typer.Option(min=0, help="Micro-batches with a state of 10 MB.")] = 2_000,
    short: Annotated[bool, typer.Option("--short", help="2,000 versions, 40 micro-batches.")] = False,
    json_: Json = False,
) -> None:
    """Make a long log, measure what is asked of one, then run a trainer; a table and one JSON line."""
    if short:
        versions, batches = 2_000, 40
    line: dict[str, Any] = {"benchmark": "growth", "versions": versions, "batches": batches}
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder:
        line |= long_log(Path(folder), versions)
    if batches:
        for path, few in (("driver", 1000), ("tasks", 0)):
            line |= {f"{name}_{path}": value for name, value in training(batches, few).items()}
    tell(line, json_)


def long_log(folder: Path, versions: int) -> dict[str, float]:
    """Measure a log of `versions`, all but the last of them stubs, beside one of ten.

    The stubs are real ones, written without a log's fsyncs: so many would take a quarter of an hour.
    """
    short, long = VersionLog(folder / "short"), VersionLog(folder / "long")
    heads = {"short": short.commit(None, TENSORS)}
    for _ in range(10):
        heads["short"], _ = _committed(short, heads["short"])
    _begun(long, versions)
    began = time.perf_counter()
    head = VersionLog(long.directory).head_number()
    found = time.perf_counter() - began
    assert head == versions - 1
    before = psutil.Process().memory_info().rss
    follower = _Waiting(head - 1)
    began = time.perf_counter()
    sinks = Sinks(long, [follower])
    assert follower.came.wait(60)
    follow = time.perf_counter() - began
    sinks.stop()
    times: dict[str, list[float]] = {"short": [], "long": []}
    heads["long"] = long.read(head)
    for _ in range(APPENDS):  # in turns, as the disk's mood changes
        for name, log in (("short", short), ("long", long)):
            heads[name], seconds = _committed(log, heads[name])
            times[name].append(seconds)
    grown = psutil.Process().memory_info().rss - before
    return {
        "head_ms_100k": round(1000 * found, 3),
        "append_ratio_100k": round(median(times["long"]) / median(times["short"]), 3),
        "append_ms": round(1000 * median(times["long"]), 2),
        "follower_start_s": round(follow, 3),
        "memory_mb": round(grown / 1e6, 1),
    }


def _begun(log: VersionLog, stubs: int) -> None:
    """Begin a log with so many stubs, the last version of which is whole."""
    log.versions.mkdir(parents=True)
    record = Manifest(0, kind="learned", nonce="0" * 32)
    for number in range(stubs):
        data = encode(Version(replace(record, number=number), TENSORS))
        log.path(number).write_bytes(data if number == stubs - 1 else stub(data))


def _committed(log: VersionLog, head: Version) -> tuple[Version, float]:
    began = time.perf_counter()
    return log.commit(head, TENSORS), time.perf_counter() - began


class _Waiting:
    """A follower that tells when a version has come to it."""

    name = "waiting"

    def __init__(self, place: int) -> None:
        self.at, self.came = place, threading.Event()

    def position(self) -> int:
        return self.at

    def write(self, record: Manifest) -> None:
        self.at = record.number
        self.came.set()

    def close(self) -> None:
        pass


def training(batches: int, few: int) -> dict[str, float]:
    """Cut a version of 10 MB for each of `batches` records; give what memory and temporary files became.

    `few` as in the trainer: with 0 tasks learn, and the state is broadcast to them.
    """
    marks: list[tuple[dict[str, float], float]] = []
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder:
        local = Path(folder, "local")
        with bench("local[2]", **HEAP, **{"spark.local.dir": str(local)}) as (spark, kafka):
            topics.fill(spark, kafka, ALONE, "packed", batches, 1)
            how = {"max_offsets_per_trigger": 1, "keep_versions": 5, "once": True}
            asked = topics.settings_of(kafka, ALONE, topics.SCHEMAS["packed"], LARGE, **how)
            here = psutil.Process()

            class Watched(Trainer):
                def _thin(self) -> None:
                    super()._thin()
                    if self.head.number % 20 == 0:
                        marks.append((_resident(here), _size(local)))

            with patch("streaming_nn.spark.train.trainer.FEW", few):
                trainer = Watched(spark, asked.model_copy(update={"model": Path(folder, "model")}))
                trainer.start()
                trainer.wait()
            assert trainer.head.number == batches
            state = sum(tensor.nbytes for tensor in trainer.head.tensors.values())
    warm = marks[min(WARM_UP // 20, len(marks) // 2) :]
    memory, files = zip(*warm, strict=True)
    tenth = max(1, len(memory) // 10)
    first, last = (_medians(part) for part in (memory[:tenth], memory[-tenth:]))
    return {
        "state_mb": round(state / 1e6, 1),
        "memory_ratio": round(sum(last.values()) / sum(first.values()), 3),
        "memory_mb": round(sum(last.values()) / 1e6),
        **{f"{who}_growth_mb": round((last[who] - first[who]) / 1e6, 1) for who in last},
        "temporary_mb": round(files[-1] / 1e6, 1),
        "temporary_growth_mb": round((files[-1] - files[0]) / 1e6, 1),
    }


def _medians(marks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {who: median(mark[who] for mark in marks) for who in marks[0]}


def _resident(process: psutil.Process) -> dict[str, float]:
    """Bytes of this process, of Spark's JVM, and of the workers; the broker is another matter."""
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
    """Bytes of a folder's files; those that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return float(total)


if __name__ == "__main__":
    typer.run(measure)
