"""Send a recorded stream in a file through Kafka and the training job, once per trial."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from pyspark.sql import SparkSession

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.broker import Broker
from streaming_nn.progress import Progress, no_progress
from streaming_nn.settings import Records, Settings
from streaming_nn.spark import installation, temporary
from streaming_nn.spark.replay.backtest import trial_directories
from streaming_nn.spark.replay.plan import SETTINGS, sum_counts
from streaming_nn.spark.replay.trials import Outcome, Trial, parse_trials
from streaming_nn.spark.session import running
from streaming_nn.spark.train.resume import make_learner
from streaming_nn.spark.train.trainer import Trainer

logger = logging.getLogger(__name__)

KINDS = {"csv": "csv", "tsv": "csv", "data": "csv", "npz": "npz", "parquet": "parquet", "jsonl": "jsonl"}
FILE_BYTES = 256 * 10**6  # of the versions of a trial that is not kept
OF_SERIES = {"lags", "lags_as_of", "series", "max_series", "series_expiry"}  # settings that stay
MISUSED = 2  # exit code of the producers for a wrong option or file


@dataclass(frozen=True)
class StreamFile:
    """A recorded stream in a file: rows of features and a label. `python -m producers` reads it."""

    path: Path
    label: str | None = None  # None: the last column
    features: tuple[str, ...] = ()  # (): all others
    regression: bool = False

    def describe(self, format: str = "json") -> dict[str, Any]:
        """Return {"inputs", "classes", …} of the file. Raise ValueError in one line if it cannot be read."""
        return self._produce("--describe", f"--config={os.devnull}", f"--format={format}")

    def send(self, kafka: dict[str, str], topic: str, format: str) -> int:
        """Send all rows to a topic, with one timestamp, so that offsets alone order them; return how many.

        Raise ConnectionError if the broker does not take them, ValueError if the file is damaged.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
            # not as flags, because others could read secrets there
            lines = [f"{json.dumps(k)} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in kafka.items()]
            config.writelines(["[kafka]\n", *lines])
            config.flush()
            flags = (f"--topic={topic}", f"--format={format}", "--timestamp=now", "--json")
            sent = self._produce(f"--config={config.name}", *flags)
        return int(sent["records"])

    def _produce(self, *flags: str) -> dict[str, Any]:
        """Run the command of the producers on the file, and return what it prints."""
        ending = self.path.name.lower().removesuffix(".gz").rpartition(".")[2]
        if ending not in KINDS:
            raise ValueError(f"--file must end in .{', .'.join(KINDS)}; got {str(self.path)!r}")
        columns = [f"--label={self.label}"] if self.label is not None else []
        columns += [f"--features={','.join(self.features)}"] if self.features else []
        columns += ["--regression"] if self.regression else []
        command = [sys.executable, "-m", "producers", KINDS[ending], str(self.path), *columns, *flags]
        # a process of its own: producers import this package, not the other way round
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        result = json.loads((ran.stdout.splitlines() or ["{}"])[-1])
        if ran.returncode == 0:
            return dict(result)
        message = (ran.stderr.strip().splitlines() or ["the producer failed"])[-1].removeprefix("producers: ")
        if ran.returncode == MISUSED or (result.get("error") and not result.get("failed")):
            raise ValueError(message)  # a damaged file: its first rows alone are not what was requested
        raise ConnectionError(message)


def backtest_file(
    settings: Settings,
    file: StreamFile,
    into: Path | None,
    trials: Sequence[str],
    batch: int,
    progress: Progress = no_progress,
) -> list[Outcome]:
    """Send a file through Kafka and the training job, once with the settings and once per trial.

    A micro-batch has `batch` records. A topic of one partition, which keeps the order, is created for it and
    deleted afterwards; so is a broker, if the settings name none. With `into` None no version is kept.
    `progress` is called with what is done, and how far it is.
    """
    installation.check(settings.spark)
    parsed, described = parse_trials(trials), file.describe(settings.records.format)
    _check_lags(settings, described)
    directories = trial_directories(Trial({}, SETTINGS), False, parsed, into or Path())
    for trial, _ in directories:  # a mistake is raised before anything starts
        make_learner(_with_trial(settings, trial), {name: described[name] for name in ("inputs", "classes")})
    if into is not None and into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise ValueError(f"{into} must be a new or an empty directory; it is not")
    with ExitStack() as stack:
        created = tempfile.TemporaryDirectory(prefix="backtest-", dir=temporary.directory())
        home = Path(stack.enter_context(created))
        given = "bootstrap.servers" in settings.kafka
        kafka = settings.kafka if given else stack.enter_context(_start_broker(home / "broker", progress))
        topic = stack.enter_context(_create_topic(kafka))
        settings = _with_file(settings, kafka, topic, described, batch, kept=into is not None)
        progress(f"sending {file.path.name}", 0, 0)
        sent = file.send(kafka, topic, settings.records.format)
        logger.info("sent %s records of %s", f"{sent:,}", file.path.name)
        spark = stack.enter_context(running(settings.spark, progress))
        outcomes = []
        for trial, directory in directories:
            target = directory if into is not None else home / "models" / trial.name
            outcomes.append(
                _train(spark, _with_trial(settings, trial), trial, target, into is not None, progress)
            )
        return outcomes


def _check_lags(settings: Settings, described: dict[str, Any]) -> None:
    """Raise ValueError for lags of classes, and for a series that the file's records do not have."""
    records = settings.records
    if records.lags and described["classes"] is not None:
        raise ValueError("records.lags need a target that is a number: use --regression")
    if records.series is not None and records.series not in described["features"]:
        raise ValueError(f"records.series must be one of the file's features; got {records.series!r}")


def _with_trial(settings: Settings, trial: Trial) -> Settings:
    return settings.model_copy(update={"learner": trial.options(settings.learner)})


@contextmanager
def _start_broker(home: Path, progress: Progress) -> Iterator[dict[str, str]]:
    logger.info("starting a Kafka broker for this backtest")
    with Broker.start(home, progress=progress) as broker:
        yield {"bootstrap.servers": broker.bootstrap}


@contextmanager
def _create_topic(kafka: dict[str, str]) -> Iterator[str]:
    """Create a topic of one partition, and one for its dead letters; delete both at the end."""
    name = f"streaming-nn-backtest-{uuid4().hex[:12]}"
    with KafkaAdmin(kafka) as admin:
        admin.create(name, 1, {"message.timestamp.type": "CreateTime", "retention.ms": "-1"})
        admin.create(_dead_letter_topic(name), 1)
        try:
            yield name
        finally:
            admin.delete(name)
            admin.delete(_dead_letter_topic(name))


def _dead_letter_topic(topic: str) -> str:
    return f"{topic}-rejected"


def _with_file(
    settings: Settings, kafka: dict[str, str], topic: str, described: dict[str, Any], batch: int, kept: bool
) -> Settings:
    """Return the settings with the file's topic and rows."""
    classes = described["classes"]
    records = Records(
        format=settings.records.format,
        classes=classes,
        regression=classes is None,
        **{name: described[name] for name in ("inputs", "features", "label", "missing", "categories")},
        csv_columns=described["csv_columns"],
        **settings.records.model_dump(include=OF_SERIES),
    )
    train = settings.train.model_copy(
        update={
            "topics": [topic],
            "dead_letters": _dead_letter_topic(topic),
            "starting_offsets": "earliest",
            "once": True,
            "max_offsets_per_trigger": batch,
            "keep_bytes": settings.train.keep_bytes if kept else FILE_BYTES,
        }
    )
    return settings.model_copy(update={"kafka": kafka, "records": records, "train": train})


def _train(
    spark: SparkSession, settings: Settings, trial: Trial, directory: Path, kept: bool, progress: Progress
) -> Outcome:
    start = time.monotonic()
    trainer = Trainer.open(spark, settings.model_copy(update={"model": directory}))
    trainer.progress = lambda what, done, total: progress(f"{what} with {trial.name}", done, total)
    try:
        trainer.start()
        trainer.wait()
    finally:
        trainer.stop()
    manifests = [trainer.log.manifest(number) for number in range(1, trainer.head.number + 1)]
    if not manifests:
        raise ValueError("the file has no rows")
    counts, seconds = sum_counts(manifests), time.monotonic() - start
    message = "%s: %s records in %s micro-batches, %.1f s"
    logger.info(message, trial.name, f"{counts['received']:,}", f"{len(manifests):,}", seconds)
    metrics = trainer.head.manifest.metrics
    return Outcome(trial.name, trial.changes, directory if kept else None, counts, metrics)
