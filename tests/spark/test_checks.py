"""What the commands check before they start Spark; the broker is a fake, and no session starts."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from streaming_nn.cli import app as commands
from streaming_nn.estimators.sklearn import OnlineClassifier
from streaming_nn.nn.learner import initial
from streaming_nn.nn.mlp import MLP
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records import avsc
from streaming_nn.records.schema import Schema
from streaming_nn.spark import checks, session
from streaming_nn.spark.replay import plan
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

KAFKA = ["--bootstrap", "broker:9092"]
BY_TOPIC = ["backtest", "--topic", "labeled", "--into"]
LEARNER = MLP(inputs=3, classes=(0, 1), hidden=(4,), mini_batch=8)
SCHEMA = Schema(inputs=3, classes=(0, 1))


class Started(Exception):  # noqa: N818
    """Spark would have started."""


class FakeAdmin:
    """Replaces `KafkaAdmin`: a broker with these topics, unless it is another address."""

    existing = ("labeled", "unlabeled", "predictions")

    def __init__(self, options: Mapping[str, str]) -> None:
        self.servers = options["bootstrap.servers"]

    def ids(self, topics: list[str]) -> dict[str, str]:
        if missing := [topic for topic in topics if topic not in self.existing]:
            raise LookupError(f"topic {missing[0]!r} does not exist at {self.servers}")
        return dict.fromkeys(topics, "id")

    def topics(self) -> list[str]:
        return list(self.existing)

    def partitions(self, topics: list[str]) -> dict[str, list[int]]:
        return {topic: [0, 1, 2] for topic in topics}

    def beginnings(self, topics: list[str]) -> dict[str, dict[int, int]]:
        return {topic: {0: 1000, 1: 5} for topic in topics}

    def ends(self, topics: list[str]) -> dict[str, dict[int, int]]:
        return {topic: {0: 1060, 1: 44} for topic in topics}

    def at(self, topics: list[str], milliseconds: int) -> dict[str, dict[int, int]]:
        return self.beginnings(topics) if milliseconds < 1.8e12 else self.ends(topics)

    def __enter__(self) -> Self:
        if self.servers != "broker:9092":
            raise ConnectionError(f"cannot reach a Kafka broker at {self.servers} within 12 s")
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def starts(*_: object, **__: object) -> None:
        raise Started

    for name in os.environ:
        if name.startswith(("STREAMING_NN_", "SPARK_", "PYSPARK_SUBMIT")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for module in (checks, plan):
        monkeypatch.setattr(module, "KafkaAdmin", FakeAdmin)
    monkeypatch.setattr(session, "session", starts)


@pytest.fixture
def model() -> VersionLog:
    """A model that has learned one micro-batch of `labeled`."""
    log = VersionLog("model")
    tensors = flatten(initial(LEARNER))
    described = {"learner": LEARNER.options(), "schema": SCHEMA.options(), "topic_ids": {"labeled": "id"}}
    head = log.commit(None, tensors, offsets={"labeled": {0: 0}}, **described)
    counts = {"received": 10, "trained": 10, "skipped": 0, "rejected": 0, "filtered": 0}
    log.commit(head, tensors, offsets={"labeled": {0: 10}}, ranges={"labeled": {0: (0, 10)}}, counts=counts)
    return log


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = commands.run(words)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return code, lines[0].removeprefix("streaming-nn: ")


@pytest.mark.parametrize(
    "words",
    [
        ["train"],
        ["score"],
        ["verify"],
        ["backtest", "--into", "trials"],
        [*BY_TOPIC, "t", "--since", "2024-05-01"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_with_everything_there_spark_starts(words: list[str], model: VersionLog) -> None:
    with pytest.raises(Started):
        commands.run([*words, *KAFKA])


def test_a_source_and_a_new_model_need_no_broker() -> None:
    with pytest.raises(Started):
        commands.run(["train", "--source", "text"])
    with pytest.raises(Started):
        commands.run(["score", *KAFKA])  # waits for a first version
    with pytest.raises(Started):
        commands.run(["train", "--set", "train.topics_pattern=lab.*", *KAFKA])


# spark-pmml#21, kafka-python#1201, delta#91
@pytest.mark.parametrize(
    ("name", "value"),
    [("SPARK_HOME", "/nowhere"), ("PYSPARK_SUBMIT_ARGS", "--master local"), ("SPARK_REMOTE", "sc://a")],
)
@pytest.mark.parametrize(
    "words",
    [
        *(["train", *KAFKA], ["score", *KAFKA], ["verify", *KAFKA], ["backtest", "--into", "t", *KAFKA]),
        *(["backtest", "--topic", "labeled", "--into", "t", *KAFKA], ["backtest", "--file", "no.csv"]),
        ["demo"],
    ],
    ids=["train", "score", "verify", "backtest", "backtest of a topic", "backtest of a file", "demo"],
)
def test_a_variable_that_leads_elsewhere_ends_every_command(
    name: str,
    value: str,
    words: list[str],
    model: VersionLog,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    code, line = error_of(words, capsys)
    assert code == 2
    assert line.startswith(name)


@pytest.mark.parametrize(
    ("words", "topic"),
    [
        (["train", "--topic", "labeled", "--topic", "none"], "none"),
        (["score", "--topic", "none"], "none"),
        (["score", "--predictions", "none"], "none"),
        (["backtest", "--into", "t", "--topic", "none"], "none"),
        (["verify"], "gone"),
        (["backtest", "--into", "t"], "gone"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_topic_that_does_not_exist(
    words: list[str], topic: str, model: VersionLog, capsys: pytest.CaptureFixture[str]
) -> None:
    if topic == "gone":
        head = model.head()
        assert head is not None
        model.commit(head, head.tensors, offsets={"labeled": {0: 10}, "gone": {0: 3}})
    assert error_of([*words, *KAFKA], capsys) == (1, f"topic '{topic}' does not exist at broker:9092")


@pytest.mark.parametrize(
    "words", [["train"], ["score"], ["verify"], ["backtest", "--into", "t"]], ids=lambda w: w[0]
)
def test_a_broker_that_does_not_respond_or_lacks_its_port(
    words: list[str], model: VersionLog, capsys: pytest.CaptureFixture[str]
) -> None:
    assert error_of([*words, "--bootstrap", "other:1"], capsys) == (
        1,
        "cannot reach a Kafka broker at other:1 within 12 s",
    )
    assert error_of([*words, "--bootstrap", "other"], capsys) == (
        2,
        "bootstrap.servers must be host:port, with commas between several; got 'other'",
    )


def test_no_topic_matches_the_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = error_of(["train", "--set", "train.topics_pattern=x.*", *KAFKA], capsys)
    assert (code, line.startswith("no topic at broker:9092 matches")) == (1, True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--features", "a,b,c"], "records.features = 'features', now ['a', 'b', 'c']"),
        (["--classes", "0,1,2"], "records.classes = (0, 1), now [0, 1, 2]"),
        (["--regression"], "regression"),
        (["--hidden", "5"], "hidden"),
        (["-s", "records.where=op = 'c'"], "records.where"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_directory_with_another_model(
    flags: list[str], message: str, model: VersionLog, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = error_of(["train", *flags, *KAFKA], capsys)
    assert (code, line.endswith("use a new model directory")) == (2, True)
    assert "model model was created with" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--optimizer", "adm"], "optimizer must be one of 'sgd'"),
        (["--optimizer", "sgd", "--learning-rate", "-1"], "learning_rate must be"),
        (["-s", "records.format=protobuf"], "format must be one of"),
        (["-s", "records.format=avro"], "format 'avro' needs avro_schema or registry"),
        (["-s", "records.decimal=;"], "decimal must be '.' or ','; got ';'"),
        (["-s", "records.csv_columns=['a']"], "csv_columns need format 'csv'"),
        (["-s", "records.sparse=['a']"], "sparse must be among the features that are numbers; got 'a'"),
        (["--features", "a,,b"], "features must be"),
        (["-s", "records.inputs=3", "--features", "a,b"], "inputs must be 2, the number of features; got 3"),
        (["-s", "records.avro_schema=no.avsc"], "setting records.avro_schema: cannot read 'no.avsc'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_options_of_a_new_model(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = error_of(["train", *flags, *KAFKA], capsys)
    assert code == 2
    assert message in line
    assert not Path("model").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--source", "text", "--source-option", "path=nowhere"],
            "'text': its path must exist; got 'nowhere'",
        ),
        (["--source", "CSV", "--source-option", "PATH=/no/where"], "its path must exist; got '/no/where'"),
        (
            ["--source", "libsvm", "--source-option", "path=."],
            "must have the option numFeatures, an integer; got none",
        ),
    ],
)
def test_files_that_are_not_there(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = error_of(["train", *flags], capsys)
    assert (code, message in line) == (2, True)


@pytest.mark.parametrize(
    "flags",
    [
        *(["--source-option", f"path={path}"] for path in ("x/*.csv", "{a,b}", "hdfs://host/x", "file:/x")),
        ["--source-option", "path=nowhere", "--master", "yarn"],
        ["--source-option", "path=nowhere", "-s", "spark.hadoop.fs.defaultFS=hdfs://host/"],
        ["--source-option", "path=."],
    ],
)
def test_files_that_may_be_there(flags: list[str]) -> None:
    with pytest.raises(Started):
        commands.run(["train", "--source", "text", *flags])


def test_a_topic_with_too_few_records_to_infer_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of(["train", "--once", *KAFKA], capsys) == (
        2,
        "topic labeled has at most 99 records, and width and classes are inferred from 100 or more: "
        "set records.inputs and records.classes",
    )
    named = ["--features", "a,b", "-s", "records.regression=true"]
    for more in ([], ["--once", *named], ["--once", "-s", "records.inputs=3", "-s", "records.classes=[0,1]"]):
        with pytest.raises(Started):
            commands.run(["train", *more, *KAFKA])


def test_a_format_needs_an_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(avsc, "find_spec", lambda name: None)
    words = ["-s", "records.format=avro", "-s", "records.registry=http://registry:8081"]
    assert error_of(["train", *words, *KAFKA], capsys) == (
        2,
        "format avro needs fastavro: pip install 'streaming_nn[avro]'",
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["score", "--engine", "realtime"], 2, "score --engine realtime: optimizer"),
        (
            ["score", "--engine", "realtime", "--master", "local[2]"],
            2,
            "score --engine realtime: the master must have a thread for each of the 3 partitions of "
            "'unlabeled'; got 2 with local[2]",
        ),
        (["verify", "--from", "3"], 2, "versions must be from 1 to 1, the first not after the last"),
        (["backtest", "--into", "t", "--trial", "hidden=x"], 2, "hidden must be"),
        (["backtest", "--into", "model"], 2, "model contains"),
        ([*BY_TOPIC, "t", "--set", "records.format=protobuf"], 2, "format must be one of"),
        (
            [*BY_TOPIC, "t", "--set", "records.classes=grow"],
            2,
            "cannot backtest topic 'labeled' with classes or categories that grow (records.classes): train",
        ),
        (
            [*BY_TOPIC, "t", "-s", "records.features=['a','b']", "-s", "records.categories={b={one_hot=4}}"],
            2,
            "cannot backtest topic 'labeled' with classes or categories that grow (records.categories.b): ",
        ),
        (
            [*BY_TOPIC, "t", "--since", "2033-01-01"],
            2,
            "topic 'labeled' has no records from 2033-01-01T00:00:00+00:00",
        ),
        ([*BY_TOPIC, "t", "--trial", "hidden=x"], 2, "hidden must be"),
        ([*BY_TOPIC, "t", "--trial", "foo=1"], 2, "unknown option of"),
        ([*BY_TOPIC, "model", "--trial", "hidden=[8]", "--trial", "seed=1"], 2, "model contains"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_does_not_fit_the_model(
    words: list[str], code: int, message: str, model: VersionLog, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[-1] == "realtime":
        head = model.head()
        assert head is not None
        model.commit(head, head.tensors, schema=Schema(inputs=3, classes=(0, 1), encoding="utf-16").options())
        message = "score --engine realtime: records.encoding must not be set"
    found, line = error_of([*words, *KAFKA], capsys)
    assert (found, line[: len(message)]) == (code, message)


LATE = {"pyspark", "py4j", "pandas", "pyarrow", "sklearn", "scipy", "rich", "pydantic_settings", "asyncio"}


def test_the_checks_load_nothing_slow(model: VersionLog) -> None:
    """In 2 seconds there is time for NumPy, the client of Kafka and pydantic, but not for these."""
    code = f"""
