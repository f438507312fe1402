"""Constructors open nothing: every class is made with the network and the file system closed to it.

What connects, creates or reads is another method (`open`, `start`), or the first use.
"""

import ast
import builtins
import importlib
import io
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
from paths import ROOT

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import initial
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Settings
from streaming_nn.versions.version import Manifest, Version
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

MODEL = Path("/nowhere/model")
KAFKA = {"bootstrap.servers": "nowhere:9092"}
SPARK: Any = SimpleNamespace()  # a session: nothing may be called on it
SCHEMA = Schema(2, (0, 1))
LEARNER = learner_from({"inputs": 2, "classes": [0, 1], "hidden": [2]})
STATE = initial(LEARNER)
MANIFEST = Manifest(0, kind="initial", learner=LEARNER.options(), schema=SCHEMA.options())
HEAD = Version(MANIFEST, flatten(STATE), "sha")
SETTINGS = Settings(model=MODEL, kafka=KAFKA)
LOG = VersionLog(MODEL)
KNOBS: dict[str, Any] = {"mini_batch": 1}


def _trainer(kind: Any) -> Any:
    micro_batch = importlib.import_module("streaming_nn.spark.train.micro_batch")
    module = importlib.import_module("streaming_nn.spark.train.trainer")
    start = module.Start(LOG, HEAD, True, micro_batch.Work(LEARNER, SCHEMA, STATE), [])
    return kind(SETTINGS, SPARK, SPARK, start)


def _ensemble() -> Any:
    ensemble = importlib.import_module("streaming_nn.core.ensemble")
    shape = importlib.import_module("streaming_nn.core.networks").Shape((2, 3))
    return ensemble.Ensemble(shape, (ensemble.MemberOptions("sgd", 0.01),), 2)


def _core_model(kind: Any) -> Any:
    ensemble = _ensemble()
    return kind(ensemble, ensemble.init(np.zeros((1, ensemble.shape.parameters), np.float32)))


# each public class that defines a constructor; the core's library is loaded once, as code is
CONSTRUCTORS: dict[str, Callable[[Any], Any]] = {
    "cli.train.LogSink": lambda kind: kind(3),
    "core.ensemble.Ensemble": lambda kind: _ensemble(),
    "core.ensemble.Model": _core_model,
    "core.networks.Shape": lambda kind: kind((2, 3)),
    "core.sparse.SparseRows": lambda kind: kind([0, 1], [0], [1.0], 2),
    "demo.run.DemoRun": lambda kind: kind(SPARK, MODEL),
    "estimators.river.RiverClassifier": lambda kind: kind(),
    "estimators.river.RiverRegressor": lambda kind: kind(),
    "estimators.sklearn.OnlineClassifier": lambda kind: kind(),
    "estimators.sklearn.OnlineRegressor": lambda kind: kind(),
    "kafka.admin.KafkaAdmin": lambda kind: kind(KAFKA),
    "kafka.broker.Broker": lambda kind: kind(MODEL, SimpleNamespace(pid=0, port=0, controller_port=0)),
    "mllib.estimators.StreamingClassifier": lambda kind: kind(),
    "mllib.estimators.StreamingRegressor": lambda kind: kind(),
    "mllib.streaming_learner.StreamingLearner": lambda kind: kind(
        MODEL, importlib.import_module("streaming_nn.mllib.estimators").StreamingRegressor()
    ),
    "mllib.models.StreamingModel": lambda kind: kind(),
    "mllib.params.LearnerParams": lambda kind: kind(),
    "mllib.persistence.ModelReader": lambda kind: kind(None),
    "mllib.persistence.ModelWriter": lambda kind: kind(SimpleNamespace(_learner=LEARNER, _state=STATE)),
    "records.field_records.RecordDecoder": lambda kind: kind(SCHEMA, True, dict),
    "records.reasons.BadRecord": lambda kind: kind("not JSON"),
    "records.schema.Schema": lambda kind: kind(2),
    "sinks.json_lines.JsonLinesSink": lambda kind: kind(MODEL / "metrics.jsonl"),
    "sinks.kafka_topic.KafkaTopicSink": lambda kind: kind(KAFKA, "metrics", MODEL),
    "sinks.sink.Sinks": lambda kind: kind(LOG, []),
    "spark.jvm.Relay": lambda kind: kind(io.StringIO()),
    "spark.query.Job": lambda kind: kind(),
    "spark.rejected.NotLearned": lambda kind: kind(None),
    "spark.replay.backtest.Selection": lambda kind: kind(),
    "spark.replay.backtest.TrialRun": lambda kind: kind(SPARK, LOG, HEAD),
    "spark.score.scorer.Scorer": lambda kind: kind(SPARK, SETTINGS, SPARK, {}),
    "spark.score.realtime.scorer.RealTimeScorer": lambda kind: kind(SPARK, SETTINGS, SPARK, {}),
    "spark.sources.kafka_source.KafkaSource": lambda kind: kind(SPARK, SETTINGS),
    "spark.sources.prefetch.reader.Reader": lambda kind: kind(SPARK, KAFKA, {}),
    "spark.sources.spark_source.SparkSource": lambda kind: kind(SPARK, SETTINGS, LOG),
    "spark.train.circuit_breaker.CircuitBreaker": lambda kind: kind(SETTINGS.train),
    "spark.train.dead_letters.DeadLetters": lambda kind: kind(KAFKA, "dead-letters"),
    "spark.train.executor.DriverFirstExecutor": lambda kind: kind(SPARK, SPARK, 1),
    "spark.train.executor.TaskExecutor": lambda kind: kind(SPARK),
    "spark.train.progress.Progress": lambda kind: kind(10),
    "spark.train.trainer.Trainer": _trainer,
    "spark.train.write_rate.WriteRate": lambda kind: kind(),
    "versions.archive.Archive": lambda kind: kind(
        MODEL, {"first": 0, "until": 1, "needed": [], "sha256": {}}, {}
    ),
    "versions.archive.Archives": lambda kind: kind(MODEL),
    "versions.retention.Retention": lambda kind: kind(LOG, None),
    "versions.version.Manifest": lambda kind: kind(0),
    "versions.version_log.VersionLog": lambda kind: kind(MODEL),
}


