"""A schema registry on this machine: as much of Confluent's API as the tests need."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Registry:
    """Serves GET from `responses` and keeps the requests; may require a user, and fail a few times first."""

    def __init__(self) -> None:
        self.responses: dict[str, Any] = {}  # path: JSON
        self.requests: list[str] = []
        self.user: str | None = None  # "name:password"
        self.failures = 0  # number of next responses that are 503
        self.url = ""

    def add(self, schema_id: int, schema: Any, **more: Any) -> None:
        """Register a schema under an ID."""
        self.responses[f"/schemas/ids/{schema_id}"] = {"schema": json.dumps(schema), **more}

    def status(self, path: str, authorization: str | None) -> int:
        """Return the status code of the response to a request."""
        if self.failures:
            self.failures -= 1
            return 503
        if self.user and authorization != "Basic " + base64.b64encode(self.user.encode()).decode():
            return 401
        return 200 if path in self.responses else 404


@contextmanager
def serving() -> Iterator[Registry]:
    """Run a registry on 127.0.0.1, on a free port."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.requests.append(self.path)
            status = registry.status(self.path, self.headers["Authorization"])
            body = json.dumps(
                registry.responses[self.path] if status == 200 else {"error_code": status}
            ).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
