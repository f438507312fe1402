"""What of the settings has to be as the head's schema says, without Spark or Kafka."""

import pytest

from streaming_nn.log.version import Record, Version
from streaming_nn.records.schema import Schema, grown
from streaming_nn.settings import Settings
from streaming_nn.stream.begin import same_schema, schema_of

SHOP = Schema(3, ("no",), ("price", "city"), categories={"city": {"one_hot": 2}}, grow=True)
ASKED = {
    "features": ["price", "city"],
    "categories": {"city": {"one_hot": 2}},
    "classes": "grow",
    "missing": False,
}


def begun(asked: dict, schema: dict) -> Schema:
    return same_schema(Settings(records=asked), Version(Record(3, schema=schema), {}))


def test_what_a_schema_has_grown_by_does_not_stop_a_restart() -> None:
    schema = grown(SHOP, {"city": ["a", "b"], "label": ["yes", 1]})
    assert begun(ASKED, schema.options()) == schema


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"classes": ["no", "yes"]}, r"records.classes = 'grow', now \['no', 'yes'\]"),
        ({"missing": True}, "records.missing = False, now True"),
        ({"categories": {"city": {"one_hot": 3}}}, "records.categories = .*'one_hot': 2.*, now .*3"),
    ],
)
def test_what_was_asked_for_must_be_the_same(asked: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        begun(ASKED | asked, SHOP.options())


def test_a_schema_of_a_release_before_these_options_goes_on() -> None:
    old = {"inputs": 2, "classes": [0, 1], "features": "features", "label": "label", "format": "json"}
    assert begun({"missing": False, "categories": {}, "classes": [0, 1]}, old).classes == (0, 1)
    with pytest.raises(ValueError, match=r"records.classes = \[0, 1\], now 'grow'"):
        begun({"classes": "grow"}, old)


def test_named_fields_and_classes_need_no_look() -> None:
    asked = {**ASKED, "classes": ["no", "yes"], "missing": True}
    schema = schema_of(None, Settings(records=asked), print)  # type: ignore[arg-type]
    assert (schema.inputs, schema.classes, schema.grow, schema.missing) == (3, ("no", "yes"), False, True)
    asked = {"features": "t", "categories": {"t": {"hash": 9}}, "regression": True}
    schema = schema_of(None, Settings(records=asked), print)  # type: ignore[arg-type]
    assert (schema.inputs, schema.classes) == (9, None)
    with pytest.raises(ValueError, match="features and categories take 3 columns, but inputs is 4"):
        schema_of(None, Settings(records={**ASKED, "classes": [0, 1], "inputs": 4}), print)  # type: ignore[arg-type]


def test_a_model_of_classes_is_no_regression() -> None:
    with pytest.raises(ValueError, match=r"records.classes = \[0, 1\], now regression"):
        begun({"regression": True}, Schema(2, (0, 1)).options())
    assert begun({"regression": True}, Schema(2).options()).classes is None
