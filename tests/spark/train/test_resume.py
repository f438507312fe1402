"""Which settings must be as the head was created, without Spark or Kafka."""

import json
from dataclasses import replace
from pathlib import Path

import golden
import pytest

from streaming_nn.core import library
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import initial, load_state
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema, grow_schema
from streaming_nn.settings import Settings
from streaming_nn.spark.train.initial_schema import read_schema
from streaming_nn.spark.train.resume import check_settings, resume_learner, resume_schema
from streaming_nn.versions.version import Manifest, Version, decode
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

SHOP = Schema(3, ("no",), ("price", "city"), categories={"city": {"one_hot": 2}}, grow=True)
RECORDS = {
    "features": ["price", "city"],
    "categories": {"city": {"one_hot": 2}},
    "classes": "grow",
    "missing": False,
}


def resumed(given: dict, schema: dict) -> Schema:
    return resume_schema(Settings(records=given), Version(Manifest(3, schema=schema), {}))


def test_a_schema_that_has_grown_can_be_resumed() -> None:
    schema = grow_schema(SHOP, {"city": ["a", "b"], "label": ["yes", 1]})
    assert resumed(RECORDS, schema.options()) == schema


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"classes": ["no", "yes"]}, r"records.classes = 'grow', now \['no', 'yes'\]"),
        ({"missing": True}, "records.missing = False, now True"),
        ({"categories": {"city": {"one_hot": 3}}}, "records.categories = .*'one_hot': 2.*, now .*3"),
    ],
)
def test_settings_of_the_schema_must_be_the_same(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resumed(RECORDS | given, SHOP.options())


def test_a_schema_without_newer_options_can_be_resumed() -> None:
    old = {"inputs": 2, "classes": [0, 1], "features": "features", "label": "label", "format": "json"}
    assert resumed({"missing": False, "categories": {}, "classes": [0, 1]}, old).classes == (0, 1)
    with pytest.raises(ValueError, match=r"records.classes = \[0, 1\], now 'grow'"):
        resumed({"classes": "grow"}, old)


class _NoSource:
    name = "topic t"

    def first_values(self, rows: int) -> list[bytes | None]:
        raise AssertionError("nothing must be read")


NO_SOURCE = _NoSource()
ONE = {"learner": "mlp", "optimizer": "sgd", "hidden": [4]}


@pytest.mark.parametrize(
    ("records", "learner", "message"),
    [
        ({}, {"hiden": [4]}, r"unknown option of learner 'ensemble': 'hiden'; did you mean 'hidden'\?"),
        ({"regression": True}, {"loss": "softmax", **ONE}, "loss"),
        ({"classes": ["a", "b"]}, {"class_weight": {"c": 2.0}, **ONE}, r"among \('a', 'b'\); got 'c'"),
    ],
)
def test_an_invalid_learner_is_reported_before_spark_starts(
    records: dict, learner: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        check_settings(Settings(records=records, learner=learner, model=tmp_path), None)


def test_classes_that_are_still_unknown_may_have_weights(tmp_path: Path) -> None:
    check_settings(Settings(learner={"class_weight": {"c": 2.0}, **ONE}, model=tmp_path), None)


def test_a_resumed_learner_is_checked_with_its_recorded_options(tmp_path: Path) -> None:
    learner = learner_from({**ONE, "inputs": 3, "classes": ["no", "yes"]})
    log, schema = VersionLog(tmp_path), Schema(3, ("no", "yes")).options()
    first = log.commit(None, flatten(initial(learner)), learner=learner.options(), schema=schema)
    wrong = Settings(learner={"class_weight": {"c": 2.0}}, model=tmp_path)
    check_settings(wrong, first)  # which may restart
    for head in (log.commit(first, first.tensors, kind="learned"), of_a_backtest(first)):
        check_settings(Settings(learner={"class_weight": {"no": 2.0}}, model=tmp_path), head)
        with pytest.raises(ValueError, match=r"among \('no', 'yes'\); got 'c'"):
            check_settings(wrong, head)


def of_a_backtest(version: Version) -> Version:
    return version._replace(manifest=replace(version.manifest, events=[{"event": "backtest"}]))


def test_a_classifier_cannot_become_a_regression() -> None:
    with pytest.raises(ValueError, match=r"records.classes = \[0, 1\], now regression"):
        resumed({"regression": True}, Schema(2, (0, 1)).options())
    assert resumed({"regression": True}, Schema(2).options()).classes is None


AVRO = {
    "type": "record",
    "name": "R",
    "fields": [{"name": "a", "type": "int"}, {"name": "label", "type": "int"}],
}


def test_the_content_of_an_avro_schema_must_be_the_same(tmp_path: Path) -> None:
    file = tmp_path / "record.avsc"
    file.write_text(json.dumps(AVRO, indent=2))
    given = {"format": "avro", "features": ["a"], "classes": [0, 1], "avro_schema": str(file)}
    schema = read_schema(NO_SOURCE, Settings(records=given))
    assert json.loads(str(schema.avro_schema)) == AVRO
    file.write_text(json.dumps(AVRO))
    assert resumed(given, schema.options()) == schema
    file.write_text(json.dumps({**AVRO, "name": "Other"}))
    with pytest.raises(ValueError, match="use a new model directory"):
        resumed(given, schema.options())
    file.write_text("{")
    with pytest.raises(ValueError, match=r"^setting records.avro_schema: '.*' is not JSON"):
        resumed(given, schema.options())
    file.unlink()
    with pytest.raises(ValueError, match=r"cannot read '.*record.avsc': No such file or directory$"):
        resumed(given, schema.options())


def test_a_registry_may_have_another_url() -> None:
    schema = Schema(1, (0, 1), ("a",), format="avro", registry="http://old")
    given = {"format": "avro", "features": ["a"], "registry": "http://new"}
    assert resumed(given, schema.options()).registry == "http://new"
    assert resumed({"format": "avro"}, schema.options()).registry == "http://old"


def test_the_columns_of_a_line_must_be_in_the_same_order() -> None:
    schema = Schema(1, (0, 1), ("a",), format="csv", csv_columns=("a", "label"))
    with pytest.raises(ValueError, match=r"records.csv_columns = .*, now \['label', 'a'\]"):
        resumed({"csv_columns": ["label", "a"]}, schema.options())


def head_of(**options: object) -> Version:
    learner = learner_from({"inputs": 2, "classes": (0, 1), "hidden": [4], **options})
    return Version(Manifest(3, learner=learner.options()), flatten(initial(learner)))


@pytest.mark.parametrize("given", [{"optimizer": "sgd", "learning_rate": 0.1}, {"learner": "mlp"}])
def test_an_ensemble_cannot_become_a_plain_network(given: dict) -> None:
    with pytest.raises(ValueError) as raised:
        resume_learner(Settings(learner=given), head_of())
    assert str(raised.value) == (
        "model model was created with learner = 'ensemble', now 'mlp'; use a new model directory"
    )


def test_naming_the_same_optimizer_changes_nothing() -> None:
    head = head_of(optimizer="sgd", learning_rate=0.1)
    assert (
        resume_learner(Settings(learner={"optimizer": "sgd"}), head, None).options() == head.manifest.learner
    )


def test_the_option_that_cannot_change_is_named() -> None:
    with pytest.raises(ValueError, match=r"was created with hidden = \[4\], now \[5\]; use a new"):
        resume_learner(Settings(learner={"hidden": [5]}), head_of())


def test_members_that_need_other_tensors_are_named() -> None:
    two = [{"optimizer": name, "learning_rate": 0.1} for name in ("sgd", "adam")]
    head = head_of(members=two)
    with pytest.raises(
        ValueError, match=r"created with members\[1\].optimizer = 'adam', now 'sgd'; use a new"
    ):
        resume_learner(Settings(learner={"hidden": [4], "members": [two[0], two[0]]}), head)
    faster = [{**member, "learning_rate": 0.2} for member in two]
    resumed = resume_learner(Settings(learner={"hidden": [4], "members": faster}), head).options()["members"]
    assert [member["learning_rate"] for member in resumed] == [0.2, 0.2]


def test_a_state_that_an_older_arithmetic_laid_out_otherwise_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head, then = head_of(), library.ARITHMETIC
    head.tensors["model.old"] = head.tensors.pop("model.boost")
    monkeypatch.setattr(library, "ARITHMETIC", then + 1)
    with pytest.raises(
        ValueError, match=f"created with arithmetic = {then}, now {then + 1}; use a new model directory"
    ):
        resume_learner(Settings(), head)


@pytest.mark.parametrize(
    "arithmetic",
    [
        1,
        library.ARITHMETIC,
    ],
)
def test_models_of_every_arithmetic_are_resumed(arithmetic: int) -> None:
    for path in (golden.FOLDER / str(arithmetic)).glob("*.safetensors"):
        head = decode(path.read_bytes())
        learner = resume_learner(Settings(), head)
        assert learner.options() == head.manifest.learner
        state = load_state(learner, head.tensors)
        for name in ("theta", "means", "ring"):
            found, recorded = getattr(state.model, name), head.tensors[f"model.{name}"]
            assert found.tobytes() == recorded.tobytes(), (path.name, name)


@pytest.mark.parametrize("changing", [{"hidden": [9]}, {"inputs": "ramps"}, {"linear": False}], ids=str)
def test_members_whose_shapes_are_swapped_are_refused(changing: dict) -> None:
    plain = {"optimizer": "sgd", "learning_rate": 0.1, "hidden": [5]}
    two = [plain, {**plain, **changing}]
    head = head_of(hidden=None, members=two)
    assert resume_learner(Settings(learner={"members": two}), head).options() == head.manifest.learner
    with pytest.raises(ValueError, match=r"created with members\[0\].* use a new model directory"):
        resume_learner(Settings(learner={"members": two[::-1]}), head)


def test_options_that_no_tensor_depends_on_may_change() -> None:
    two = [{"optimizer": "sgd", "learning_rate": 0.1, "hidden": [5]}] * 2
    head = head_of(hidden=None, members=two)
    for changing in ({"activation": "tanh"}, {"focal_gamma": 2.0}, {"learning_rate": 0.2}):
        changed = [{**each, **changing} for each in two]
        assert resume_learner(Settings(learner={"members": changed}), head).options() != head.manifest.learner
