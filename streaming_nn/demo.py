"""The whole mission in one command: broker, producer, trainer, scorer, a live table, and the proof."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from streaming_nn.kafka import jars, java
from streaming_nn.kafka.broker import Broker
from streaming_nn.kafka.options import for_python
from streaming_nn.kafka.topics import Topics
from streaming_nn.log.log import Log
from streaming_nn.log.version import Record
from streaming_nn.settings import Settings, load
from streaming_nn.stream.begin import Say

UNLABELED = 0.1  # share of the images that come without their label
MALFORMED = 0.002
PARTITIONS = {
    "digits": 3,
    "digits-unlabeled": 1,
    "digits-dead": 1,
    "digits-predictions": 1,
    "digits-metrics": 1,
}
ENOUGH = 300  # labeled records: the last version at least so many before the drift is the one before it


def run(directory: Path | None, seconds: float, rate: float, say: Say) -> dict[str, Any] | None:
    """Run the demo in a folder (a temporary one without) and return its summary; None when interrupted."""
    java.find()
    home = (directory or Path(tempfile.mkdtemp(prefix="streaming-nn-demo-"))).absolute()
    try:
        with ExitStack() as stack:
            stage = stack.enter_context(_stage(home, say))
            summary = stage.play(seconds, rate)
    except KeyboardInterrupt:
        say(f"\nstopped; go on at the next record with: streaming-nn demo --dir {home}")
        return None
    if directory is None:
        shutil.rmtree(home, ignore_errors=True)
    _show(summary)
    return summary


@contextmanager
def _stage(home: Path, say: Say) -> Iterator["_Stage"]:
    """Everything that has to run, and its end whatever happens."""
    stage = _Stage(home, say)
    try:
        stage.set_up()
        yield stage
    finally:
        # a second Ctrl-C must not leave anything running
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        stage.tear_down()
        signal.signal(signal.SIGINT, before)


class _Stage:
    """The parts of one demo run."""

    def __init__(self, home: Path, say: Say) -> None:
        self.home, self.say = home, say
        self.broker: Broker | None = None
        self.producer: subprocess.Popen[str] | None = None
        self.parts: list[Any] = []  # trainer, scorer, followers: what has stop()
        self.spark: Any = None
        self.topics: Any = None

    def set_up(self) -> None:
        from streaming_nn.stream.session import session

        self.say(f"in {self.home}")
        jars.connector()  # both progress displays before anything else speaks
        jars.broker()
        with ThreadPoolExecutor(1) as pool:
            broker = pool.submit(Broker.start, self.home / "broker")
            self.say("starting Kafka and Spark")
            try:
                self.spark = session({"spark.master": "local[2]"}, "streaming-nn demo")
            finally:
                self.broker = broker.result()
        self.kafka = {"bootstrap.servers": self.broker.bootstrap}
        self.topics = Topics(self.kafka)  # kept open: the table asks each second
        for topic, partitions in PARTITIONS.items():
            self.topics.create(topic, partitions, exist_ok=True)
        self.settings = _settings(self.home, self.kafka)
        self.log = Log(self.settings.model)

    def tear_down(self) -> None:
        if self.producer is not None and self.producer.poll() is None:
            self.producer.terminate()
            self.producer.wait(15)
        for part in reversed(self.parts):
            part.stop()
        if self.topics is not None:
            self.topics.close()
        if self.spark is not None:
            self.spark.stop()
        if self.broker is not None:
            self.broker.stop()

    def play(self, seconds: float, rate: float) -> dict[str, Any]:
        """Stream, drain, replay, and count."""
        from streaming_nn.followers.follower import Followers
        from streaming_nn.followers.json_lines import JsonLines
        from streaming_nn.followers.topic import MetricsTopic
        from streaming_nn.stream.replay import verify
        from streaming_nn.stream.score import Scorer
        from streaming_nn.stream.train import Trainer

        begun = self._produced("digits")
        trainer = Trainer(self.spark, self.settings, say=self.say)
        self.parts.append(trainer)
        followers = Followers(
            trainer.log,
            [
                JsonLines(self.home / "metrics.jsonl"),
                MetricsTopic(self.kafka, "digits-metrics", self.settings.model),
            ],
            self.say,
        )
        self.parts.append(followers)
        trainer.start()
        self.say("warming up")  # an empty micro-batch: the first one of a session takes seconds
        trainer.drain()
        self._produce(seconds, rate)
        scorer = Scorer(self.spark, self.settings, say=lambda line: None)
        self.parts.append(scorer)
        drift = begun + round(rate * seconds / 2 * (1 - UNLABELED))
        self._watch(trainer, scorer, seconds, drift)
        self.say("draining what was produced")
        trainer.drain()
        scorer.drain()
        trainer.stop()
        scorer.stop()
        followers.stop(drain=10)
        self.say("learning the whole run again")
        verified = verify(self.spark, self.kafka, self.log)
        if not verified.identical:
            self.say(f"version {verified.different} differs: {verified.reason} {verified.machine}")
        return self._summary(drift, verified.identical)

    def _produce(self, seconds: float, rate: float) -> None:
        sent = sum(self._produced(t) for t in ("digits", "digits-unlabeled"))
        command = [sys.executable, "-m", "producers", "digits", "--topic", "digits"]
        command += ["--unlabeled", str(UNLABELED), "--unlabeled-topic", "digits-unlabeled"]
        command += ["--malformed", str(MALFORMED), "--rate", str(rate), "--seconds", str(seconds)]
        command += [
            "--drift-at",
            str(round(rate * seconds / 2)),
            "--first-id",
            str(sent),
            "--seed",
            str(sent),
        ]
        command += ["--kafka", f"bootstrap.servers={self.kafka['bootstrap.servers']}", "--json"]
        log = (self.home / "producer.log").open("a")
        # a session of its own: a terminal's Ctrl-C reaches us alone, and we end it in our order
        self.producer = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def _watch(self, trainer: Any, scorer: Any, seconds: float, drift: int) -> None:
        """Show what happens until the producer has ended; say a line a second where there is no terminal."""
        assert self.producer is not None
        console = Console(stderr=True)
        view = _View(self, drift)
        began, deadline = time.monotonic(), seconds + 30
        live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        with ExitStack() as stack:
            if live:
                stack.enter_context(live)
            while self.producer.poll() is None and time.monotonic() - began < deadline:
                if scorer.query is None and (self.log.head_number() or 0) >= 1:
                    scorer.start()
                trainer.wait(0.1)  # raises what the trainer died of
                if view.due():
                    view.show(live, self.say, time.monotonic() - began)
        if self.producer.poll() != 0:
            tail = (self.home / "producer.log").read_text().strip().splitlines()[-1:]
            raise RuntimeError(f"the producer ended with code {self.producer.poll()}: {' '.join(tail)}")
        if scorer.query is None:
            scorer.await_version(60)
            scorer.start()

    def _produced(self, topic: str) -> int:
        return sum(self.topics.ends([topic])[topic].values())

    def _summary(self, drift: int, identical: bool) -> dict[str, Any]:
        records = [self.log.record(n) for n in self.log.numbers()]
        rows = {name: sum(r.rows[name] for r in records) for name in records[0].rows}
        head = records[-1]
        prequential, served = head.metrics["prequential"], head.metrics["served"]
        labeled, unlabeled = self._produced("digits"), self._produced("digits-unlabeled")
        scored, letters = self._scored(), self._letters()
        accounted = (
            labeled == rows["trained"] + rows["skipped"] + rows["rejected"] and rows["rejected"] == letters
        )
        return {
            "produced_labeled": labeled,
            "trained": rows["trained"],
            "skipped": rows["skipped"],
            "dead_letters": letters,
            "produced_unlabeled": unlabeled,
            "scored": scored,
            "versions": len(records),
            "accuracy": prequential["total"]["accuracy"],
            "f1_macro": prequential["total"]["f1_macro"],
            "accuracy_served": served["total"]["accuracy"],
            "baseline_majority": head.metrics["baselines"]["majority"]["total"]["accuracy"],
            "baseline_last_class": head.metrics["baselines"]["last"]["total"]["accuracy"],
            "accuracy_before_drift": _accuracy_at(records, drift - ENOUGH),
            "accuracy_after_recovery": prequential["window"]["accuracy"],
            "accounted": accounted and scored == unlabeled,
            "replay": "identical" if identical else "different",
        }

    def _scored(self) -> int:
        """How many unlabeled records have an answer, each counted once."""
        return len(
            {
                (m["topic"], m["partition"], m["offset"])
                for m in map(json.loads, self._values("digits-predictions"))
            }
        )

    def _letters(self) -> int:
        """How many labeled records are among the dead letters, each counted once."""
        names = ("streaming_nn.topic", "streaming_nn.partition", "streaming_nn.offset")
        return len({tuple(dict(m.headers)[name] for name in names) for m in self._messages("digits-dead")})

    def _values(self, topic: str) -> Iterator[bytes]:
        return (m.value for m in self._messages(topic))

    def _messages(self, topic: str) -> Iterator[Any]:
        wanted = self._produced(topic)
        consumer = KafkaConsumer(
            topic,
            **for_python(self.kafka, KafkaConsumer),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            group_id=None,
            consumer_timeout_ms=5000,
        )
        try:
            for count, message in enumerate(consumer, 1):
                yield message
                if count == wanted:  # our own topics, without transactions: offsets are a count
                    return
                # the loop ends by the timeout where there is nothing at all
        finally:
            consumer.close()


def _settings(home: Path, kafka: dict[str, str]) -> Settings:
    return load(
        "/dev/null",
        {
            "model": str(home / "model"),
            "kafka": kafka,
            "records": {"inputs": 64, "classes": list(range(10))},
            "train": {"topics": ["digits"], "dead_letters": "digits-dead", "trigger": "500 milliseconds"},
            "score": {"topic": "digits-unlabeled", "predictions": "digits-predictions"},
        },
    )


def _accuracy_at(records: list[Record], labeled: int) -> float | None:
    """Accuracy of the window in the last version that had received no more than `labeled` records."""
    received, accuracy = 0, None
    for record in records[1:]:
        received += record.rows["received"]
        if received > labeled:
            break
        accuracy = record.metrics["prequential"]["window"]["accuracy"]
    return accuracy


class _View:
    """What the user sees while the stream runs."""

    def __init__(self, stage: _Stage, drift: int) -> None:
        self.stage, self.drift, self.last = stage, drift, 0.0
        self.seen: deque[tuple[float, int, int]] = deque(maxlen=8)  # (when, records learned, answers)

    def due(self) -> bool:
        now = time.monotonic()
        if now - self.last < 1:
            return False
        self.last = now
        return True

    def _rates(self) -> tuple[float, float]:
        """Records learned and answered a second, over the last looks."""
        (then, *before), (now, *after) = self.seen[0], self.seen[-1]
        passed = max(now - then, 1.0)
        return (after[0] - before[0]) / passed, (after[1] - before[1]) / passed

    def show(self, live: Live | None, say: Say, elapsed: float) -> None:
        number = self.stage.log.head_number()
        record = self.stage.log.record(number) if number else None
        if record is None:
            if live is None:
                say(f"{elapsed:4.0f} s  the first micro-batch is on its way")
            return
        values = self._values(record)
        if live is None:
            say(f"{elapsed:4.0f} s  " + "  ".join(f"{name} {value}" for name, value in values.items()))
        else:
            live.update(_table(values, elapsed), refresh=True)

    def _values(self, record: Record) -> dict[str, str]:
        produced = self.stage._produced("digits")
        done = sum(sum(ps.values()) for ps in record.offsets.values())
        answers = self.stage._produced("digits-predictions")
        self.seen.append((time.monotonic(), done, answers))
        learned_rate, answer_rate = self._rates()
        window, served = record.metrics["prequential"]["window"], record.metrics["served"]["window"]
        baselines = record.metrics["baselines"]
        age = time.time() - datetime.fromisoformat(record.written_at).timestamp()
        world = "changed: digits are mirrored, labels traded" if produced >= self.drift else "as it was"
        return {
            "rows/s": f"{learned_rate:,.0f}",
            "loss": _shown(window["log_loss"]),
            "accuracy": _shown(window["accuracy"]),
            "macro F1": _shown(window["f1_macro"]),
            "as served": _shown(served["accuracy"]),
            "majority": _shown(baselines["majority"]["window"]["accuracy"]),
            "last class": _shown(baselines["last"]["window"]["accuracy"]),
            "version": f"{record.number} ({age:.1f} s old)",
            "lag": f"{produced - done:,}",
            "predictions/s": f"{answer_rate:,.0f} ({answers:,} in all)",
            "dead letters": f"{self.stage._produced('digits-dead'):,}",
            "the world": world,
        }


def _shown(value: Any) -> str:
    """Show a figure of the metrics; None is one that no row has made yet."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return "–" if value is None else f"{value:,}" if type(value) is int else str(value)


def _table(values: dict[str, str], elapsed: float) -> Table:
    table = Table(title=f"streaming_nn learns handwritten digits, {elapsed:.0f} s", title_justify="left")
    table.add_column("over the last 1,000 rows")
    table.add_column("", justify="right")
    for name, value in values.items():
        table.add_row(name, value)
    return table


def _show(summary: dict[str, Any]) -> None:
    table = Table(title="What happened", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in summary.items():
        table.add_row(name.replace("_", " "), _shown(value))
    Console(stderr=True).print(table)
