"""What a record is that no setting reads, by its bytes: the name of its format, and what to send instead."""

import ast
import base64
import binascii
import html
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from pydantic_core import from_json

from streaming_nn.records.framing import HEADER, UTF8, string_content, unwrapper
from streaming_nn.records.reasons import BadRecord

SEND = "send JSON, Avro, CSV or packed records"
KAFKA_COMPRESSES = "let Kafka compress (compression.type of the producer)"
COMPRESSED = f"{KAFKA_COMPRESSES}, or use gzip"
SPLIT = "send each row as its own record"
LINES = f'set records.explode = "lines", or {SPLIT}'

MAX_BYTES = 1 << 16  # of a record that is parsed as Python, base64 or Protobuf
MAX_FIELD = 10_000  # number of a Protobuf field; what only looks like Protobuf mostly has larger ones
APICURIO_HEADER = 9  # bytes before a record: 0, and an ID of a schema
GLUE_HEADER = 18  # bytes before a record of AWS Glue's registry
MAX_CONTENT = 1 << 22  # bytes of a record that is decompressed
MAX_FRAMINGS = 10  # around one record
MAX_AROUND = 20  # bytes before and after a JSON object that are named
GZIP = b"\x1f\x8b"
JSON = (b"{", b"[", b'"')  # begin it
FRAMED = {"gzip": "gzip", "confluent": "Confluent's framing", "json_string": "a JSON string"}
TIMES = {1: "twice", 2: "three times"}  # by the number of strings around it
UTF16 = ("utf-16", "utf-16-le", "utf-16-be")
OBJECT = "send the object, not a string of it"
PROTOBUF = "Protobuf, which is not read"
MAX_DECIMAL = 16  # bytes of a decimal in base64: 38 digits
DECIMAL = "a decimal of Kafka Connect in bytes: set decimal.handling.mode = double in Debezium's connector"
AVRO = (
    "Avro after a schema's ID, as Confluent's serializers write it: set records.format = \"avro\" and "
    "records.registry"
)

LIBSVM = re.compile(  # a label, or several, and pairs of a column and its value; not only times, as 12:30
    rb"(?!\S+(?:[ \t]+\d\d:\d\d)+\s*$)[+-]?\d[\d.,]*(?:[eE][+-]?\d+)?(?:[ \t]+qid:\d+)?"
    rb"(?:[ \t]+\d+:[+-]?(?:[\d.]+(?:[eE][+-]?\d+)?|nan|inf))+\s*(?:#.*)?"
)
# Lines that are not JSON: what they are, and what to do
PATTERNS = {
    LIBSVM: "LIBSVM's format: read files with --source libsvm (indices ascend from 1 on, from 0 "
    "with --source-option zeroBased=true), or "
    'send {"row": {"3": 0.5, "7": 1.2}, "label": 1}, and set '
    'records.features = "row" and records.categories = {row = {hash = 1024}}',
    re.compile(rb"(?:[+-]?[\d.]+[ \t]+)*(?:'\S+[ \t]*)?\|(?:[A-Za-z]\S*)?[ \t]+[A-Za-z].*"): (
        f"Vowpal Wabbit's format: {SEND}"
    ),
    re.compile(rb"(?:[\w.%-]+,)?[\w.%-]+=[^&\s,]*(?:[&\s,]+[\w.%-]+=[^&\s,]*)+(?:\s+\d+)?"): (
        f"pairs of name=value: {SEND}"
    ),
    re.compile(rb"[\w.$]*[({\[] *[\w.]+=[^=].*[)}\]]"): f"an object as Java or Python prints it: {SEND}",
    re.compile(
        rb"\w+\(\[.*|\[+ *-?\d[\d.e+\[\] -]*"
    ): "an array as Python prints it: send array.tolist() in JSON",
    re.compile(rb"[\w.-]+ *[:=] .*"): f"YAML or TOML: {SEND}",
}
_TYPOGRAPHIC = str.maketrans("\u201c\u201d\u201e\u00a0\u202f", '"""  ')
# How an object may be written: its name and what to do, and what reads it
WRITTEN: dict[str, Callable[[str], str]] = {
    f"with backslashes before its quotes: {OBJECT}": lambda text: text.replace('\\"', '"'),
    f"in HTML's entities: {OBJECT}": html.unescape,
    f"in percent-encoding: {OBJECT}": unquote,
    f"in hexadecimal digits: {OBJECT}": lambda text: bytes.fromhex(text).decode(),
    "with a byte order mark inside: remove it": lambda text: text.replace("\ufeff", ""),
    "with typographic quotes or blanks: send those of ASCII": lambda text: text.translate(_TYPOGRAPHIC),
}

