"""The types of the public names, for editors and mypy; __init__.py imports them when they are used."""

from streaming_nn.errors import (
    DamagedVersionError,
    DataLossError,
    DeadLetterError,
    StreamingNNError,
    TooManyRejectedError,
    TooManySkippedError,
    UnreadableRecordError,
    VersionConflictError,
)
from streaming_nn.estimators.river import (
    RiverClassifier,
    RiverMultiLabelClassifier,
    RiverMultiTargetRegressor,
    RiverRegressor,
)
from streaming_nn.estimators.sklearn import OnlineClassifier, OnlineRegressor
from streaming_nn.export.onnx import to_onnx
from streaming_nn.export.sklearn import to_sklearn
from streaming_nn.kafka.broker import Broker
from streaming_nn.mllib.estimators import StreamingClassifier, StreamingRegressor
from streaming_nn.mllib.models import StreamingClassificationModel, StreamingRegressionModel
from streaming_nn.mllib.streaming_learner import StreamingLearner
from streaming_nn.model import load as load_model
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Counts, Learner, State, report, test_then_train
from streaming_nn.nn.learner import initial as initial_state
from streaming_nn.nn.mlp import MLP
from streaming_nn.records.schema import Schema
from streaming_nn.settings import Settings
from streaming_nn.settings import load as load_settings
from streaming_nn.spark.replay.backtest import Selection, backtest
from streaming_nn.spark.replay.file_backtest import StreamFile, backtest_file
from streaming_nn.spark.replay.trials import Outcome
from streaming_nn.spark.replay.verify import Verified, verify
from streaming_nn.spark.score.realtime.scorer import RealTimeScorer
from streaming_nn.spark.score.scorer import Scorer
from streaming_nn.spark.session import session
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version import Manifest, Version
from streaming_nn.versions.version_log import VersionLog

__all__ = [
    "MLP",
    "Batch",
    "Broker",
    "Counts",
    "DamagedVersionError",
    "DataLossError",
    "DeadLetterError",
    "Ensemble",
    "Learner",
    "Manifest",
    "OnlineClassifier",
    "OnlineRegressor",
    "Outcome",
    "RealTimeScorer",
    "RiverClassifier",
    "RiverMultiLabelClassifier",
    "RiverMultiTargetRegressor",
    "RiverRegressor",
    "Schema",
    "Scorer",
    "Selection",
    "Settings",
    "State",
    "StreamFile",
    "StreamingClassificationModel",
    "StreamingClassifier",
    "StreamingLearner",
    "StreamingNNError",
    "StreamingRegressionModel",
    "StreamingRegressor",
    "TooManyRejectedError",
    "TooManySkippedError",
    "Trainer",
    "UnreadableRecordError",
    "Verified",
    "Version",
    "VersionConflictError",
    "VersionLog",
    "backtest",
    "backtest_file",
    "initial_state",
    "learner_from",
    "load_model",
    "load_settings",
    "report",
    "session",
    "test_then_train",
    "to_onnx",
    "to_sklearn",
    "verify",
]

__version__: str
