"""`streaming-nn export`: write a version in another format."""

import json
from pathlib import Path
from typing import Annotated

import typer

from streaming_nn.cli import options
from streaming_nn.cli.progress import progress


def export(
    to: Annotated[Path, typer.Option(metavar="FILE", help="The .onnx file; an existing one is replaced.")],
    version: Annotated[str, typer.Option(help="Version: a number, a tag, or head.")] = "head",
    config: options.Config = None,
    model: options.Model = None,
    as_json: options.Json = False,
    set_: options.Sets = None,
) -> None:
    """Write a version to an ONNX file, its whole ensemble and preprocessing included; docs/export.md."""
    settings = options.load_settings(config, set_, model=model)
    from streaming_nn.model import load
    from streaming_nn.versions.atomic_files import put
    from streaming_nn.versions.tags import find
    from streaming_nn.versions.version_log import VersionLog

    try:
        from streaming_nn.export.onnx import to_onnx
    except ImportError as error:
        raise RuntimeError(error) from None
    log = VersionLog(settings.model)
    if log.last() < 0:
        raise LookupError(f"model {settings.model}: there is no version to export yet")
    number = find(log, version)
    with progress() as show:
        show("exporting", 0, 2)
        learned, schema = load(settings.model, number)
        show("exporting", 1, 2)
        put(to, to_onnx(learned, schema).SerializeToString(deterministic=True))
    if as_json:
        print(json.dumps({"file": str(to), "version": number, "inputs": learned.learner.inputs}))
    else:
        print(f"{to}: version {number} of {settings.model}, {learned.learner.inputs} inputs")
