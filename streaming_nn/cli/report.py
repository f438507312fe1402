"""`streaming-nn report`: the page of a model as one file, to open later or to send."""

import json
from pathlib import Path
from typing import Annotated

import typer

from streaming_nn.cli.options import Config, Json, Models, model_directories


def report(
    models: Models = None,
    config: Config = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file.")] = Path("report.html"),
    as_json: Json = False,
) -> None:
    """Write what the page shows to one HTML file, which opens without a server."""
    directories = model_directories(models, config)
    from streaming_nn.page.report import report as html

    output.write_text(html(directories), encoding="utf-8")
    size = output.stat().st_size
    print(
        json.dumps({"file": str(output), "bytes": size})
        if as_json
        else f"wrote {output} ({size / 1000:,.0f} kB)"
    )
