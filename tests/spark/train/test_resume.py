"""What of the settings has to be as the head's schema says, without Spark or Kafka."""

import json
from pathlib import Path

import pytest

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import initial
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema, grow_schema
from streaming_nn.settings import Settings
from streaming_nn.spark.train.resume import check_learner, continued, recorded_schema, schema_of
from streaming_nn.versions.version import Manifest, Version
from streaming_nn.versions.version_log import VersionLog

SHOP = Schema(3, ("no",), ("price", "city"), categories={"city": {"one_hot": 2}}, grow=True)
ASKED = {
    "features": ["price", "city"],
    "categories": {"city": {"one_hot": 2}},
    "classes": "grow",
    "missing": False,
}


def begun(asked: dict, schema: dict) -> Schema:
    return recorded_schema(Settings(records=asked), Version(Manifest(3, schema=schema), {}))


def test_what_a_schema_has_grown_by_does_not_stop_a_restart() -> None:
    schema = grow_schema(SHOP, {"city": ["a", "b"], "label": ["yes", 1]})
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


ONE = {"learner": "mlp", "optimizer": "sgd", "hidden": [4]}


@pytest.mark.parametrize(
    ("records", "learner", "said"),
    [
        ({}, {"hiden": [4]}, r"unknown option of learner 'ensemble': 'hiden'; did you mean 'hidden'\?"),
        ({"regression": True}, {"loss": "softmax", **ONE}, "loss"),
        ({"classes": ["a", "b"]}, {"class_weight": {"c": 2.0}, **ONE}, r"among \('a', 'b'\); got 'c'"),
    ],
)
def test_a_learner_that_cannot_be_is_told_before_spark_starts(
    records: dict, learner: dict, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        check_learner(Settings(records=records, learner=learner, model=tmp_path), VersionLog(tmp_path))


def test_classes_that_are_still_to_be_seen_may_have_weights(tmp_path: Path) -> None:
    asked = Settings(learner={"class_weight": {"c": 2.0}, **ONE}, model=tmp_path)
    check_learner(asked, VersionLog(tmp_path))


def test_a_learner_that_goes_on_is_checked_with_what_it_was_made_with(tmp_path: Path) -> None:
    learner = learner_from({**ONE, "inputs": 3, "classes": ["no", "yes"]})
    log = VersionLog(tmp_path)
    log.commit(None, flatten(initial(learner)), learner=learner.options())
    check_learner(Settings(learner={"class_weight": {"no": 2.0}}, model=tmp_path), log)
    with pytest.raises(ValueError, match=r"among \('no', 'yes'\); got 'c'"):
        check_learner(Settings(learner={"class_weight": {"c": 2.0}}, model=tmp_path), log)
    log.path(0).write_bytes(b"torn")
    check_learner(Settings(learner={"class_weight": {"c": 2.0}}, model=tmp_path), log)


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


AVRO = {
    "type": "record",
    "name": "R",
    "fields": [{"name": "a", "type": "int"}, {"name": "label", "type": "int"}],
}


def test_an_avro_schema_is_in_the_schema_as_it_stands_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "record.avsc"
    file.write_text(json.dumps(AVRO, indent=2))
    asked = {"format": "avro", "features": ["a"], "classes": [0, 1], "avro_schema": str(file)}
    schema = schema_of(None, Settings(records=asked), print)  # type: ignore[arg-type]
    assert json.loads(str(schema.avro_schema)) == AVRO
    file.write_text(json.dumps(AVRO))
    assert begun(asked, schema.options()) == schema
    file.write_text(json.dumps({**AVRO, "name": "Other"}))
    with pytest.raises(ValueError, match="that takes a new model directory"):
        begun(asked, schema.options())
    file.write_text("{")
    with pytest.raises(ValueError, match=r"^setting records.avro_schema: '.*' is no JSON"):
        begun(asked, schema.options())
    file.unlink()
    with pytest.raises(ValueError, match=r"record.avsc' can't be read: No such file or directory$"):
        begun(asked, schema.options())


def test_a_registry_may_move() -> None:
    schema = Schema(1, (0, 1), ("a",), format="avro", registry="http://old")
    asked = {"format": "avro", "features": ["a"], "registry": "http://new"}
    assert begun(asked, schema.options()).registry == "http://new"
    assert begun({"format": "avro"}, schema.options()).registry == "http://old"


def test_the_order_of_a_line_must_be_the_same() -> None:
    schema = Schema(1, (0, 1), ("a",), format="csv", csv_columns=("a", "label"))
    with pytest.raises(ValueError, match=r"records.csv_columns = .*, now \['label', 'a'\]"):
        begun({"csv_columns": ["label", "a"]}, schema.options())


def head_of(**options: object) -> Version:
    learner = learner_from({"inputs": 2, "classes": (0, 1), "hidden": [4], **options})
    return Version(Manifest(3, learner=learner.options()), flatten(initial(learner)))


@pytest.mark.parametrize("asked", [{"optimizer": "sgd", "learning_rate": 0.1}, {"learner": "mlp"}])
def test_a_portfolio_does_not_become_a_plain_network(asked: dict) -> None:
    with pytest.raises(ValueError) as raised:
        continued(Settings(learner=asked), head_of(), None)
    assert str(raised.value) == (
        "model model was made with learner = 'ensemble', now 'mlp': that takes a new model directory"
    )


def test_an_optimizer_that_is_named_again_changes_nothing() -> None:
    head = head_of(optimizer="sgd", learning_rate=0.1)
    assert continued(Settings(learner={"optimizer": "sgd"}), head, None).options() == head.manifest.learner


def test_what_a_model_can_not_go_on_with_is_named() -> None:
    with pytest.raises(ValueError, match=r"was made with hidden = \[4\], now \[5\]: that takes a new"):
        continued(Settings(learner={"hidden": [5]}), head_of(), None)
