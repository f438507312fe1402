"""A schema registry on this machine, as much of Confluent's as is asked of one."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Registry:
    """Answers GET from `answers`; counts what was asked; may want a user, and may fail a few times first."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}  # path: JSON
        self.asked: list[str] = []
        self.user: str | None = None  # "name:password"
        self.failures = 0  # answers that are 503, from now on
        self.url = ""

    def add(self, number: int, schema: Any, **more: Any) -> None:
        """Register a schema under a number."""
        self.answers[f"/schemas/ids/{number}"] = {"schema": json.dumps(schema), **more}

    def code(self, path: str, authorization: str | None) -> int:
        """Say how a request is answered."""
        if self.failures:
            self.failures -= 1
            return 503
        if self.user and authorization != "Basic " + base64.b64encode(self.user.encode()).decode():
            return 401
        return 200 if path in self.answers else 404


@contextmanager
def serving() -> Iterator[Registry]:
    """Run a registry on 127.0.0.1, on a port of its own."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append(self.path)
            code = registry.code(self.path, self.headers["Authorization"])
            body = json.dumps(registry.answers[self.path] if code == 200 else {"error_code": code}).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
