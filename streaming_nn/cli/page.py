"""`streaming-nn page`: a web page on this machine that shows how models learn, live."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from streaming_nn.cli.options import Config, load_settings

logger = logging.getLogger(__name__)


def page(
    models: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[MODEL]...", help="Model directories (default: that of the settings)."),
    ] = None,
    config: Config = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that other machines can reach needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 8642,
    token: Annotated[str, typer.Option(help="Refuse requests without ?token=TOKEN.")] = "",
    prefix: Annotated[str, typer.Option(help="Path under which a proxy serves it: /models.")] = "",
) -> None:
    """Show how models learn in a browser: live, and at any earlier version."""
    directories = models or [load_settings(config, None).model]
    for directory in directories:
        if not directory.is_dir():
            raise LookupError(f"model {directory}: there is no such directory")
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ValueError(f"--prefix must begin with / and not end with it; got {prefix!r}")
    from streaming_nn.page.run import address, listen, serve

    listening = listen(host, port, token)
    logger.info("the page is at %s", address(listening, prefix, token))
    serve(directories, listening, prefix, token)
