"""Bytes that no setting reads are named, by what wrote them."""

import base64
import bz2
import gzip
import html
import io
import json
import lzma
import pickle
import struct
import zipfile
import zlib
from functools import partial
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_nn.records.framing import HEADER
from streaming_nn.records.recognize import (
    COMPRESSED,
    KAFKA_COMPRESSES,
    LIBSVM,
    LINES,
    OBJECT,
    PATTERNS,
    SEND,
    SPLIT,
    is_protobuf,
    recognize,
)

pytestmark = pytest.mark.commit

compress = partial(gzip.compress, mtime=0)  # the names of tests must not have the time in them

ROW = {"features": [1.5, 2.0], "label": 1}
TEXT = json.dumps(ROW).encode()
DATUM = b"\x04" + struct.pack("<2f", 0.5, -1.25) + b"\0\2"  # of Avro
AVRO = "Avro after a schema's ID, as Confluent's serializers write it"
LIBSVM_ROWS = f"LIBSVM's format: {PATTERNS[LIBSVM].partition(': ')[2]}"

PRINTED = f"an object as Java or Python prints it: {SEND}"
ARRAY = "an array as Python prints it: send array.tolist() in JSON"


def framed(blob):
    return b"\0\0\0\1\2" + blob


def string(blob):
    return json.dumps(blob.decode()).encode()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", TEXT)
    return file.getvalue()


def bson(name, number):
    content = b"\x10" + name.encode() + b"\0" + struct.pack("<i", number) + b"\0"
    return struct.pack("<i", len(content) + 4) + content


