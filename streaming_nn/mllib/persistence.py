"""How a model is saved and loaded: Spark ML's metadata, and a log with the model as its version 0."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReader, MLWriter
from pyspark.sql import SparkSession
from pyspark.sql import functions as f

from streaming_nn.mllib import dataframe
from streaming_nn.model import describe
from streaming_nn.nn.learner import Counts, Learner, report
from streaming_nn.nn.state_dict import flatten
from streaming_nn.versions.version import ManifestFields, decode
from streaming_nn.versions.version_log import SUFFIX, VersionLog


def describe_schema(learner: Learner[Any]) -> dict[str, Any]:
    """Return the schema of a stream that resumes from the model."""
    return describe(learner).options()


class ModelWriter(MLWriter):
    """Saves a model (`models.StreamingModel`)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        learner, figures = model._learner, report(model._learner, model._state)
        received = figures["rows"]
        self.model, self.tensors = model, flatten(model._state)
        self.fields: ManifestFields = {
            "kind": "saved",
            "learner": learner.options(),
            "schema": describe_schema(learner),
            "counts": Counts(received, received)._asdict(),
            "metrics": figures,
        }

    def save(self, path: str) -> None:
        """Save to a new directory, or to an existing one after `overwrite()`. RuntimeError: Spark Connect."""
        dataframe.require_classic(self.sparkSession)
        super().save(path)

    def saveImpl(self, path: str) -> None:  # noqa: N802  (Spark's name)
        """Write the metadata, then the version: with a log if the directory is on this machine."""
        more = {"objectiveHistory": list(self.model._curve)}
        DefaultParamsWriter.saveMetadata(self.model, path, self.sparkSession, more)
        local = local_directory(self.sparkSession, path)
        if local is not None:
            VersionLog(local).commit(None, self.tensors, **self.fields)
            return
        with TemporaryDirectory() as folder:  # a log's file is the same in any file system
            log = VersionLog(folder)
            log.commit(None, self.tensors, **self.fields)
            data = log.path(0).read_bytes()
        target, files = _hadoop_path(self.sparkSession, f"{path}/versions/{log.path(0).name}")
        stream = files.create(target, False)
        stream.write(bytearray(data))
        stream.close()


class ModelReader(MLReader):  # type: ignore[type-arg]
    """Loads a model of one class."""

    def __init__(self, model_class: Any) -> None:
        super().__init__()
        self.model_class = model_class

    def load(self, path: str) -> Any:
        """Read the newest version, and the params.

        Errors: those of the log; ValueError: another class; RuntimeError: Spark Connect.
        """
        dataframe.require_classic(self.sparkSession)
        metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
        expected = f"{self.model_class.__module__}.{self.model_class.__name__}"
        if metadata["class"] != expected:
            raise ValueError(f"{path} must contain a {expected}; got {metadata['class']}")
        model = self._load_version(path)
        model._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        model._curve = tuple(metadata.get("objectiveHistory", ()))
        return model

    def _load_version(self, path: str) -> Any:
        local = local_directory(self.sparkSession, path)
        if local is not None:
            return self.model_class.fromModelDir(local)
        files = self.sparkSession.read.format("binaryFile").load(f"{path}/versions/*{SUFFIX}")
        row = files.orderBy(f.col("path").desc()).first()
        if row is None:
            raise LookupError(f"cannot load a model from {path}: it has no versions")
        return self.model_class()._load_version(decode(bytes(row.content), name=row.path), path)


def _hadoop_path(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """Return Hadoop's path and its file system."""
    assert spark._jvm is not None
    target = spark._jvm.org.apache.hadoop.fs.Path(path)
    return target, target.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())


def local_directory(spark: SparkSession, path: str) -> Path | None:
    """Return the directory; None if the path's file system is not this machine's."""
    target, files = _hadoop_path(spark, path)
    uri = files.makeQualified(target).toUri()
    return Path(str(uri.getPath())) if urlsplit(str(uri.toString())).scheme == "file" else None
