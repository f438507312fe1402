"""What is around a record's bytes, and how its text is encoded: removed before its format is read.

none           nothing
confluent      a zero byte and the four bytes of a schema's ID: Confluent's serializers, also of JSON Schema
gzip           the record is compressed by its producer (what Kafka compresses, its clients decompress)
json_string    the record is the content of a JSON string, or of a string in one: it was encoded twice or more
"""

import gzip
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Any

from pydantic_core import from_json, to_json

from streaming_nn.records import reasons
from streaming_nn.records.reasons import BadRecord

NONE = "none"
FRAMINGS = (NONE, "confluent", "gzip", "json_string")
UTF8 = "utf-8"
HEADER = 5  # bytes before a record in Confluent's wire format
GZIP = 16 + zlib.MAX_WBITS  # zlib's notation of the format

Unwrap = Callable[[bytes], bytes]  # or raises BadRecord
Wrap = Callable[[bytes, bytes], bytes]  # of a record that was unwrapped, and another content


def is_encoding(name: object) -> bool:
    """Return whether Python has an encoding of text by that name."""
    try:
        return isinstance(name, str) and "".encode(name) is not None
    except (LookupError, ValueError):
        return False


def unwrapper(framing: str, encoding: str, max_bytes: int) -> Unwrap | None:
    """Return a function that returns a record's own bytes, its text in UTF-8; None: they need nothing."""
    unwrap = _unwrapper(framing, max_bytes)
    if encoding == UTF8:
        return unwrap
    return lambda blob: _to_utf8(blob if unwrap is None else unwrap(blob), encoding)


def _unwrapper(framing: str, max_bytes: int) -> Unwrap | None:
    by_framing: dict[str, Unwrap | None] = {
        NONE: None,
        "confluent": _without_schema_id,
        "gzip": lambda blob: _decompress(blob, max_bytes),
        "json_string": _content_of_string,
    }
    return by_framing[framing]


def wrapper(framing: str, encoding: str) -> Wrap:
    """Return a function that returns a content (in UTF-8) as a record like the given one."""
    around: dict[str, Wrap] = {
        NONE: lambda record, content: content,
        "confluent": lambda record, content: record[:HEADER] + content,
        "gzip": lambda record, content: gzip.compress(content, mtime=0),  # the same bytes at each reading
        "json_string": lambda record, content: to_json(content.decode()),
    }
    wrap = around[framing]
    if encoding == UTF8:
        return wrap
    return lambda record, content: wrap(record, content.decode().encode(encoding))


def _without_schema_id(blob: bytes) -> bytes:
    if len(blob) < HEADER or blob[0] != 0:
        raise BadRecord(reasons.NO_SCHEMA_ID, value=blob)
    return blob[HEADER:]


def _decompress(blob: bytes, max_bytes: int) -> bytes:
    """Return what one gzip member has; at most `max_bytes`, so that a record can't fill the memory."""
    member = zlib.decompressobj(GZIP)
    try:
        content = member.decompress(blob, max_bytes + 1)
    except zlib.error:
        raise BadRecord(reasons.NOT_GZIP, value=blob) from None
    if len(content) > max_bytes:
        raise BadRecord(reasons.TOO_LARGE, value=f"more than {max_bytes:,} bytes, decompressed")
    if not member.eof or member.unused_data:
        raise BadRecord(reasons.NOT_GZIP, value=blob)
    return content


def _content_of_string(blob: bytes) -> bytes:
    content = string_content(blob)
    if content is None:
        raise BadRecord(reasons.NOT_A_JSON_STRING, value=blob)
    while (inner := string_content(content)) is not None:
        content = inner
    return content


def string_content(blob: bytes) -> bytes | None:
    """Return the content of a JSON string in UTF-8; None: it is not one."""
    blob = blob.removeprefix(BOM_UTF8)
    if not blob.lstrip().startswith(b'"'):  # an object is not read for nothing
        return None
    try:
        content: Any = from_json(blob)
        return content.encode() if type(content) is str else None
    except ValueError:
        return None


def _to_utf8(blob: bytes, encoding: str) -> bytes:
    try:
        return blob.decode(encoding).encode()
    except ValueError:
        raise BadRecord(reasons.WRONG_ENCODING, value=blob) from None
