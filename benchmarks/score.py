"""How soon an answer comes in real-time mode, what restarts repeat, and how much the batch engine answers.

Beside each figure stands a query that only passes records on, from Kafka to Kafka, in the same session.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from rich.console import Console
from rich.table import Table

from benchmarks.latency import Client, Running
from benchmarks.queries import records
from benchmarks.tell import Json, tell
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

RATE = 1_000  # records a second
MASTER = "local[4]"  # a thread for each of four partitions, on however many cores
LEARNERS: dict[str, dict[str, Any]] = {
    "mlp": {"learner": "mlp", "hidden": [64]},
    "ensemble": {"learner": "ensemble", "hidden": [64]},
}
RESTARTED = 10  # seconds of a real-time batch where restarts are counted; elsewhere it is the default
LEAST = 5  # seconds, the shortest that Spark takes
LIMIT = 50_000  # records of a micro-batch

Say = Callable[[str], None]


class Bench:
    """The broker, the session, the models and the client of one run."""

    def __init__(self, spark: SparkSession, bootstrap: str, folder: Path) -> None:
        self.spark, self.folder = spark, folder
        self.kafka = {"bootstrap.servers": bootstrap}
        self.x, self.y = rows(DIFFERENT)
        self.client = Client(spark, bootstrap, self.values("json"), folder)
        for name, options in LEARNERS.items():
            self._learn(name, options)

    def values(self, format: str) -> list[bytes]:
        """Give unlabeled records."""
        return encode(replace(SCHEMAS[format], label=None), self.x)

    def _learn(self, name: str, options: dict[str, Any], format: str = "json") -> None:
        schema = SCHEMAS[format]
        learner = learner_from({"inputs": schema.inputs, "classes": schema.classes, **options})
        state = initial(learner)
        model = state.model
        for at in range(0, DIFFERENT, 32):
            model, _ = learner.step(model, Batch(self.x[at : at + 32], self.y[at : at + 32]))
        learned: dict[str, Any] = {"learner": learner.options(), "schema": schema.options()}
        log = VersionLog(self.folder / name)
        first = log.commit(None, flatten(state), **learned)
        log.commit(first, flatten(state._replace(model=model)), **learned)

    def packed(self, name: str) -> str:
        """Give the model of the same learner for packed records."""
        if not (self.folder / f"{name}-packed").exists():
            self._learn(f"{name}-packed", LEARNERS[name], "packed")
        return f"{name}-packed"

    def settings(self, model: str, **score: Any) -> Settings:
        """Give the settings of a scorer of a model."""
        spark = {"spark.master": MASTER}
        return Settings(model=self.folder / model, kafka=self.kafka, score=Score(**score), spark=spark)

    def topics(self, name: str, partitions: int) -> tuple[str, str]:
        """Create a topic and one for its answers."""
        asked, answers = f"{name}-{partitions}-asked", f"{name}-{partitions}-answers"
        admin.create(self.kafka, asked, partitions)
        admin.create(self.kafka, answers, partitions)
        return asked, answers

    def passing(self, asked: str, answers: str, seconds: int) -> StreamingQuery:
        """Start the query that only passes records on, in real-time mode, with batches of so many seconds."""
        when: dict[str, Any] = {"realTime": f"{seconds} seconds"}
        return (
            kafka_frames.live(self.spark, self.kafka, asked)
            .select("key", "value")
            .writeStream.format("kafka")
            .options(**for_spark(self.kafka))
            .option("topic", answers)
            .option("checkpointLocation", str(self.folder / f"{asked}-checkpoint"))
            .outputMode("update")
            .trigger(**when)
            .start()
        )


def _now() -> str:
    return datetime.now(UTC).isoformat()


def measure(
    seconds: Annotated[int, typer.Option(min=5, help="Measured, after a third of it as warm-up.")] = 60,
    short: Annotated[bool, typer.Option("--short", help="Seconds, one partition: whether it runs.")] = False,
    json_: Json = False,
) -> None:
    """Measure, print a table and one JSON line."""
    console = Console(stderr=True, quiet=json_)

    def say(line: str) -> None:
        console.print(line)

    with tempfile.TemporaryDirectory(prefix="streaming-nn-bench-") as folder, Broker.start(folder) as broker:
        spark = session({"spark.master": MASTER})
        try:
            bench = Bench(spark, broker.bootstrap, Path(folder))
            plan = [("mlp", 1)] if short else [("mlp", 1), ("ensemble", 1), ("mlp", 4)]
            found = latencies(bench, plan, 6 if short else seconds, say)
            ratios = throughput(bench, 2 if short else 8, 1 if short else 3, say)
        finally:
            spark.stop()
        batch_s = LEAST if short else RESTARTED
        repeated = restarts(bench, {"hard": 1} if short else {"clean": 3, "hard": 3}, batch_s, say)
    tell(line(found, ratios, repeated, batch_s), json_, _table(found))


def latencies(
    bench: Bench, plan: list[tuple[str, int]], seconds: int, say: Say
) -> dict[str, dict[str, float]]:
    """Measure passing on and answering, one after the other, for each learner and number of partitions."""
    found = {}
    for partitions in dict.fromkeys(partitions for _, partitions in plan):
        asked, answers = bench.topics("passing", partitions)
        query = bench.passing(asked, answers, seconds)
        say(f"passing on, {partitions} partitions")
        run = _sending(bench, asked, answers, seconds).finish()
        found[f"passthrough, {partitions}"] = run.after(seconds // 3).figures(_turnovers(query))
        query.stop()
        for name in [name for name, its in plan if its == partitions]:
            say(f"{name}, {partitions} partitions")
            found[f"{name}, {partitions}"] = _answered(bench, name, partitions, seconds)
    return found


def _sending(bench: Bench, asked: str, answers: str, seconds: int) -> Running:
    return bench.client.start(asked, answers, RATE, (seconds // 3 + seconds) * RATE, 30)


def _turnovers(query: StreamingQuery) -> list[float]:
    """Give when real-time batches ended, of time.time."""
    return [
        datetime.fromisoformat(told["timestamp"]).timestamp() + told["batchDuration"] / 1000
        for told in query.recentProgress
    ]


def _answered(bench: Bench, name: str, partitions: int, seconds: int) -> dict[str, float]:
    asked, answers = bench.topics(name, partitions)
    settings = bench.settings(name, topic=asked, predictions=answers, realtime_batch=f"{seconds} seconds")
    scorer = RealTimeScorer(bench.spark, settings)
    query = scorer.start()
    warm, log = seconds // 3, VersionLog(bench.folder / name)
    running = _sending(bench, asked, answers, seconds)
    committed = {}
    for part in (0.25, 0.5, 0.75):  # of the time that is measured
        time.sleep(max(running.began + warm + part * seconds - time.time(), 0))
        before = time.time()
        committed[_again(log)] = before
    run = running.finish()
    turnovers = _turnovers(query)
    scorer.stop()
    reload_s = max(run.in_force(number, at) for number, at in committed.items())
    return run.after(warm).figures(turnovers) | {"reload_s": round(reload_s, 3), "lost": run.lost}


def _again(log: VersionLog) -> int:
    """Append the newest version's model once more; give the number."""
    head = log.head()
    assert head is not None
    return log.commit(head, head.tensors).number


