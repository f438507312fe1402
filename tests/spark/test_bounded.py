"""What a run takes after some hundred micro-batches is what it took after the first ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from kafka_topics import fill, labeled, rows_of, settings_of, unlabeled
from pyspark.sql import SparkSession

from streaming_nn.sinks.json_lines import JsonLinesSink
from streaming_nn.sinks.sink import Sinks
from streaming_nn.spark import temporary
from streaming_nn.spark.query import Job
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.spark.train.trainer import Trainer

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

BATCHES = 300
WARM = 100  # micro-batches: by then Spark has its threads, and deletes old batches


class Taken(NamedTuple):
    """What this process, its JVM and its workers have open, and what is on the disk."""

    open_files: int
    temporary_files: int
    temporary_bytes: int
    checkpoint_files: int
    checkpoint_bytes: int


def taken(checkpoint: Path) -> Taken:
    own = psutil.Process()
    opened = sum(_open_files(process) for process in (own, *own.children(recursive=True)))
    return Taken(opened, *_size(temporary.directory()), *_size(checkpoint))


def _open_files(process: psutil.Process) -> int:
    try:
        return 0 if "kafka.Kafka" in process.cmdline() else process.num_fds()
    except psutil.Error:  # it has just ended
        return 0


def _size(folder: Path) -> tuple[int, int]:
    sizes = []
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # deleted just now
            continue
    return len(sizes), sum(sizes)


def watched(kind: type[Any], checkpoint: Callable[[Any], Path]) -> tuple[type[Any], list[Taken]]:
    """Return a job that counts after WARM micro-batches, and after BATCHES."""
    counts: list[Taken] = []

    class Watched(kind):  # type: ignore[misc]
        done = 0

        def micro_batch(self, frame: Any, batch_id: int) -> None:
            super().micro_batch(frame, batch_id)
            self.done += 1
            if self.done in (WARM, BATCHES):
                counts.append(taken(checkpoint(self)))

    return Watched, counts


def check(job: Job, counts: list[Taken]) -> None:
    job.start()  # type: ignore[attr-defined]
    job.wait()
    before, after = counts
    assert after.open_files <= before.open_files + 10
    assert after.temporary_files <= before.temporary_files + 20
    assert after.temporary_bytes <= before.temporary_bytes + 2_000_000
    assert after.checkpoint_files <= before.checkpoint_files + 4
    assert after.checkpoint_bytes <= before.checkpoint_bytes + 4_000


def test_a_trainer_and_a_scorer_take_no_more_with_time(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    kafka = broker.options
    topic, new, predictions = (broker.topic(name) for name in ("known", "new", "predictions"))
    fill(kafka, topic, labeled(BATCHES))
    fill(kafka, new, unlabeled(BATCHES))
    sections = {
        "train": {"max_offsets_per_trigger": 1, "keep_bytes": "2 MB"},
        "score": {"topic": new, "predictions": predictions, "once": True, "max_offsets_per_trigger": 1},
    }
    settings = settings_of(kafka, tmp_path / "model", topic, **sections)
    kind, counts = watched(Trainer, lambda trainer: trainer.source.checkpoint)
    trainer = kind.open(spark, settings)
    sinks = Sinks(trainer.log, [JsonLinesSink(tmp_path / "metrics.jsonl")])
    check(trainer, counts)
    assert sinks.stop(drain=30)
    assert rows_of(settings.model)["trained"] == BATCHES
    assert _size(settings.model)[1] < 2_200_000
    assert _size(tmp_path / "model" / "versions")[0] < BATCHES
    kind, counts = watched(Scorer, lambda scorer: Path(scorer.checkpoint))
    check(kind.open(spark, settings), counts)
