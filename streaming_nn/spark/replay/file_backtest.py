"""Trial options on what was recorded, or on a test stream in a file; each try has a model of its own."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from kafka import KafkaProducer

from producers import known
from producers.messages import Plan, messages
from producers.send import producer, send
from producers.streams import Stream
from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.broker import Broker
from streaming_nn.kafka.options import for_python
from streaming_nn.settings import Records, Settings
from streaming_nn.spark.replay import backtest
from streaming_nn.spark.replay.plan import SETTINGS, moment, of_model, of_topic
from streaming_nn.spark.replay.trials import Outcome, Trial, trials_from
from streaming_nn.spark.session import running
from streaming_nn.spark.train.resume import make_learner
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version_log import VersionLog

Say = Callable[[str], None]


@dataclass(frozen=True)
class Past:
    """Which part of what was recorded is tried: versions by number or time, or records of a topic by time."""

    first: int | None = None
    last: int | None = None
    since: str | None = None
    until: str | None = None
    topic: str | None = None

    def __post_init__(self) -> None:
        numbered = self.first is not None or self.last is not None
        if numbered and (self.since or self.until):
            raise ValueError(
                "a range is of numbers (--from, --to) or of time (--since, --until), not of both"
            )
        if numbered and self.topic:
            raise ValueError("--from and --to are versions of a model, and --topic has none: give a time")


def of_past(settings: Settings, into: Path, texts: list[str], past: Past, say: Say) -> list[Outcome]:
    """Learn a part of the past again with each try, beside what it was; `into` gets their versions.

    All of them learn from one read of Kafka. Called again, it goes on where it was ended. Raises ValueError
    where the range is empty or `into` is in use, DataLossError where Kafka no longer has the records.
    """
    tries = trials_from(texts)
    since, until = (moment(text) if text else None for text in (past.since, past.until))
    with ExitStack() as stack:
        if past.topic:
            found = backtest.places(Trial({}, SETTINGS), False, tries, into)
            spark = stack.enter_context(running(settings.spark))
            earlier = backtest.stretch_of(found)
            history = of_topic(spark, settings, past.topic, since, until, earlier)
            alternatives = backtest.begun(history, tries, into)
        else:  # what is wrong is said before Spark starts
            history = of_model(VersionLog(settings.model), past.first, past.last, since, until)
            alternatives = backtest.begun(history, tries, into)
            spark = stack.enter_context(running(settings.spark))
        names = ", ".join(each.each.name for each in alternatives)
        say(f"learning versions {history.shift + 1} to {history.records[-1].number} with {names}")
        return backtest.learn_again(
            spark, settings.kafka, history, alternatives, lambda number: say(f"learned version {number}")
        )


@dataclass(frozen=True)
class File:
    """A test stream, recorded in a file: rows of numbers, and a label."""

    path: Path
    label: str | None = None  # the last column without
    features: tuple[str, ...] = ()  # all others without
    regression: bool = False

    def stream(self) -> Stream:
        """Open it. Raises ValueError in one line."""
        kind = self.path.suffix.lower().removeprefix(".")
        if kind not in known.FILES:
            raise ValueError(f"--file must end in .{', .'.join(known.FILES)}; got {str(self.path)!r}")
        return known.file(
            kind, self.path, label=self.label, features=self.features, regression=self.regression
        )


def of_file(
    settings: Settings, file: File, into: Path | None, texts: list[str], batch: int, say: Say
) -> list[Outcome]:
    """Send a file through Kafka and the job that learns, once with the settings and once with each try.

    A micro-batch has `batch` records. The topic is made for it, with one partition so that the order stays,
    and deleted afterwards; the broker too, where the settings name none. Without `into` no version is kept.
    """
    tries, stream = trials_from(texts), file.stream()
    found = backtest.places(Trial({}, SETTINGS), False, tries, into or Path())
    for each, _ in found:
        make_learner(_changed(settings, each), {"inputs": stream.inputs, "classes": stream.classes})
    if into is not None and into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise ValueError(f"{into} must be a new or an empty directory; something is there")
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streaming-nn-trial-")))
        own = "bootstrap.servers" in settings.kafka
        kafka = settings.kafka if own else stack.enter_context(_broker(home / "broker", say))
        topic = stack.enter_context(_topic(kafka))
        settings = _for(settings, kafka, topic, stream, file, batch, kept=into is not None)
        say(f"{_sent(kafka, topic, stream, settings.records.format):,} records of {file.path.name} sent")
        spark = stack.enter_context(running(settings.spark))
        outcomes = []
        for each, directory in found:
            place = directory if into is not None else home / "models" / each.name
            outcomes.append(_learned(spark, _changed(settings, each), each, place, into is not None, say))
        return outcomes


def _changed(settings: Settings, each: Trial) -> Settings:
    return settings.model_copy(update={"learner": each.options(settings.learner)})


@contextmanager
def _broker(home: Path, say: Say) -> Iterator[dict[str, str]]:
    say("starting a Kafka broker for this trial")
    with Broker.start(home) as running:
        yield {"bootstrap.servers": running.bootstrap}


@contextmanager
def _topic(kafka: dict[str, str]) -> Iterator[str]:
    """A topic of one partition, and one for its dead letters, which the trainer makes; deleted at the end."""
    name = f"streaming-nn-trial-{uuid4().hex[:12]}"
    with KafkaAdmin(kafka) as topics:
        topics.create(name, 1, {"message.timestamp.type": "CreateTime", "retention.ms": "-1"})
        topics.create(_letters(name), 1)
        try:
            yield name
        finally:
            topics.delete(name)
            topics.delete(_letters(name))


def _letters(topic: str) -> str:
    return f"{topic}-rejected"


def _for(
    settings: Settings, kafka: dict[str, str], topic: str, stream: Stream, file: File, batch: int, kept: bool
) -> Settings:
    """The user's settings, with the file's topic and rows in their place."""
    classes = None if stream.classes is None else list(stream.classes)
    records = Records(
        format=settings.records.format, inputs=stream.inputs, classes=classes, regression=file.regression
    )
    train = settings.train.model_copy(
        update={
            "topics": [topic],
            "dead_letters": _letters(topic),
            "starting_offsets": "earliest",
            "once": True,
            "max_offsets_per_trigger": batch,
            "keep_versions": settings.train.keep_versions if kept else 2,
        }
    )
    return settings.model_copy(update={"kafka": kafka, "records": records, "train": train})


class _OneMoment:
    """A producer whose records are all of one time: offsets alone order them, whatever the clock does."""

    def __init__(self, client: Any) -> None:
        self.client, self.at = client, int(time.time() * 1000)
        self.flush, self.close = client.flush, client.close

    def send(self, topic: str, **record: Any) -> Any:
        return self.client.send(topic, timestamp_ms=self.at, **record)


def _sent(kafka: dict[str, str], topic: str, stream: Stream, format: str) -> int:
    client = _OneMoment(producer(for_python(kafka, KafkaProducer)))
    sent = send(messages(stream, Plan(topic, format=format)), client)
    if sent.failed:
        raise ConnectionError(f"{sent.failed:,} records could not be sent to {topic!r}: {sent.error}")
    if sent.error:  # the file can't be read further: its first rows alone are not what was asked for
        raise ValueError(sent.error)
    return sum(sent.acknowledged.values())


def _learned(spark: Any, settings: Settings, each: Trial, directory: Path, kept: bool, say: Say) -> Outcome:
    began = time.monotonic()
    trainer = Trainer.open(spark, settings.model_copy(update={"model": directory}))
    try:
        trainer.start()
        trainer.wait()
    finally:
        trainer.stop()
    records = [trainer.log.manifest(number) for number in range(1, trainer.head.number + 1)]
    rows = {name: sum(r.counts[name] for r in records) for name in trainer.head.manifest.counts}
    if not records:
        raise ValueError("the stream has no rows, so there is nothing to learn")
    seconds = time.monotonic() - began
    say(f"{each.name}: {rows['received']:,} records in {len(records):,} micro-batches, {seconds:.1f} s")
    metrics = trainer.head.manifest.metrics
    return Outcome(each.name, each.changes, directory if kept else None, rows, metrics)