def restarts(bench: Bench, plan: dict[str, int], batch_s: int, say: Say) -> dict[str, dict[str, float]]:
    """End and start the command again, by Ctrl-C and by killing it, while records keep coming."""
    found = {}
    for how, count in plan.items():
        say(f"{count} {how} restarts")
        asked, answers = bench.topics(how, 1)
        commits = bench.folder / "mlp" / "scorers" / asked / "commits"
        running = bench.client.start(asked, answers, RATE, 600 * RATE, 60)
        for _ in range(count):
            ended = _batches(commits)
            process = _command(bench, asked, answers, batch_s)
            while _batches(commits) < ended + 2:  # these have what came while nothing answered
                if process.poll() is not None:
                    raise RuntimeError(f"the scorer ended with {process.returncode} while it answered")
                time.sleep(0.1)
            time.sleep(0.7 * batch_s)
            if how == "hard":
                os.killpg(process.pid, signal.SIGKILL)  # the JVM too: left alone it goes on for a while
            else:
                process.send_signal(signal.SIGINT)
            process.wait()
        process = _command(bench, asked, answers, batch_s)
        time.sleep(2)
        run = running.finish(stop=True)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        found[how] = {
            "sent": len(run.rows),
            "lost": run.lost,
            "doubled": run.doubled,
            "doubled_most_s": round(run.worst_repeat(), 2),
        }
    return found


def _batches(commits: Path) -> int:
    return sum(each.name.isdigit() for each in commits.glob("*"))


