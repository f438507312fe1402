"""A schema registry over HTTP, as Confluent's: each schema is asked for once a process, by its number."""

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
SECONDS = 10  # that an answer may take
TRIES, PAUSE = 3, 0.5  # before a registry counts as out of reach; seconds between
FORGET = 60.0  # seconds after which a number that was unknown is asked for again
KNOWN = 4096  # numbers that are remembered
DEEPEST = 20  # references of references

_unknown: dict[tuple[str, int], float] = {}  # when it was asked for


class Unusable(ValueError):  # noqa: N818 (no error of the program: the fate of its records)
    """The registry's answer is no schema of Avro."""


def schemas(url: str, number: int) -> tuple[str, ...] | None:
    """Return the text of a schema and, before it, of those that it refers to; None where none has the number.

    Raises ConnectionError in one line where the registry does not answer, or refuses to.
    """
    asked = _unknown.get((url, number))
    if asked is not None and time.monotonic() - asked < FORGET:
        return None
    try:
        return _known(url, number)
    except LookupError:
        if len(_unknown) >= KNOWN:
            _unknown.clear()
        _unknown[url, number] = time.monotonic()
        return None


@lru_cache(KNOWN)
def _known(url: str, number: int) -> tuple[str, ...]:
    found: dict[str, None] = {}
    _collect(url, f"/schemas/ids/{number}", found, DEEPEST)
    return tuple(found)


def _collect(url: str, path: str, found: dict[str, None], depth: int) -> None:
    """Add what a schema refers to, and then itself."""
    answer = _asked(url, path)
    text = answer.get("schema") if isinstance(answer, dict) else None
    if not isinstance(text, str) or answer.get("schemaType", "AVRO") != "AVRO" or depth == 0:
        raise Unusable(f"{url}{path} is no schema of Avro")
    try:
        paths = [
            f"/subjects/{quote(str(reference['subject']), safe='')}/versions/{int(reference['version'])}"
            for reference in answer.get("references") or ()
        ]
    except (TypeError, LookupError, ValueError):
        raise Unusable(f"{url}{path} refers to what is no schema") from None
    for path in paths:
        _collect(url, path, found, depth - 1)
    found[text] = None


def _asked(url: str, path: str) -> Any:
    """Ask, a few times; raises LookupError where there is nothing, ConnectionError without an answer."""
    where = url.rstrip("/") + path
    for left in reversed(range(TRIES)):
        try:
            with urlopen(Request(where, headers=_headers()), timeout=SECONDS) as answer:
                return json.load(answer)
        except HTTPError as error:
            if error.code == 404:
                raise LookupError(where) from None
            if error.code < 500 or not left:
                raise ConnectionError(
                    f"schema registry {url} refuses: {error.code} {error.reason}{_hint(error)}"
                ) from None
        except (URLError, OSError, ValueError) as error:
            if not left:
                reason = getattr(error, "reason", error)
                raise ConnectionError(f"schema registry {url} does not answer: {reason}") from None
        time.sleep(PAUSE)
    raise AssertionError("the last try returns or raises")


def _headers() -> dict[str, str]:
    headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
    if user := os.environ.get(USER):
        pair = f"{user}:{os.environ.get(PASSWORD, '')}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
    return headers


def _hint(error: HTTPError) -> str:
    return f"; {USER} and {PASSWORD} say who asks" if error.code in (401, 403) else ""
