"""A record's series, in every format and envelope; and which lags a schema may have."""

import gzip
import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from streaming_nn.records import avro
from streaming_nn.records.decode import decode
from streaming_nn.records.explode import explode_values
from streaming_nn.records.schema import Schema, schema_from
from streaming_nn.records.types import Rejection

pytestmark = pytest.mark.commit

SCHEMA = Schema(1, None, ("x",), "y", lags=(1, 24), series="meter")
VALUES = ["a", 7, "7", 7.0, " 7 ", 1.5, True, "true", "é", "x" * 1000]
NAMES = ["a", "7", "7", "7", "7", "1.5", "true", "true", "é", "x" * 1000]
KEYS = [sha256(name.encode()).digest()[:16] for name in NAMES]


def records(values: list[Any], **more: Any) -> list[bytes]:
    return [
        json.dumps({"x": i, "y": 2 * i, "meter": value, **more}).encode() for i, value in enumerate(values)
    ]


@pytest.mark.parametrize("labeled", [True, False])
def test_a_series_has_one_key_however_it_is_written(labeled: bool) -> None:
    found = decode(SCHEMA, records(VALUES), labeled)
    assert found.keys == KEYS
    assert found.kept.tolist() == [*range(len(VALUES))]
    assert decode(replace(SCHEMA, series=None), records(VALUES), labeled).keys is None


def test_csv_has_the_same_keys_with_and_without_labels() -> None:
    schema = replace(SCHEMA, format="csv", csv_columns=("meter", "x", "y"), delimiter=";")
    assert decode(schema, [f"{name};1;2".encode() for name in NAMES], labeled=True).keys == KEYS
    assert decode(schema, [f'"{name}";1\r\n'.encode() for name in NAMES], labeled=False).keys == KEYS


def test_avro_has_the_same_keys() -> None:
    fields = [
        {"name": "x", "type": "double"},
        {"name": "y", "type": "double"},
        {"name": "meter", "type": ["null", "string", "long", "double", "boolean"]},
    ]
    avro_schema = json.dumps({"type": "record", "name": "R", "fields": fields})
    schema = replace(SCHEMA, format="avro", avro_schema=avro_schema)
    rows = [{"x": 1.0, "y": 2.0, "meter": value} for value in [*VALUES, None]]
    found = decode(schema, avro.write(schema, rows), labeled=True)
    assert found.keys == KEYS
    assert found.rejected == [Rejection(len(VALUES), "series missing", "meter", "None")]


def test_a_series_is_found_by_a_path_and_in_envelopes() -> None:
    values = [json.dumps({"x": 1, "y": 2, "site": {"meter": 7}}).encode()]
    schema = replace(SCHEMA, series="site.meter")
    assert decode(schema, values, labeled=True).keys == KEYS[1:2]
    packed = [gzip.compress(value) for value in values]
    assert decode(replace(schema, framing="gzip"), packed, labeled=True).keys == KEYS[1:2]
    together = [json.dumps({"of": [{"x": 1, "y": 2, "meter": m} for m in ("a", 7)]}).encode()]
    rows = replace(SCHEMA, features=("of.x",), label="of.y", series="of.meter", explode="of[]")
    assert decode(rows, explode_values(rows, together), labeled=True).keys == KEYS[:2]


def test_a_record_without_a_series_is_rejected_with_its_field() -> None:
    values = records([None, "", "  ", [1], {"a": 1}, 10**400, "NA", "a", 7], w=2)
    values += [b'{"x": 1, "y": 2, "w": 1}', b'{"x": 1, "y": 2, "w": -1, "meter": "a"}', b"no JSON"]
    values += [b'{"x": 1, "y": null, "w": 1}']
    schema = replace(SCHEMA, na_values=("NA",), weight="w", where="x != 8")
    found = decode(schema, values, labeled=True)
    assert found.keys == KEYS[:1]
    assert (found.kept.tolist(), found.filtered.tolist()) == ([7], [8])
    assert found.w is not None
    assert (found.w.tolist(), found.y) == ([2.0], [14.0])
    reasons = {each.position: (each.reason, each.field) for each in found.rejected}
    missing, other = ("series missing", "meter"), ("series not a string or a number", "meter")
    assert reasons == {
        **dict.fromkeys((0, 1, 2, 6, 9), missing),
        **dict.fromkeys((3, 4, 5), other),
        10: ("weight negative", "w"),
        11: ("not JSON", ""),
        12: ("label missing", "y"),
    }
    assert [each.position for each in found.rejected] == sorted(reasons)


