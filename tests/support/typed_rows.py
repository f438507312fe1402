"""Rows of typed values, ordinary and odd, that every format and API has to read alike."""

import math
from datetime import UTC, datetime

from hypothesis import strategies as st

odd = [math.nan, -200.0, 1e39, -3.5e38, 3.4028235e38, 1e-46, 2.0**60]  # text has one NaN, Avro also -NaN
numbers = st.one_of(st.none(), st.floats(allow_nan=False), st.sampled_from(odd))
typed_rows = st.fixed_dictionaries(
    {
        "x": numbers,
        "flag": st.one_of(st.none(), st.booleans()),
        "n": st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1), st.just(-200)),
        "at": st.one_of(st.none(), st.datetimes(datetime(1, 1, 2), timezones=st.just(UTC))),
        "city": st.one_of(
            st.sampled_from([None, "NA", "-200"]),
            st.text(alphabet="ab, ;\"'\u00e4\n", min_size=1, max_size=4),
        ),
        "y": st.sampled_from(["no", "yes", "maybe", "NA", None]),
        "w": st.one_of(st.floats(0, 9), st.sampled_from([None, -1.0, math.nan, math.inf])),
    }
)
