"""The rows that a stream decodes leave River's models with the same bits, as dicts, tables and batches."""

import json
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typed_rows import typed_rows

from streaming_nn import model as models
from streaming_nn.estimators.river import RiverClassifier
from streaming_nn.nn.learner import Batch
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.decode import decode
from streaming_nn.records.schema import Schema
from streaming_nn.versions.version import state_digest

pytestmark = pytest.mark.commit

NAMES = ("x", "flag", "n", "city")  # dates are refused here
CLASSES = ("no", "yes")
CITY = {"city": {"hash": 2}}
SCHEMA = Schema(5, CLASSES, NAMES, "y", weight="w", missing=True, categories=CITY)


def digest(model: models.Model | None) -> str:
    assert model is not None
    return state_digest(flatten(model.state))


def river() -> RiverClassifier:
    return RiverClassifier("mlp", hidden=(3,), mini_batch=2, features=NAMES, categories=CITY, classes=CLASSES)


@given(st.lists(typed_rows, min_size=2, max_size=5))
@settings(max_examples=50, deadline=None)
def test_rows_of_a_stream_leave_the_same_bits_as_dicts_and_as_tables(rows: list[dict[str, Any]]) -> None:
    decoded = decode(SCHEMA, [json.dumps(row | {"at": 0}).encode() for row in rows], labeled=True)
    for each in decoded.rejected:
        if each.reason == "not finite" and each.field in NAMES:
            with pytest.raises(ValueError, match=f"feature {each.field!r} must be finite"):
                river().learn_one({name: rows[each.position][name] for name in NAMES}, "no")
    rows = [rows[position] for position in decoded.kept]
    if not rows:
        return
    assert decoded.y is not None
    assert decoded.w is not None
    one, many = river(), river()
    for row in rows:
        one.learn_one({name: row[name] for name in NAMES}, row["y"], w=row["w"])
    table = pd.DataFrame(rows)
    many.learn_many(table[list(NAMES)], table["y"], w=table["w"])
    assert one._model is not None
    for found, size in ((one, 1), (many, len(rows))):  # of what is learned at once
        model = models.new_model(one._model.learner)
        for start in range(0, len(rows), size):
            x, y, w = (each[start : start + size] for each in (decoded.x, decoded.y, decoded.w))
            model = models.learn(model, Batch(x, y, w), lambda _: None)
        assert digest(found._model) == digest(model)
