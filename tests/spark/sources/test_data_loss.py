"""What is missing in topics after a version: found, described, and recorded as events."""

import pytest

from streaming_nn.spark.sources.data_loss import (
    data_loss_error,
    data_loss_events,
    expired_ranges,
    recreated_topics,
)
from streaming_nn.versions.version import Manifest

pytestmark = pytest.mark.commit

HEAD = Manifest(7, kind="learned", offsets={"t": {0: 100, 1: 50}}, topic_ids={"t": "old", "u": "same"})


def test_a_topic_with_another_id_was_recreated() -> None:
    assert recreated_topics({"t": "new", "u": "same", "v": "unknown"}, HEAD.topic_ids) == ["t"]
    assert recreated_topics({"u": "same"}, HEAD.topic_ids) == [], "a topic that is not read does not matter"


def test_offsets_before_the_beginning_have_expired() -> None:
    following = {"t": {0: 100, 1: 50}, "u": {}}
    beginnings = {"t": {0: 150, 1: 50, 2: 9}, "u": {0: 3}}
    assert expired_ranges(beginnings, following) == {"t": {0: (100, 150)}}


def test_the_error_names_each_loss_and_what_to_do() -> None:
    assert str(data_loss_error(HEAD, {"u": {3: (1_000, 2_000)}}, ["t"])) == (
        "topic 't' was recreated: its records from partition 0 offset 100, partition 1 offset 50 on are "
        "lost; offsets 1,000 to 1,999 of 'u' partition 3 expired before they were learned. Version 7 is "
        "safe. To continue with the topic's current records, use --accept-data-loss (the next version's "
        "manifest records the loss); to start from scratch, use another model directory"
    )


def test_accepted_losses_are_events() -> None:
    assert data_loss_events({}, []) == []
    assert data_loss_events({"u": {3: (1, 2)}}, ["t"]) == [
        {"event": "data loss accepted", "lost": {"u": {"3": [1, 2]}}},
        {"event": "topic recreated", "topic": "t"},
    ]
