"""`streaming-nn report`: the page of a model as one file, to open later or to send."""

from pathlib import Path
from typing import Annotated

import typer

from streaming_nn.cli.options import Config, Models, model_directories


def report(
    models: Models = None,
    config: Config = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file.")] = Path("report.html"),
) -> None:
    """Write what the page shows to one HTML file, which opens without a server."""
    directories = model_directories(models, config)
    from streaming_nn.page.report import report as html

    output.write_text(html(directories), encoding="utf-8")
    print(f"wrote {output} ({output.stat().st_size / 1000:,.0f} kB)")
