"""Categories: the hash to the byte, growing vocabularies, and values that are not categories."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_values import keys_of

from streaming_nn.records import categories
from streaming_nn.records.decode import decode, encode_named
from streaming_nn.records.labels import label_key
from streaming_nn.records.schema import Schema, grow_schema, schema_from

pytestmark = pytest.mark.commit

SHOP = Schema(
    inputs=2 + 4 + 3,
    classes=("no", "yes"),
    features=("price", "city", "kind", "shop.size"),
    categories={"city": {"hash": 4}, "kind": {"one_hot": 3}},
    missing=True,
)
STRICT = schema_from({**SHOP.options(), "missing": False})


def shop(*rows, schema=SHOP, labels=None):
    return decode(schema, encode_named(schema, rows, labels or ["no"] * len(rows)), labeled=True)


def row(**fields):
    return {"price": 1.5, "city": "Bern", "kind": "a", "shop.size": 9} | fields


@pytest.mark.parametrize(
    ("value", "columns", "column", "sign"),
    [
        ("", 32, 2, 1),
        ("Bern", 32, 23, 1),
        ("Zürich", 1000, 211, -1),
        (1, 32, 6, 1),
        ("1", 32, 20, 1),
        (True, 32, 13, -1),
        ("true", 32, 31, 1),
        (False, 7, 1, 1),
        (-12345678901234567890, 7, 3, -1),
        ("x" * 1000, 32, 20, -1),
    ],
)
def test_golden_hashes(value, columns, column, sign):
    assert categories.hash_column(label_key(value), columns) == (column, sign)


@given(st.one_of(st.text(), st.integers(), st.booleans()), st.integers(1, 1 << 20))
def test_the_hash_is_as_documented(value, columns):
    letter = {str: "s", int: "i", bool: "b"}[type(value)]
    text = value if type(value) is str else json.dumps(value)
    digest = hashlib.sha256((letter + text).encode()).digest()
    h = int.from_bytes(digest[:8], "little")
    assert categories.hash_column(label_key(value), columns) == (h // 2 % columns, -1 if h % 2 else 1)


def test_signs_and_columns_are_spread_evenly():
    hashes = [categories.hash_column(f"token {i}", 16) for i in range(16_000)]
    columns, signs = zip(*hashes, strict=True)
    assert min(np.bincount(columns, minlength=16)) > 850
    assert abs(sum(signs)) < 500


def test_columns_are_in_the_order_of_the_fields():
    schema = grow_schema(SHOP, {"kind": ["a", "b"]})
    decoded = shop(row(), row(kind="b", price=-2), schema=schema)
    city = np.zeros(4)
    column, sign = categories.hash_column("Bern", 4)
    city[column] = sign
    np.testing.assert_array_equal(decoded.x, [[1.5, *city, 1, 0, 0, 9], [-2, *city, 0, 1, 0, 9]])
    assert decoded.unseen == {}
    assert schema.columns == (
        *("price", "city#0", "city#1", "city#2", "city#3", "kind=a", "kind=b", "kind#2", "shop.size"),
    )


def test_an_unseen_category_is_all_zeros_until_the_schema_has_grown():
    values = encode_named(SHOP, [row(kind=kind) for kind in ("b", "a", "b", 1, True, "1")], ["no"] * 6)
    decoded = decode(SHOP, values, labeled=True)
    assert decoded.x[:, 5:8].sum() == 0
    assert decoded.unseen == {"kind": ("b", "a", 1)}
    schema = grow_schema(SHOP, decoded.unseen)
    again = decode(schema, values, labeled=True)
    assert again.unseen == {}
    eye = [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(again.x[:, 5:8], eye)
    assert schema_from(json.loads(json.dumps(schema.options()))) == schema


def test_a_missing_category_is_all_zeros_or_rejected():
    rows = [row(city=None, kind=None), {"price": 1.5}, row(price=None)]
    decoded = shop(*rows)
    np.testing.assert_array_equal(decoded.x[:2, 1:8], np.zeros((2, 7)))
    np.testing.assert_array_equal(np.isnan(decoded.x[:, [0, 8]]), [[0, 0], [0, 1], [1, 0]])
    assert decoded.unseen == {"kind": ("a",)}
    assert keys_of(shop(*rows, schema=STRICT).rejected) == [
        (0, "not a category: city"),
        (1, "field missing: city"),
        (2, "not a number: price"),
    ]


@pytest.mark.parametrize("value", [1.5, [1], {"a": 1}, [], float("inf")])
@pytest.mark.parametrize("name", ["city", "kind"])
def test_values_that_are_not_categories_are_rejected(name, value):
    values = [b'{"price":1,"city":"a","kind":"a","shop":{"size":1},"label":"no"}']
    record = json.loads(values[0]) | {name: value}
    decoded = decode(SHOP, [json.dumps(record).encode(), *values], labeled=True)
    assert keys_of(decoded.rejected) == [(0, f"not a category: {name}")]
    assert decoded.unseen == {"kind": ("a",)}


def test_an_integer_is_the_same_category_however_it_is_written():
    schema = grow_schema(SHOP, {"kind": [7]})
    texts = [b"7", b"7.0", b"7e0"]
    values = [b'{"price":1,"city":%s,"kind":%s,"shop":{"size":1},"label":"no"}' % (t, t) for t in texts]
    decoded = decode(schema, values, labeled=True)
    np.testing.assert_array_equal(decoded.x, decoded.x[[0, 0, 0]])
    assert decoded.x[0, 5] == 1
    assert decode(SHOP, values[1:], labeled=True).unseen == {"kind": (7,)}


def test_rejected_rows_do_not_extend_a_vocabulary():
    rows = [row(kind="bad", price="?"), row(kind="good"), row(kind="worse", price=1e300)]
    decoded = shop(*rows)
    assert [reason for _, reason, *_ in decoded.rejected] == ["not a number", "not finite"]
    assert decoded.unseen == {"kind": ("good",)}


def test_long_values_do_not_extend_a_vocabulary():
    decoded = shop(row(kind="x" * 129), row(kind=1 << 70), row(kind="x" * 128))
    assert decoded.unseen == {"kind": ("x" * 128,)}
    assert len(decoded.kept) == 3


def test_a_record_without_any_feature_field_is_rejected():
    decoded = decode(SHOP, [b'{"temperature":3,"label":"no"}'], labeled=True)
    assert keys_of(decoded.rejected) == [(0, "no feature field")]


SPAM = Schema(8, (0, 1), features="tokens", categories={"tokens": {"hash": 8}})


def test_counts_are_added_to_their_tokens_columns():
    values = encode_named(SPAM, [{"tokens": {"buy": 2, "now": 1, "the": 0.5}}, {"tokens": {}}], [1, 0])
    decoded = decode(SPAM, values, labeled=True)
    expected = np.zeros((2, 8))
    for token, count in (("buy", 2), ("now", 1), ("the", 0.5)):
        column, sign = categories.hash_column(token, 8)
        expected[0, column] += sign * count
    np.testing.assert_array_equal(decoded.x, expected)
    np.testing.assert_array_equal(decoded.y, [1, 0])
    assert SPAM.columns[-1] == "tokens#7"


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        (b"[1]", "not an object: tokens"),
        (b"null", "not an object: tokens"),
        (b'{"a":"1"}', "not a number: tokens"),
        (b'{"a":null}', "not a number: tokens"),
        (b'{"a":NaN}', "not a number: tokens"),
        (b'{"[a[":"x","b]":1}', "not a number: tokens"),
        (b'{"a":1e999}', "not finite: tokens"),
        (b'{"a":%s}' % (b"9" * 400), "not finite: tokens"),
    ],
)
def test_invalid_tokens_are_rejected(tokens, reason):
    good = b'{"tokens":{"a":1},"label":1}'
    decoded = decode(SPAM, [good, b'{"tokens":%s,"label":1}' % tokens, good], labeled=True)
    assert keys_of(decoded.rejected) == [(1, reason)]
    assert keys_of(decode(SPAM, [b'{"label":1}'], labeled=True).rejected) == [(0, "field missing: tokens")]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=2), st.just(10**400)
)
anything = st.one_of(scalars, st.lists(scalars, max_size=1), st.dictionaries(st.text(max_size=1), scalars))
records = st.dictionaries(
    st.sampled_from(["price", "city", "kind", "shop", "label", "tokens"]),
    st.one_of(scalars, anything, st.fixed_dictionaries({"size": scalars}), st.sampled_from(["no", "yes"])),
)
bare = st.sampled_from([b"", b"null", b"[]", b'{"label":"no"}', None])
blobs = st.one_of(st.builds(lambda record: json.dumps(record).encode(), records), bare)
GROWING = schema_from({**SHOP.options(), "grow": True, "classes": []})
TOKENS = schema_from({**SPAM.options(), "grow": True, "missing": True})


@given(st.lists(blobs, max_size=8), st.sampled_from([SHOP, STRICT, GROWING, SPAM, TOKENS]))
@settings(max_examples=150, deadline=None)
def test_any_records_are_kept_rejected_or_waiting(values, schema):
    decoded = decode(schema, values, labeled=True)
    rejected = (i for i, *_ in decoded.rejected)
    positions = [*decoded.kept, *decoded.waiting, *rejected, *decoded.filtered]
    assert sorted(positions) == list(range(len(values)))
    assert not np.isinf(decoded.x).any()
    assert schema.missing or np.isfinite(decoded.x).all()
    after = grow_schema(schema, decoded.unseen)
    again = decode(after, values, labeled=True)
    assert again.unseen == {}
    assert len(again.waiting) == 0
    assert again.rejected == decoded.rejected
    assert sorted([*decoded.kept, *decoded.waiting]) == again.kept.tolist()