def test_a_rejected_record_has_no_unseen_category() -> None:
    schema = Schema(2, None, ("c",), "y", lags=(1,), series="m", categories={"c": {"one_hot": 2}})
    values = [b'{"c": "a", "y": 1, "m": 1}', b'{"c": "b", "y": 1}']
    assert decode(schema, values, labeled=True).unseen == {"c": ("a",)}


def test_columns_of_lags_follow_those_of_the_record() -> None:
    assert SCHEMA.input_columns == ("x", "y@lag_1", "y@lag_24", "y@age")
    assert SCHEMA.learner_options["inputs"] == 4
    assert SCHEMA.learner_options["missing"] == "impute"
    several = replace(SCHEMA, lags={"x": [2], "y": [1, 2]})
    assert several.lag_columns == ("y@lag_1", "y@lag_2", "x@lag_2", "y@age")
    only_other = replace(SCHEMA, lags={"x": [2]})
    assert only_other.lag_columns == ("x@lag_2", "y@age")
    array = Schema(2, None, "v", "y", lags={"y": [1], "v[1]": [1]})
    assert array.input_columns == ("v[0]", "v[1]", "y@lag_1", "v[1]@lag_1", "y@age")
    for schema in (SCHEMA, several, array):
        assert schema_from(json.loads(json.dumps(schema.options()))) == schema
        assert isinstance(hash(schema), int)
    plain = Schema(1, None, ("x",), "y")
    assert replace(plain, missing=True).learner_options == plain.learner_options | {"missing": "impute"}
    assert plain.learner_options == {
        "inputs": 1,
        "classes": None,
        "multilabel": False,
        "targets": None,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lags": [0]}, "lags of 'y' must be integers, 1 or more, in ascending order; got [0]"),
        ({"lags": [2, 1]}, "lags of 'y' must be integers, 1 or more, in ascending order; got [2, 1]"),
        ({"lags": [1, 1]}, "lags of 'y' must be integers, 1 or more, in ascending order; got [1, 1]"),
        ({"lags": [1.0]}, "lags of 'y' must be integers, 1 or more, in ascending order; got [1.0]"),
        ({"lags": {"x": []}}, "lags of 'x' must be integers, 1 or more, in ascending order; got []"),
        ({"lags": {"z": [1]}}, "lags must be of the label or of features that are numbers; got 'z'"),
        ({"lags": ()}, "series needs lags, the earlier values that a row has of it; got 'meter'"),
        ({"classes": ("a", "b")}, "lags need regression with one target; got label 'y'"),
        ({"label": None}, "lags need regression with one target; got label None"),
        ({"label": ("y", "z")}, "lags need regression with one target; got label ('y', 'z')"),
        ({"lags_as_of": "now"}, "lags_as_of must be one of 'row', 'version'; got 'now'"),
        ({"max_series": 0}, "max_series must be an integer, 1 or more; got 0"),
        ({"series_expiry": -1}, "series_expiry must be a number of seconds, 0 or more; got -1"),
        ({"lags": (801,)}, "max_series times the largest lag must be at most 8,000,000; got 8,010,000"),
        ({"series": ""}, "series must be a field's name, or names joined by dots; got ''"),
        ({"format": "packed"}, "series needs records with named fields; got format 'packed'"),
        ({"format": "csv"}, "csv_columns must include the series; 'meter' is missing"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^") as refused:
        replace(SCHEMA, **options)
    assert str(refused.value) == message


def test_without_a_series_the_largest_lag_alone_is_bounded() -> None:
    assert replace(SCHEMA, lags=(8_000_000,), series=None).lags == (8_000_000,)


def test_rows_without_lags_are_as_before() -> None:
    plain = Schema(1, None, ("x",), "y")
    found = decode(plain, records(VALUES), labeled=True)
    lagged = decode(replace(SCHEMA, series=None), records(VALUES), labeled=True)
    np.testing.assert_array_equal(found.x, lagged.x)