# First bytes: what they are, and what to do
MAGIC = {
    b"\x28\xb5\x2f\xfd": f"zstd: {COMPRESSED}",
    b"\x04\x22\x4d\x18": f"LZ4: {COMPRESSED}",
    b"\x82SNAPPY\0": f"Snappy: {COMPRESSED}",
    b"\xff\x06\0\0sNaPpY": f"Snappy: {COMPRESSED}",
    b"BZh": f"bzip2: {COMPRESSED}",
    b"\xfd7zXZ\0": f"xz: {COMPRESSED}",
    GZIP: f"gzip that is cut, or not of one member: {KAFKA_COMPRESSES}",
    b"PK\x03\x04": f"a ZIP archive: {COMPRESSED}",
    b"PAR1": f"a Parquet file: {SPLIT}, or read files with --source parquet",
    b"\xc3\x01": "Avro in its single-object encoding: send the datum after the 10 bytes of its header",
    b"Obj\x01": f"an Avro file: {SPLIT}, its datum",
    b"ARROW1": f"an Arrow file: {SPLIT}",
    b"\xac\xed\0\x05": f"a serialized Java object: {SEND}",
    b"<": f"XML: {SEND}",
    b"---": f"YAML: {SEND}",
}
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{8,}={0,2}\s*")
_CONTROL = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f]")
_PYTHON = re.compile(rb"'|\bTrue\b|\bFalse\b|\bNone\b|^\(")
_LINES = re.compile(rb"[}\]]\s*\n\s*[{\[]")


def recognize(blob: bytes) -> str | None:
    """Return what the bytes are and what to send instead, "zstd: …"; None if they are not recognized."""
    around, own = framings(blob)
    if not around:
        return _recognize_bytes(own)
    outer = [name for name in around if name != "json_string"]
    if (strings := len(around) - len(outer)) and is_json(own):
        what, advice = f"JSON that is encoded {TIMES.get(strings, f'{strings + 1} times')}", OBJECT
    else:
        what, _, advice = ("JSON" if is_json(own) else _recognize_bytes(own) or "").partition(": ")
    parts = ["apply each once"] if len({*outer}) < len(outer) else []
    parts += [KAFKA_COMPRESSES] if {*outer} == {"gzip", "confluent"} else []
    parts += [f'set records.framing = "{name}"' for name in ("confluent", "gzip") if name in outer][:1]
    parts += [advice] if advice else []
    names = [*map(FRAMED.__getitem__, outer), *([what] if what else [])]
    return f"{' around '.join(names)}: {', and '.join(parts)}"


def framings(blob: bytes) -> tuple[list[str], bytes]:
    """Return the framings around a record, the outermost first, and what is in them."""
    found, contents = list[str](), [blob]
    while len(found) < MAX_FRAMINGS and (name := _framing(contents[-1])):
        content = _content(name, contents[-1])
        if content is None:
            break
        found.append(name)
        contents.append(content)
    while found and not _is_framed(found[-1], contents[-1]):
        found.pop()
        contents.pop()
    return (found, contents[-1]) if found else ([], blob)


def _is_framed(name: str, content: bytes) -> bool:
    """Return whether content is in this framing, and neither a mere string nor Avro or Protobuf."""
    if name == "gzip" or is_json(content):
        return True
    if name == "confluent":
        return _is_zlib(content) or from_base64(content) is not None
    return _recognize_bytes(content) is not None


def is_nested(blob: bytes) -> bool:
    """Return whether a record is in more framings than a setting removes."""
    return sum(name != "json_string" for name in framings(blob)[0]) > 1


def _framing(blob: bytes) -> str | None:
    """Return the framing that bytes begin with; that of a schema's ID only if text or gzip follows."""
    if blob.startswith(GZIP):
        return "gzip"
    if blob.removeprefix(BOM_UTF8).lstrip()[:1] == b'"':
        return "json_string"
    content, left = blob, MAX_FRAMINGS
    while left and _has_schema_id(content):
        content, left = content[HEADER:], left - 1
    known = content.startswith((GZIP, *JSON)) or _is_zlib(content) or from_base64(content)
    return "confluent" if left < MAX_FRAMINGS and known else None


def _content(name: str, blob: bytes) -> bytes | None:
    if name == "json_string":  # one of them: they are counted
        return string_content(blob)
    unwrap = unwrapper(name, UTF8, MAX_CONTENT)
    try:
        return None if unwrap is None else unwrap(blob)
    except BadRecord:
        return None


def _recognize_bytes(blob: bytes) -> str | None:
    if not blob.strip():
        return "an empty record, which no format has"
    for begin, name in MAGIC.items():
        if blob.startswith(begin):
            return name
    if is_text(blob):
        return _recognize_text(blob.removeprefix(BOM_UTF8).strip())
    return _recognize_binary(blob)


