"""`streaming-nn page`: a web page on this machine that shows how models learn, live."""

import json
import logging
from typing import Annotated

import typer

from streaming_nn.cli.options import Config, Json, Models, model_directories
from streaming_nn.page.run import PORT, address, listen, serve

logger = logging.getLogger(__name__)


def page(
    models: Models = None,
    config: Config = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that other machines can reach needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = PORT,
    token: Annotated[str, typer.Option(help="Refuse requests without ?token=TOKEN.")] = "",
    prefix: Annotated[str, typer.Option(help="Path under which a proxy serves it: /models.")] = "",
    as_json: Json = False,
) -> None:
    """Show how models learn in a browser: live, and at any earlier version."""
    directories = model_directories(models, config)
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ValueError(f"--prefix must begin with / and not end with it; got {prefix!r}")
    listening = listen(host, port, token)
    url = address(listening, prefix, token)
    if as_json:
        print(json.dumps({"url": url}), flush=True)
    else:
        logger.info("the page is at %s", url)
    serve(directories, listening, prefix, token)
