"""Client of a schema registry, such as Confluent's: each schema is requested once a process, by its ID."""

import base64
import json
import os
import time
from functools import lru_cache
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

USER, PASSWORD = "STREAMING_NN_REGISTRY_USER", "STREAMING_NN_REGISTRY_PASSWORD"  # variables
SECONDS = 10  # timeout of a request
ATTEMPTS, PAUSE = 3, 0.5  # until a registry counts as unreachable; seconds between two attempts
FORGET = 60.0  # seconds after which an unknown ID is requested again
KNOWN = 4096  # cached IDs
MAX_DEPTH = 20  # of references of references

_unknown: dict[tuple[str, int], float] = {}  # when it was requested


class NotAvroError(ValueError):
    """The registry's response is not an Avro schema."""


def schemas(url: str, schema_id: int) -> tuple[str, ...] | None:
    """Return a schema's text after those of the schemas that it refers to; None if the ID is unknown.

    Raise ConnectionError in one line if the registry does not respond, or refuses the request.
    """
    requested = _unknown.get((url, schema_id))
    if requested is not None and time.monotonic() - requested < FORGET:
        return None
    try:
        return _request_schemas(url, schema_id)
    except LookupError:
        if len(_unknown) >= KNOWN:
            _unknown.clear()
        _unknown[url, schema_id] = time.monotonic()
        return None


@lru_cache(KNOWN)
def _request_schemas(url: str, schema_id: int) -> tuple[str, ...]:
    found: dict[str, None] = {}
    _collect(url, f"/schemas/ids/{schema_id}", found, MAX_DEPTH)
    return tuple(found)


def _collect(url: str, path: str, found: dict[str, None], depth: int) -> None:
    """Add the schemas that a schema refers to, then the schema."""
    response = _request(url, path)
    text = response.get("schema") if isinstance(response, dict) else None
    if not isinstance(text, str) or response.get("schemaType", "AVRO") != "AVRO" or depth == 0:
        raise NotAvroError(f"{url}{path} is not an Avro schema")
    try:
        paths = [
            f"/subjects/{quote(str(reference['subject']), safe='')}/versions/{int(reference['version'])}"
            for reference in response.get("references") or ()
        ]
    except (TypeError, LookupError, ValueError):
        raise NotAvroError(f"{url}{path} has an invalid reference") from None
    for path in paths:
        _collect(url, path, found, depth - 1)
    found[text] = None


def _request(url: str, path: str) -> Any:
    """Return a response, after a few attempts; raise LookupError for a 404, ConnectionError for none."""
    address = url.rstrip("/") + path
    for left in reversed(range(ATTEMPTS)):
        try:
            with urlopen(Request(address, headers=_headers()), timeout=SECONDS) as response:
                return json.load(response)
        except HTTPError as error:
            if error.code == 404:
                raise LookupError(address) from None
            if error.code < 500 or not left:
                raise ConnectionError(
                    f"schema registry {url} refuses the request: {error.code} {error.reason}{_hint(error)}"
                ) from None
        except (URLError, OSError, ValueError) as error:
            if not left:
                reason = getattr(error, "reason", error)
                raise ConnectionError(f"schema registry {url} does not respond: {reason}") from None
        time.sleep(PAUSE)
    raise AssertionError("the last try returns or raises")


def _headers() -> dict[str, str]:
    headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
    if user := os.environ.get(USER):
        pair = f"{user}:{os.environ.get(PASSWORD, '')}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
    return headers


def _hint(error: HTTPError) -> str:
    return f"; set {USER} and {PASSWORD}" if error.code in (401, 403) else ""
