"""The job that learns: every micro-batch becomes one version, which is the only thing that counts."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from uuid import uuid4

import safetensors.numpy
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from threadpoolctl import ThreadpoolController

from streaming_nn.errors import DamagedVersionError, DataLossError, TooManyRejectedError, VersionConflictError
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Counts, Learner, Part, close, events, grown, initial, report
from streaming_nn.nn.state_dict import flatten, unflatten
from streaming_nn.records import schema
from streaming_nn.records.schema import Label, together
from streaming_nn.settings import Settings
from streaming_nn.spark import failpoints
from streaming_nn.spark.query import Job, shortened
from streaming_nn.spark.session import GONE, LOST, SPARK_ERRORS, in_one_line, on_one_machine, rows_of, shared
from streaming_nn.spark.signals import uninterrupted
from streaming_nn.spark.sources import kafka_frames
from streaming_nn.spark.sources.source import Fields, source_of
from streaming_nn.spark.tasks import Here, Learn, Letter, learn_here, letters_from, unpack_part
from streaming_nn.spark.train import batch_size, resume
from streaming_nn.spark.train.dead_letters import DeadLetters
from streaming_nn.spark.train.resume import Say
from streaming_nn.versions.environment import describe, now, writer
from streaming_nn.versions.retention import prune
from streaming_nn.versions.version import AVERAGED, Version, no_counts
from streaming_nn.versions.version_log import VersionLog, child

BACKLOG = 0.9  # of the most that a micro-batch may hold: as many mean that more are waiting
FEW = 15_000  # records that are learned in the driver on one machine
FEW_VALUES = 1_000_000  # and their values
SHARED = 3  # where tasks would share them, it is a third of the records
JUDGED = 100  # records: a share is judged over at least so many, as one rejected of one says nothing


class _Stopped(Exception):  # noqa: N818
    """The run is ending; the batch at hand is left to the next one."""


class _Learned(NamedTuple):
    """What the batch's one Spark job gave."""

    parts: list[Part[Any]]  # in the order of (topic, partition); one where the update is sequential
    rows: dict[str, int]
    rejected: dict[str, int]
    letters: list[Letter]
    overflow: bool
    seconds: float  # of learning; the slowest task's


