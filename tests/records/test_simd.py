"""simdjson parses records as the row-by-row decoder does, or leaves them to it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_values import SMALL, blobs

from streaming_nn.records import simd
from streaming_nn.records.decode import decode, encode
from streaming_nn.records.schema import Schema

pytestmark = [pytest.mark.commit, pytest.mark.skipif(not simd.installed(), reason="needs the extra `fast`")]
GOOD = b'{"features":[1,2.5],"label":0}'


def check_both(schema, values, labeled=True):
    fast = decode(schema, values, labeled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simd, "installed", lambda: False)
        slow = decode(schema, values, labeled)
    assert fast.rejected == slow.rejected
    assert fast.unseen == slow.unseen
    np.testing.assert_array_equal(fast.waiting, slow.waiting)
    for a, b in zip(fast[:3], slow[:3], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a is b is None or (a.dtype == b.dtype and a.tobytes() == b.tobytes())


@given(st.lists(st.one_of(blobs, st.just(GOOD)), max_size=6), st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_bytes_after_a_good_record(values, labeled):
    check_both(SMALL, [GOOD, *values, GOOD], labeled)


@given(st.lists(st.one_of(blobs, st.just(GOOD)), max_size=6))
@settings(max_examples=80, deadline=None)
def test_any_bytes_with_missing_values_and_growing_classes(values):
    check_both(Schema(2, (0,), missing=True, grow=True), [GOOD, *values, GOOD])


@given(
    st.lists(
        st.from_regex(rb"-?[0-9]{0,25}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True), min_size=2
    )
)
@settings(max_examples=80, deadline=None)
def test_numbers_are_the_same(texts):
    check_both(SMALL, [GOOD, *(b'{"features":[%s,%s],"label":1}' % (a, b) for a, b in pairwise(texts))])


@pytest.mark.parametrize(
    "record",
    [
        b'{"features":[9,9],"label":0,"features":[1,2],"label":1}',
        b'{"f\\u0065atures":[1,2],"label":1}',
        b'{"features":[[1],2],"label":1}',
        b'{"features":[[1,2]],"label":1}',
        b'\xef\xbb\xbf{"features":[1,2],"label":1}',
        b'{"features":[1,2],"label":{"a":1}}',
        b'{"features":[1,2],"label":[1]}',
        b'{"features":[1,2],"label":' + b'{"a":' * 250 + b"1" + b"}" * 251,
        b' {"features":[1,2],"label":1}\n',
        b'{"label":1,"features":[1,2]}',
        b'{"features":[1,true],"label":1}',
        b'{"features":[1,18446744073709551615],"label":18446744073709551615}',
        b'{"features":"ab","label":1}',
        b'{"features":{"a":1,"b":2},"label":1}',
    ],
)
def test_records_that_simdjson_parses_differently_are_left_to_the_decoder(record):
    check_both(SMALL, [GOOD, record, GOOD, record])


def test_good_records_are_parsed_by_simdjson():
    fast_parse = simd.fast_parser(SMALL, ["features", "label"])
    row, label = fast_parse(GOOD)
    np.testing.assert_array_equal(np.frombuffer(row), [1, 2.5])
    assert label == 0


def test_records_whose_keys_keep_changing_are_left_to_the_decoder():
    schema = Schema(2, (0, 1))
    values = encode(schema, np.ones((600, 2)), np.arange(600) % 2)
    values[::2] = [v[:-1] + b',"n%d":1}' % i for i, v in enumerate(values[::2])]
    check_both(schema, values)