def _refuse(*what: Any, **more: Any) -> NoReturn:
    raise AssertionError(f"a constructor opens something: {what}")


@contextmanager
def closed() -> Iterator[None]:
    """Close the network, the file system and other processes to what runs in the block."""
    calls: list[tuple[Any, str]] = [
        (socket.socket, "connect"),
        (socket, "create_connection"),
        (socket, "getaddrinfo"),
        (subprocess, "Popen"),
        (builtins, "open"),
        *((os, name) for name in ("open", "mkdir", "makedirs", "listdir", "scandir", "unlink", "rename")),
        *((Path, name) for name in ("open", "mkdir", "touch", "iterdir", "read_text", "read_bytes")),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in calls:
            patch.setattr(owner, name, _refuse)
        yield


def constructors() -> set[str]:
    """Name every public class of the package that has a constructor, errors and `nn`'s options aside."""
    found = set()
    for path in (ROOT / "streaming_nn").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT / "streaming_nn").with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_") or node.name.endswith("Error"):
                continue
            methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            if methods & {"__init__", "__post_init__"} and not module.startswith("nn."):
                found.add(f"{module}.{node.name}")
    return found - {"spark.tasks.Unseen"}  # an exception


def test_every_class_with_a_constructor_is_made_here() -> None:
    assert constructors() - set(CONSTRUCTORS) == set()


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_a_constructor_opens_nothing(name: str) -> None:
    module, _, kind = f"streaming_nn.{name}".rpartition(".")
    found = getattr(importlib.import_module(module), kind)
    make = CONSTRUCTORS[name]
    with closed():
        assert isinstance(make(found), found)


@pytest.mark.parametrize("options", [{"optimizer": "sgd"}, {}], ids=["mlp", "ensemble"])
def test_a_learner_opens_nothing(options: dict[str, Any]) -> None:
    with closed():
        learner = learner_from({"inputs": 2, "classes": [0, 1], **options, **KNOBS})
        assert learner.predict(initial(learner).model, np.zeros((1, 2), np.float32)).shape == (1, 2)


def test_the_test_sees_what_is_opened() -> None:
    with closed(), pytest.raises(AssertionError, match="opens something"):
        Path("/nowhere").mkdir()
    with closed(), pytest.raises(AssertionError, match="opens something"):
        socket.create_connection(("nowhere", 1))
