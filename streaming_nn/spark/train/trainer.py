"""The job that trains: every micro-batch becomes one version, and only versions count."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_nn.core import library
from streaming_nn.errors import DataLossError, TooManyRejectedError
from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.nn import figures
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Learner, load_state
from streaming_nn.progress import Progress, no_progress
from streaming_nn.records.values import LARGE_FEATURE
from streaming_nn.settings import Settings
from streaming_nn.spark import failpoints, temporary
from streaming_nn.spark.clock import Clock
from streaming_nn.spark.query import Job, describe_jobs, reason, shortened, url
from streaming_nn.spark.session import LOST, SPARK_ERRORS, STOP_ERRORS
from streaming_nn.spark.signals import uninterrupted
from streaming_nn.spark.sources import dataframe_json, kafka_frames
from streaming_nn.spark.sources.source import Plan, Source, source_of
from streaming_nn.spark.train.batch_size import BACKLOG, BatchSizeController, initial_size
from streaming_nn.spark.train.circuit_breaker import CircuitBreaker
from streaming_nn.spark.train.dead_letters import DeadLetters
from streaming_nn.spark.train.executor import Executor, executor_for, learn_micro_batch
from streaming_nn.spark.train.initial import commit_initial, find_change
from streaming_nn.spark.train.initial_schema import read_schema
from streaming_nn.spark.train.micro_batch import Learned, Work, commit_learned
from streaming_nn.spark.train.resume import automatic_cap, resume_learner, resume_schema
from streaming_nn.spark.train.write_rate import WriteRate
from streaming_nn.versions.retention import Retention, describe
from streaming_nn.versions.version import AVERAGED, Manifest, Position, Version
from streaming_nn.versions.version_log import VersionLog

logger = logging.getLogger(__name__)

SAMPLE_BYTES = 1 << 16  # of rejected records that are kept without a topic of dead letters, to explain them
MEASURED = ("learn", "dead_letters")  # steps whose durations a version's manifest has

# Gets each committed version, when its steps began and ended, and the headers of its rejected records
Traced = Callable[[Manifest, Mapping[str, tuple[int, int]], Iterable[str | None]], None]

ANOTHER_ARITHMETIC = (
    "%s was learned by arithmetic %d, and continues by %d; `verify` of the versions before needs %s"
)


class Start(NamedTuple):
    """What a run begins with."""

    log: VersionLog
    head: Version
    new: bool  # the head has learned nothing, and was committed by this run
    work: Work  # by which what follows the head is learned
    events: list[dict[str, Any]]  # of the next version: accepted losses


class _Stopped(Exception):  # noqa: N818
    """The run is ending; the next run learns the micro-batch."""


class Trainer(Job):
    """Trains a model directory on its source, from the head on: `open`, `start`, then `wait` or `stop`."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        executor: Executor,
        start: Start,
        dead_letters: DeadLetters | None = None,
        given: Learner[Any] | None = None,
        resources: ExitStack | None = None,
    ) -> None:
        """Store what `open` has opened; `resources` are closed with the trainer."""
        super().__init__()
        self.settings, self.source, self.executor, self.given = settings, source, executor, given
        self.log, self.head, self.new, self.work, self.events = start
        self.dead_letters = dead_letters
        self.batch_size = self._batch_size_controller()
        self.circuit_breaker = CircuitBreaker(settings.train)
        self.retention = Retention(self.log, settings.train.keep_bytes)
        self.write_rate = WriteRate()
        self.traced: Traced | None = None
        self.backlog: int | None = None  # offsets that the run learns; None: it runs until it is stopped
        self.learned = 0  # offsets that it has learned
        self.progress: Progress = no_progress
        # set by whoever follows the topics' ends
        self.find_lag: Callable[[Position], int | None] = lambda position: None
        self.stopping = threading.Event()
        self.busy = threading.Lock()
        self._resources = resources or ExitStack()
        self._last_began = 0.0  # when the last micro-batch with records began
        self._large = frozenset[str]()  # features with large numbers, each of which is logged once

    @classmethod
    def open(
        cls,
        spark: SparkSession,
        settings: Settings,
        learner: Learner[Any] | None = None,
        executor: Executor | None = None,
    ) -> Self:
        """Connect, commit version 0 if nothing is learned yet, and prepare to resume from the head.

        `learner` is for one that the settings cannot name, `executor` for another one than the session's.
        Raise ValueError for settings that do not fit the model, DataLossError if records are missing,
        ConnectionError without the broker, LookupError for a missing topic.
        """
        log = VersionLog(settings.model)
        source = source_of(spark, settings, log)
        with ExitStack() as stack:
            admin = None
            if "bootstrap.servers" in settings.kafka or not settings.source.format:
                admin = stack.enter_context(KafkaAdmin(settings.kafka))
            stack.callback(source.close)
            source.open(admin)
            dead_letters = _open_dead_letters(settings, admin, stack)
            start = _begin(settings, log, source, learner, keep_rejected=dead_letters is not None)
            chosen = executor or executor_for(spark)
            return cls(settings, source, chosen, start, dead_letters, learner, stack.pop_all())

    def start(self) -> StreamingQuery:
        """Start the query after the head."""
        train, frame = self.settings.train, self.source.read_stream()
        self.backlog = self.source.backlog() if train.once else None
        name = f"train {self.settings.model}"
        return self._launch(name, frame, url(self.source.checkpoint), train.trigger, train.once)

    def stop(self) -> None:
        """End between two micro-batches; the version of the one under way is the last one."""
        self.stopping.set()
        with self.busy:
            pass  # a micro-batch under way ends first, so that nothing is committed after stop() has returned
        if self.query is not None:
            with suppress(*STOP_ERRORS):
                self.query.stop()
        if isinstance(self.failure, TooManyRejectedError) and self.head.manifest.untrained:
            self.source.forget()  # the next run, with other settings, may read something else
        self._close()

    def _close(self) -> None:
        self._resources.close()

    def _find_cause(self, error: BaseException) -> BaseException:
        return self.failure or self._explain(error)

    def _explain(self, error: BaseException) -> BaseException:
        """Return our own errors unchanged; Spark's in one line, or the loss that caused them."""
        if not isinstance(error, SPARK_ERRORS):
            return error
        if any(words in str(error) for words in LOST):
            try:
                self.source.resume(self.head.manifest)
            except (DataLossError, ConnectionError, ValueError, LookupError) as found:
                return found
        directories = self.source.checkpoint, temporary.directory()
        unreadable = kafka_frames.unreadable(error) or dataframe_json.unreadable(error)
        return unreadable or RuntimeError(f"the run ended: {reason(error, *directories)}")

    def _process(self, frame: DataFrame, batch_id: int) -> None:
        try:
            with self.busy:
                if self.stopping.is_set():
                    raise _Stopped
                self.micro_batch(frame, batch_id)
        except BaseException as error:
            if not isinstance(error, _Stopped):
                self.failure = self._explain(error)
            if isinstance(error, SPARK_ERRORS):
                raise shortened(error) from None
            raise

    def micro_batch(self, frame: DataFrame, batch_id: int) -> None:
        """Learn one micro-batch. The order is the guarantee:

        1. Plan: take the batch's position from its source; nothing to do if the log has the batch already.
        2. Learn: test, then train, in ORDER; get the next state, the counts, the rejected records.
        3. Check: stop if too many are rejected. Nothing has been sent or written yet.
        4. Dead letters: send the rejected records, and wait until the broker has them.
        5. Commit: check that the source still has the planned records, then commit the version. Before that
           nothing of the batch counts, afterwards all of it.
        6. Publish: the version is the new head. Sinks and scorers read it from the log; old ones are pruned.

        If the model was rolled back meanwhile, the batch is learned again, from the new head.
        """
        failpoints.reach("batch-started")
        began, clock = time.monotonic(), Clock()
        with clock.time("plan"):
            plan = self.source.plan(frame, batch_id)  # 1
        if plan is None:
            return
        describe_jobs(frame, _describe(self.settings.model, self.head.manifest))
        self._choose_first_size(plan)
        while True:
            with clock.time("learn"):
                work, learned = learn_micro_batch(self.executor, self.work, plan)  # 2
            failpoints.reach("learned")
            if not (self.events or learned.counts.received or plan.count):
                return  # a query's first batch may be empty: there is nothing to commit
            self.circuit_breaker.check(learned, work.schema, self.head.manifest)  # 3
            with clock.time("dead_letters"):
                self._send(learned)  # 4
            failpoints.reach("dead-letters-sent")
            with clock.time("commit"):
                version = self._commit(plan, work, learned, clock.seconds(MEASURED))  # 5
            if version is not None:
                break
            self._adopt_rollback()
        failpoints.reach("committed")
        with clock.time("publish"):
            self._publish(version, work, learned, plan)  # 6
        if self.traced:
            self.traced(version.manifest, clock.steps, [letter.headers for letter in learned.dead_letters])
        self._choose_next_size(learned, began)

    def _send(self, learned: Learned) -> None:
        if self.dead_letters and learned.dead_letters:
            self.dead_letters.send(learned.dead_letters)

    def _commit(self, plan: Plan, work: Work, learned: Learned, seconds: dict[str, float]) -> Version | None:
        """Commit the version; None: the model was rolled back meanwhile."""
        self.source.check(self.head.manifest)
        failpoints.reach("before-commit")
        return commit_learned(
            self.log,
            self.head,
            work.learner,
            work.start,
            learned.state,
            learned.counts,
            schema=work.schema.options(),
            update=self.settings.train.update,
            mini_batch_cap=self.batch_size.cap if self.batch_size else 0,
            rejected_by_reason=learned.rejected,
            seconds=seconds,
            record_times=list(learned.times),
            lag=self.find_lag(plan.position),
            samples=dict(learned.samples),
            events=self.events,
            kind=plan.kind,
            **plan.position,
        )

    def _publish(self, version: Version, work: Work, learned: Learned, plan: Plan) -> None:
        self.head, self.events = version, []
        self.work = replace(work, state=learned.state)
        for name in sorted(learned.large - self._large):
            logger.warning(LARGE_FEATURE, name)
        self._large |= learned.large
        self.learned += plan.count or 0
        if self.backlog:
            self.progress("learning records", self.learned, self.backlog)
        self.retention.committed(version.number)
        self.write_rate.committed(sum(tensor.nbytes for tensor in version.tensors.values()))

    def _adopt_rollback(self) -> None:
        """Resume from a rollback's version, which keeps the position: the same batch is the next one."""
        head = self.log.head()
        assert head is not None  # its number was taken just now
        self.head, self.work = head, _resume_work(self.settings, head, self.given, self.work.limit)
        if self.batch_size:
            self.batch_size.size = self.work.learner.mini_batch

    def _batch_size_controller(self) -> BatchSizeController | None:
        """Return what chooses the mini-batch; None: it is set."""
        automatic = bool(self.head.manifest.mini_batch_cap) and self.given is None
        cap = automatic_cap(self.settings, automatic)
        return BatchSizeController(cap, min(self.work.learner.mini_batch, cap)) if cap else None

    def _choose_first_size(self, plan: Plan) -> None:
        """Choose the mini-batch of a new model's first micro-batch."""
        if self.batch_size and self.head.number == 0 and plan.count is not None:
            self.batch_size.size = initial_size(plan.count, self.batch_size.cap)
            self._resize(self.batch_size.size)

    def _choose_next_size(self, learned: Learned, began: float) -> None:
        """Choose the mini-batch of the next micro-batch."""
        received, train = learned.counts.received, self.settings.train
        if not self.batch_size or not received:
            return
        behind = received >= BACKLOG * train.max_offsets_per_trigger or train.once
        since, self._last_began = began - self._last_began if self._last_began else 0.0, began
        self._resize(self.batch_size.update(received, learned.seconds, since, behind))

    def _resize(self, size: int) -> None:
        learner = self.work.learner
        if size != learner.mini_batch:
            self.work = replace(self.work, learner=learner_from({**learner.options(), "mini_batch": size}))


