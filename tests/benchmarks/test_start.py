import pytest
from running import short_line

from benchmarks import start

pytestmark = pytest.mark.commit

LINES = [
    (1.0, "in a folder"),
    (1.5, "starting Kafka and Spark"),
    (7.5, "warming up"),
    (10.0, "   0 s  waiting for the first micro-batch"),
    (11.0, "   1 s  waiting for the first micro-batch"),
    (12.5, "   3 s  rows/s 0  accuracy 0.6  version 1 (0.3 s old)"),
    (13.5, "   4 s  rows/s 9  accuracy 0.7  version 2 (0.3 s old)"),
]


def test_phases_end_with_their_first_line_and_add_up_to_the_first_metric() -> None:
    found = start.phases_of(LINES)
    assert list(found.values()) == [1.5, 6.0, 2.5, 2.5]
    assert sum(found.values()) == 12.5


def test_a_demo_that_ends_early_is_an_error() -> None:
    with pytest.raises(ValueError, match="ended before it printed 'warming up'"):
        start.phases_of(LINES[:2])


@pytest.mark.nightly
def test_the_short_form_prints_its_line() -> None:
    line = short_line("start")
    assert 0 < line["first_records_s"] < line["start_s"]
