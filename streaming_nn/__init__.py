"""Neural networks that learn online on Apache Spark.

`import streaming_nn as snn` gives every public name, such as `snn.Trainer`; each is imported when it is first
used, with what it needs: most names need neither Spark nor Kafka, some need an extra of pyproject.toml.
"""

__version__ = "0.2.0"

# Public name -> module and attribute; __init__.pyi has the same, for editors and mypy
_PUBLIC = {
    "load_settings": "settings:load",
    "Settings": "settings:Settings",
    "StreamingNNError": "errors:StreamingNNError",
    "VersionConflictError": "errors:VersionConflictError",
    "DataLossError": "errors:DataLossError",
    "TooManyRejectedError": "errors:TooManyRejectedError",
    "TooManySkippedError": "errors:TooManySkippedError",
    "DamagedVersionError": "errors:DamagedVersionError",
    "DeadLetterError": "errors:DeadLetterError",
    "UnreadableRecordError": "errors:UnreadableRecordError",
    "Ensemble": "nn.ensemble:Ensemble",
    "MLP": "nn.mlp:MLP",
    "learner_from": "nn.factory:learner_from",
    "Batch": "nn.learner:Batch",
    "Counts": "nn.learner:Counts",
    "Learner": "nn.learner:Learner",
    "State": "nn.learner:State",
    "initial_state": "nn.learner:initial",
    "report": "nn.learner:report",
    "test_then_train": "nn.learner:test_then_train",
    "Schema": "records.schema:Schema",
    "Manifest": "versions.version:Manifest",
    "Version": "versions.version:Version",
    "VersionLog": "versions.version_log:VersionLog",
    "Broker": "kafka.broker:Broker",
    "session": "spark.session:session",
    "Trainer": "spark.train.trainer:Trainer",
    "Scorer": "spark.score.scorer:Scorer",
    "RealTimeScorer": "spark.score.realtime.scorer:RealTimeScorer",
    "Verified": "spark.replay.verify:Verified",
    "verify": "spark.replay.verify:verify",
    "Outcome": "spark.replay.trials:Outcome",
    "Selection": "spark.replay.backtest:Selection",
    "backtest": "spark.replay.backtest:backtest",
    "StreamFile": "spark.replay.file_backtest:StreamFile",
    "backtest_file": "spark.replay.file_backtest:backtest_file",
    "load_model": "model:load",
    "OnlineClassifier": "estimators.sklearn:OnlineClassifier",
    "OnlineRegressor": "estimators.sklearn:OnlineRegressor",
    "RiverClassifier": "estimators.river:RiverClassifier",
    "RiverMultiLabelClassifier": "estimators.river:RiverMultiLabelClassifier",
    "RiverMultiTargetRegressor": "estimators.river:RiverMultiTargetRegressor",
    "RiverRegressor": "estimators.river:RiverRegressor",
    "StreamingClassifier": "mllib.estimators:StreamingClassifier",
    "StreamingClassificationModel": "mllib.models:StreamingClassificationModel",
    "StreamingLearner": "mllib.streaming_learner:StreamingLearner",
    "StreamingRegressor": "mllib.estimators:StreamingRegressor",
    "StreamingRegressionModel": "mllib.models:StreamingRegressionModel",
    "to_onnx": "export.onnx:to_onnx",
    "to_sklearn": "export.sklearn:to_sklearn",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = _PUBLIC[name].partition(":")
    value: object = getattr(import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