def _open_dead_letters(settings: Settings, admin: KafkaAdmin | None, stack: ExitStack) -> DeadLetters | None:
    """Return the dead-letter topic; without Kafka, rejected records are counted only."""
    if admin is None:
        logger.warning("rejected records are counted, but not kept: set kafka for train.dead_letters")
        return None
    dead_letters = DeadLetters(settings.kafka, settings.train.dead_letters)
    stack.callback(dead_letters.close)
    dead_letters.create_topic(admin)
    return dead_letters


def _begin(
    settings: Settings, log: VersionLog, source: Source, given: Learner[Any] | None, keep_rejected: bool
) -> Start:
    """Read the head, or commit version 0; prepare the source to read what follows it."""
    found = log.head()
    head = _begin_model(settings, log, source, given, found)
    limit = settings.train.max_rejected_bytes if keep_rejected else SAMPLE_BYTES
    work = _resume_work(settings, head, given, limit)
    logger.info("%s: %s", settings.model, describe(settings.train.keep_bytes))
    if (before := head.manifest.arithmetic) != library.ARITHMETIC:
        logger.warning(ANOTHER_ARITHMETIC, settings.model, before, library.ARITHMETIC, head.manifest.releases)
    events = source.resume(head.manifest)
    for event in events:
        logger.warning("continuing despite %s", event)
    return Start(log, head, head is not found, work, events)


