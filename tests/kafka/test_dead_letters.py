"""Dead letters are shown, and sent back to their topics once, whatever is killed."""

from typing import Any

import pytest
from kafka import KafkaProducer
from kafka_topics import Headers, fill, read

from streaming_nn.kafka import dead_letters
from streaming_nn.kafka.dead_letters import latest, redrive

pytestmark = pytest.mark.merge


def ours(topic: str, offset: int, **more: str) -> Headers:
    named = {"reason": "not a number", "field": "price", "topic": topic, "partition": "0"}
    named |= {"offset": str(offset), **more}
    return [(f"streaming_nn.{name}", value.encode()) for name, value in named.items()]


def back(broker: Any, topic: str) -> list[tuple[bytes | None, bytes, Headers]]:
    return sorted((r.key or b"", r.value, r.headers) for r in read(broker.options, topic))


def test_each_dead_letter_is_sent_back_once(broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = broker.topic("origin", 2)
    dead = broker.topic("dead", 2, {"message.timestamp.after.max.ms": str((1 << 63) - 1)})
    trace: Headers = [("trace", b"1"), ("trace", b"\xff")]
    fill(
        broker.options,
        dead,
        [b"a", b"b", b"a", b"cut", b"foreign", b"c"],
        partitions=[0],
        keys=[b"k", None, b"k", None, None, None],
        headers=[
            trace + ours(topic, 0),
            ours(topic, 1),
            trace + ours(topic, 0),  # a micro-batch that was learned again sends its dead letters again
            ours(topic, 2, cut="value"),
            trace,
            ours(topic, 3),
        ],
        timestamps=[1, 2, 3, 4, 5, (1 << 63) - 1],
    )
    shown = latest(broker.options, dead, 3)
    assert [letter.record.value for letter in shown] == [b"cut", b"foreign", b"c"]
    assert shown[2].to_json() == {
        "time": shown[2].time.isoformat(),
        "topic": topic,
        "partition": 0,
        "offset": 3,
        "reason": "not a number",
        "field": "price",
        "value": "",
        "cut": "",
    }
    assert (shown[0].cut, shown[1].position) == ("value", None)

    def killed(producer: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(KafkaProducer, "commit_transaction", killed)
        with pytest.raises(KeyboardInterrupt):
            redrive(broker.options, dead)
    done = redrive(broker.options, dead)
    assert (done.sent, done.repeated, done.foreign) == ({topic: 3}, 1, 1)
    assert [letter.position for letter in done.cut] == [(topic, 0, 2)]
    committed = {**broker.options, "isolation.level": "read_committed"}
    expected = [(b"", b"b", []), (b"", b"c", []), (b"k", b"a", trace)]
    assert sorted((r.key or b"", r.value, r.headers) for r in read(committed, topic)) == expected

    assert redrive(broker.options, dead) == dead_letters.Redriven({}, [], 0, 0)
    fill(broker.options, dead, [b"a", b"d"], partitions=[1], headers=[ours(topic, 0), ours(topic, 9)])
    again = redrive(broker.options, dead)
    assert (again.sent, again.repeated) == ({topic: 1}, 1), "the first one was sent back before"


def test_a_topic_that_was_deleted_is_named(broker: Any) -> None:
    dead = broker.topic("dead")
    fill(broker.options, dead, [b"a"], headers=[ours("deleted", 0)])
    with pytest.raises(LookupError, match="topic 'deleted' does not exist"):
        redrive(broker.options, dead)
    files = broker.topic("files")
    fill(broker.options, files, [b"a"], headers=[ours("file:///in/a.csv", 0)])
    assert redrive(broker.options, files) == dead_letters.Redriven({}, [], 1, 0)


def test_there_may_be_none(broker: Any) -> None:
    dead = broker.topic("dead")
    assert latest(broker.options, dead, 5) == []
    assert redrive(broker.options, dead) == dead_letters.Redriven({}, [], 0, 0)
    with pytest.raises(LookupError, match="topic 'nowhere' does not exist"):
        latest(broker.options, "nowhere", 5)
