import codecs
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from streaming_nn.records import registry
from streaming_nn.settings import OTHER_VARIABLES, Settings, load

pytestmark = pytest.mark.commit


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings of whoever runs the tests."""
    for name in os.environ:
        if name.startswith("STREAMING_NN_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def read(text: str = "", flags: dict[str, Any] | None = None, sets: tuple[str, ...] = ()) -> Settings:
    Path("other.toml").write_text(text)
    return load("other.toml", flags, sets)


def test_defaults() -> None:
    settings = load()
    assert (settings.train.topics, settings.train.max_offsets_per_trigger) == (["labeled"], 100_000)
    assert settings.kafka == {}


def test_the_default_file_is_read_unless_another_is_given() -> None:
    Path("streaming-nn.toml").write_text('model = "here"')
    assert load().model == Path("here")
    assert read('model = "there"').model == Path("there")


def test_source_options_become_strings_in_spark_s_notation() -> None:
    source = read('[source]\nformat = "csv"\noptions = {header = true, maxFilesPerTrigger = 2}').source
    assert source.options == {"header": "true", "maxFilesPerTrigger": "2"}
    with pytest.raises(ValueError, match=r"setting source.options: must be a table of strings, numbers and"):
        read("[source]\noptions = {path = [1]}")


def test_variables_override_the_file_and_flags_override_both(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[train]\ntrigger = "1 second"\ndead_letters = "bad"\ntopics = ["a"]'
    assert read(text).train.trigger == "1 second"
    monkeypatch.setenv("STREAMING_NN_TRAIN__TRIGGER", "2 seconds")
    monkeypatch.setenv("STREAMING_NN_TRAIN__TOPICS", '["b", "c"]')
    assert read(text).train.trigger == "2 seconds"
    given = read(text, {"train": {"trigger": "3 seconds", "topics": None}}).train
    assert (given.trigger, given.topics, given.dead_letters) == ("3 seconds", ["b", "c"], "bad")
    assert read(text, {"train": {"trigger": "3 seconds"}}, ("train.trigger='4 seconds'",)).train.trigger == (
        "4 seconds"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[("'10 GB'", 10**10), ("'1.5gb'", 1_500_000_000), ("'500 MB'", 5 * 10**8), ("'1 B'", 1)],
        *[("5000", 5000), ("'all'", None)],
    ],
)
def test_a_size_has_a_unit_or_is_in_bytes(value: str, expected: int | None) -> None:
    assert read(f"[train]\nkeep_bytes = {value}").train.keep_bytes == expected
    assert load(None, {}).train.keep_bytes == 10**10


@pytest.mark.parametrize(
    "value", ["'10'", "'10 GiB'", "'many'", "0", "-1", "1.5", "true", "'-1 GB'", "'0 B'"]
)
def test_another_size_is_an_error(value: str) -> None:
    with pytest.raises(
        ValueError, match=r"train.keep_bytes: must be a size such as '10 GB' .*, or 'all'; got"
    ):
        read(f"[train]\nkeep_bytes = {value}")


def test_the_setting_before_is_an_unknown_one_near_the_new_one() -> None:
    with pytest.raises(
        ValueError, match=r"unknown setting train.keep_versions; did you mean train.keep_bytes\?"
    ):
        read("[train]\nkeep_versions = 5")


def test_a_flag_that_is_not_set_changes_nothing() -> None:
    text = '[learner]\nhidden = [2]\noptimizer = "sgd"'
    assert read(text, {"learner": {"hidden": None, "optimizer": None}}).learner == {
        "hidden": [2],
        "optimizer": "sgd",
    }


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ('modle = "m"', "model"),
        ('[trian]\ntopics = "a"', "train"),
        ('[train]\ntopcs = "a"', "train.topics"),
        ("[train]\nmax_offsets = 3", "train.max_offsets_per_trigger"),
        ("[records]\nclases = [1]", "records.classes"),
        ('[score]\nprediction = "p"', "score.predictions"),
    ],
)
def test_an_unknown_key_suggests_the_nearest_known_one(text: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"^unknown setting .*; did you mean {nearest}\?$"):
        read(text)


def test_an_unknown_variable_is_an_error_like_an_unknown_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMING_NN_TRAIN__TRIGER", "2 seconds")
    with pytest.raises(ValueError, match=r"^unknown setting train.triger; did you mean train.trigger\?$"):
        load()


def test_variables_that_are_read_elsewhere_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load()
    for name in ("STREAMING_NN_CACHE", "STREAMING_NN_MAVEN", "STREAMING_NN_FAILPOINT"):
        monkeypatch.setenv(name, "x")
    assert load() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nmax_offsets_per_trigger = 0", r"train.max_offsets_per_trigger: .* 1; got 0"),
        ("[train]\nmax_rejected = 2", r"train.max_rejected: .* 1; got 2"),
        ("[train]\nmax_rejected = 'lots'", r"train.max_rejected: must be a valid number; got 'lots'"),
        (
            "[train]\nstarting_offsets = 'middle'",
            r"train.starting_offsets: must be 'earliest' or 'latest'; got 'middle'",
        ),
        ("[records]\nlabel = 7", r"records.label.*; got 7"),
        ("[records]\nclasses = 'grwo'", r"records.classes: must be .* or 'grow'; got 'grwo'"),
        ("[records]\nclasses = [1.5]", r"records.classes: must be .* or 'grow'; got \[1.5\]"),
        ("[records]\nclasses = ['a']", r"records.classes: must be at least two, or 'grow'; got \['a'\]"),
        (
            "[records]\nfeatures = ['a', 'b']\ncategories = {c = {hash = 3}}",
            r"records.categories: must name features \('a', 'b'\); got .*'c'",
        ),
        *[
            (f"[learner]\nmini_batch = {value}", r"setting learner: mini_batch must be 'auto' or .*; got .*")
            for value in ("'foo'", "0", "2.0", "true")
        ],
        ("[records]\nmissing = 3", r"records.missing: .*; got 3"),
        ("[records]\ncategories = 3", r"records.categories: .*hash = n.*; got 3"),
        ("[records.categories]\na = {hsh = 3}", r"records.categories: .*hash = n.*; got .*hsh"),
        ("[records.categories]\na = {hash = 'x'}", r"records.categories.a.hash: .*; got 'x'"),
        (
            "[records]\nregression = true\nclasses = 'grow'",
            r"regression and classes = 'grow' cannot be combined",
        ),
        ("[records]\nregression = true\nclasses = [0, 1]", r"regression and classes cannot be combined"),
        ("[records]\nregression = true\nmultilabel = true", "regression and multilabel cannot be combined"),
        ("[records]\nlabel = ['a', 'b']", "several fields need regression or multilabel"),
        ("[records]\nlags = [1]", "lags need regression = true and one label field"),
        ("[records]\nlags = 'a'", "lags: must be a list of integers, or a table of .* by field; got 'a'"),
        ("[records]\nlags = {y = [1.5]}", r"lags: must be a list of integers, .*; got {'y': \[1.5\]}"),
        ("[records]\nmax_series = 0", r"records\.max_series: .*; got 0"),
        (
            "[records]\nlabel = ['a', 'b']\nmultilabel = true\nclasses = [0, 1]",
            "classes and several label fields cannot be combined",
        ),
        *[
            (f"[{job}]\ntrigger = {value}", f"^setting {job}.trigger: must be an interval .*; got {value}$")
            for job in ("train", "score")
            for value in ("'abc'", "''", "'1'", "'second'", "'1second'", "'-1 second'", "'1 month'", "5")
        ],
        ("[score]\nmax_age = -1", r"score.max_age: .*; got -1"),
        ("[score]\nengine = 'fast'", r"score.engine: .*'batch' or 'realtime'; got 'fast'"),
        (
            "[score]\nengine = 'realtime'\nonce = true",
            r"score.once: applies to engine 'batch' only: .*; got True$",
        ),
        (
            "[score]\nengine = 'realtime'\ntrigger = '1 second'",
            r"score.trigger: applies to engine 'batch' only",
        ),
        ("train = 3", r"train: .*; got 3"),
        (
            "[train]\ntopics = ['good', 'no good']",
            r"train.topics.1: must be 1 to 249 letters.*; got 'no good'$",
        ),
        ("[score]\npredictions = ''", r"score.predictions: must be 1 to 249 letters, .*; got ''$"),
        ("model = 'other.toml'", r"model: must be a directory; got 'other.toml'$"),
        ("model = [", r"settings file other.toml: "),
    ],
)
def test_an_invalid_value_is_reported_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_a_missing_file() -> None:
    with pytest.raises(ValueError, match=r"settings file nowhere.toml: there is no such file"):
        load("nowhere.toml")


def test_an_unreadable_file() -> None:
    Path("there").mkdir()
    with pytest.raises(ValueError, match=r"^settings file there: cannot read it: Is a directory$"):
        load("there")
    Path("latin.toml").write_bytes('model = "modèle"'.encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"^settings file latin.toml: must be UTF-8; got byte 0xe8 in line 1$"
    ):
        load("latin.toml")


# cpython#157201, tomli#304
@pytest.mark.parametrize(
    "text", ['model = "modèle"\n[train]\nonce = true', '\r\nmodel = "modèle"\r\n[train]\r\nonce = true']
)
def test_a_file_with_a_byte_order_mark_is_read(text: str) -> None:
    Path("bom.toml").write_bytes(codecs.BOM_UTF8 + text.encode())
    settings = load("bom.toml")
    assert (settings.model, settings.train.once) == (Path("modèle"), True)
    Path("empty.toml").write_bytes(codecs.BOM_UTF8)
    assert load("empty.toml") == load("/dev/null")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_a_file_in_utf_16_is_refused_in_one_line(encoding: str) -> None:
    Path("wide.toml").write_bytes('model = "a"\n'.encode(encoding))
    with pytest.raises(ValueError, match=r"^settings file wide.toml: must be UTF-8; got UTF-16$"):
        load("wide.toml")


def test_every_setting_can_be_given_by_set() -> None:
    """Also those that no flag has."""
    samples = {"None": "'a'", "records.inputs": "3", "records.classes": "'grow'", "train.keep_bytes": "5"}
    samples["records.where"] = "a = 'x'"
    for section, field in Settings.model_fields.items():
        table = getattr(field.annotation, "model_fields", None)
        names = {f"{section}.{name}": each for name, each in table.items()} if table else {section: field}
        for name, each in names.items():
            default = each.default
            text = samples.get(name, samples["None"] if default is None else "")
            if not text:
                text = json.dumps(str(default) if isinstance(default, Path) else default)
                text = "{}" if default == {} else text
            value = load(None, {}, [f"{name}={text}"])
            for part in name.split("."):
                value = getattr(value, part)
            assert value == default or name in samples or default is None, name


def test_the_page_of_settings_has_each_with_its_default() -> None:
    """A default without backticks is described there; any other is read as a setting's value."""
    _, *sections = (ROOT / "docs" / "settings.md").read_text("utf-8").split("\n## `[")
    for text in sections:
        section, _, table = text.partition("]`")
        described = set[str]()
        for names, defaults, _ in (
            row.split(" | ", 2) for row in table.splitlines() if row.startswith("| `")
        ):
            found = names.strip("| `").split("`, `")
            shown = re.findall(r"`([^`]*)`", defaults) or [None] * len(found)
            for name, default in zip(found, shown, strict=True):
                given = [f"{section}.{name}={default}"] if default is not None else []
                expected = getattr(getattr(Settings(), section), name)
                assert getattr(getattr(load(None, {}, given), section), name) == expected, name
            described.update(found)
        assert described == set(type(getattr(Settings(), section)).model_fields), section
    assert len(sections) == 5


