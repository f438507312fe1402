"""Latency of real-time mode, duplicates after restarts, and throughput of the batch engine.

For comparison, a query that only copies records from Kafka to Kafka runs in the same session.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from rich.table import Table

from benchmarks.latency import Client, Running
from benchmarks.output import Json, print_results
from benchmarks.queries import records
from benchmarks.topics import DIFFERENT, SCHEMAS, rows, send
from streaming_nn.kafka import admin
from streaming_nn.kafka.broker import Broker
from streaming_nn.kafka.options import for_spark
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, initial
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.decode import encode
from streaming_nn.settings import Score, Settings
from streaming_nn.spark.score.realtime.scorer import RealTimeScorer
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.spark.session import session
from streaming_nn.spark.sources import kafka_frames
from streaming_nn.versions.version_log import VersionLog

RATE = 1_000  # records per second
MASTER = "local[4]"  # one thread for each of four partitions, on any number of cores
LEARNERS: dict[str, dict[str, Any]] = {
    "mlp": {"learner": "mlp", "hidden": [64]},
    "ensemble": {"learner": "ensemble", "hidden": [64]},
}
RESTART_BATCH = 10  # seconds of a real-time batch in the restarts
SHORTEST_BATCH = 5  # seconds; Spark's minimum
LIMIT = 50_000  # records per micro-batch

PATIENCE = 300  # seconds to wait for predictions: a JVM's start takes a minute on a busy machine
logger = logging.getLogger("benchmarks.score")


class Bench:
    """The broker, the session, the models and the client of one run."""

    def __init__(self, spark: SparkSession, bootstrap: str, folder: Path) -> None:
        self.spark, self.folder = spark, folder
        self.kafka = {"bootstrap.servers": bootstrap}
        self.x, self.y = rows(DIFFERENT)
        self.client = Client(spark, bootstrap, self.values("json"), folder)
        for name, options in LEARNERS.items():
            self._train(name, options)

    def values(self, format: str) -> list[bytes]:
        """Return unlabeled records."""
        return encode(replace(SCHEMAS[format], label=None), self.x)

    def _train(self, name: str, options: dict[str, Any], format: str = "json") -> None:
        schema = SCHEMAS[format]
        learner = learner_from({"inputs": schema.inputs, "classes": schema.classes, **options})
        state = initial(learner)
        model = state.model
        model, *_ = learner.learn(learner.copy(model), Batch(self.x, self.y))
        fields: dict[str, Any] = {"learner": learner.options(), "schema": schema.options()}
        log = VersionLog(self.folder / name)
        first = log.commit(None, flatten(state), **fields)
        log.commit(first, flatten(state._replace(model=model)), **fields)

    def packed(self, name: str) -> str:
        """Return the name of the same learner's model for packed records."""
        if not (self.folder / f"{name}-packed").exists():
            self._train(f"{name}-packed", LEARNERS[name], "packed")
        return f"{name}-packed"

    def settings(self, model: str, **score: Any) -> Settings:
        """Return the settings of a scorer of a model."""
        spark = {"spark.master": MASTER}
        return Settings(model=self.folder / model, kafka=self.kafka, score=Score(**score), spark=spark)

    def topics(self, name: str, partitions: int) -> tuple[str, str]:
        """Create a topic and one for its predictions."""
        topic, predictions = f"{name}-{partitions}", f"{name}-{partitions}-predictions"
        admin.create(self.kafka, topic, partitions)
        admin.create(self.kafka, predictions, partitions)
        return topic, predictions

    def copy(self, topic: str, predictions: str, seconds: int) -> StreamingQuery:
        """Start the query that only copies records, in real-time mode, with batches of `seconds`."""
        trigger: dict[str, Any] = {"realTime": f"{seconds} seconds"}
        return (
            kafka_frames.live(self.spark, self.kafka, topic)
            .select("key", "value")
            .writeStream.format("kafka")
            .options(**for_spark(self.kafka))
            .option("topic", predictions)
            .option("checkpointLocation", str(self.folder / f"{topic}-checkpoint"))
            .outputMode("update")
            .trigger(**trigger)
            .start()
        )


def _now() -> str:
    return datetime.now(UTC).isoformat()


def measure(
    seconds: Annotated[
        int, typer.Option(min=5, help="Seconds to measure, after a third of them as warm-up.")
    ] = 60,
    short: Annotated[
        bool, typer.Option("--short", help="A few seconds, one partition: does it work?")
    ] = False,
    json_: Json = False,
) -> None:
    """Measure, print a table and one JSON line."""
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.WARNING if json_ else logging.INFO)
    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder, Broker.start(folder) as broker:
        spark = session({"spark.master": MASTER})
        try:
            bench = Bench(spark, broker.bootstrap, Path(folder))
            plan = [("mlp", 1)] if short else [("mlp", 1), ("ensemble", 1), ("mlp", 4)]
            measured = latencies(bench, plan, 6 if short else seconds)
            ratios = throughput(bench, 2 if short else 8, 1 if short else 3)
        finally:
            spark.stop()
        batch_s = SHORTEST_BATCH if short else RESTART_BATCH
        restarted = restarts(bench, {"hard": 1} if short else {"clean": 3, "hard": 3}, batch_s)
    print_results(line(measured, ratios, restarted, batch_s), json_, _table(measured))


