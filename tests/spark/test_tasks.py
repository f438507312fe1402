"""What a task gives back where its records hold what the schema has not seen; no Spark is needed for it."""

import base64
import json
from types import SimpleNamespace

import pyarrow as pa
import safetensors.numpy

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import initial
from streaming_nn.records.decode import encode_named
from streaming_nn.records.schema import Schema, grow_schema
from streaming_nn.spark.rejected import DEAD_LETTERS, unpack_dead_letters
from streaming_nn.spark.score.predictions import Predict
from streaming_nn.spark.tasks import LEARNED, Learn, pack
from streaming_nn.versions.version import state_digest

SHOP = Schema(4, ("no",), ("price", "city"), categories={"city": {"one_hot": 3}}, label="bought", grow=True)
ROWS = [{"price": i, "city": "abcd"[i % 4]} for i in range(8)]
LABELS = ["no", "yes", "no", "maybe"] * 2


def batches(values: list[bytes], cut: int, headers: str | None = None) -> list[pa.RecordBatch]:
    """Two batches; the headers are those of the second one's records."""
    names = ["topic", "partition", "offset", "key", "value", "headers"]
    whole = pa.RecordBatch.from_pylist(
        [
            dict(zip(names, ("t", 0, i, None, value, headers if i >= cut else None), strict=True))
            for i, value in enumerate(values)
        ],
        pa.schema(list(DEAD_LETTERS)[1:]),
    )
    return [whole.slice(0, cut), whole.slice(cut)]


def learned(schema: Schema, values: list[bytes], cut: int) -> dict:
    learner = learner_from({"inputs": 4, "classes": ["no", "yes", "maybe"], "mini_batch": 2})
    state = SimpleNamespace(value=pack(initial(learner)))
    (out,) = Learn(learner, schema, state, 1 << 20)(iter(batches(values, cut)))
    assert out.schema.names == [column.split()[0] for column in LEARNED.split(", ")]
    return out.to_pylist()[0]


def test_what_is_unseen_comes_back_in_place_of_a_state_until_the_schema_knows_it() -> None:
    values = [*encode_named(SHOP, ROWS, LABELS), b"no JSON"]
    row = learned(SHOP, values, 3)
    assert json.loads(row["unseen"]) == {"bought": ["yes", "maybe"], "city": ["a", "b", "c", "d"]}
    assert (row["part"], json.loads(row["rejected"]), unpack_dead_letters(row["dead_letters"])) == (
        b"",
        {},
        [],
    )
    schema = grow_schema(SHOP, json.loads(row["unseen"]))
    rows = [learned(schema, values, cut) for cut in (3, 6)]
    for row in rows:
        assert row["unseen"] == ""
        counts = {"received": 9, "trained": 8, "skipped": 0, "rejected": 1}
        assert json.loads(row["rows"]) == counts
        assert [letter.offset for letter in unpack_dead_letters(row["dead_letters"])] == [8]
    digests = {state_digest(safetensors.numpy.load(row["part"])) for row in rows}
    assert len(digests) == 1


def test_records_to_be_scored_need_nothing_to_grow() -> None:
    learner = learner_from({"inputs": 4, "classes": ["no", "yes"]})
    state = SimpleNamespace(value=pack(initial(learner)))
    values = encode_named(SHOP, ROWS, ["never seen"] * 8)
    answers = [
        json.loads(value)
        for batch in Predict(learner, SHOP, state, {"version": 1})(iter(batches(values, 3)))
        for value in batch.column("value").to_pylist()
    ]
    assert [answer["offset"] for answer in answers] == list(range(8))
    assert {answer["prediction"] for answer in answers} <= {"no", "yes"}


def test_an_answer_takes_along_the_headers_that_it_may() -> None:
    learner = learner_from({"inputs": 4, "classes": ["no", "yes"]})
    state = SimpleNamespace(value=pack(initial(learner)))
    values = encode_named(SHOP, ROWS)
    trace = base64.b64encode(b"00-ab-cd-01").decode()
    headers = [{"key": "TraceParent", "value": trace}, {"key": "b3"}, {"key": "secret", "value": trace}]
    taken = [{"key": "TraceParent", "value": b"00-ab-cd-01"}, {"key": "b3", "value": None}]
    for names, expected in ((frozenset({"traceparent", "b3"}), taken), (frozenset({"x"}), None)):
        answer = Predict(learner, SHOP, state, {"version": 1}, names)
        first, second = answer(iter(batches(values, 3, json.dumps(headers))))
        assert first.schema == second.schema
        assert first.schema.names == ["key", "value", "headers"]
        assert first.column("headers").to_pylist() == [None] * 3
        assert second.column("headers").to_pylist() == [expected] * 5
