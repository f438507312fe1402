"""Constructors open nothing: every class is made with the network and the file system closed to it.

What connects, creates or reads is another method (`open`, `start`), or the first use.
"""

import builtins
import importlib
import inspect
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
from pydantic import BaseModel

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
    return ensemble.Ensemble((ensemble.MemberOptions(shape),), 2)


def _core_model(kind: Any) -> Any:
    ensemble = _ensemble()
    return kind(ensemble, ensemble.init(np.zeros(ensemble.shape.parameters, np.float32)))


def _window(kind: Any) -> Any:
    options = importlib.import_module("streaming_nn.nn.drift").ADWIN()
    return kind(options, options.init())


def _histories(kind: Any) -> Any:
    series = importlib.import_module("streaming_nn.nn.series")
    lags = series.Lags(((0, 1),), 1, 1)
    return kind(lags, series.empty(lags))


def _record_series(kind: Any) -> Any:
    schema = Schema(1, None, ("x",), "y", lags=(1,))
    state = importlib.import_module("streaming_nn.spark.series").initial_state(LEARNER, schema.options())
    return kind(schema, state)


def _demo_values(kind: Any) -> Any:
    return kind(importlib.import_module("streaming_nn.demo.run").DemoRun(SPARK, MODEL), None)


def _train_table(kind: Any) -> Any:
    return kind("title", importlib.import_module("streaming_nn.versions.version").Manifest(0), None)


