"""The options that several commands share."""

from pathlib import Path

import pytest

from streaming_nn.cli import options
from streaming_nn.settings import Settings
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


def test_flags_override_the_file_and_set_overrides_flags(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('model = "a"\n[kafka]\n"bootstrap.servers" = "a:1"\n"client.id" = "me"')
    settings = options.load_settings(file, ["model=c"], "b:1", model="b")
    assert settings.kafka == {"bootstrap.servers": "b:1", "client.id": "me"}
    assert settings.model == Path("c")


def test_a_broker_is_required() -> None:
    settings = Settings(kafka={"bootstrap.servers": "a:1"})
    assert options.require_kafka(settings) is settings
    with pytest.raises(
        ValueError, match=r'^kafka must have "bootstrap\.servers"; give --bootstrap host:port'
    ):
        options.require_kafka(Settings())


def test_what_was_not_learned_from_a_topic_cannot_be_replayed(tmp_path: Path) -> None:
    log = VersionLog(tmp_path)
    options.require_topics(tmp_path)  # a model without a version is reported elsewhere
    head = log.commit(None, {})
    options.require_topics(tmp_path)
    head = log.commit(head, {}, kind="saved")
    with pytest.raises(ValueError, match="were not learned from a topic"):
        options.require_topics(tmp_path)
    log.commit(head, {})
    options.require_topics(tmp_path)


def test_items_are_split_at_commas() -> None:
    assert options.split(None, str) is None
    assert options.split("a, b,1", options.integer_or_string) == ["a", "b", 1]
    assert [options.integer_or_string(text) for text in ("-1", "1.0", "auto")] == [-1, "1.0", "auto"]
    assert options.split('"a,b",c', str) == ['"a,b"', "c"]
    assert options.split('"a,b', str) == ['"a,b']


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("price", "price"),
        ("price,", ["price"]),
        ('"a,b",', ['"a,b"']),
        ('"a,b"', '"a,b"'),
        ("a, b.c", ["a", "b.c"]),
        ("a,,b", ["a", "", "b"]),
        (",", [""]),
        ("", ""),
    ],
)
def test_features_are_an_array_field_or_fields(text: str | None, expected: str | list[str] | None) -> None:
    assert options.features(text) == expected


def test_labels_are_integers_booleans_or_strings() -> None:
    labels = options.split('true,false, 1,-1,1.0,yes,"true","1","a,b",True,""', options.label)
    assert labels == [True, False, 1, -1, "1.0", "yes", "true", "1", "a,b", "True", ""]
    assert [type(label) for label in labels[:3]] == [bool, bool, int]
    settings = options.load_settings(None, None, records={"classes": [True, False]})
    assert settings.records.classes == [True, False]
    assert type(settings.records.classes[0]) is bool