@pytest.mark.parametrize(
    ("blob", "expected"),
    [
        (b"", "an empty record, which no format has"),
        (b" \n", "an empty record, which no format has"),
        (bytes.fromhex("28b52ffd2004210000010203 04"), f"zstd: {COMPRESSED}"),
        (bytes.fromhex("04224d18604073"), f"LZ4: {COMPRESSED}"),
        (b"\x82SNAPPY\0\0\0\0\1", f"Snappy: {COMPRESSED}"),
        (bz2.compress(TEXT), f"bzip2: {COMPRESSED}"),
        (lzma.compress(TEXT), f"xz: {COMPRESSED}"),
        (zlib.compress(TEXT), f"zlib: {COMPRESSED}"),
        (zipped(), f"a ZIP archive: {COMPRESSED}"),
        (b"PAR1\x15\x04", f"a Parquet file: {SPLIT}, or read files with --source parquet"),
        (
            b"\xc3\x01" + bytes(range(8)) + DATUM,
            "Avro in its single-object encoding: send the datum after the 10 bytes of its header",
        ),
        (b"Obj\x01\x04\x14avro", f"an Avro file: {SPLIT}, its datum"),
        (b"\xac\xed\x00\x05sr\x00", f"a serialized Java object: {SEND}"),
        (b"<row><a>1</a></row>", f"XML: {SEND}"),
        (b"---\na: 1\n", f"YAML: {SEND}"),
        (pickle.dumps(ROW), f"Python's pickle: {SEND}"),
        (bson("a", 7), f"BSON: {SEND}"),
        (b"\x82\xa8features\x92\xcb?\xf8\0\0\0\0\0\0\2\xa5label\1", f"MessagePack: {SEND}"),
        (b"\xa2\x68features\x82\xf9\x3e\x00\2\x65label\1", f"CBOR: {SEND}"),
        (
            b"\x03\x00" + bytes(range(16)) + TEXT + b"\0",
            "AWS Glue's header before the record: send it without, or with Confluent's serializers",
        ),
        (repr(ROW).encode(), "Python's repr: send json.dumps(record), not str(record)"),
        (repr((1.5, "a")).encode(), "Python's repr: send json.dumps(record), not str(record)"),
        (b'{"features":[1.5,2', "JSON that ends too early: was it cut?"),
        (base64.b64encode(TEXT), "base64 of JSON: send the bytes as they are"),
        (base64.urlsafe_b64encode(TEXT).rstrip(b"="), "base64 of JSON: send the bytes as they are"),
        (base64.b64encode(string(TEXT)), "base64 of JSON that is encoded twice: send the bytes as they are"),
        (base64.b64encode(base64.b64encode(TEXT)), "base64 of base64 of JSON: send the bytes as they are"),
        (base64.b64encode(compress(TEXT)), "base64 of gzip around JSON: send the bytes as they are"),
        (
            framed(base64.b64encode(TEXT)),
            "Confluent's framing around base64 of JSON: "
            'set records.framing = "confluent", and send the bytes as they are',
        ),
        (
            framed(zlib.compress(TEXT)),
            f'Confluent\'s framing around zlib: set records.framing = "confluent", and {COMPRESSED}',
        ),
        (
            b"\xef\xbb\xbf" + compress(TEXT),
            "a byte order mark before gzip around JSON: send it without the mark",
        ),
        (string(TEXT).decode().encode("utf-16"), f"JSON that is encoded twice, in UTF-16: {OBJECT}"),
        (b"[" + string(TEXT) + b"]", "an array of 1 strings of JSON in one record: send objects"),
        (b"abcdefgh", None),
        (
            base64.urlsafe_b64encode(json.dumps({"a": "??>>"}).encode()),
            "base64 of JSON: send the bytes as they are",
        ),
        (b"3.5", f"a single value: {SEND}"),
        (TEXT + b"\n" + TEXT, f"several rows in one record, one a line: {LINES}"),
        (b"[" + TEXT + b"]", f'an array of 1 rows in one record: set records.explode = "[]", or {SPLIT}'),
        (TEXT, None),
        (b"hello", None),
        (b"1.5,2,0", None),
        (b"{" * 5000, "JSON with an error: key must be a string at line 1 column 2"),
        (b"{price: 1}", "JSON with an error: key must be a string at line 1 column 2"),
        (b'{"a":1,}', "JSON with an error: trailing comma at line 1 column 8"),
        (b"a,b\n1,2\n", f"several lines of CSV in one record: {LINES}"),
        (b"\xff\xfe\xfd", None),
        (b"1 3:0.5 7:-1.2e-3", LIBSVM_ROWS),
        (b"+1 qid:3 1:nan 7:1 # a comment\r\n", LIBSVM_ROWS),
        (b"1,3\t2:1\n2\t1:.5", LIBSVM_ROWS),
        (string(b"-1.5 3:0.5"), LIBSVM_ROWS),
        (b"1 12:30 13:30", None),
        (b"1 |f price:0.5 red |g a", f"Vowpal Wabbit's format: {SEND}"),
        (b"1 | 2 | 3", None),
        (b"price=1.5&label=yes", f"pairs of name=value: {SEND}"),
        (b"price=1.5 label=yes", f"pairs of name=value: {SEND}"),
        (b"{price=1.5, label=yes}", PRINTED),
        (b"Row(price=1.5, label='yes')", PRINTED),
        (b"[1. 2.5 -3e-05]", ARRAY),
        (b"tensor([1., 2.5])", ARRAY),
        (b"price: 1.5\nlabel: yes", f"YAML or TOML: {SEND}"),
        (b"price = 1.5\nlabel = 'yes'", f"YAML or TOML: {SEND}"),
        (TEXT.replace(b'"', b'\\"'), f"JSON with backslashes before its quotes: {OBJECT}"),
        (html.escape(TEXT.decode()).encode(), f"JSON in HTML's entities: {OBJECT}"),
        (quote(TEXT).encode(), f"JSON in percent-encoding: {OBJECT}"),
        (TEXT.replace(b", ", b",\xef\xbb\xbf"), "JSON with a byte order mark inside: remove it"),
        (
            TEXT.replace(b" ", b"\xc2\xa0"),
            "JSON with typographic quotes or blanks: send those of ASCII",
        ),
        (
            TEXT.replace(b'"label"', "“label”".encode()),
            "JSON with typographic quotes or blanks: send those of ASCII",
        ),
        (TEXT.hex().encode(), f"JSON in hexadecimal digits: {OBJECT}"),
        (b"data: " + TEXT + b"\n\n", "JSON after b'data: ': send the object alone"),
        (b"\xef\xbb\xbf\xef\xbb\xbf" + TEXT, "JSON after b'\\xef\\xbb\\xbf': send the object alone"),
        (TEXT + b"\0", "JSON before b'\\x00': send the object alone"),
        (b"'" + TEXT + b"',", 'JSON after b"\'" and before b"\',": send the object alone'),
        (b"\0\0\0\x29" + TEXT, "JSON after b'\\x00\\x00\\x00)': send the object alone"),
        (
            b'{"a":' * 300 + b"1" + b"}" * 300,
            "JSON that is nested more deeply than it is read: send less of it",
        ),
    ],
)
def test_bytes_are_named_by_what_wrote_them(blob, expected):
    assert recognize(blob) == expected