# each class whose constructor has code of the package; the core's library is loaded once, as code is
CONSTRUCTORS: dict[str, Callable[[Any], Any]] = {
    "cli.demo._Table": lambda kind: kind("title"),
    "cli.live.Behind": lambda kind: kind(SPARK),
    "cli.live.Figures": lambda kind: kind(),
    "cli.live.History": lambda kind: kind(),
    "cli.live.Rate": lambda kind: kind(),
    "cli.progress.Lines": lambda kind: kind(),
    "cli.tables.ScoreTable": lambda kind: kind("title", LOG, SPARK, None),
    "cli.tables.TrainTable": _train_table,
    "cli.train.JsonSink": lambda kind: kind(3),
    "cli.train.LogSink": lambda kind: kind(3),
    "core.ensemble.Ensemble": lambda kind: _ensemble(),
    "core.ensemble.Model": _core_model,
    "core.networks.Shape": lambda kind: kind((2, 3)),
    "core.sparse.SparseRows": lambda kind: kind([0, 1], [0], [1.0], 2),
    "demo.run.DemoRun": lambda kind: kind(SPARK, MODEL),
    "demo.run._Values": _demo_values,
    "errors.VersionConflictError": lambda kind: kind("another", 1),
    "estimators.river.RiverClassifier": lambda kind: kind(),
    "estimators.river.RiverRegressor": lambda kind: kind(),
    "estimators.river.RiverMultiLabelClassifier": lambda kind: kind(),
    "estimators.river.RiverMultiTargetRegressor": lambda kind: kind(),
    "estimators.sklearn.OnlineClassifier": lambda kind: kind(),
    "estimators.sklearn.OnlineRegressor": lambda kind: kind(),
    "estimators.sklearn._OnlineModel": lambda kind: kind(),
    "export.onnx._Graph": lambda kind: kind(),
    "kafka.admin.KafkaAdmin": lambda kind: kind(KAFKA),
    "kafka.admin._Failures": lambda kind: kind(),
    "kafka.broker.Broker": lambda kind: kind(MODEL, SimpleNamespace(pid=0, port=0, controller_port=0)),
    "mllib.estimators.StreamingClassifier": lambda kind: kind(),
    "mllib.estimators.StreamingRegressor": lambda kind: kind(),
    "mllib.estimators.StreamingEstimator": lambda kind: kind(),
    "mllib.streaming_learner.StreamingLearner": lambda kind: kind(
        MODEL, importlib.import_module("streaming_nn.mllib.estimators").StreamingRegressor()
    ),
    "mllib.models.StreamingModel": lambda kind: kind(),
    "mllib.models.StreamingClassificationModel": lambda kind: kind(),
    "mllib.models.StreamingRegressionModel": lambda kind: kind(),
    "mllib.params.LearnerParams": lambda kind: kind(),
    "mllib.persistence.ModelReader": lambda kind: kind(None),
    "mllib.persistence.ModelWriter": lambda kind: kind(SimpleNamespace(_learner=LEARNER, _state=STATE)),
    "nn.drift.ADWIN": lambda kind: kind(),
    "nn.drift.PageHinkley": lambda kind: kind(),
    "nn.drift._Window": _window,
    "nn.ensemble.Ensemble": lambda kind: kind(2, (0, 1)),
    "nn.mlp.MLP": lambda kind: kind(2, (0, 1)),
    "nn.preprocessing.Scaler": lambda kind: kind(2),
    "nn.series.Histories": _histories,
    "page.models.Followed": lambda kind: kind(MODEL, "model"),
    "page.server.Page": lambda kind: kind([MODEL]),
    "page.server._Headers": lambda kind: kind(SPARK),
    "page.server._Token": lambda kind: kind(SPARK, "secret"),
    "page.timeline.Timeline": lambda kind: kind(LOG),
    "records.avro._DatumReader": lambda kind: kind(SCHEMA),
    "records.csv._Layout": lambda kind: kind(SCHEMA),
    "records.csv._LineDecoder": lambda kind: kind(SCHEMA, True),
    "records.field_records.RecordDecoder": lambda kind: kind(SCHEMA, True, dict),
    "records.json._JsonDecoder": lambda kind: kind(SCHEMA, True, dict),
    "records.reasons.BadRecord": lambda kind: kind("not JSON"),
    "records.schema.Schema": lambda kind: kind(2),
    "records.where._Parser": lambda kind: kind("a = 1"),
    "settings.Metrics": lambda kind: kind(file="metrics.jsonl"),
    "settings.Records": lambda kind: kind(),
    "settings.Score": lambda kind: kind(),
    "settings.Section": lambda kind: kind(),
    "settings.Settings": lambda kind: kind(model=MODEL, kafka=KAFKA),
    "settings.Source": lambda kind: kind(),
    "settings.Train": lambda kind: kind(),
    "sinks.json_lines.JsonLinesSink": lambda kind: kind(MODEL / "metrics.jsonl"),
    "sinks.kafka_topic.KafkaTopicSink": lambda kind: kind(KAFKA, "metrics", MODEL),
    "sinks.lag.Lag": lambda kind: kind(dict, lambda topics: {}),
    "sinks.position.PositionThread": lambda kind: kind(KAFKA, dict),
    "sinks.mlflow.MLflowSink": lambda kind: kind("http://127.0.0.1:5000", "fraud", MODEL),
    "sinks.mlflow.Run": lambda kind: kind("http://127.0.0.1:5000", "fraud", MODEL),
    "sinks.traces.Traces": lambda kind: kind("model", SPARK),
    "sinks.traces._Exporter": lambda kind: kind(SPARK),
    "sinks.prometheus.Durations": lambda kind: kind(),
    "sinks.prometheus.Reasons": lambda kind: kind(),
    "sinks.prometheus.ScorerMetrics": lambda kind: kind(MODEL, dict, None, 60.0),
    "sinks.prometheus.Server": lambda kind: kind("127.0.0.1:9464"),
    "sinks.prometheus.TrainerMetrics": lambda kind: kind(Manifest(0), None, True, 60.0),
    "sinks.sink.Sinks": lambda kind: kind(LOG, []),
    "sinks.sink._Shutdown": lambda kind: kind(),
    "sinks.sink._SinkThread": lambda kind: kind(LOG, SimpleNamespace(name="metrics"), SPARK),
    "spark.jvm.Relay": lambda kind: kind(io.StringIO()),
    "spark.query.Job": lambda kind: kind(),
    "spark.rejected.NotLearned": lambda kind: kind(None),
    "spark.samples.NewestRows": lambda kind: kind(LEARNER, 16),
    "spark.clock.Clock": lambda kind: kind(),
    "spark.series.RecordSeries": _record_series,
    "spark.replay.backtest.Selection": lambda kind: kind(),
    "spark.replay.backtest.TrialRun": lambda kind: kind(SPARK, LOG, HEAD),
    "spark.score.scorer.Scorer": lambda kind: kind(SPARK, SETTINGS, SPARK, {}),
    "spark.score.realtime.scorer.RealTimeScorer": lambda kind: kind(SPARK, SETTINGS, SPARK, {}),
    "spark.score.sender.Sender": lambda kind: kind(SPARK, KAFKA, "predictions"),
    "spark.sources.kafka_source.KafkaSource": lambda kind: kind(SPARK, SETTINGS),
    "spark.sources.prefetch.reader.Reader": lambda kind: kind(SPARK, KAFKA, {}),
    "spark.sources.spark_source.SparkSource": lambda kind: kind(SPARK, SETTINGS, LOG),
    "spark.tasks.Unseen": lambda kind: kind({"label": (1,)}),
    "spark.tasks._Timed": lambda kind: kind([]),
    "spark.train.circuit_breaker.CircuitBreaker": lambda kind: kind(SETTINGS.train),
    "spark.train.dead_letters.DeadLetters": lambda kind: kind(KAFKA, "dead-letters"),
    "spark.train.executor.DriverFirstExecutor": lambda kind: kind(SPARK, SPARK, 1),
    "spark.train.executor.TaskExecutor": lambda kind: kind(SPARK),
    "spark.train.trainer.Trainer": _trainer,
    "spark.train.write_rate.WriteRate": lambda kind: kind(),
    "versions.archive.Archive": lambda kind: kind(
        MODEL, {"first": 0, "until": 1, "needed": [], "sha256": {}}, {}
    ),
    "versions.archive.Archives": lambda kind: kind(MODEL),
    "versions.retention.Retention": lambda kind: kind(LOG, None),
    "versions.version.Manifest": lambda kind: kind(0),
    "versions.version_log.VersionLog": lambda kind: kind(MODEL),
    "producers.messages.Plan": lambda kind: kind("labeled"),
    "producers.send.Tally": lambda kind: kind(),
}