@pytest.mark.parametrize("key", ['"sasl.jaas.config"', "sasl.jaas.config"])
def test_dotted_keys_may_be_quoted_or_not(key: str) -> None:
    assert read(f'[kafka]\n{key} = "x"').kafka == {"sasl.jaas.config": "x"}


def test_client_options_become_strings() -> None:
    text = "[kafka]\nlinger.ms = 5\nenable.idempotence = true\n[spark]\nspark.ui.enabled = false"
    settings = read(text)
    assert settings.kafka == {"linger.ms": "5", "enable.idempotence": "true"}
    assert settings.spark == {"spark.ui.enabled": "false"}


@pytest.mark.parametrize(
    ("text", "section", "values"),
    [
        ("kafka.sasl.password=a=b", "kafka", {"sasl.password": "a=b"}),
        ("spark.spark.master=local[2]", "spark", {"spark.master": "local[2]"}),
        ("spark.jars.packages=a:b:1", "spark", {"spark.jars.packages": "a:b:1"}),
        ("learner.hidden=[3, 4]", "learner", {"hidden": [3, 4]}),
        ("learner.optimizer=sgd", "learner", {"optimizer": "sgd"}),
    ],
)
def test_set_accepts_any_setting(text: str, section: str, values: dict[str, Any]) -> None:
    assert getattr(read(sets=(text,)), section) == values


