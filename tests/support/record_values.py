"""Strategies for values of records: JSON, unusual JSON, and bytes that are not JSON."""

import json
from collections.abc import Iterable

from hypothesis import strategies as st

from streaming_nn.records import reasons
from streaming_nn.records.schema import Schema
from streaming_nn.records.types import Rejection

numbers = st.one_of(
    st.integers(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.sampled_from([1e39, 3.4028235e38, 3.4028236e38, -0.0, 1e-46, 2**53 + 1, 2**64 - 1, 2**64, 10**400]),
)
scalars = st.one_of(
    st.none(), st.booleans(), numbers, st.text(alphabet=st.characters(codec="utf-8"), max_size=5)
)
values_ = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(alphabet='ab\\"[{', max_size=2), inner, max_size=2)
    ),
    max_leaves=5,
)
records = st.one_of(
    st.fixed_dictionaries(
        {
            "features": st.lists(numbers, min_size=2, max_size=2),
            "label": st.sampled_from([0, 1, 1.0, True, "x"]),
        }
    ),
    st.fixed_dictionaries(
        {"features": st.one_of(st.lists(values_, min_size=1, max_size=3), values_)},
        optional={"label": values_, "extra": values_, "\u00e9": values_},
    ),
    values_,
)
texts = st.builds(
    lambda value, ascii_, separators: json.dumps(value, ensure_ascii=ascii_, separators=separators).encode(),
    records,
    st.booleans(),
    st.sampled_from([(",", ":"), (", ", ": ")]),
)
concatenated = st.builds(lambda a, b: a.rstrip()[:-1] + b"," + b.lstrip()[1:], texts, texts)
flipped = st.builds(
    lambda text, at, byte: text[: at % (len(text) + 1)] + bytes([byte]) + text[at % (len(text) + 1) + 1 :],
    texts,
    st.integers(0, 200),
    st.integers(0, 255),
)
blobs = st.one_of(texts, concatenated, flipped, st.binary(max_size=60))
SMALL = Schema(2, (0, 1, "x", True))


def keys_of(rejected: Iterable[Rejection]) -> list[tuple[int, str]]:
    """Return the position of each rejected record, and what it is counted by."""
    return [(rejection.position, reasons.key(rejection)) for rejection in rejected]