def _refuse(*what: Any, **more: Any) -> NoReturn:
    raise AssertionError(f"a constructor opens something: {what}")


@contextmanager
def closed() -> Iterator[None]:
    """Close the network, the file system and other processes to what runs in the block."""
    files = "open mkdir makedirs listdir scandir unlink remove rename replace link symlink stat lstat access"
    paths = "open mkdir touch iterdir glob rglob exists is_file is_dir stat read_text read_bytes unlink"
    calls: list[tuple[Any, str]] = [
        *((socket.socket, name) for name in ("connect", "connect_ex", "bind", "sendto")),
        *((socket, name) for name in ("create_connection", "getaddrinfo")),
        (subprocess, "Popen"),
        *((module, "open") for module in (builtins, io)),
        *((os, name) for name in files.split()),
        *((Path, name) for name in paths.split()),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in calls:
            patch.setattr(owner, name, _refuse)
        yield


def _runs_code(kind: Any) -> bool:
    """Return whether making an instance runs code of the package, and not what only stores its arguments."""
    for each in kind.__mro__:
        for name in ("__init__", "__post_init__", "__new__"):
            code = getattr(vars(each).get(name), "__code__", None)  # a dataclass's own is of no file
            if code and Path(code.co_filename).is_relative_to(ROOT):
                return True
    return issubclass(kind, BaseModel)  # its validators


def constructors() -> set[str]:
    """Name every class of the package and of the producers whose constructor runs code."""
    found = set()
    for path in [*(ROOT / "streaming_nn").rglob("*.py"), *(ROOT / "producers").rglob("*.py")]:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = importlib.import_module(name.removesuffix(".__init__"))
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == module.__name__ and _runs_code(kind):
                found.add(f"{kind.__module__}.{kind.__name__}".removeprefix("streaming_nn."))
    return found


def test_every_class_with_a_constructor_is_made_here() -> None:
    assert constructors() == set(CONSTRUCTORS)


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_a_constructor_opens_nothing(name: str) -> None:
    full = name if name.startswith("producers.") else f"streaming_nn.{name}"
    module, _, kind = full.rpartition(".")
    found = getattr(importlib.import_module(module), kind)
    make = CONSTRUCTORS[name]
    with closed():
        assert isinstance(make(found), found)


@pytest.mark.parametrize("options", [{"optimizer": "sgd"}, {}], ids=["mlp", "ensemble"])
def test_a_learner_opens_nothing(options: dict[str, Any]) -> None:
    with closed():
        learner = learner_from({"inputs": 2, "classes": [0, 1], **options, **KNOBS})
        assert learner.predict(initial(learner).model, np.zeros((1, 2), np.float32)).shape == (1, 2)


@pytest.mark.parametrize(
    "opens",
    [
        lambda path: path.mkdir(),
        lambda path: path.exists(),
        lambda path: list(path.glob("*")),
        lambda path: os.replace(path, path),
        lambda path: os.path.exists(path),
        lambda path: np.load(path),
        lambda path: socket.create_connection(("nowhere", 1)),
        lambda path: socket.socket().connect_ex(("127.0.0.1", 1)),
    ],
)
def test_the_test_sees_what_is_opened(opens: Callable[[Path], Any]) -> None:
    with closed(), pytest.raises(AssertionError, match="opens something"):
        opens(Path("/nowhere"))