import sys
from streaming_nn.cli import app
from streaming_nn.spark import checks

class Broker:
    def __init__(self, options):
        pass
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def ids(self, topics):
        raise LookupError(f"there is no {{list(topics)}}")

checks.KafkaAdmin = Broker
new, realtime = ["train", "--model", "new"], ["score", "--engine", "realtime"]
again = ["backtest", "--into", "t"]
for words in (["train"], new, ["score"], realtime, ["verify"], again, [*again, "--topic", "labeled"]):
    app.run([*words, "--bootstrap", "broker:9092"])
print(*sorted({LATE} & {{name.partition(".")[0] for name in sys.modules}}))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    lines = ran.stderr.splitlines()
    assert len(lines) == 7, ran.stderr
    assert all("there is no [" in line for line in lines), lines
    assert ran.stdout == "\n"


def test_a_scorer_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of(["score", "--once", *KAFKA], capsys) == (
        1,
        "model model: there is no version yet, so no model is available",
    )
    first = VersionLog("model").commit(None, {"theta": np.zeros(3)})
    for again in (False, True):  # with other settings, such a model restarts by another version
        if again:
            VersionLog("model").commit(first, first.tensors, kind="initial")
        assert error_of(["score", "--once", *KAFKA], capsys) == (
            1,
            "model model: has learned nothing yet, so no model is available",
        )


def test_a_scorer_predicts_with_a_first_version_that_an_estimator_has_saved() -> None:
    classifier = OnlineClassifier(learner="mlp", optimizer="sgd", hidden=(4,))
    classifier.partial_fit(np.eye(3), [0, 1, 0], classes=[0, 1]).save("model")
    with pytest.raises(Started):
        commands.run(["score", "--once", *KAFKA])


def test_a_damaged_head(model: VersionLog, capsys: pytest.CaptureFixture[str]) -> None:
    model.path(1).write_bytes(model.path(1).read_bytes()[:-1])
    for words in (["train"], ["score"]):
        code, line = error_of([*words, *KAFKA], capsys)
        assert code == 6
        assert "`streaming-nn versions repair` resumes from it" in line


def test_fields_of_predictions_need_names(capsys: pytest.CaptureFixture[str]) -> None:
    log = VersionLog("model")
    schema = Schema(inputs=3, classes=(0, 1), format="packed").options()
    head = log.commit(None, {}, schema=schema)
    log.commit(head, {})
    code, line = error_of(["score", "-s", "score.fields=['id']", *KAFKA], capsys)
    assert (code, line) == (2, "score.fields must be empty unless records are JSON or Avro; got 'packed'")