@pytest.mark.parametrize("text", ["learner", "=3"])
def test_set_requires_key_and_value(text: str) -> None:
    with pytest.raises(ValueError, match=rf"--set must be section.key=value; got '{text}'"):
        read(sets=(text,))


def test_one_topic_becomes_a_list() -> None:
    assert read('[train]\ntopics = "a"').train.topics == ["a"]


@pytest.mark.parametrize(
    "text",
    [
        *("0 seconds", "1 second", "500 milliseconds", "2 Minutes", "1 hour", "3 days", "1 week"),
        *("1.5 seconds", "1 minute 30 seconds", "interval 1 second"),
    ],
)
def test_a_trigger_is_an_interval_as_spark_reads_it(text: str) -> None:
    assert read(f"[train]\ntrigger = '{text}'\n[score]\ntrigger = '{text}'").train.trigger == text


def test_classes_keep_their_types() -> None:
    classes = read('[records]\nclasses = [true, "1", 1]').records.classes
    assert [(type(label), label) for label in classes or ()] == [(bool, True), (str, "1"), (int, 1)]


def test_categories_map_fields_to_encodings() -> None:
    text = '[records]\nclasses = "grow"\n[records.categories]\ncity = {hash = 32}\n"a.kind" = {one_hot = 16}'
    records = read(text).records
    assert records.categories == {"city": {"hash": 32}, "a.kind": {"one_hot": 16}}
    assert (records.classes, records.missing) == ("grow", False)


