"""Sending counts acknowledged messages, stops at the first failure, and limits those in flight."""

import re

import pytest
from rich.console import Console
from terminals import terminal

from producers import send as sending
from producers.__main__ import _progress as progress
from producers.messages import Message
from producers.send import send

pytestmark = pytest.mark.commit


class Future:
    def __init__(self):
        self.good, self.bad = [], []

    def add_callback(self, call):
        self.good.append(call)

    def add_errback(self, call):
        self.bad.append(call)


class Client:
    """A producer whose broker responds only on `respond`, or at the flush."""

    def __init__(self, fails_at=None, silent=()):
        self.open, self.fails_at, self.silent, self.sent, self.most = [], fails_at, silent, 0, 0
        self.closed, self.timestamps = False, set()

    def send(self, topic, key, value, timestamp_ms=None):
        self.timestamps.add(timestamp_ms)
        if self.fails_at is not None and self.sent > self.fails_at:
            self.respond()
        future = Future()
        self.open.append((self.sent, future))
        self.sent += 1
        self.most = max(self.most, len(self.open))
        return future

    def respond(self):
        for number, future in self.open:
            if number in self.silent:
                continue
            for call in future.bad if number == self.fails_at else future.good:
                call(TimeoutError("no leader") if number == self.fails_at else None)
        self.open = []

    def flush(self, timeout):
        self.respond()
        if self.silent:
            raise TimeoutError("flush took too long")

    def close(self, timeout):
        self.closed = True


def messages(count, at=0.0):
    kinds = ("labeled", "unlabeled", "malformed")
    return [Message(i, at, "t", b"%d" % i, b"v", kinds[i % 3]) for i in range(count)]


def test_acknowledged_by_kind():
    client = Client()
    sent = send(messages(10), client)
    assert sent.acknowledged == {"labeled": 4, "unlabeled": 3, "malformed": 3}
    assert (sent.failed, sent.error) == (0, None)
    assert client.closed


def test_all_messages_can_have_one_timestamp():
    client = Client()
    send(messages(10), client)
    assert client.timestamps == {None}
    client = Client()
    send(messages(10), client, timestamp=1234)
    assert client.timestamps == {1234}


def test_a_failure_stops_the_run_and_is_reported():
    client = Client(fails_at=4)
    sent = send(messages(1000), client)
    assert client.sent == 6
    assert sent.failed == 1
    assert sum(sent.acknowledged.values()) == client.sent - 1
    assert sent.error == "TimeoutError: no leader"


def test_messages_without_a_response_have_failed():
    sent = send(messages(10), Client(silent={3, 7}))
    assert sum(sent.acknowledged.values()) == 8
    assert sent.failed == 2
    assert sent.error == "TimeoutError: flush took too long"


def test_messages_in_flight_are_limited(monkeypatch):
    client = Client()
    monkeypatch.setattr(sending, "IN_FLIGHT", 50)
    monkeypatch.setattr(sending.time, "sleep", lambda seconds: client.respond())
    sent = send(messages(1000), client)
    assert sum(sent.acknowledged.values()) == 1000
    assert client.most <= 52


@pytest.mark.parametrize("how", ["seconds", "stopped"])
def test_it_flushes_when_it_is_stopped(how):
    client = Client()
    endless = (m for _ in iter(int, 1) for m in messages(3, at=0.0))
    if how == "seconds":
        sent = send(endless, client, seconds=0.2)
    else:
        sent = send(endless, client, stopped=lambda: client.sent >= 30)
    assert sum(sent.acknowledged.values()) == client.sent >= 30
    assert client.closed


def test_messages_before_an_error_are_flushed_and_the_error_is_reported():
    def damaged():
        yield from messages(5)
        raise ValueError("line 6 is not a row")

    client = Client()
    sent = send(damaged(), client)
    assert sum(sent.acknowledged.values()) == 5
    assert (sent.failed, sent.error) == (0, "line 6 is not a row")
    assert client.closed


def test_a_message_that_the_client_rejects_ends_the_run_in_one_line():
    class Rejecting(Client):
        def send(self, topic, key, value):
            if key == b"5":
                raise RuntimeError("the record is\ntoo large")
            return super().send(topic, key, value)

    client = Rejecting()
    sent = send(messages(10), client)
    assert sum(sent.acknowledged.values()) == 5
    assert (sent.failed, sent.error) == (1, "RuntimeError: the record is too large")
    assert client.closed


@pytest.mark.parametrize("quiet", [False, True])
def test_a_bar_on_a_terminal_has_a_time_left(quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as shown, progress(Console(stderr=True, quiet=quiet), 100, (10,)) as sent:
        sent(Message(49, 0.0, "t", b"", b"", "labeled"))
    assert bool(re.search(r"rows sent ━+╺━+ +50/100 \S+", shown.text)) == (not quiet)
    assert ("row 10: concept drift" in shown.text) == (not quiet)
    assert (not shown.output) == quiet
