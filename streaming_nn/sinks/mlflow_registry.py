"""Tagged versions as registered models of an MLflow server, with MLflow's client."""

import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from streaming_nn.sinks.mlflow import Run
from streaming_nn.versions.version import Manifest

VARIABLES = {  # of the client, unless they are set
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # with 7, it waits for four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def alias_of(tag: str) -> str:
    """Return the alias of a tag: MLflow's have no dot. ValueError: MLflow reserves it."""
    alias = tag.replace(".", "-")
    if alias.lower() == "latest" or (alias[0] in "vV" and alias[1:].isdecimal()):
        raise ValueError(f"tag must not be 'latest' or as 'v1', which MLflow reserves; got {tag!r}")
    return alias


def connect(uri: str) -> Any:
    """Return MLflow's client of a server; it has not connected yet. ValueError: it is not installed."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError:
        needs = "a tag with metrics.mlflow needs MLflow's client: pip install 'streaming_nn[mlflow]'"
        raise ValueError(needs) from None
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return MlflowClient(uri, uri)


def register(client: Any, run: Run, manifest: Manifest, proto: Any, alias: str) -> str:
    """Register a version's ONNX model, and point the alias to it; return its number in the registry.

    The registered model has the name of the run's experiment. A version that is registered is not registered
    again. ConnectionError in one line: the server does not respond, or refuses it.
    """
    from mlflow.exceptions import MlflowException

    try:
        _create(client, run.experiment)
        number = _find(client, run.experiment, manifest) or _upload(client, run, manifest, proto)
        client.set_registered_model_alias(run.experiment, alias, number)
    except (MlflowException, OSError, LookupError) as error:
        reason = str(error).splitlines()[0][:500]
        failed = f"cannot register version {manifest.number} at {run.uri}: {reason}"
        raise ConnectionError(f"{failed}; tag it again") from None
    return number


def _create(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _find(client: Any, name: str, manifest: Manifest) -> str | None:
    """Return the number of the same state, if it is registered."""
    for found in client.search_model_versions(f"name = '{name}'"):
        if found.tags.get("digest") == manifest.digest:
            return str(found.version)
    return None


def _upload(client: Any, run: Run, manifest: Manifest, proto: Any) -> str:
    """Save the model among the run's artifacts, and create a version of the registered model from it."""
    import onnx
    from mlflow.onnx import save_model

    identity, folder = run.identify(time.time()), f"versions/{manifest.number}"
    tags = {"version": str(manifest.number), "digest": manifest.digest, "model": str(run.model.absolute())}
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory, "model"))
        save_model(
            proto,
            path,
            signature=signature(proto),
            metadata=tags,
            # without requirements, it runs the model in another process to find them
            pip_requirements=[f"onnx=={onnx.__version__}", "onnxruntime"],
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=False,
        )
        client.log_artifacts(identity, path, folder)
    source = f"{client.get_run(identity).info.artifact_uri}/{folder}"
    return str(client.create_model_version(run.experiment, source, run_id=identity, tags=tags).version)


def signature(proto: Any) -> Any:
    """Return the types and shapes of an ONNX graph's inputs and outputs; -1 is the number of rows."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from numpy import dtype
    from onnx import helper

    def describe(values: Any) -> Schema:
        return Schema(
            [
                TensorSpec(
                    dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
                    [each.dim_value or -1 for each in value.type.tensor_type.shape.dim],
                    value.name,
                )
                for value in values
            ]
        )

    return ModelSignature(describe(proto.graph.input), describe(proto.graph.output))
