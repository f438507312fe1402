"""Which topics a pattern selects; Java's side of it is tested with a broker, in test_topics_pattern.py."""

from typing import Any

import pytest

from streaming_nn.settings import Settings
from streaming_nn.spark.sources import topics

pytestmark = pytest.mark.commit


class Admin:
    """A broker with these topics."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def topics(self) -> list[str]:
        return [*self.names]


def selecting(pattern: str, **sections: Any) -> Settings:
    return Settings(kafka={"bootstrap.servers": "b:1"}, train={"topics_pattern": pattern}, **sections)


def found(pattern: str, *names: str, **sections: Any) -> list[str]:
    admin: Any = Admin(*names)
    return topics.find(selecting(pattern, **sections), admin)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (r"orders\.(eu|us)", ["orders.eu", "orders.us"]),
        ("orders", ["orders"]),  # of the whole name: not orders.eu
        ("orders.*", ["orders", "orders.eu", "orders.us", "orders_eu"]),
        (r"(?i)ORDERS\..+", ["orders.eu", "orders.us"]),
        ("a|orders", ["orders"]),
        ("(?!orders).*s", ["clicks"]),
    ],
)
def test_a_pattern_is_for_whole_names(pattern: str, names: list[str]) -> None:
    assert found(pattern, "orders.us", "orders.eu", "orders", "orders_eu", "clicks") == names


@pytest.mark.parametrize("pattern", [".*", "(?s:.*)", "__.*|dead.*|good|pred|stats", ".*|dead-letters"])
def test_what_the_jobs_write_and_kafkas_own_topics_never_match(pattern: str) -> None:
    names = ["__consumer_offsets", "__anything", "dead-letters", "pred", "stats", "good"]
    sections: Any = {"score": {"predictions": "pred"}, "metrics": {"topic": "stats"}}
    assert found(pattern, *names, **sections) == ["good"]


def test_a_pattern_that_matches_nothing_names_what_there_is() -> None:
    with pytest.raises(LookupError) as raised:
        found("order", "orders", "clicks")
    assert str(raised.value) == (
        "no topic at b:1 matches train.topics_pattern = 'order'; it has clicks, orders"
    )
    with pytest.raises(LookupError, match=r"it has t00, .*, t09, …$"):
        found("x", *(f"t{n:02}" for n in range(20)))
    with pytest.raises(LookupError, match=r"it has none$"):
        found("x")


def test_named_topics_need_no_list_of_all() -> None:
    admin: Any = None
    assert topics.find(Settings(train={"topics": ["a", "b"]}), admin) == ["a", "b"]
    assert topics.subscription(Settings(train={"topics": ["a", "b"]})) == {"subscribe": "a,b"}
    assert topics.deleted(Settings(train={"topics": ["a"]}), ["a", "b"], {}) == []


def test_java_gets_what_never_matches_in_front() -> None:
    assert topics.subscription(selecting("a.*|b")) == {
        "subscribePattern": r"^(?!(?:__.*|dead-letters|predictions)$)(?:a.*|b)$"
    }
    sections: Any = {"metrics": {"topic": "my.stats"}}
    assert r"|my\.stats)$)" in topics.subscription(selecting("a", **sections))["subscribePattern"]
