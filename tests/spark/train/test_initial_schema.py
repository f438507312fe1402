"""Where a new model's schema comes from: its settings, or the first records of its source."""

import logging

import pytest
from kafka_topics import labeled

from streaming_nn.settings import Settings
from streaming_nn.spark.train import initial_schema
from streaming_nn.spark.train.initial_schema import read_schema

pytestmark = pytest.mark.commit

RECORDS = {"features": ["price", "city"], "categories": {"city": {"one_hot": 2}}}


class Source:
    """A source with some records now, and more after each look."""

    name = "topic t"

    def __init__(self, records: int, more: int = 0) -> None:
        self.records, self.more, self.looks = records, more, 0

    def first_values(self, rows: int) -> list[bytes | None]:
        self.looks += 1
        count, self.records = min(self.records, rows), self.records + self.more
        return [*labeled(count)]


def test_named_fields_and_classes_need_no_records() -> None:
    records = {**RECORDS, "classes": ["no", "yes"], "missing": True}
    schema = read_schema(Source(0), Settings(records=records))
    assert (schema.inputs, schema.classes, schema.grow, schema.missing) == (3, ("no", "yes"), False, True)
    records = {"features": "t", "categories": {"t": {"hash": 9}}, "regression": True}
    schema = read_schema(Source(0), Settings(records=records))
    assert (schema.inputs, schema.classes) == (9, None)
    with pytest.raises(ValueError, match="inputs must be 3, the columns of all features; got 4"):
        read_schema(Source(0), Settings(records={**RECORDS, "classes": [0, 1], "inputs": 4}))


def test_width_and_classes_are_inferred_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    schema = read_schema(Source(1000), Settings())
    assert (schema.inputs, schema.classes) == (3, (0, 1))
    assert "inferred from 1,000 records: 3 features, classes [0, 1]" in caplog.messages


def test_a_run_waits_for_records(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(initial_schema, "pause", lambda seconds: None)
    caplog.set_level(logging.INFO)
    source = Source(0, more=30)
    assert read_schema(source, Settings()).inputs == 3
    assert source.looks == initial_schema.PATIENCE + 1, "after that, fewer records are enough"
    waiting = "waiting for records to infer width and classes from: topic t has 0, 100 or more are needed"
    assert caplog.messages[:-1] == [waiting]


def test_a_run_of_available_records_does_not_wait() -> None:
    with pytest.raises(ValueError, match=r"^topic t has 99 records.*100 or more: set records.inputs and"):
        read_schema(Source(99), Settings(train={"once": True}))
    assert read_schema(Source(100), Settings(train={"once": True})).classes == (0, 1)
