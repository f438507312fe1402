"""Which topics a model is trained on: those that the settings name, or all that match their pattern."""

import re
from collections.abc import Iterable, Mapping

from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.settings import Settings
from streaming_nn.versions.version import Manifest, Position

OWN = "__"  # how the names of Kafka's own topics begin, such as __consumer_offsets
SHOWN = 10  # topics that an error names


def describe(settings: Settings) -> str:
    """Return the settings' topics as errors name them."""
    pattern = settings.train.topics_pattern
    return f"topics {pattern!r}" if pattern else f"topic {', '.join(settings.train.topics)}"


def find(settings: Settings, admin: KafkaAdmin) -> list[str]:
    """Return the names of the topics. LookupError: no topic matches the pattern."""
    train = settings.train
    if not train.topics_pattern:
        return train.topics
    existing = sorted(admin.topics())
    found = [topic for topic in existing if matches(settings, topic)]
    if not found:
        shown = ", ".join(existing[:SHOWN]) + (", …" if len(existing) > SHOWN else "")
        raise LookupError(
            f"no topic at {settings.kafka.get('bootstrap.servers')} matches train.topics_pattern = "
            f"{train.topics_pattern!r}; it has {shown or 'none'}"
        )
    return found


def matches(settings: Settings, topic: str) -> bool:
    """Return whether a topic is one of those that the pattern selects."""
    excluded = topic.startswith(OWN) or topic in _written(settings)
    return not excluded and re.fullmatch(settings.train.topics_pattern, topic) is not None


def subscription(settings: Settings) -> dict[str, str]:
    """Return Spark's option that selects the topics; Java's expression matches the topics of `matches`."""
    train = settings.train
    if not train.topics_pattern:
        return {"subscribe": ",".join(train.topics)}
    excluded = "|".join([f"{OWN}.*", *(name.replace(".", r"\.") for name in _written(settings))])
    return {"subscribePattern": f"^(?!(?:{excluded})$)(?:{train.topics_pattern})$"}  # Spark searches


def deleted(settings: Settings, known: Iterable[str], existing: Mapping[str, object]) -> list[str]:
    """Return the known topics of the pattern that no longer exist; a topic that is named must exist."""
    if not settings.train.topics_pattern:
        return []
    return [topic for topic in known if topic not in existing and matches(settings, topic)]


def find_other_topics(settings: Settings, head: Manifest, position: Position) -> str | None:
    """Return which topics of a position are others than the head's; None: none is.

    New ones that a pattern matches join without a change.
    """
    before: Mapping[str, str] = head.topic_ids
    now: Mapping[str, str] = position["topic_ids"]
    joined = [] if settings.train.topics_pattern else [topic for topic in now if topic not in before]
    other = [topic for topic in before if now.get(topic) != before[topic]]
    if not joined and not other:
        return None
    if set(before) == set(now):
        return f"topic {other[0]!r} was recreated"
    return f"topics {', '.join(before) or 'none'}, now {', '.join(now) or 'none'}"


def _written(settings: Settings) -> list[str]:
    """Return the topics that the jobs write to: learning them would never end."""
    names = (settings.train.dead_letters, settings.score.predictions, settings.metrics.topic)
    return [name for name in names if name]