CONFLUENT = 'set records.framing = "confluent"'
GZIP = 'set records.framing = "gzip"'


@pytest.mark.parametrize(
    ("blob", "expected"),
    [
        (
            compress(framed(TEXT)),
            f"gzip around Confluent's framing around JSON: {KAFKA_COMPRESSES}, and {CONFLUENT}",
        ),
        (
            framed(compress(TEXT)),
            f"Confluent's framing around gzip around JSON: {KAFKA_COMPRESSES}, and {CONFLUENT}",
        ),
        (framed(TEXT), f"Confluent's framing around JSON: {CONFLUENT}"),
        (compress(b"1.5,2"), f"gzip: {GZIP}"),
        (compress(compress(TEXT)), f"gzip around gzip around JSON: apply each once, and {GZIP}"),
        (
            compress(framed(DATUM)),
            f'gzip around {AVRO}: {GZIP}, and set records.format = "avro" and records.registry',
        ),
        (
            framed(string(TEXT)),
            f"Confluent's framing around JSON that is encoded twice: {CONFLUENT}, and {OBJECT}",
        ),
        (string(TEXT), f"JSON that is encoded twice: {OBJECT}"),
        (b"\xef\xbb\xbf" + string(TEXT), f"JSON that is encoded twice: {OBJECT}"),
        (string(string(TEXT)), f"JSON that is encoded three times: {OBJECT}"),
        (string(string(string(TEXT))), f"JSON that is encoded 4 times: {OBJECT}"),
        (string(base64.b64encode(TEXT)), "base64 of JSON: send the bytes as they are"),
        (base64.b64encode(compress(TEXT)), "base64 of gzip around JSON: send the bytes as they are"),
        (string(repr(ROW).encode()), "Python's repr: send json.dumps(record), not str(record)"),
        (compress(TEXT)[:-1], f"gzip that is cut, or not of one member: {KAFKA_COMPRESSES}"),
        (string(b"hello"), f"a single value: {SEND}"),
        (framed(b"") * 10_000, f'{AVRO}: set records.format = "avro" and records.registry'),
        (framed(DATUM), f'{AVRO}: set records.format = "avro" and records.registry'),
    ],
)
def test_framings_are_named_from_the_outermost_one(blob, expected):
    assert recognize(blob) == expected


def message_of(numbers):
    """Return Google's encoding of a message: a Struct of a list of numbers."""
    struct_pb2 = pytest.importorskip("google.protobuf.struct_pb2")
    message = struct_pb2.Struct()
    message.update({"features": numbers, "label": "x"})
    return message.SerializeToString()


@pytest.mark.parametrize("indices", [b"\0", b"\x02\x04", b"\x04\0\x02"])
def test_protobuf_is_recognized_alone_and_in_confluent_s_framing(indices):
    message = message_of([1.5, -2.25, 3])
    assert is_protobuf(message)
    assert recognize(message) == f"Protobuf, which is not read: {SEND}"
    framed = b"\0\0\0\x01\x02" + indices + message
    assert recognize(framed) == f"Protobuf, which is not read, in Confluent's framing: {SEND}"
    assert not is_protobuf(message[:-1])
    assert not is_protobuf(b"")


def test_avro_in_confluent_s_framing_is_not_protobuf():
    assert str(recognize(b"\0\0\0\1\2" + DATUM)).startswith(AVRO)
    assert len(b"\0\0\0\1\2") == HEADER


@given(st.binary(max_size=80))
def test_any_bytes_are_named_or_not(blob):
    name = recognize(blob)
    assert name is None or (name and "\n" not in name)
