"""The demo: broker, producer, trainer, scorer, and a verified replay in one process."""

import json
import logging
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer

from streaming_nn.demo.scenarios import Scenario, find_scenario
from streaming_nn.kafka import jars, java
from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.broker import Broker
from streaming_nn.kafka.options import for_python
from streaming_nn.progress import Progress, no_progress
from streaming_nn.settings import Settings, load
from streaming_nn.spark import installation
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

logger = logging.getLogger(__name__)

# Shows the run at a moment: after so many seconds, over the last so many rows, these values by name
Show = Callable[[float, int, Mapping[str, Any]], None]

MALFORMED = 0.002  # share of the records
# The first compiler only and the serial collector: a run of a minute ends before the others pay off
SPARK = {
    "spark.master": "local[2]",
    "spark.driver.defaultJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}
PARTITIONS = {"": 3, "-unlabeled": 1, "-dead": 1, "-predictions": 1, "-metrics": 1}  # by a topic's suffix


def run(
    directory: Path | None,
    seconds: float,
    rate: float | None,
    stream: str = "digits",
    page: bool = True,
    *,
    view: Callable[[str], AbstractContextManager[Show]],
    progress: Progress = no_progress,
) -> dict[str, Any] | None:
    """Run a stream's demo in a directory (default: a temporary one); return its summary, None if interrupted.

    With `page`, a web page shows it, and is opened if there is a desktop. `view`, of a title, is open while
    the stream runs, and called each second; `progress` while versions are verified, and while jars are
    downloaded, once on a machine.
    Raise ValueError for a stream that has no demo, for an invalid rate, and if `directory` is a file.
    """
    scenario = find_scenario(stream)
    rate = scenario.check_rate(rate)
    _check_directory(directory)
    installation.check(SPARK)
    java.find()
    home = (directory or Path(tempfile.mkdtemp(prefix="streaming-nn-demo-"))).absolute()
    try:
        with ExitStack() as stack:
            if page:
                stack.enter_context(_page(home / "model"))
            demo = stack.enter_context(_running(scenario, home, progress))
            summary = demo.play(seconds, rate, view, progress)
    except KeyboardInterrupt:
        logger.info("\nstopped; resume with: streaming-nn demo --dir %s --stream %s", home, stream)
        logger.info("look at it with: streaming-nn page %s", home / "model")
        return None
    if directory is None:
        shutil.rmtree(home, ignore_errors=True)
    return summary


def _check_directory(directory: Path | None) -> None:
    """Raise ValueError if the directory, or one of its parents, is a file."""
    path = Path() if directory is None else directory.absolute()
    existing = next(each for each in (path, *path.parents) if each.exists())
    if not existing.is_dir():
        raise ValueError(f"--dir must be a directory; got {str(directory)!r}, and {existing} is a file")


@contextmanager
def _page(model: Path) -> Iterator[None]:
    """Serve the page of the model, which need not be there yet, while the demo runs."""
    from streaming_nn.page.run import address, listen_near, open_browser, serving

    model.mkdir(parents=True, exist_ok=True)
    listening = listen_near()
    logger.info("watch it at %s", address(listening))
    with serving([model], listening):
        open_browser(address(listening))
        yield


@contextmanager
def _running(scenario: Scenario, home: Path, progress: Progress) -> Iterator["DemoRun"]:
    """Start what a demo needs, and stop it whatever happens."""
    demo = DemoRun(scenario, home)
    try:
        demo.set_up(progress)
        yield demo
    finally:
        # A second Ctrl-C must not leave anything running
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        demo.tear_down()
        signal.signal(signal.SIGINT, before)


class DemoRun:
    """One run of a demo: its broker, Spark session, producer, trainer, scorer and sinks."""

    def __init__(self, scenario: Scenario, home: Path) -> None:
        self.scenario, self.home = scenario, home
        self.broker: Broker | None = None
        self.producer: subprocess.Popen[str] | None = None
        self.parts: list[Any] = []  # trainer, sinks, scorer: whatever has stop()
        self.spark: Any = None
        self.admin: Any = None

    def set_up(self, progress: Progress) -> None:
        """Start the broker and Spark, at the same time, and create the topics."""
        from streaming_nn.spark.session import session

        logger.info("in %s", self.home)
        jars.connector(progress)
        jars.broker(progress)
        with ThreadPoolExecutor(1) as pool:
            kafka = pool.submit(self._start_kafka)
            logger.info("starting Kafka and Spark")
            try:
                self.spark = session(SPARK, "streaming-nn demo")
            finally:
                kafka.result()
        self.settings = _settings(self.scenario, self.home, self.kafka)
        self.log = VersionLog(self.settings.model)

    def _start_kafka(self) -> None:
        self.broker = Broker.start(self.home / "broker")
        self.kafka = {"bootstrap.servers": self.broker.bootstrap}
        self.admin = KafkaAdmin(self.kafka)  # kept open: the table needs offsets each second
        for suffix, partitions in PARTITIONS.items():
            self.admin.create(self.scenario.stream + suffix, partitions, exist_ok=True)

    def tear_down(self) -> None:
        """Stop everything that was started, in reverse order."""
        if self.producer is not None and self.producer.poll() is None:
            self.producer.terminate()
            self.producer.wait(15)
        for part in reversed(self.parts):
            part.stop()
        if self.admin is not None:
            self.admin.close()
        if self.spark is not None:
            self.spark.stop()
        if self.broker is not None:
            self.broker.stop()

    def play(
        self,
        seconds: float,
        rate: float,
        view: Callable[[str], AbstractContextManager[Show]],
        progress: Progress,
    ) -> dict[str, Any]:
        """Produce, train and score, then drain, verify and count; return the summary."""
        from streaming_nn.sinks.json_lines import JsonLinesSink
        from streaming_nn.sinks.kafka_topic import KafkaTopicSink
        from streaming_nn.sinks.position import PositionThread
        from streaming_nn.sinks.sink import Sinks
        from streaming_nn.spark.replay.verify import verify
        from streaming_nn.spark.score.scorer import Scorer
        from streaming_nn.spark.train.trainer import Trainer

        before = self.produced()
        trainer = Trainer.open(self.spark, self.settings)
        self.parts.append(trainer)
        position = PositionThread(self.kafka, lambda: trainer.head.manifest.offsets)
        position.start()
        self.parts.append(position)
        trainer.find_lag = lambda reached: position.lag.behind(reached["offsets"])  # for the page
        sinks = Sinks(
            trainer.log,
            [
                JsonLinesSink(self.home / "metrics.jsonl"),
                KafkaTopicSink(self.kafka, f"{self.scenario.stream}-metrics", self.settings.model),
            ],
        )
        self.parts.append(sinks)
        trainer.start()
        logger.info("warming up")  # an empty micro-batch: the first one of a session takes seconds
        trainer.drain()
        self._produce(seconds, rate)
        scorer = Scorer.open(self.spark, self.settings)
        self.parts.append(scorer)
        drift = self.scenario.drift(before, rate, seconds)
        with view(f"streaming_nn learns {self.scenario.title}") as show:
            self._watch(trainer, scorer, seconds, _Values(self, drift), show)
        logger.info("draining the topics")
        trainer.drain()
        scorer.drain()
        trainer.stop()
        scorer.stop()
        sinks.stop(drain=10)
        logger.info("verifying: replaying all versions")
        head = self.log.head_number() or 0
        progress("verifying versions", 0, head)
        verified = verify(
            self.spark,
            self.kafka,
            self.log,
            progress=lambda number: progress("verifying versions", number, head),
        )
        if not verified.identical:
            logger.info("version %d differs: %s %s", verified.different, verified.reason, verified.machine)
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
        if len(self.scenario.concepts) > 1:
            flags["drift-at"] = round(rate * seconds / 2)
        command = [sys.executable, "-m", "producers", name, "--json"]
        command += [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
        log = (self.home / "producer.log").open("a")
        # in a new session: a terminal's Ctrl-C does not reach it, and tear_down() stops it in order
        self.producer = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def _watch(self, trainer: Any, scorer: Any, seconds: float, values: "_Values", show: Show) -> None:
        """Show the run each second until the producer ends."""
        assert self.producer is not None
        began, shown = time.monotonic(), 0.0
        while self.producer.poll() is None and (elapsed := time.monotonic() - began) < seconds + 30:
            if scorer.query is None and (self.log.head_number() or 0) >= 1:
                scorer.start()
            trainer.wait(0.1)  # raises the trainer's error
            if elapsed - shown >= 1:
                shown = elapsed
                number = self.log.head_number() or 0
                manifest = self.log.manifest(number)
                show(elapsed, manifest.learner["window"], values.of(manifest) if number else {})
        if self.producer.poll() != 0:
            tail = (self.home / "producer.log").read_text().strip().splitlines()[-1:]
            raise RuntimeError(f"the producer ended with code {self.producer.poll()}: {' '.join(tail)}")
        if scorer.query is None:
            scorer.wait_for_version(60)
            scorer.start()

    def produced(self, suffix: str = "") -> int:
        """Return the number of records in the topic with this suffix; "": the labeled topic."""
        topic = self.scenario.stream + suffix
        return sum(self.admin.ends([topic])[topic].values())

    def _summary(self, drift: int | None, identical: bool) -> dict[str, Any]:
        manifests = [self.log.manifest(n) for n in self.log.numbers()]
        rows = {name: sum(m.counts[name] for m in manifests) for name in manifests[0].counts}
        labeled, unlabeled = self.produced(), self.produced("-unlabeled")
        scored, dead_letters = self._count_scored(), self._count_dead_letters()
        learned = labeled == rows["trained"] + rows["skipped"] + rows["rejected"] + rows["filtered"]
        return {
            "produced_labeled": labeled,
            "trained": rows["trained"],
            "skipped": rows["skipped"],
            "dead_letters": dead_letters,
            "produced_unlabeled": unlabeled,
            "scored": scored,
            "versions": len(manifests),
            **self.scenario.outcome(manifests, drift),
            "accounted": learned and rows["rejected"] == dead_letters and scored == unlabeled,
            "verify": "identical" if identical else "different",
        }

    def _count_scored(self) -> int:
        """Return the number of unlabeled records with a prediction, duplicates counted once."""
        predictions = (json.loads(record.value) for record in self._consume("-predictions"))
        return len({(p["topic"], p["partition"], p["offset"]) for p in predictions})

    def _count_dead_letters(self) -> int:
        """Return the number of labeled records among the dead letters, duplicates counted once."""
        names = ("streaming_nn.topic", "streaming_nn.partition", "streaming_nn.offset")
        return len({tuple(dict(record.headers)[name] for name in names) for record in self._consume("-dead")})

    def _consume(self, suffix: str) -> Iterator[Any]:
        topic, expected = self.scenario.stream + suffix, self.produced(suffix)
        consumer = KafkaConsumer(
            topic,
            **for_python(self.kafka, KafkaConsumer),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            group_id=None,
            consumer_timeout_ms=5000,
        )
        try:
            for count, record in enumerate(consumer, 1):
                yield record
                if count == expected:  # topics without transactions and compaction: offsets are a count
                    return
                # the loop ends by the timeout if the topic is empty
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


class _Values:
    """What a demo shows of a version, and of the broker at that moment."""

    def __init__(self, demo: DemoRun, drift: int | None) -> None:
        self.demo, self.drift = demo, drift
        self.samples: deque[tuple[float, int, int]] = deque(maxlen=8)  # (time, learned, predicted)

    def of(self, manifest: Manifest) -> dict[str, Any]:
        produced, predicted = self.demo.produced(), self.demo.produced("-predictions")
        learned = sum(sum(offsets.values()) for offsets in manifest.offsets.values())
        self.samples.append((time.monotonic(), learned, predicted))
        learned_rate, predicted_rate = self._rates()
        age = time.time() - (manifest.time or 0.0)
        scenario = self.demo.scenario
        return {
            "rows/s": round(learned_rate),
            **scenario.live_metrics(manifest),
            "version": f"{manifest.number} ({age:.1f} s old)",
            "lag": produced - learned,
            "predictions/s": f"{predicted_rate:,.0f} ({predicted:,} in total)",
            "dead letters": self.demo.produced("-dead"),
            "concept": scenario.concept(produced, self.drift),
        }

    def _rates(self) -> tuple[float, float]:
        """Return the records learned and predicted per second, over the last samples."""
        (then, *before), (now, *after) = self.samples[0], self.samples[-1]
        passed = max(now - then, 1.0)
        return (after[0] - before[0]) / passed, (after[1] - before[1]) / passed
