"""Rows become messages: shares, corrupted records that no decoder accepts, and delayed labels."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.generators import agrawal, friedman, sea, sine
from producers.messages import LABELED, MALFORMED, UNLABELED, Plan, corrupt, messages, schema_of, topics_of
from producers.streams import Stream, limited
from streaming_nn.records.decode import decode, encode

pytestmark = pytest.mark.commit


def first_messages(make, rows, plan, **options):
    return list(messages(limited(make(3, **options), rows), plan))


@pytest.mark.parametrize("make", [sea, agrawal, friedman])
@pytest.mark.parametrize(
    ("format", "named"),
    [("json", False), ("json", True), ("packed", False), ("csv", True), ("avro", False), ("avro", True)],
)
def test_messages_have_the_rows_of_the_stream(make, format, named):
    if named and make(3).names is None:
        pytest.skip("its features have no names")
    plan = Plan("l", "u", unlabeled=0.2, malformed=0.05, format=format, named=named, seed=9)
    out = first_messages(make, 1000, plan)
    assert out == first_messages(make, 1000, plan)
    assert out != first_messages(
        make, 1000, Plan("l", "u", unlabeled=0.2, malformed=0.05, format=format, named=named)
    )
    assert [m.row for m in out] == list(range(1000))
    assert [m.key for m in out] == [b"%d" % i for i in range(1000)]
    counts = Counter(m.kind for m in out)
    assert 150 < counts[UNLABELED] < 250
    assert 20 < counts[MALFORMED] < 70
    blocks = list(islice(make(3).blocks, 4))
    x, y = np.concatenate([b.x for b in blocks]), np.concatenate([b.y for b in blocks])
    schema = schema_of(make(3), plan)
    for kind, topic in ((LABELED, "l"), (UNLABELED, "u"), (MALFORMED, "l")):
        some = [m for m in out if m.kind == kind]
        assert {m.topic for m in some} == {topic}
        decoded = decode(schema, [m.value for m in some], labeled=kind != UNLABELED)
        if kind == MALFORMED:
            assert len(decoded.kept) == 0
            continue
        ids = [m.row for m in some]
        assert decoded.rejected == []
        np.testing.assert_array_equal(decoded.x.astype(np.float32), x[ids])
        if kind == LABELED:
            np.testing.assert_array_equal(decoded.y.astype(y.dtype), y[ids])
        else:
            assert len(decode(schema, [m.value for m in some], labeled=True).kept) == 0  # no label leaks


@pytest.mark.parametrize("make", [sea, agrawal, friedman])
@pytest.mark.parametrize("format", ["json", "packed", "csv", "avro"])
def test_records_are_corrupted_in_several_ways(make, format):
    stream = make(1)
    schema = schema_of(stream, Plan("t", format=format))
    rng = np.random.default_rng(0)
    values = [m.value for m in islice(messages(stream, Plan("t", format=format)), 200)]
    decoded = decode(schema, [corrupt(value, schema, rng) for value in values], labeled=True)
    assert len(decoded.kept) == 0
    label = {"label not in classes", "label not a number", "label not finite"}
    found = {reason for _, reason, *_ in decoded.rejected}
    of_format = {
        "json": {"not JSON", "wrong width"},
        "packed": {"wrong width"},
        "csv": {"not CSV", "wrong number of fields"},
        "avro": {"not Avro"},
    }
    assert of_format[format] | {"not finite", "label missing"} <= found
    assert label & found
    assert ("not JSON" in found) == (format == "json")


@pytest.mark.parametrize(
    ("plan", "late", "topics"),
    [
        (Plan("l"), False, ["l"]),
        (Plan("l", "u"), False, ["l"]),
        (Plan("l", "u", unlabeled=0.1), False, ["l", "u"]),
        (Plan("l", "u", unlabeled=1.0), False, ["u"]),
        (Plan("l", "u", unlabeled=1.0, label_delay=0), False, ["l", "u"]),
        (Plan("l", "u", unlabeled=1.0), True, ["l", "u"]),
    ],
)
def test_only_topics_with_messages_are_needed(plan, late, topics):
    assert topics_of(sea(0)._replace(late=late), plan) == topics


def test_delayed_labels_follow_their_rows():
    plan = Plan("l", "u", unlabeled=1.0, label_delay=100, rate=1000)
    out = first_messages(sea, 300, plan)
    assert len(out) == 600
    bare = {m.key: i for i, m in enumerate(out) if m.kind == UNLABELED}
    late = {m.key: i for i, m in enumerate(out) if m.kind == LABELED}
    assert bare.keys() == late.keys()
    for key, i in bare.items():
        due = int(key) + 100
        assert out[late[key]].row == due
        assert out[late[key]].at == pytest.approx(due / 1000, abs=1e-9)
        assert late[key] > i
    assert [m.at for m in out] == sorted(m.at for m in out)


def test_a_resumed_stream_has_new_ids():
    assert [m.key for m in first_messages(sea, 2, Plan("l", first_id=10**6))] == [b"1000000", b"1000001"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"unlabeled": 0.1}, "unlabeled = 0.1 needs an unlabeled topic; set --unlabeled-topic"),
        ({"malformed": 1.5}, "malformed must be 0 to 1; got 1.5"),
        ({"rate": 0}, "rate must be more than 0; got 0"),
        ({"speed": -1}, "speed must be more than 0; got -1"),
        ({"seed": -1}, "seed must be 0 or more; got -1"),
        ({"label_delay": -1}, "label_delay must be 0 rows or more; got -1"),
        ({"label_delay": 5}, "label_delay = 5 needs unlabeled rows; got unlabeled = 0"),
    ],
)
def test_an_invalid_plan_raises_one_line(options, error):
    with pytest.raises(ValueError) as raised:
        Plan("l", **options)
    assert str(raised.value) == error


@pytest.mark.parametrize(
    ("names", "clash"),
    [
        (("a", "id.x"), "'id.x' and 'id'"),
        (("label", "b"), "'label' and 'label'"),
        (("a", "label.x"), "'label.x' and 'label'"),
        (("a", "a.b"), "'a.b' and 'a'"),
        (("a.b.c", "a.b"), "'a.b.c' and 'a.b'"),
    ],
)
def test_names_that_overwrite_each_other_raise_one_line(names, clash):
    stream = sine(0)._replace(names=names)
    with pytest.raises(ValueError) as raised:
        messages(stream, Plan("l", named=True))
    error = f"named fields must differ from each other, label and id; got {clash}"
    assert str(raised.value) == error
    assert schema_of(stream, Plan("l")).features == "features"  # allowed in an array


@given(st.lists(st.text("abl", min_size=1, max_size=2), min_size=1, max_size=6))
def test_accepted_names_keep_every_number(parts):
    """Any names, nested ones too, are rejected, or no number is lost."""
    names = tuple(".".join(parts[i : i + 2]) for i in range(len(parts)))
    stream = Stream(len(names), None, iter(()), names, "label", named=True)
    try:
        schema = schema_of(stream, Plan("l"))
    except ValueError:
        return
    x = np.arange(1, len(names) + 1, dtype=np.float32)[None]
    decoded = decode(schema, encode(schema, x, np.array([7.5]), [1]), labeled=True)
    np.testing.assert_array_equal(decoded.x, x)
    assert decoded.y.tolist() == [7.5]
