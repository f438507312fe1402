"""`where` keeps what SQL's WHERE would keep: SQLite is the oracle."""

import sqlite3
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_nn.records.where import MAX_DEPTH, parse

pytestmark = pytest.mark.commit

RECORD = {
    "op": "c",
    "n": 3,
    "x": -0.5,
    "flag": True,
    "none": None,
    "payload": {"op": "u", "after": {"amount": Decimal("12.50")}},
    "tags": [1],
}


def keeps(text, record=RECORD):
    return parse(text).keeps(record)


@pytest.mark.parametrize(
    "text",
    [
        "op = 'c'",
        "op in ('c', 'r', 'u')",
        "payload.op in ('c','r','u') and payload.after.amount > 12",
        "payload.after.amount = 12.5",
        "op != 'd'",
        "op not in ('d')",
        "NOT op = 'd' AND Op IS NULL",
        "n >= 3 and n <= 3 and n < 4 and n > 2.9 and x = -.5 and n = 3e0",
        "flag = true",
        "none is null and absent is null and payload.absent.deeper is null and op.deeper is null",
        "op is not null and tags is not null and payload is not null",
        "n = 4 or (n = 3 and (op = 'x' or op = 'c'))",
        "not (n = 4 or n = 5)",
        "n = 3 or n = 4 and n = 5",
        "(((n=3)))",
        "op='c'and n=3",
        "  op\n=\t'c' ",
    ],
)
def test_a_record_is_kept(text):
    assert keeps(text) is True


@pytest.mark.parametrize(
    "text",
    ["op = 'C'", "n = '3'", "op = 3", "flag = 1", "n = true", "op < 5", "op > 5", "tags = 1", "tags in (1)"],
)
def test_another_type_is_neither_equal_nor_less_nor_greater(text):
    assert keeps(text) is False
    assert keeps(f"not {text}") is True


@pytest.mark.parametrize(
    "text",
    ["none = 1", "none != 1", "absent in (1)", "absent not in (1)", "not none = 1", "none = 1 or n = 4"],
)
def test_a_comparison_with_a_missing_value_is_unknown(text):
    assert keeps(text) is None


def test_a_quote_inside_a_string_is_written_twice():
    assert keeps("name = 'O''Neill' and other = ''", {"name": "O'Neill", "other": ""})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have a field at character 1"),
        ("   ", "must have a field at character 4, after ''"),
        ("op", "must have =, !=, <, <=, >, >=, 'in', 'not in' or 'is' at character 3, after 'op'"),
        ("payload.op =", r"must have a value \(.*\) at character 13, after 'payload.op ='"),
        ("op = c", r"must have a value \('string' in single quotes, .*\) at character 6, after 'op ='"),
        ('op = "c"', r"must have a value \('string' in single quotes, .*\) at character 6, after 'op ='"),
        ("op = null", r"must have a value \(.*\) at character 6"),
        ("op == 'c'", r"must have a value \(.*\) at character 5, after 'op ='"),
        ("op <> 'c'", r"must have a value \(.*\) at character 5, after 'op <'"),
        ("op in 'c'", r"must have '\(' at character 7, after 'op in'"),
        ("op in ()", r"must have a value \(.*\) at character 8"),
        ("op in ('c'", r"must have '\)' at character 11"),
        ("op in ('c',)", r"must have a value .* at character 12"),
        ("op like 'c%'", r"must have =, !=, .* at character 4, after 'op'"),
        ("op is 'c'", r"must have 'null' at character 7"),
        ("op not 'c'", r"must have 'in' at character 8"),
        ("op = 'c", r"must have a closed quote at character 6, after 'op ='"),
        ("op = 'c' op", r"must have 'and', 'or' or its end at character 10"),
        ("op = 'c')", r"must have 'and', 'or' or its end at character 9"),
        ("(op = 'c'", r"must have '\)' at character 10"),
        ("op = 'c' and", "must have a field at character 13"),
        ("op = 'c' && n = 3", "must have 'and', 'or' or its end at character 10"),
        ("3 < n", "must have a field at character 1"),
        ("'c' = op", "must have a field at character 1"),
        ("payload..op = 1", "must have a field's path at character 1"),
        ("(" * 99 + "n = 3" + ")" * 99, f"must have at most {MAX_DEPTH} parentheses inside each other at"),
        ("not " * 9999 + "n = 3", f"must have at most {MAX_DEPTH} parentheses inside each other at"),
    ],
)
def test_an_error_names_the_character(text, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        parse(text)


COLUMNS = ("a", "b", "c")
numbers = st.sampled_from([0, 1, 2, -1, 0.5])
predicates = st.one_of(
    st.builds(
        "{} {} {}".format,
        st.sampled_from(COLUMNS),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        numbers,
    ),
    st.builds(
        "{} {} ({}, {})".format, st.sampled_from(COLUMNS), st.sampled_from(["in", "not in"]), numbers, numbers
    ),
    st.builds("{} {}".format, st.sampled_from(COLUMNS), st.sampled_from(["is null", "is not null"])),
)
filters = st.recursive(
    predicates,
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(["and", "or"]), inner),
        st.builds("not {}".format, inner),
        st.builds("({})".format, inner),
    ),
    max_leaves=8,
)
SQLITE = sqlite3.connect(":memory:")


@settings(max_examples=150, deadline=None)
@given(filters, st.lists(st.one_of(st.none(), numbers), min_size=3, max_size=3))
def test_sqlite_agrees(text, values):
    named = ", ".join(f"? AS {name}" for name in COLUMNS)
    ((expected,),) = SQLITE.execute(f"SELECT {text} FROM (SELECT {named})", values).fetchall()
    assert keeps(text, dict(zip(COLUMNS, values, strict=True))) is (
        None if expected is None else bool(expected)
    )