def _command(bench: Bench, asked: str, answers: str, batch_s: int) -> subprocess.Popen[str]:
    """Start the scorer's command, and wait until it says that it answers."""
    command = [
        sys.executable,
        "-m",
        "streaming_nn.cli.app",
        "score",
        "--engine",
        "realtime",
        "--topic",
        asked,
    ]
    command += ["--predictions", answers, "--model", str(bench.folder / "mlp"), "--master", "local[1]"]
    command += ["--bootstrap", bench.kafka["bootstrap.servers"]]
    command += ["--set", f"score.realtime_batch={batch_s} seconds"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    for said in process.stderr:
        if said.startswith("answering"):
            return process
    raise RuntimeError(f"the scorer ended with {process.wait()} before it answered")


def throughput(bench: Bench, batches: int, rounds: int, say: Say) -> dict[str, float]:
    """Let the batch engine answer a full topic, in turns with a query that writes the records as they are."""
    found: dict[str, float] = {}
    for format in ("packed", "json"):
        asked = f"full-{format}"
        send(bench.spark, bench.kafka, asked, bench.values(format), batches * LIMIT, 2)
        rates: dict[str, list[float]] = {"ceiling": [], "mlp": [], "ensemble": []}
        for turn, name in [(turn, name) for turn in range(rounds) for name in rates]:
            say(f"batch engine, {format}: {name}, round {turn + 1}")
            rates[name].append(_rate(bench, name, format, asked, f"{format}-{name}-{turn}"))
        middle = {name: median(each) for name, each in rates.items()}
        found[f"{format}_ceiling_per_s"] = round(middle["ceiling"])
        for name in LEARNERS:
            found[f"{format}_{name}_ratio"] = round(middle[name] / middle["ceiling"], 3)
    return found


class Passing(Scorer):
    """The batch engine's query, with a body that writes the records as they are."""

    def micro_batch(self, frame: DataFrame, batch_id: int) -> None:
        written = frame.select("key", "value").write.format("kafka").options(**for_spark(self.settings.kafka))
        written.option("topic", self.settings.score.predictions).save()


def _rate(bench: Bench, name: str, format: str, asked: str, answers: str) -> float:
    """Records a second over the micro-batches but the first, from trigger to trigger."""
    admin.create(bench.kafka, answers, 2)
    model = "mlp" if name == "ceiling" else name
    model = bench.packed(model) if format == "packed" else model
    settings = bench.settings(
        model,
        topic=asked,
        predictions=answers,
        once=True,
        max_offsets_per_trigger=LIMIT,
        checkpoint=str(bench.folder / f"{answers}-checkpoint"),
    )
    scorer = (Passing if name == "ceiling" else Scorer)(bench.spark, settings)
    query = scorer.start()
    scorer.wait()
    told = [each for each in query.recentProgress if records(each)][1:]
    admin.delete(bench.kafka, answers)
    took = sum(each["batchDuration"] for each in told) / 1000
    return float(sum(map(records, told)) / took)


def line(
    found: dict[str, dict[str, float]],
    ratios: dict[str, float],
    repeated: dict[str, dict[str, float]],
    batch_s: int,
) -> dict[str, Any]:
    """Put the figures together; those of one partition and the plain network have the short names."""
    ours, passing = found["mlp, 1"], found["passthrough, 1"]
    return {
        "benchmark": "score",
        "p50_ms": ours["p50_ms"],
        "p99_ms": ours["p99_ms"],
        "passthrough_p50_ms": passing["p50_ms"],
        "passthrough_p99_ms": passing["p99_ms"],
        "reload_s": max(each.get("reload_s", 0) for each in found.values()),
        "lost": sum(each.get("lost", 0) for each in [*found.values(), *repeated.values()]),
        "doubled": sum(each["doubled"] for each in repeated.values()),
        "throughput_ratio": ratios["packed_mlp_ratio"],
        "realtime_batch_restarted_s": batch_s,
        "latency": found,
        "restarts": repeated,
        "throughput": ratios,
    }


def _table(found: dict[str, dict[str, float]]) -> Table:
    table = Table(title=f"Kafka to Kafka at {RATE:,} records/s, ms", title_justify="left")
    names = ["p50_ms", "p99_ms", "p99_outside_gaps_ms", "gaps", "gap_ms", "reload_s"]
    for name in ("query, partitions", *names):
        table.add_column(name, justify="left" if "," in name else "right")
    for query, figures in found.items():
        table.add_row(query, *(str(figures.get(name, "")) for name in names))
    return table


if __name__ == "__main__":
    typer.run(measure)