def is_text(blob: bytes) -> bool:
    """Return whether the bytes are UTF-8 without control characters."""
    try:
        blob.decode()
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(blob)


def _recognize_text(text: bytes) -> str | None:
    try:
        value = from_json(text)
    except ValueError as error:
        return _recognize_other_text(text, str(error))
    if type(value) is list:
        return _recognize_array(value)
    return None if type(value) is dict else f"a single value: {SEND}"


def _recognize_array(value: list[Any]) -> str:
    if value and all(type(row) is dict for row in value):
        return f'an array of {len(value):,} rows in one record: set records.explode = "[]", or {SPLIT}'
    if value and all(type(row) is str and is_json(row.encode()) for row in value):
        return f"an array of {len(value):,} strings of JSON in one record: send objects"
    if value and all(type(row) is list for row in value):
        return f"an array of {len(value):,} arrays in one record: {SPLIT}, an object with an array"
    return 'an array without a name: send an object, {"features": [...], "label": ...}, or CSV'


def _recognize_other_text(text: bytes, error: str) -> str | None:
    if _LINES.search(text) and is_json(text.splitlines()[0]):
        return f"several rows in one record, one a line: {LINES}"
    if type(_python_value(text)) in (dict, list, tuple) and _PYTHON.search(text):
        return "Python's repr: send json.dumps(record), not str(record)"
    if inner := _recognize_inside(text) or _recognize_written(text):
        return inner
    for pattern, name in PATTERNS.items():
        if all(map(pattern.fullmatch, text.splitlines())):
            return name
    if text[:1] in (b"{", b"["):
        if "recursion limit" in error:
            return "JSON that is nested more deeply than it is read: send less of it"
        return (
            "JSON that ends too early: was it cut?"
            if "EOF while" in error
            else f"JSON with an error: {error}"
        )
    if len({line.count(b",") for line in text.splitlines()} - {0}) == 1 and b"\n" in text:
        return f"several lines of CSV in one record: {LINES}"
    decoded = from_base64(text)
    return None if decoded is None else f"base64 of {decoded}: send the bytes as they are"


def _recognize_written(text: bytes) -> str | None:
    for name, read in WRITTEN.items():
        with suppress(ValueError):
            if len(text) <= MAX_BYTES and is_json(read(text.decode()).encode()):
                return f"JSON {name}"
    return None


def _recognize_inside(blob: bytes) -> str | None:
    """Return that the bytes are an object with a few others before or after it; None: they are not."""
    start, end = blob.find(b"{"), blob.rfind(b"}") + 1
    before, after = blob[:start], blob[end:]
    if not 0 <= start < end or max(len(before), len(after)) > MAX_AROUND or not is_json(blob[start:end]):
        return None
    sides = [f"after {before!r}"] * bool(before) + [f"before {after!r}"] * bool(after)
    return f"JSON {' and '.join(sides)}: send the object alone"


def is_json(text: bytes) -> bool:
    """Return whether a string is an object or an array in JSON."""
    try:
        return type(from_json(text)) in (dict, list)
    except ValueError:
        return False


def _python_value(text: bytes) -> object:
    if len(text) > MAX_BYTES or text[:1] not in (b"{", b"[", b"("):
        return None
    try:
        return ast.literal_eval(text.decode())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


@lru_cache(MAX_FRAMINGS)
def from_base64(text: bytes) -> str | None:
    """Return what is encoded in base64, with padding or without; None if nothing is that is known."""
    if not _BASE64.fullmatch(text) or len(text) > MAX_BYTES:
        return None
    plain = text.strip().translate(bytes.maketrans(b"-_", b"+/"))
    try:
        decoded = base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return None
    if is_json(decoded.removeprefix(BOM_UTF8)):
        return "JSON"
    name = (recognize(decoded) or "").partition(":")[0]
    return name if name and (b"\0" in decoded or "JSON" in name or "gzip" in name) else None


def are_decimals(values: Sequence[Any], described: bool) -> bool:
    """Return whether values are decimals as Kafka Connect writes them in JSON, and Debezium by default.

    These are the bytes of the unscaled integer in base64, "AfQ=" for 5.00, or an object with the scale.
    Without a schema that states it (`described`) strings may be words: then one must have padding, and not be
    text.
    """
    found = [_decimal_bytes(value) for value in values]
    return None not in found and any(
        described or (len(own) % 3 and not (own.isascii() and own.decode().isprintable()))
        for own in found
        if own
    )


def _decimal_bytes(value: Any) -> bytes | None:
    if type(value) is dict and value.keys() == {"scale", "value"}:
        value = value["value"]
    if not isinstance(value, str):
        return None
    try:
        own = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return own if 0 < len(own) <= MAX_DECIMAL else None