def latencies(bench: Bench, plan: list[tuple[str, int]], seconds: int) -> dict[str, dict[str, float]]:
    """Measure copying and predicting, one after the other, for each learner and number of partitions."""
    figures = {}
    for partitions in dict.fromkeys(partitions for _, partitions in plan):
        topic, predictions = bench.topics("copy", partitions)
        query = bench.copy(topic, predictions, seconds)
        logger.info("copying, %d partitions", partitions)
        run = _send(bench, topic, predictions, seconds).finish()
        figures[f"passthrough, {partitions}"] = run.after(seconds // 3).figures(_turnovers(query))
        query.stop()
        for name in [name for name, count in plan if count == partitions]:
            logger.info("%s, %d partitions", name, partitions)
            figures[f"{name}, {partitions}"] = _predict(bench, name, partitions, seconds)
    return figures


def _send(bench: Bench, topic: str, predictions: str, seconds: int) -> Running:
    return bench.client.start(topic, predictions, RATE, (seconds // 3 + seconds) * RATE, 30)


def _turnovers(query: StreamingQuery) -> list[float]:
    """Return when real-time batches ended (of time.time)."""
    return [
        datetime.fromisoformat(batch["timestamp"]).timestamp() + batch["batchDuration"] / 1000
        for batch in query.recentProgress
    ]


def _predict(bench: Bench, name: str, partitions: int, seconds: int) -> dict[str, float]:
    topic, predictions = bench.topics(name, partitions)
    settings = bench.settings(name, topic=topic, predictions=predictions, realtime_batch=f"{seconds} seconds")
    scorer = RealTimeScorer.open(bench.spark, settings)
    query = scorer.start()
    warm, log = seconds // 3, VersionLog(bench.folder / name)
    running = _send(bench, topic, predictions, seconds)
    committed = {}
    for part in (0.25, 0.5, 0.75):  # of the measured time
        time.sleep(max(running.started + warm + part * seconds - time.time(), 0))
        before = time.time()
        committed[_commit_again(log)] = before
    run = running.finish()
    turnovers = _turnovers(query)
    scorer.stop()
    reload_s = max(run.reload_seconds(number, at) for number, at in committed.items())
    return run.after(warm).figures(turnovers) | {"reload_s": round(reload_s, 3), "lost": run.lost}


def _commit_again(log: VersionLog) -> int:
    """Commit the newest version's model once more; return the number."""
    head = log.head()
    assert head is not None
    return log.commit(head, head.tensors).number


def restarts(bench: Bench, plan: dict[str, int], batch_s: int) -> dict[str, dict[str, float]]:
    """Restart the command, after Ctrl-C and after a kill, while records keep arriving."""
    figures = {}
    for how, count in plan.items():
        logger.info("%d %s restarts", count, how)
        topic, predictions = bench.topics(how, 1)
        commits = bench.folder / "mlp" / "scorers" / topic / "commits"
        running = bench.client.start(topic, predictions, RATE, 600 * RATE, PATIENCE)
        for _ in range(count):
            before = _batches(commits)
            process = _command(bench, topic, predictions, batch_s)
            while _batches(commits) < before + 2:  # these have the records that arrived meanwhile
                if process.poll() is not None:
                    raise RuntimeError(f"the scorer ended with {process.returncode} while it was predicting")
                time.sleep(0.1)
            committed = _sent(bench, predictions)
            time.sleep(0.7 * batch_s)
            while _sent(bench, predictions) == committed:  # a busy machine may not have begun the next batch
                time.sleep(0.1)
            if how == "hard":
                os.killpg(process.pid, signal.SIGKILL)  # the JVM too: it would run on for a while
            else:
                process.send_signal(signal.SIGINT)
            process.wait()
        process = _command(bench, topic, predictions, batch_s)
        time.sleep(2)
        run = running.finish(stop=True)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        figures[how] = {
            "sent": len(run.rows),
            "lost": run.lost,
            "duplicates": run.duplicates,
            "duplicates_most_s": round(run.longest_repeat(), 2),
        }
    return figures


def _sent(bench: Bench, predictions: str) -> int:
    return sum(admin.ends(bench.kafka, [predictions])[predictions].values())


def _batches(commits: Path) -> int:
    return sum(each.name.isdigit() for each in commits.glob("*"))


def _command(bench: Bench, topic: str, predictions: str, batch_s: int) -> subprocess.Popen[str]:
    """Start the scorer's command, and wait until it logs that it predicts."""
    command = [
        sys.executable,
        "-m",
        "streaming_nn.cli.app",
        "score",
        "--engine",
        "realtime",
        "--topic",
        topic,
    ]
    command += ["--predictions", predictions, "--model", str(bench.folder / "mlp"), "--master", "local[1]"]
    command += ["--bootstrap", bench.kafka["bootstrap.servers"]]
    command += ["--set", f"score.realtime_batch={batch_s} seconds"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    for logged in process.stderr:
        if logged.startswith("scoring"):
            return process
    raise RuntimeError(f"the scorer ended with {process.wait()} before it predicted")


def throughput(bench: Bench, batches: int, rounds: int) -> dict[str, float]:
    """Predict a full topic with the batch engine, alternating with a query that only copies the records."""
    figures: dict[str, float] = {}
    for format in ("packed", "json"):
        topic = f"full-{format}"
        send(bench.spark, bench.kafka, topic, bench.values(format), batches * LIMIT, 2)
        rates: dict[str, list[float]] = {"ceiling": [], "mlp": [], "ensemble": []}
        for turn, name in [(turn, name) for turn in range(rounds) for name in rates]:
            logger.info("batch engine, %s: %s, round %d", format, name, turn + 1)
            rates[name].append(_rate(bench, name, format, topic, f"{format}-{name}-{turn}"))
        medians = {name: median(each) for name, each in rates.items()}
        figures[f"{format}_ceiling_per_s"] = round(medians["ceiling"])
        for name in LEARNERS:
            figures[f"{format}_{name}_ratio"] = round(medians[name] / medians["ceiling"], 3)
    return figures


class CopyScorer(Scorer):
    """The batch engine's query, with a body that writes the records unchanged."""

    def micro_batch(self, frame: DataFrame, batch_id: int) -> None:
        written = frame.select("key", "value").write.format("kafka").options(**for_spark(self.settings.kafka))
        written.option("topic", self.settings.score.predictions).save()


def _rate(bench: Bench, name: str, format: str, topic: str, predictions: str) -> float:
    """Return records per second from trigger to trigger, over all micro-batches but the first."""
    admin.create(bench.kafka, predictions, 2)
    model = "mlp" if name == "ceiling" else name
    model = bench.packed(model) if format == "packed" else model
    settings = bench.settings(
        model,
        topic=topic,
        predictions=predictions,
        once=True,
        max_offsets_per_trigger=LIMIT,
        checkpoint=str(bench.folder / f"{predictions}-checkpoint"),
    )
    scorer = (CopyScorer if name == "ceiling" else Scorer).open(bench.spark, settings)
    query = scorer.start()
    scorer.wait()
    measured = [batch for batch in query.recentProgress if records(batch)][1:]
    admin.delete(bench.kafka, predictions)
    seconds = sum(batch["batchDuration"] for batch in measured) / 1000
    return float(sum(map(records, measured)) / seconds)


def line(
    measured: dict[str, dict[str, float]],
    ratios: dict[str, float],
    restarted: dict[str, dict[str, float]],
    batch_s: int,
) -> dict[str, Any]:
    """Return the JSON line; its short names are of one partition and the plain network."""
    ours, copied = measured["mlp, 1"], measured["passthrough, 1"]
    return {
        "benchmark": "score",
        "p50_ms": ours["p50_ms"],
        "p99_ms": ours["p99_ms"],
        "passthrough_p50_ms": copied["p50_ms"],
        "passthrough_p99_ms": copied["p99_ms"],
        "reload_s": max(each.get("reload_s", 0) for each in measured.values()),
        "lost": sum(each.get("lost", 0) for each in [*measured.values(), *restarted.values()]),
        "duplicates": sum(each["duplicates"] for each in restarted.values()),
        "throughput_ratio": ratios["packed_mlp_ratio"],
        "realtime_batch_restarted_s": batch_s,
        "latency": measured,
        "restarts": restarted,
        "throughput": ratios,
    }


def _table(measured: dict[str, dict[str, float]]) -> Table:
    table = Table(title=f"Kafka to Kafka at {RATE:,} records/s, ms", title_justify="left")
    names = ["p50_ms", "p99_ms", "p99_outside_gaps_ms", "gaps", "gap_ms", "reload_s"]
    for name in ("query, partitions", *names):
        table.add_column(name, justify="left" if "," in name else "right")
    for query, figures in measured.items():
        table.add_row(query, *(str(figures.get(name, "")) for name in names))
    return table


if __name__ == "__main__":
    typer.run(measure)
