"""The speed of training: the short form prints its line, and rates are measured between triggers."""

from typing import Any

import numpy as np
import pytest
from running import short_line

from benchmarks import queries, topics
from streaming_nn.records.decode import decode, encode

pytestmark = pytest.mark.commit

KEYS = {
    *("ceiling_per_s", "ratio_packed_averaged", "ratio_packed_sequential", "ratio_json_averaged"),
    *("ratio_named_averaged", "ratio_mixed_averaged", "ratio_ensemble", "times_sklearn_loop"),
    *("times_river_loop", "times_tutorial", "fixed_cost_ratio"),
}


class Query:
    """A query whose progress has micro-batches of so many rows, one second apart."""

    def __init__(self, *rows: int) -> None:
        self.recentProgress = [
            {
                "batchId": i,
                "timestamp": f"2026-01-01T00:00:{i:02d}.000Z",
                "sources": [{"startOffset": '{"t":{"0":100}}', "endOffset": f'{{"t":{{"0":{100 + n}}}}}'}],
            }
            for i, n in enumerate(rows)
        ]


def test_a_rate_excludes_the_warm_up_and_the_last_batch() -> None:
    query: Any = Query(7, 7, 100, 300, 5)
    assert queries.rate(query) == 200
    with pytest.raises(ValueError, match="two micro-batches"):
        queries.rate(Query(7))  # type: ignore[arg-type]


def test_delays_are_from_the_trigger_to_the_end() -> None:
    query: Any = Query(*[1] * 8)
    began = 1767225600.0  # 2026-01-01
    ends = {i: began + i + 0.25 for i in range(8)}
    assert queries.delays(query, ends) == pytest.approx([0.25] * 3)
    assert queries.delays(query, {0: began + 9, 1: began + 1.5}) == pytest.approx([0.5])  # a slow machine


@pytest.mark.parametrize("kind", topics.SCHEMAS)
def test_each_kind_of_record_holds_the_same_rows(kind: str) -> None:
    x, y = topics.rows(20)
    values = topics.mixed(x, y) if kind == "mixed" else encode(topics.SCHEMAS[kind], x, y)
    rows = decode(topics.SCHEMAS[kind], values, labeled=True)
    if kind == "mixed":
        assert np.isnan(rows.x).sum() == 20
        x[:, ::6] = x[:, ::6] > 0
        x[np.isnan(rows.x)] = np.nan
    assert rows.y is not None
    np.testing.assert_array_equal(rows.x.astype(np.float32), x)
    assert (rows.y == y).all()


@pytest.mark.nightly
def test_the_short_form_prints_its_line() -> None:
    line = short_line("train")
    assert line["benchmark"] == "train"
    assert line.keys() >= KEYS
    assert all(line[key] > 0 for key in KEYS)