def test_categories_without_features_are_checked_against_the_model() -> None:
    assert read("[records.categories]\ncity = {hash = 32}").records.categories == {"city": {"hash": 32}}


@pytest.mark.parametrize("size", ["auto", 1, 64])
def test_a_mini_batch_is_a_number_or_auto(size: Any) -> None:
    assert read(flags={"learner": {"mini_batch": size}}).learner == {"mini_batch": size}


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().train.once = True


def test_kafka_options_may_come_from_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMING_NN_KAFKA__SASL_PASSWORD", "hush")
    monkeypatch.setenv("STREAMING_NN_KAFKA__BOOTSTRAP_SERVERS", "here:9092")
    assert load().kafka == {"sasl.password": "hush", "bootstrap.servers": "here:9092"}
    monkeypatch.setenv("STREAMING_NN_KAFKA", '{session.timeout.ms=3000, sasl.mechanism="PLAIN"}')
    assert {"session.timeout.ms": "3000", "sasl.mechanism": "PLAIN"}.items() <= load().kafka.items()


def test_an_error_never_contains_a_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMING_NN_KAFKA", '"sasl.password = hush"')
    with pytest.raises(ValueError, match="setting kafka") as error:
        load()
    assert "hush" not in str(error.value)


def test_registry_credentials_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {registry.USER, registry.PASSWORD} <= OTHER_VARIABLES
    monkeypatch.setenv(registry.PASSWORD, "s3cret")
    assert "s3cret" not in str(load())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("kafka.topics_pattern=a.*", "setting kafka: topics_pattern must be train.topics_pattern"),
        ("kafka.topic=a", "setting kafka: topic must be score.topic or metrics.topic"),
        ("spark.once=true", "setting spark: once must be train.once or score.once"),
        ("records.topics=a", "unknown setting records.topics; did you mean train.topics?"),
    ],
)
def test_a_setting_in_the_wrong_table_is_named_with_the_right_one(text: str, error: str) -> None:
    with pytest.raises(ValueError) as raised:
        load(sets=[text])
    assert str(raised.value) == error


@pytest.mark.parametrize("address", ["9464", "127.0.0.1", "127.0.0.1:", ":9464", "a b:1", "h:65536", "::1:1"])
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ValueError, match=r"setting metrics.prometheus: must be host:port, such as"):
        load(None, {}, [f"metrics.prometheus={address}"])


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:9464", "0.0.0.0:0", "host-1.example_2:65535", "[::1]:9464"]
)
def test_an_address_may_be_a_name_or_of_ipv6(address: str) -> None:
    assert load(None, {}, [f'metrics.prometheus="{address}"']).metrics.prometheus == address
