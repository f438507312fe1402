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

from streaming_nn.demo.scenarios import Scenario, scenario_of
from streaming_nn.kafka import jars, java
from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.broker import Broker
from streaming_nn.kafka.options import for_python
from streaming_nn.settings import Settings, load
from streaming_nn.sinks.sink import Say
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

MALFORMED = 0.002
# the first compiler alone and the serial collector: a minute's run is over before the others pay
SPARK = {
    "spark.master": "local[2]",
    "spark.driver.defaultJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}
PARTITIONS = {"": 3, "-unlabeled": 1, "-dead": 1, "-predictions": 1, "-metrics": 1}  # by what ends a topic


def run(
    directory: Path | None, seconds: float, rate: float | None, say: Say, stream: str = "digits"
) -> dict[str, Any] | None:
    """Run a stream's demo in a folder (a temporary one without); return its summary, None when interrupted.

    Raises ValueError for a stream that has no demo, for a rate that it doesn't have, and for a folder that
    can't be one.
    """
    scenario = scenario_of(stream)
    rate = scenario.paced(rate)
    _check_folder(directory)
    java.find()
    home = (directory or Path(tempfile.mkdtemp(prefix="streaming-nn-demo-"))).absolute()
    try:
        with ExitStack() as stack:
            stage = stack.enter_context(_stage(scenario, home, say))
            summary = stage.play(seconds, rate)
    except KeyboardInterrupt:
        say(f"\nstopped; go on at the next record with: streaming-nn demo --dir {home} --stream {stream}")
        return None
    if directory is None:
        shutil.rmtree(home, ignore_errors=True)
    _show(summary)
    return summary


def _check_folder(directory: Path | None) -> None:
    """Raise ValueError where the folder, or one that it is in, is a file."""
    path = Path() if directory is None else directory.absolute()
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir():
        raise ValueError(f"--dir must be a folder; got {str(directory)!r}, and {there} is none")


@contextmanager
def _stage(scenario: Scenario, home: Path, say: Say) -> Iterator["_Stage"]:
    """Everything that has to run, and its end whatever happens."""
    stage = _Stage(scenario, home, say)
    try:
        stage.set_up()
        yield stage
    finally:
        # a second Ctrl-C must not leave anything running
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        stage.tear_down()
        signal.signal(signal.SIGINT, before)


class _Stage:
    """The parts of one demo run; what is played is the scenario's."""

    def __init__(self, scenario: Scenario, home: Path, say: Say) -> None:
        self.scenario, self.home, self.say = scenario, home, say
        self.broker: Broker | None = None
        self.producer: subprocess.Popen[str] | None = None
        self.parts: list[Any] = []  # trainer, scorer, followers: what has stop()
        self.spark: Any = None
        self.topics: Any = None

    def set_up(self) -> None:
        from streaming_nn.spark.session import session

        self.say(f"in {self.home}")
        jars.connector()  # both progress displays before anything else speaks
        jars.broker()
        with ThreadPoolExecutor(1) as pool:
            kafka = pool.submit(self._start_kafka)
            self.say("starting Kafka and Spark")
            try:
                self.spark = session(SPARK, "streaming-nn demo")
            finally:
                kafka.result()
        self.settings = _settings(self.scenario, self.home, self.kafka)
        self.log = VersionLog(self.settings.model)

    def _start_kafka(self) -> None:
        self.broker = Broker.start(self.home / "broker")
        self.kafka = {"bootstrap.servers": self.broker.bootstrap}
        self.topics = KafkaAdmin(self.kafka)  # kept open: the table asks each second
        for end, partitions in PARTITIONS.items():
            self.topics.create(self.scenario.stream + end, partitions, exist_ok=True)

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
        from streaming_nn.sinks.json_lines import JsonLinesSink
        from streaming_nn.sinks.kafka_topic import KafkaTopicSink
        from streaming_nn.sinks.sink import Sinks
        from streaming_nn.spark.replay.verify import verify
        from streaming_nn.spark.score.scorer import Scorer
        from streaming_nn.spark.train.trainer import Trainer

        begun = self.produced()
        trainer = Trainer(self.spark, self.settings, say=self.say)
        self.parts.append(trainer)
        followers = Sinks(
            trainer.log,
            [
                JsonLinesSink(self.home / "metrics.jsonl"),
                KafkaTopicSink(self.kafka, f"{self.scenario.stream}-metrics", self.settings.model),
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
        drift = self.scenario.drift(begun, rate, seconds)
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
        name, sent = self.scenario.stream, self.produced() + self.produced("-unlabeled")
        flags: dict[str, Any] = {
            "topic": name,
            "unlabeled-topic": f"{name}-unlabeled",
            "unlabeled": self.scenario.unlabeled,
            "malformed": MALFORMED,
            "rate": rate,
            "seconds": seconds,
            "first-id": sent,
            "seed": sent,
            "kafka": f"bootstrap.servers={self.kafka['bootstrap.servers']}",
        }
        if len(self.scenario.worlds) > 1:
            flags["drift-at"] = round(rate * seconds / 2)
        command = [sys.executable, "-m", "producers", name, "--json"]
        command += [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
        log = (self.home / "producer.log").open("a")
        # a session of its own: a terminal's Ctrl-C reaches us alone, and we end it in our order
        self.producer = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def _watch(self, trainer: Any, scorer: Any, seconds: float, drift: int | None) -> None:
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

    def produced(self, end: str = "") -> int:
        """How many records the topic with this end holds; the labeled one without."""
        topic = self.scenario.stream + end
        return sum(self.topics.ends([topic])[topic].values())

    def _summary(self, drift: int | None, identical: bool) -> dict[str, Any]:
        records = [self.log.manifest(n) for n in self.log.numbers()]
        rows = {name: sum(r.counts[name] for r in records) for name in records[0].counts}
        labeled, unlabeled = self.produced(), self.produced("-unlabeled")
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
            **self.scenario.outcome(records, drift),
            "accounted": accounted and scored == unlabeled,
            "replay": "identical" if identical else "different",
        }

    def _scored(self) -> int:
        """How many unlabeled records have an answer, each counted once."""
        answers = (json.loads(m.value) for m in self._messages("-predictions"))
        return len({(a["topic"], a["partition"], a["offset"]) for a in answers})

    def _letters(self) -> int:
        """How many labeled records are among the dead letters, each counted once."""
        names = ("streaming_nn.topic", "streaming_nn.partition", "streaming_nn.offset")
        return len({tuple(dict(m.headers)[name] for name in names) for m in self._messages("-dead")})

    def _messages(self, end: str) -> Iterator[Any]:
        topic, wanted = self.scenario.stream + end, self.produced(end)
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


def _settings(scenario: Scenario, home: Path, kafka: dict[str, str]) -> Settings:
    name = scenario.stream
    return load(
        "/dev/null",
        {
            "model": str(home / "model"),
            "kafka": kafka,
            "train": {"topics": [name], "dead_letters": f"{name}-dead", "trigger": "500 milliseconds"},
            "score": {"topic": f"{name}-unlabeled", "predictions": f"{name}-predictions"},
            **scenario.settings,
        },
    )


class _View:
    """What the user sees while the stream runs."""

    def __init__(self, stage: _Stage, drift: int | None) -> None:
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
        record = self.stage.log.manifest(number) if number else None
        if record is None:
            if live is None:
                say(f"{elapsed:4.0f} s  the first micro-batch is on its way")
            return
        values = self._values(record)
        if live is None:
            say(f"{elapsed:4.0f} s  " + "  ".join(f"{name} {value}" for name, value in values.items()))
        else:
            live.update(self._table(values, elapsed, record.learner["window"]), refresh=True)

    def _values(self, record: Manifest) -> dict[str, str]:
        produced, answers = self.stage.produced(), self.stage.produced("-predictions")
        done = sum(sum(ps.values()) for ps in record.offsets.values())
        self.seen.append((time.monotonic(), done, answers))
        learned_rate, answer_rate = self._rates()
        age = time.time() - datetime.fromisoformat(record.written_at).timestamp()
        scenario = self.stage.scenario
        return {
            "rows/s": f"{learned_rate:,.0f}",
            **{name: _shown(value) for name, value in scenario.look(record).items()},
            "version": f"{record.number} ({age:.1f} s old)",
            "lag": f"{produced - done:,}",
            "predictions/s": f"{answer_rate:,.0f} ({answers:,} in all)",
            "dead letters": f"{self.stage.produced('-dead'):,}",
            "the world": scenario.world(produced, self.drift),
        }

    def _table(self, values: dict[str, str], elapsed: float, window: int) -> Table:
        title = f"streaming_nn learns {self.stage.scenario.title}, {elapsed:.0f} s"
        table = Table(title=title, title_justify="left")
        table.add_column(f"over the last {window:,} rows")
        table.add_column("", justify="right")
        for name, value in values.items():
            table.add_row(name, value)
        return table


def _shown(value: Any) -> str:
    """Show a figure of the metrics; None is one that no row has made yet."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return "–" if value is None else f"{value:,}" if type(value) is int else str(value)


def _show(summary: dict[str, Any]) -> None:
    table = Table(title="What happened", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in summary.items():
        table.add_row(name.replace("_", " "), _shown(value))
    Console(stderr=True).print(table)