class Trainer(Job):
    """Learns topics, or another source, into a model directory, from its head on; `start`, `wait` or `stop`.

    `learner` is for one that the settings can't name. Raises ValueError for settings that don't fit the
    model, DataLossError where records are gone, ConnectionError without the broker.
    """

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        learner: Learner[Any] | None = None,
        say: Say = lambda line: None,
    ) -> None:
        super().__init__()
        self.spark, self.settings, self.given = spark, settings, learner
        self.run = uuid4().hex[:12]
        self.log = VersionLog(settings.model)
        self.origin = source_of(spark, settings, self.log)
        self.dead_letters = _dead_letters(settings, say)
        found = self.log.head()
        self.new = found is None
        head = found or resume.first_version(
            spark, settings, self.log, learner, self.run, say, self.origin.first()
        )
        self.learner = resume.continued(settings, head, learner)
        self.schema = resume.recorded_schema(settings, head)
        self.events = self.origin.begin(head.manifest, say)
        self.head, self.sha = head, self.log.sha256(head.number)
        self.state = unflatten(initial(self.learner), head.tensors)
        cap = resume.auto_cap(settings, kept=bool(head.manifest.mini_batch_cap) and learner is None)
        self.pace = batch_size.BatchSizeController(cap, min(self.learner.mini_batch, cap)) if cap else None
        self.judged = [0, 0]  # records received and rejected since the share was last judged
        self.skipped = 0  # micro-batches in a row without a finite step
        self.begun = 0.0  # when the last micro-batch with records began
        self.stopping = threading.Event()
        self.busy = threading.Lock()
        self.environment = describe()
        self.one_machine = on_one_machine(spark)
        self.blas = ThreadpoolController()  # NumPy may be there with threads of its own

    def start(self) -> StreamingQuery:
        """Start the query from where the head has ended."""
        asked, frame = self.settings.train, self.origin.stream()
        return self._launch(frame, self.origin.checkpoint.as_uri(), asked.trigger, asked.once)

    def stop(self) -> None:
        """End between two micro-batches; the version at hand is the last one."""
        self.stopping.set()
        with self.busy:
            pass  # a batch under way ends first, so that nothing is appended after stop() has returned
        if self.query is not None:
            with suppress(*GONE):
                self.query.stop()
        self._close()

    def _close(self) -> None:
        self.origin.close()
        if self.dead_letters:
            self.dead_letters.close()

    def _cause(self, error: PySparkException) -> BaseException:
        return self.failure or self._explained(error)

    def _explained(self, error: BaseException) -> BaseException:
        """Our own errors stay as they are; Spark's become one line, or the loss that is behind them."""
        if not isinstance(error, SPARK_ERRORS):
            return error
        if any(words in str(error) for words in LOST):
            try:
                self.origin.begin(self.head.manifest, lambda line: None)
            except (DataLossError, ConnectionError, ValueError, LookupError) as found:
                return found
        return RuntimeError(f"the run ended: {in_one_line(error)}")

    def _guarded(self, frame: DataFrame, batch_id: int) -> None:
        try:
            with self.busy:
                if self.stopping.is_set():
                    raise _Stopped
                self.micro_batch(frame, batch_id)
        except BaseException as error:
            if not isinstance(error, _Stopped):
                self.failure = self._explained(error)
            if isinstance(error, SPARK_ERRORS):
                raise shortened(error) from None
            raise

    def micro_batch(self, frame: DataFrame, batch_id: int) -> None:
        """Learn one micro-batch. The order is the guarantee:

        1. Take the batch's offsets from Spark's own plan of it; of another source, see that it is a new one.
        2. Run one job: test, then train, in the one order; get the state, the counts, the rejected records.
        3. Stop if too many are rejected: nothing has been sent or written yet.
        4. Send the rejected ones to the dead-letter topic, and wait until they are there.
        5. See that the topics are still the ones that the head has learned from.
        6. Append the version. This is the commit point: before it nothing of the batch counts, after it all.
        """
        failpoints.point("batch-begun")
        began = time.monotonic()
        planned = self.origin.planned(frame, batch_id)  # 1
        if planned is None:
            return
        if self.pace and self.head.number == 0 and "ranges" in planned:
            self._resize(batch_size.first(_offsets(planned), self.pace.cap))
        while (learned := self._committed(frame, planned)) is None:
            pass
        if self.pace and learned.rows["received"]:
            self._choose(self.pace, learned, began)

    def _choose(self, pace: batch_size.BatchSizeController, learned: _Learned, began: float) -> None:
        """Choose the mini-batch of the next micro-batch."""
        received = learned.rows["received"]
        behind = received >= BACKLOG * self.settings.train.max_offsets_per_trigger or self.settings.train.once
        since, self.begun = began - self.begun if self.begun else 0.0, began
        self._resize(pace.note(received, learned.seconds, since, behind))

    def _resize(self, size: int) -> None:
        assert self.pace is not None
        self.pace.size = size
        if size != self.learner.mini_batch:
            self.learner = learner_from({**self.learner.options(), "mini_batch": size})

    def _committed(self, frame: DataFrame, planned: Fields) -> _Learned | None:
        """Do steps 2 to 6; None: the model was rolled back meanwhile, and the batch begins from there."""
        clock = _Clock()
        with clock.timed("learn"):
            learned = self._learn(frame, planned)  # 2
        failpoints.point("learned")
        if not (self.events or learned.rows["received"] or _offsets(planned)):
            return learned  # a query's first batch may be empty: there is nothing to commit
        self._judge(learned)  # 3
        with clock.timed("dead_letters"):
            if self.dead_letters and learned.letters:
                self.dead_letters.send(learned.letters)  # 4
        failpoints.point("dead-letters-sent")
        committed = self.origin.committed(self.head.manifest, planned, self.events)  # 5
        failpoints.point("before-append")
        try:
            self._append(committed, learned, clock.seconds)  # 6
        except VersionConflictError as conflict:
            if conflict.manifest is None or conflict.manifest.kind != "rolled-back":
                raise
            self._adopt()
            return None
        failpoints.point("appended")
        self._thin()
        return learned

    def _adopt(self) -> None:
        """Go on from a rollback's version: it keeps the offsets, so the batch at hand is still the next."""
        head = self.log.head()
        assert head is not None  # it has just won a number
        self.learner = resume.continued(self.settings, head, self.given)
        self.schema = resume.recorded_schema(self.settings, head)
        self.state = unflatten(initial(self.learner), head.tensors)
        self.head, self.sha = head, self.log.sha256(head.number)
        if self.pace:
            self.pace.size = self.learner.mini_batch

    def _thin(self) -> None:
        """Turn versions that retention does not keep into stubs; a damaged one is left as it is."""
        keep = self.settings.train.keep_versions
        if keep:
            with suppress(DamagedVersionError):
                prune(self.log, keep, since=max(self.head.number - keep - 10, 1))

    def _learn(self, frame: DataFrame, planned: Fields) -> _Learned:
        tasks = self._tasks(frame, planned)
        tasks.sort(key=lambda task: (task.topic, task.partition))
        if unseen := together(json.loads(task.unseen) for task in tasks if task.unseen):
            self._grow(unseen)
            return self._learn(frame, planned)
        rows = [json.loads(task.rows) for task in tasks]
        overflow = any(task.overflow for task in tasks)
        return _Learned(
            [] if overflow else [self._part(*each) for each in zip(tasks, rows, strict=True)],
            {name: sum(counts[name] for counts in rows) for name in no_counts()},
            dict(sum((Counter(json.loads(task.rejected)) for task in tasks), Counter[str]())),
            [] if overflow else [letter for task in tasks for letter in letters_from(bytes(task.letters))],
            overflow,
            max((task.seconds for task in tasks), default=0.0),  # an empty batch may have no task
        )

    def _tasks(self, frame: DataFrame, planned: Fields) -> list[Row]:
        """Run the batch's one job, and give a row (LEARNED) a task.

        On one machine a few records are learned right here: starting a worker takes longer than they do. None
        at all, as in a query's first micro-batch, get the reader ready.
        """
        averaged = self.settings.train.update == AVERAGED
        limit = self.settings.train.max_rejected_bytes if self.dead_letters else None
        records = _offsets(planned)
        few = records <= (FEW // SHARED if averaged else FEW) and records * self.schema.inputs <= FEW_VALUES
        if few and "ranges" in planned and self.one_machine:
            here = Here(safetensors.numpy.save(self.head.tensors))
            with self.blas.limit(limits=1):
                work = Learn(self.learner, self.schema, here, limit)
                table = self.origin.table(frame, planned)
                return [Row(**row) for row in learn_here(work, table, averaged)]
        with shared(self.spark, self.head.tensors) as state:
            work = Learn(self.learner, self.schema, state, limit)
            return rows_of(self.origin.tasks(frame, planned, work, averaged))

    def _grow(self, unseen: Mapping[str, Sequence[Label]]) -> None:
        """Let the schema take in what the batch has brought, and the learner its classes."""
        self.schema = schema.grown(self.schema, unseen)
        classes = self.schema.classes
        if classes is not None and classes != self.learner.classes:
            self.learner = learner_from({**self.learner.options(), "classes": classes})
            self.state = grown(self.learner, self.state)

    def _part(self, task: Row, rows: dict[str, int]) -> Part[Any]:
        learned = Counts(rows["received"] - rows["rejected"], rows["trained"], rows["skipped"])
        return unpack_part(self.learner, bytes(task.part), learned)

    def _judge(self, learned: _Learned) -> None:
        reasons = ", ".join(f"{reason}: {n:,}" for reason, n in learned.rejected.items())
        safe = f"Nothing of this batch is learned or lost; version {self.head.number} is the last one"
        if learned.overflow:
            raise TooManyRejectedError(
                f"rejected records of one batch exceed train.max_rejected_bytes = "
                f"{self.settings.train.max_rejected_bytes:,} ({reasons}). {safe}"
            )
        received, rejected = self.judged
        received, rejected = received + learned.rows["received"], rejected + learned.rows["rejected"]
        if received >= JUDGED and rejected > self.settings.train.max_rejected * received:
            raise TooManyRejectedError(
                f"{rejected:,} of {received:,} records can't be learned ({reasons}), more than "
                f"train.max_rejected = {self.settings.train.max_rejected:g} allows: is the schema right? "
                f"{safe}"
            )
        self.judged = [0, 0] if received >= JUDGED else [received, rejected]
        if learned.rows["skipped"] or learned.rows["trained"]:
            self.skipped = 0 if learned.rows["trained"] else self.skipped + 1
        if self.skipped >= self.settings.train.max_skipped_batches:
            raise TooManyRejectedError(
                f"no step was finite in {self.skipped} micro-batches in a row (train.max_skipped_batches): "
                f"are there values near float32's limits, or is the learning rate too high? {safe}"
            )

    def _append(self, committed: Fields, learned: _Learned, seconds: dict[str, float]) -> None:
        state = close(self.learner, self.state, learned.parts)
        record = child(
            self.head.manifest,
            self.sha,
            learner=self.learner.options(),
            schema=self.schema.options(),
            update=self.settings.train.update,
            mini_batch_cap=self.pace.cap if self.pace else 0,
            **committed,
            counts=learned.rows,
            rejected_by_reason=learned.rejected,
            metrics=report(self.learner, state),
            written_at=now(),
            written_by=writer(self.run),
            environment=self.environment,
            seconds=seconds,
            events=[*self.events, *events(self.learner, self.state, state)],
        )
        version = Version(record, flatten(state))
        self.sha = self.log.append(version).sha256
        self.head, self.state, self.events = version, state, []


def _offsets(planned: Fields) -> int:
    """Count the offsets of a micro-batch; 0 where its source has none."""
    return kafka_frames.count(planned.get("ranges", {}))


def _dead_letters(settings: Settings, say: Say) -> DeadLetters | None:
    """Give the topic of the rejected; of another source than Kafka they may be counted only."""
    if settings.source.format and "bootstrap.servers" not in settings.kafka:
        say("rejected records will be counted, and kept nowhere: no Kafka is named for train.dead_letters")
        return None
    return DeadLetters(settings.kafka, settings.train.dead_letters)


class _Clock:
    """How long each step of a micro-batch took, for its record."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, step: str) -> Any:
        began = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - began, 6)


def train(
    spark: SparkSession,
    settings: Settings,
    say: Say = lambda line: None,
    begun: Callable[[Trainer], None] = lambda trainer: None,
) -> Trainer:
    """Learn until stopped by Ctrl-C, or with `once` all that is there. Raises as `Trainer` does."""
    with uninterrupted():
        trainer = Trainer(spark, settings, say=say)
        begun(trainer)
    try:
        with uninterrupted():
            trainer.start()
        trainer.wait()
    except KeyboardInterrupt:
        say("stopping after the micro-batch under way")
    finally:
        trainer.stop()
    return trainer