def _recognize_binary(blob: bytes) -> str | None:
    if blob.startswith(BOM_UTF8) and (framed := recognize(blob.removeprefix(BOM_UTF8))):
        return f"a byte order mark before {framed.partition(':')[0]}: send it without the mark"
    for name in UTF16:
        with suppress(UnicodeDecodeError):
            if b"\0" in blob and is_json(string_content(blob.decode(name).encode()) or b""):
                return f"JSON that is encoded twice, in {name.upper()}: {OBJECT}"
    for test, name in _BINARY:
        if test(blob):
            return name
    return _recognize_inside(blob) or (AVRO if _has_schema_id(blob) else None)


def _is_zlib(blob: bytes) -> bool:
    if blob[:1] != b"x" or int.from_bytes(blob[:2], "big") % 31:
        return False
    try:
        zlib.decompressobj().decompress(blob, 64)
    except zlib.error:
        return False
    return True


def _is_glue(blob: bytes) -> bool:
    return blob[0] == 3 and blob[1:2] in (b"\0", b"\x05") and len(blob) > GLUE_HEADER


def _is_pickle(blob: bytes) -> bool:
    return blob[0] == 0x80 and blob[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and blob.endswith(b".")


def _is_bson(blob: bytes) -> bool:
    return len(blob) > 5 and int.from_bytes(blob[:4], "little") == len(blob) and blob[-1] == 0


def _is_map(blob: bytes, first: range, key: range) -> bool:
    """Return whether the first byte begins a map, and the second a short key in ASCII."""
    length = blob[1] - key.start + 1 if len(blob) > 1 and blob[1] in key else 0
    name = blob[2 : 2 + length]
    return bool(length) and blob[0] in first and len(name) == length and name.decode("latin-1").isidentifier()


def _is_message_pack(blob: bytes) -> bool:
    return _is_map(blob, range(0x81, 0x90), range(0xA1, 0xC0))


def _is_cbor(blob: bytes) -> bool:
    return _is_map(blob, range(0xA1, 0xB8), range(0x61, 0x78))


def _has_schema_id(blob: bytes) -> bool:
    return blob[:1] == b"\0" and len(blob) > HEADER and any(blob[1:HEADER])


def _has_long_id(blob: bytes) -> bool:
    return blob[0] == 0 and is_json(blob[APICURIO_HEADER:])


def _is_confluent_protobuf(blob: bytes) -> bool:
    return _has_schema_id(blob) and is_protobuf(_without_indices(blob[HEADER:]))


def _without_indices(message: bytes) -> bytes:
    """Return a message without the list that names its type in the schema: 0, or a count and indices."""
    count, at = _varint(message, 0)
    for _ in range(min(count >> 1, 20)):  # zigzag
        _, at = _varint(message, at)
    return message[at:] if at > 0 else b""


def is_protobuf(message: bytes) -> bool:
    """Return whether the bytes are fields of Protobuf's wire format, to the last byte."""
    at = 0 if 0 < len(message) <= MAX_BYTES else -1
    while 0 <= at < len(message):
        at = _after_field(message, at)
    return at == len(message) > 0


def _after_field(message: bytes, at: int) -> int:
    """Return where the field that begins there ends; -1: it is not one."""
    tag, at = _varint(message, at)
    if at < 0 or not 0 < tag >> 3 <= MAX_FIELD:
        return -1
    kind = tag & 7
    if kind == 0:
        return _varint(message, at)[1]
    if kind == 2:
        length, at = _varint(message, at)
        return at + length if 0 <= at <= len(message) - length else -1
    size = {1: 8, 5: 4}.get(kind)
    return at + size if size is not None and at + size <= len(message) else -1


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the integer that begins there and where it ends; -1: it does not end."""
    value = 0
    for shift, byte in enumerate(message[at : at + 10] if at >= 0 else b""):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, at + shift + 1
    return value, -1


_BINARY: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (_is_zlib, f"zlib: {COMPRESSED}"),
    (_is_glue, "AWS Glue's header before the record: send it without, or with Confluent's serializers"),
    (
        _has_long_id,
        "JSON after an ID of 8 bytes, as Apicurio's serializers write it: let them write 4 bytes, as "
        "Confluent's "
        '(apicurio.registry.id-handler), and set records.framing = "confluent"',
    ),
    (_is_pickle, f"Python's pickle: {SEND}"),
    (_is_confluent_protobuf, f"{PROTOBUF}, in Confluent's framing: {SEND}"),
    (_is_bson, f"BSON: {SEND}"),
    (_is_message_pack, f"MessagePack: {SEND}"),
    (_is_cbor, f"CBOR: {SEND}"),
    (is_protobuf, f"{PROTOBUF}: {SEND}"),
)
