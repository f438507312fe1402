"""Learns the micro-batches of any streaming query, in Spark's `foreachBatch`."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from streaming_nn.mllib import dataframe
from streaming_nn.mllib.dataframe import Columns
from streaming_nn.mllib.estimators import StreamingEstimator, count_features
from streaming_nn.mllib.params import NAMES, spark_names_in_errors
from streaming_nn.mllib.persistence import describe_schema
from streaming_nn.nn import validation
from streaming_nn.nn.factory import changed, differences, learner_from
from streaming_nn.nn.learner import Learner, continues, initial, load_state
from streaming_nn.nn.state_dict import flatten
from streaming_nn.spark.sources.spark_source import initial_position, last_batch, position_of, query_id
from streaming_nn.spark.train.micro_batch import commit_learned
from streaming_nn.versions.retention import KEEP_BYTES, Retention
from streaming_nn.versions.version import INITIAL, SEQUENTIAL, UPDATES, Manifest, Position, Version
from streaming_nn.versions.version_log import VersionLog

logger = logging.getLogger(__name__)

TASKS = {True: "regression", False: "classification"}  # by whether it is a regression


class StreamingLearner:
    """Learns a streaming query: pass `update` to `foreachBatch`; each micro-batch becomes a version.

    `estimator` has the columns, and the options of a new model; an existing model keeps its own options
    except those that are set, unless it has learned nothing: then other options begin it again. A
    classifier's `classes` must be set, or be in the label's metadata. `update` is "sequential", one task in
    the order in which `coalesce(1)` brings the rows (Spark promises none; a frame of one partition keeps its
    own), or "averaged", a task per partition.

    Exactly once: a version names its query and batch, and a batch that is in the log is skipped. So what
    Spark repeats after a crash counts once, as long as the query keeps its checkpoint: it has the query's id.

    Older versions are pruned where all take more than `keep_bytes`, 10 GB by default; None keeps all.
    """

    def __init__(
        self,
        model_dir: str | Path,
        estimator: StreamingEstimator,
        update: str = SEQUENTIAL,
        query_id: str | None = None,
        keep_bytes: int | None = KEEP_BYTES,
    ) -> None:
        if not isinstance(estimator, StreamingEstimator):
            raise TypeError(
                f"estimator must be a StreamingClassifier or a StreamingRegressor; got {estimator!r}"
            )
        validation.one_of("update", update, UPDATES)
        self.log = VersionLog(model_dir)
        self.retention = Retention(self.log, keep_bytes)
        self.estimator: Any = estimator.copy()
        self.mode, self.query_id = update, query_id
        self._head: Version | None = None

    def update(self, dataset: DataFrame, batch_id: int) -> None:
        """Learn one micro-batch, unless the log has it already; an empty one leaves no version.

        Errors: ValueError in one line for bad columns and rows, VersionConflictError where another process
        commits; the log is then unchanged.
        """
        columns = self.estimator._columns()
        rows, query = dataframe.select_rows(dataset, columns), self._query(dataset)
        if batch_id <= last_batch(self.log, query):
            return
        position = position_of(query, batch_id)
        while not self._learn_and_commit(rows, columns, dataset, position):
            pass

    def model(self) -> Any:
        """Return the newest version as a model. LookupError: there is none."""
        return self.estimator._copyValues(self.estimator.model_class.fromModelDir(self.log.directory))

    def _query(self, dataset: DataFrame) -> str:
        query = self.query_id or query_id(dataset)
        if not query:
            raise ValueError("query_id must be set outside of foreachBatch, where Spark has none; got None")
        return query

    def _learn_and_commit(
        self, rows: DataFrame, columns: Columns, dataset: DataFrame, position: Position
    ) -> bool:
        """Learn from the head and commit the next version; False: the model was rolled back meanwhile."""
        head = self._newest()
        if head is None or head.manifest.untrained:
            head = self._begin(rows, columns, dataset, head)
        if head is None:
            return True
        learner = self._resume_learner(head)
        state = load_state(learner, head.tensors)
        ordered = rows.coalesce(1) if self.mode == SEQUENTIAL else rows
        result = dataframe.learn_once(learner, state, ordered, columns)
        if not result.counts.received:
            return True
        self._head = None
        self._head = commit_learned(
            self.log,
            head,
            learner,
            state,
            result.state,
            result.counts,
            kind="saved",  # the rows are in no topic, so a replay takes the tensors
            update=self.mode,
            **position,
        )
        if self._head is not None:
            self.retention.committed(self._head.number)
        return self._head is not None

    def _newest(self) -> Version | None:
        number = self.log.head_number()
        if number is not None and (self._head is None or self._head.number != number):
            self._head = self.log.head()
        return self._head if number is not None else None

    def _begin(
        self, rows: DataFrame, columns: Columns, dataset: DataFrame, head: Version | None
    ) -> Version | None:
        """Return an untrained head; commit version 0 if there is none, and one like it for other options.

        None without a row, whose width is needed.
        """
        first = rows.first()
        if first is None:
            return None
        inputs = count_features(first, columns)
        learner = self.estimator._new_learner(inputs, self.estimator._find_outputs(first, None, dataset))
        changed = self._change(head.manifest, learner) if head else ""
        if head and not changed:
            return head
        self._head = self.log.commit(
            head,
            flatten(initial(learner)),
            kind=INITIAL,
            learner=learner.options(),
            schema=describe_schema(learner),
            update=self.mode,
            mini_batch_cap=0,
            events=[{"event": "model restarted", "changed": changed}] if head else [],
            **initial_position(),
        )
        if head:
            logger.info("%s is untrained; restarting from scratch: %s", self.log.directory, changed)
        return self._head

    def _change(self, head: Manifest, learner: Learner[Any]) -> str:
        """Return what has changed since an untrained head was committed; an empty string: nothing."""
        if self.mode != head.update:
            return f"update = {head.update!r}, now {self.mode!r}"
        return _difference(head.learner, learner)

    def _resume_learner(self, head: Version) -> Learner[Any]:
        """Return the learner that continues from the head. ValueError: what is set needs another model."""
        recorded = head.manifest.learner
        regression = self.estimator.model_class.regression
        if (recorded.get("classes") is None) != regression:
            raise ValueError(
                f"model {self.log.directory} must be for {TASKS[regression]}, as a "
                f"{type(self.estimator).__name__} is; got a model for {TASKS[not regression]}"
            )
        changes = self.estimator._options(only_set=True)
        with spark_names_in_errors():
            learner = learner_from({**changed(recorded, changes), "seed": recorded.get("seed", 0)})
        if not continues(learner, learner_from(recorded), head.tensors):
            different = _difference(recorded, learner)
            raise ValueError(
                f"model {self.log.directory} was created with {different}; use a new model directory"
            )
        return learner


def _difference(recorded: Mapping[str, Any], learner: Learner[Any]) -> str:
    """Describe by Spark's names which options differ from those that are recorded."""
    return ", ".join(
        f"{NAMES.get(option, option)} = {then!r}, now {now!r}"
        for option, (then, now) in differences(recorded, learner.options()).items()
    )