def _begin_model(
    settings: Settings, log: VersionLog, source: Source, given: Learner[Any] | None, head: Version | None
) -> Version:
    """Return the head; commit version 0 if there is none, and one like it if the head has learned nothing.

    With a trained head, or the same settings as before, nothing is committed.
    """
    if head is not None and not head.manifest.untrained:
        return head
    position, changed = source.initial_position(), ""
    if head is not None:
        if not (changed := find_change(settings, head.manifest, position, given) or ""):
            return head
        logger.info("%s is untrained; restarting from scratch: %s", settings.model, changed)
    schema = read_schema(source, settings)
    if head is not None:
        source.forget()
    return commit_initial(settings, log, schema, position, given, head, changed)


def _resume_work(settings: Settings, head: Version, given: Learner[Any] | None, limit: int | None) -> Work:
    learner = resume_learner(settings, head, given)
    schema = resume_schema(settings, head)
    averaged = settings.train.update == AVERAGED
    state = load_state(learner, head.tensors)
    return Work(learner, schema, state, averaged, limit, settings.metrics.samples)


def _describe(model: Path, head: Manifest) -> str:
    """Return in one line what a model has learned, and how well it predicts."""
    parts = [f"{head.metrics.get('rows', 0):,} rows"]
    parts += figures.describe(head.metrics.get("prequential", {}).get("window", {}))
    return f"train {model} after version {head.number}: {', '.join(parts)}"


def train(
    spark: SparkSession,
    settings: Settings,
    opened: Callable[[Trainer], None] = lambda trainer: None,
) -> Trainer:
    """Train until Ctrl-C, or with `once` on the available records. Raise as `Trainer.open` does."""
    with uninterrupted():
        trainer = Trainer.open(spark, settings)
        opened(trainer)
    try:
        with uninterrupted():
            trainer.start()
        trainer.wait()
    except KeyboardInterrupt:
        logger.info("stopping after the micro-batch under way")
    finally:
        trainer.stop()
    return trainer
