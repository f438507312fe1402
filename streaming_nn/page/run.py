"""Runs the page's server: until Ctrl-C, or in a thread beside a demo."""

import logging
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn

PORT = 8642


def listen(host: str = "127.0.0.1", port: int = PORT, token: str = "") -> socket.socket:
    """Return a socket that listens. ValueError: beyond loopback without a token; OSError: a used port."""
    from streaming_nn.page.server import is_loopback

    if not is_loopback(host) and not token:
        raise ValueError(f"--host {host} can be reached from other machines, so it needs --token")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()
    except OSError as error:
        listening.close()
        reason = error.strerror or error
        raise OSError(f"cannot listen on {host}:{port}: {reason}; --port 0 takes any free port") from None
    return listening


def listen_near() -> socket.socket:
    """Return a socket that listens on the usual port of this machine, or on any free one if it is used."""
    try:
        return listen()
    except OSError:
        return listen(port=0)


def address(listening: socket.socket, prefix: str = "", token: str = "") -> str:
    """Return the page's URL."""
    host, port = listening.getsockname()[:2]
    written = f"[{host}]" if ":" in host else host
    return f"http://{written}:{port}{prefix}/{f'?token={token}' if token else ''}"


def serve(directories: Sequence[Path], listening: socket.socket, prefix: str = "", token: str = "") -> None:
    """Serve the page of some model directories until Ctrl-C or SIGTERM."""
    _server(directories, prefix, token).run(sockets=[listening])


@contextmanager
def serving(
    directories: Sequence[Path], listening: socket.socket, prefix: str = "", token: str = ""
) -> Iterator[None]:
    """Serve the page in a thread."""
    server = _server(directories, prefix, token)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True, name="page")
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(5)


def _server(directories: Sequence[Path], prefix: str = "", token: str = "") -> "uvicorn.Server":
    import uvicorn

    from streaming_nn.page.server import application

    app = application(directories, prefix, token)

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await app.state.end()
            # a request that takes longer is cancelled: the browser knows of the end, so it is not logged
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            await super().shutdown(sockets)

    return Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))


def open_browser(url: str) -> None:
    """Open the page if there is a desktop."""
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)
