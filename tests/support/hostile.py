"""Two hundred records that no producer should send: odd bytes, sizes, keys, headers, times, numbers."""

import base64
import gzip
import json
import random
import struct
from itertools import islice
from typing import Any, NamedTuple

from kafka_topics import Headers, labeled

SEED = 18
GOOD = labeled(1)[0]  # three features and a label 0 or 1
ROW = json.loads(GOOD)["features"]


class Record(NamedTuple):
    """What is sent."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = []  # noqa: RUF012 (never changed)
    timestamp: int | None = None  # milliseconds; None: now


def corpus() -> list[Record]:
    """Give the records, the same ones each time."""
    records = [
        *map(Record, _texts()),
        *map(Record, _numbers()),
        *map(Record, _bytes()),
        *_surroundings(),
    ]
    rng = random.Random(SEED)
    mutations = (Record(_mutated(rng)) for _ in range(200))
    return [*records, *islice(mutations, 200 - len(records))]


def _json(**fields: Any) -> bytes:
    return json.dumps({"features": ROW, "label": 1} | fields).encode()


def _texts() -> list[bytes]:
    """JSON that is none, of another shape, or of another encoding."""
    text = GOOD.decode()
    return [
        b"",
        b" ",
        b"\n",
        b"null",
        b"true",
        b"0",
        b'""',
        b"[]",
        b"{}",
        b"[[]]",
        b"{",
        b'{"',
        b"}",
        b"nul",
        b"NaN",
        b"'x'",
        b"x,y,z,1",
        b"<row><x>1</x></row>",
        repr(json.loads(GOOD)).encode(),  # Python's repr
        json.dumps(text).encode(),  # twice encoded
        json.dumps([json.loads(GOOD)] * 2).encode(),  # an array of rows
        GOOD + b"\n" + GOOD,
        GOOD + b",",
        GOOD + b"\0",
        b"\0" * 8 + GOOD,
        GOOD[:-1],
        b"\xef\xbb\xbf" + GOOD,
        text.encode("utf-16"),
        text.encode("utf-16-be"),
        text.encode("utf-32"),
        gzip.compress(GOOD, mtime=0),
        base64.b64encode(GOOD),
        b"\0\0\0\0\x02" + GOOD,  # Confluent's framing
        b"data: " + GOOD,
        GOOD.replace(b"features", b"Features"),
        GOOD.replace(b'"label"', b'"labels"'),
        GOOD.replace(b'"features"', b'"features","features"'),
        b'{"features": 1, ' + GOOD[1:],  # a key twice
        b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b", " + GOOD[1:],
        b'{"x": ' + b'{"y":' * 300 + b"1" + b"}" * 300 + b", " + GOOD[1:],
        b'{"' + b"k" * 70_000 + b'": 1, ' + GOOD[1:],
        b'{"x": "' + b"v" * 70_000 + b'", ' + GOOD[1:],
        b'{"x": "\\ud800", ' + GOOD[1:],  # half of a surrogate pair
        b'{"x": "\\u0000", ' + GOOD[1:],
        b'{"x": "\xff", ' + GOOD[1:],
        '{"x": "‮ä🎉", '.encode() + GOOD[1:],
        _json(label=None),
        _json(label=[]),
        _json(label={}),
        _json(label=""),
        _json(label="1"),
        _json(label=True),
        _json(label=1.0),
        _json(label=1.5),
        _json(label=2),
        _json(label=-1),
        _json(label=2**70),
        _json(label="x" * 5000),
        _json(label='a"\n\\'),
        _json(features=None),
        _json(features="1,2,3"),
        _json(features={}),
        _json(features={"0": 1, "1": 2, "2": 3}),
        _json(features=[]),
        _json(features=[ROW]),
        _json(features=ROW * 1000),
        _json(features=[None] * 3),
        _json(features=[[]] * 3),
        _json(features=[{}] * 3),
        _json(features=[True, False, True]),
        _json(features=["1", "2", "3"]),
        _json(features=["1,5", " 2 ", "3"]),
        _json(features=["", "NA", "null"]),
    ]


def _numbers() -> list[bytes]:
    """Numbers that a parser or a float32 does not have."""
    odd = (
        *("NaN", "Infinity", "-Infinity", "nan", "inf", "1e39", "-1e39", "1e400", "-1e400", "1e-400", "-0"),
        *("-0.0", "1e308", "4.9e-324", "1.17549435e-38", "3.4028235e38", "3.4028236e38", "16777217"),
        *("9007199254740993", "9" * 30, "9" * 400, "9" * 5000, "0." + "9" * 5000, "1e99999999999999999999"),
        *("01", "+1", ".5", "5.", "1_000", "0x10", "1e", "1e+", "--1", "1.2.3", "1,5", "½", "١", "1d", "1f"),
    )
    return [f'{{"features": [{number}, 0.5, 1], "label": 1}}'.encode() for number in odd]


def _bytes() -> list[bytes]:
    """What is not text at all."""
    return [
        b"\xff",
        b"\x00",
        b"\x80" * 16,
        bytes(range(256)),
        struct.pack("<i3f", 1, *ROW),  # a packed record
        struct.pack("<3f", *ROW),
        struct.pack("<i3f", 1, float("nan"), float("inf"), 0.0),
        struct.pack("<i3f", -1, *ROW),
        struct.pack("<i3f", 1 << 30, *ROW),
        random.Random(SEED).randbytes(12),
        random.Random(SEED).randbytes(16),
        random.Random(SEED).randbytes(1000),
        b"Obj\x01" + random.Random(SEED).randbytes(50),  # an Avro file
        b"PAR1" + random.Random(SEED).randbytes(50),
        b"\x1f\x8b\x08" + random.Random(SEED).randbytes(50),
        b"x" * 400_000,
        b"[" * 50_000,
        b'{"features": [' + b"1," * 50_000 + b'1], "label": 1}',
    ]


def _surroundings() -> list[Record]:
    """Good and bad values, with odd keys, headers and times."""
    big = b"k" * 600_000
    return [
        Record(None, b"deleted"),  # a tombstone
        Record(None, b""),
        Record(GOOD, b""),
        Record(GOOD, b"\xff\x00"),
        Record(GOOD, big),
        Record(b"bad", big),
        Record(b"v" * 400_000, b"k" * 500_000),
        Record(GOOD, None, [("", b"")]),
        Record(GOOD, None, [("content-type", b"application/cloudevents+json")]),
        Record(b"bad", None, [("content-type", b"\xff")]),
        Record(b"bad", None, [("a", b"x"), ("a", b"y"), ("streaming_nn.reason", b"forged")]),
        Record(b"bad", None, [('ä"\\\n🎉', b"\x00\xff")]),
        Record(GOOD, None, [("traceparent", b"t" * 500_000)]),
        Record(b"bad", None, [("traceparent", b"t" * 500_000)]),
        Record(b"bad", None, [(f"h{i}", b"v") for i in range(2000)]),
        Record(GOOD, None, [("h" * 70_000, b"v")]),
        Record(GOOD, timestamp=0),
        Record(GOOD, timestamp=1),
        Record(GOOD, timestamp=1_790_000_000),  # seconds
        Record(GOOD, timestamp=1_790_000_000_000_000),  # microseconds
        Record(GOOD, timestamp=1_790_000_000_000_000_000),  # nanoseconds
        Record(GOOD, timestamp=(1 << 63) - 1),
        Record(b"bad", timestamp=(1 << 63) - 1),
        Record(None, b"deleted", timestamp=1_790_000_000_000_000_000),
    ]


def _mutated(rng: random.Random) -> bytes:
    """Give a good record with one byte changed, added or removed."""
    at = rng.randrange(len(GOOD))
    new = bytes([rng.randrange(256)])
    return rng.choice(
        [GOOD[:at] + new + GOOD[at + 1 :], GOOD[:at] + new + GOOD[at:], GOOD[:at] + GOOD[at + 1 :]]
    )
