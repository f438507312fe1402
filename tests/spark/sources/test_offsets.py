"""Ranges of a micro-batch from the files of Spark's checkpoint, and offsets in Spark's JSON."""

import json
from pathlib import Path

import pytest

from streaming_nn.spark.sources.offsets import (
    count,
    next_ranges,
    offsets_from,
    planned,
    reached,
    to_json,
    write_start,
)

pytestmark = pytest.mark.commit


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint as Spark writes it: where the query starts, and the ends of two micro-batches."""
    (tmp_path / "sources" / "0").mkdir(parents=True)
    (tmp_path / "offsets").mkdir()
    (tmp_path / "sources" / "0" / "0").write_text('v1\n{"t":{"0":5,"1":0}}')
    ends = [{"t": {"0": 15, "1": 10}}, {"t": {"2": 4, "1": 10, "0": 20}, "a": {"0": 3}}]
    for batch_id, each in enumerate(ends):
        (tmp_path / "offsets" / str(batch_id)).write_text(f"v1\n{{}}\n{json.dumps(each)}")
    return tmp_path


def test_the_first_micro_batch_begins_where_the_query_does(checkpoint: Path) -> None:
    assert planned(checkpoint, 0) == {"t": {0: (5, 15), 1: (0, 10)}}


def test_a_later_one_begins_where_the_one_before_ended_and_new_partitions_at_0(checkpoint: Path) -> None:
    ranges = planned(checkpoint, 1)
    assert ranges == {"a": {0: (0, 3)}, "t": {0: (15, 20), 1: (10, 10), 2: (0, 4)}}
    assert list(ranges) == ["a", "t"]
    assert list(ranges["t"]) == [0, 1, 2]
    assert count(ranges) == 3 + 5 + 0 + 4


def test_offsets_survive_sparks_json() -> None:
    offsets = {"t": {0: 5, 10: 2**40}, "u": {0: -2}}
    assert offsets_from(json.loads(to_json(offsets))) == offsets


def test_a_query_begins_where_we_write_that_it_does(tmp_path: Path) -> None:
    write_start(tmp_path, {"t": {0: 5, 1: 2}})
    (tmp_path / "offsets").mkdir()
    (tmp_path / "offsets" / "0").write_text('v1\n{}\n{"t":{"0":9,"1":2,"2":4}}')
    assert planned(tmp_path, 0) == {"t": {0: (5, 9), 1: (2, 2), 2: (0, 4)}}, "partition 2 was added since"


def test_the_next_offsets_are_of_all_partitions_that_have_more() -> None:
    begins, ends = {"t": {0: 5, 1: 0}, "u": {0: 7}}, {"t": {0: 100, 1: 3, 2: 9}, "u": {0: 7}}
    assert next_ranges(begins, ends, 10) == {"t": {0: (5, 9), 1: (0, 3), 2: (0, 4)}}
    assert next_ranges({"t": {0: 100, 1: 3, 2: 9}, "u": {0: 7}}, ends, 10) == {}


def test_a_query_has_reached_the_end_of_its_last_micro_batch_that_ended(checkpoint: Path) -> None:
    assert reached(checkpoint) == {}, "none has ended"
    (checkpoint / "commits").mkdir()
    (checkpoint / "commits" / "0").touch()
    (checkpoint / "commits" / ".1.crc").touch()
    assert reached(checkpoint) == {"t": {0: 15, 1: 10}}
    (checkpoint / "commits" / "1").touch()
    assert reached(checkpoint)["a"] == {0: 3}
