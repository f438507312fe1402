"""The time from a record to the version that learned it, and to the first prediction by that version."""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import numpy as np
import typer
from kafka import KafkaConsumer, KafkaProducer

from benchmarks.output import Json, print_results
from benchmarks.queries import TimedTrainer, bench, delays
from benchmarks.topics import ARRAYS, rows, settings_of
from streaming_nn.kafka import admin
from streaming_nn.records.decode import encode
from streaming_nn.settings import Score
from streaming_nn.spark.score.realtime.scorer import RealTimeScorer
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.versions.version_log import VersionLog

LABELED, UNLABELED, PREDICTIONS = "labeled", "unlabeled", "predictions"
Engine = Literal["batch", "realtime"]
SCORERS: dict[Engine, type[Scorer]] = {"batch": Scorer, "realtime": RealTimeScorer}
DIFFERENT = 100_000  # rows, which the records repeat
TICK = 0.01  # seconds between two sends


def measure(
    seconds: Annotated[int, typer.Option(min=2)] = 60,
    warm_up: Annotated[int, typer.Option(min=1, help="First seconds, which are not counted.")] = 20,
    rate: Annotated[
        int, typer.Option(min=100, help="Labeled records per second; unlabeled: a tenth.")
    ] = 1000,
    engine: Annotated[Engine, typer.Option(help="What predicts.")] = "batch",
    learner: Annotated[Literal["mlp", "ensemble"], typer.Option(help="One network, or the default.")] = "mlp",
    mini_batch: Annotated[str, typer.Option(help="Rows, or auto.")] = "32",
    short: Annotated[bool, typer.Option("--short", help="4 s after 6 s of warm-up.")] = False,
    json_: Json = False,
) -> None:
    """Produce at a steady rate while a trainer and a scorer run; a table and one JSON line."""
    if short:
        seconds, warm_up = 4, 6
    options: dict[str, Any] = {"learner": learner, "hidden": [64]}
    options["mini_batch"] = mini_batch if mini_batch == "auto" else int(mini_batch)
    line: dict[str, Any] = {
        "benchmark": "freshness",
        "engine": engine,
        **options,
        "rate": rate,
        "seconds": seconds,
    }
    line |= _measure_all(seconds, warm_up, rate, engine, options)
    print_results(line, json_)


def _measure_all(
    seconds: int, warm_up: int, rate: int, engine: Engine, options: dict[str, Any]
) -> dict[str, float]:
    master = "local[3]"  # a real-time query holds a slot for its partition
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder, bench(master) as (spark, kafka):
        for topic in (LABELED, UNLABELED, PREDICTIONS):
            admin.create(kafka, topic, 1)
        score = Score(topic=UNLABELED, predictions=PREDICTIONS, engine=engine)
        settings = settings_of(kafka, LABELED, ARRAYS, options)
        settings = settings.model_copy(update={"model": Path(folder), "score": score})
        trainer = TimedTrainer.open(spark, settings)
        scorer = SCORERS[engine].open(spark, settings)
        query = trainer.start()
        processes = multiprocessing.get_context("spawn")  # a thread would share both jobs' interpreter
        stop = processes.Event()
        producer = processes.Process(target=_produce, args=(kafka, rate, stop), daemon=True)
        producer.start()
        scorer.wait_for_version()
        scorer.start()
        time.sleep(warm_up + seconds)
        stop.set()
        producer.join()
        trainer.drain()
        scorer.drain()
        fixed = delays(query, trainer.ends)
        scorer.stop()
        trainer.stop()
        sent = _times(kafka, LABELED)
        predicted = _times(kafka, PREDICTIONS)
        log = VersionLog(folder)
        learned, head = _versions(log), log.manifest(log.head_number() or 0)
        sizes = [log.manifest(number).learner["mini_batch"] for number, _, _ in learned]
    return figures(sent, learned, predicted, sent[0][0] + warm_up) | {
        "micro_batch_p50_ms": round(1000 * median(fixed), 1),
        "mini_batch_p50": median(sizes[len(sizes) // 2 :]),
        "accuracy": head.metrics["prequential"]["window"]["accuracy"],
        "accuracy_as_served": head.metrics["as_served"]["window"]["accuracy"],
    }


def _produce(kafka: dict[str, str], rate: int, stop: Event) -> None:
    x, y = rows(DIFFERENT)
    labeled, unlabeled = encode(ARRAYS, x, y), encode(ARRAYS, x)
    producer = KafkaProducer(bootstrap_servers=kafka["bootstrap.servers"], acks="all", linger_ms=0)
    started, sent = time.monotonic(), 0
    while not stop.is_set():
        due = int((time.monotonic() - started) * rate)
        for number in range(sent, due):
            producer.send(LABELED, labeled[number % len(labeled)])
            if number % 10 == 0:
                producer.send(UNLABELED, unlabeled[number % len(unlabeled)])
        sent = due
        time.sleep(TICK)
    producer.flush()
    producer.close()


def _times(kafka: dict[str, str], topic: str) -> list[tuple[float, Any]]:
    """Return for each record, by its offset, when it was sent, and the version that a prediction names."""
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=kafka["bootstrap.servers"],
        auto_offset_reset="earliest",
        consumer_timeout_ms=5000,
    )
    try:
        return [(r.timestamp / 1000, json.loads(r.value).get("version")) for r in consumer]
    finally:
        consumer.close()


def _versions(log: VersionLog) -> list[tuple[int, int, float]]:
    """Return for each version: its number, the next offset, and when its file got its name."""
    numbers = range(1, (log.head_number() or 0) + 1)
    return [(n, log.manifest(n).offsets[LABELED][0], log.path(n).stat().st_ctime) for n in numbers]


def figures(
    sent: Sequence[tuple[float, Any]],
    learned: Sequence[tuple[int, int, float]],
    predicted: Sequence[tuple[float, int]],
    since: float,
) -> dict[str, float]:
    """Return the percentiles of both times, in milliseconds, over the records sent from `since` on."""
    at = np.array([time for time, _ in sent])
    numbers, ends, when = (np.array(column) for column in zip(*learned, strict=True))
    index = np.searchsorted(ends, np.arange(len(at)), side="right")  # the first version past each offset
    first = np.full(int(numbers[-1]) + 2, np.inf)  # by version: the first prediction by it or a later one
    for when_predicted, version in predicted:
        first[version] = min(first[version], when_predicted)
    first = np.minimum.accumulate(first[::-1])[::-1]
    keep = (at >= since) & (index < len(when))
    to_version = when[index[keep]] - at[keep]
    to_score = first[numbers[index[keep]]] - at[keep]
    to_score = to_score[np.isfinite(to_score)]
    names = {"to_version": to_version, "to_score": to_score}
    return {
        f"{name}_p{p}_ms": round(1000 * float(np.percentile(values, p)), 1)
        for name, values in names.items()
        for p in (50, 99)
    } | {"records": int(keep.sum())}


if __name__ == "__main__":
    typer.run(measure)
