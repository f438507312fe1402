"""When signals are handled; none of it needs Spark."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from streaming_nn.spark.signals import pause, uninterrupted

pytestmark = pytest.mark.commit


@pytest.fixture(autouse=True)
def came() -> Iterator[list[int]]:
    """The signals that the process's own handler has got."""
    found: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: found.append(number)) for number in numbers]
    yield found
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handled_once_after_the_block(number: signal.Signals, came: list[int]) -> None:
    with uninterrupted():
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert came == []
    assert came == [number]
    with uninterrupted():
        pass
    assert came == [number], "it is handled once"
    signal.raise_signal(number)
    assert came == [number, number], "the handler is restored"


def test_an_inner_block_leaves_the_signal_to_the_outer_one(came: list[int]) -> None:
    with uninterrupted():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
        assert came == []
    assert came == [signal.SIGINT]


def test_an_error_takes_precedence_over_a_signal(came: list[int]) -> None:
    def fail() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        fail()
    with uninterrupted():
        pause(0.0)
    assert came == []


def test_a_signal_ends_a_pause(came: list[int]) -> None:
    began = time.monotonic()
    threading.Timer(0.3, signal.raise_signal, [signal.SIGTERM]).start()
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        pause(60.0)
    assert time.monotonic() - began < 30
    assert came == []


def test_a_pause_lasts_as_long_as_requested() -> None:
    began = time.monotonic()
    pause(0.25)
    assert 0.25 <= time.monotonic() - began < 10


def test_a_block_in_another_thread_does_not_delay_signals(came: list[int]) -> None:
    def work() -> None:
        with uninterrupted():
            inside.set()
            done.wait(30)

    inside, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(30)
    signal.raise_signal(signal.SIGINT)
    assert came == [signal.SIGINT]
    done.set()
    thread.join(30)
