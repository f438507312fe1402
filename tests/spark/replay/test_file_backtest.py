"""Backtests of a file through Kafka and the training job, compared with NumPy on the same micro-batches."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from producers.topics import kafka_options
from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.broker import Broker
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Learner, initial, report, test_then_train
from streaming_nn.settings import Settings
from streaming_nn.spark import session
from streaming_nn.spark.replay import file_backtest
from streaming_nn.spark.replay.backtest import Selection, backtest
from streaming_nn.spark.replay.file_backtest import StreamFile, backtest_file
from streaming_nn.versions.repair import check
from streaming_nn.versions.version_log import VersionLog

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.commit

ROWS = 730  # not a multiple of a micro-batch
MLP = {"learner": "mlp", "hidden": [8], "mini_batch": 4}


@pytest.fixture
def _one_session(spark: "SparkSession", monkeypatch: pytest.MonkeyPatch) -> None:
    """Let backtests use the tests' Spark session, which they do not stop."""

    @contextmanager
    def running(options: Mapping[str, str], progress: Any) -> Iterator[Any]:
        yield spark

    monkeypatch.setattr(file_backtest, "running", running)
    monkeypatch.setattr(session, "running", running)


def rows(count: int = ROWS) -> tuple[Any, Any]:
    x = np.round(64 * np.random.default_rng(0).normal(size=(count, 3))) / 64
    return x, x @ np.array([1, -2, 0.5])


def table(y: Any) -> pa.Table:
    x, _ = rows()
    return pa.table({"a": x[:, 0], "b": x[:, 1], "verdict": y, "c": x[:, 2]})


def learn_in_numpy(learner: Learner[Any], x: Any, y: Any, batch: int, keep: Any = None) -> dict[str, Any]:
    """Return the metrics after these rows in such micro-batches; `keep`: which of them can be learned."""
    state = initial(learner)
    for start in range(0, len(y), batch):
        part = slice(start, start + batch)
        kept = slice(None) if keep is None else keep[part]
        state, _ = test_then_train(learner, state, [Batch(x[part][kept], y[part][kept])])
    return report(learner, state)


def settings_of(kafka: dict[str, str], **sections: Any) -> Settings:
    return Settings(**{"kafka": kafka, "learner": MLP, **sections})


def topics(kafka: dict[str, str]) -> set[str]:
    with KafkaAdmin(kafka) as admin:
        return {name for name in admin._client().list_topics() if not name.startswith("__")}


@pytest.mark.merge
@pytest.mark.usefixtures("_one_session")
def test_a_csv_is_learned_in_its_order_in_micro_batches_of_that_size(
    broker: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "streaming_nn")
    x, target = rows()
    y = np.where(target > 0, "yes", "no")
    pa.csv.write_csv(table(y), tmp_path / "stream.csv")
    before = topics(broker.options)
    file = StreamFile(tmp_path / "stream.csv", label="verdict")
    trial = "learning_rate=0.1,optimizer=sgd,mini_batch=50"
    outcomes = backtest_file(settings_of(broker.options), file, tmp_path / "x", [trial], 200)
    assert [o.name for o in outcomes] == ["settings", trial]
    assert [o.directory for o in outcomes] == [tmp_path / "x" / "settings", tmp_path / "x"]
    index = (target > 0).astype(np.int32)  # the classes are sorted: no, yes
    for outcome in outcomes:
        options = {**MLP, **outcome.changes, "inputs": 3, "classes": ["no", "yes"]}
        assert outcome.metrics == learn_in_numpy(learner_from(options), x, index, 200)
        assert outcome.counts == {
            "received": ROWS,
            "trained": ROWS,
            "skipped": 0,
            "rejected": 0,
            "filtered": 0,
        }
        log = VersionLog(outcome.directory)
        assert [log.manifest(n).counts["received"] for n in log.numbers()[1:]] == [200] * 3 + [130]
        assert check(log) == []
    assert topics(broker.options) == before, "the topics of a backtest are deleted"
    assert "sent 730 records of stream.csv" in caplog.text
    with pytest.raises(ValueError, match="must be a new or an empty directory"):
        backtest_file(settings_of(broker.options), file, tmp_path / "x", [], 100)


@pytest.mark.nightly
@pytest.mark.usefixtures("_one_session")
def test_a_file_with_strings_gaps_and_a_decimal_comma_is_learned(broker: Any, tmp_path: Path) -> None:
    lines = [
        f"{i % 7},5;{'Ulm' if i % 2 else ''};{'' if i % 9 == 0 else i % 5};{'yn'[i % 2]}" for i in range(300)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["size;city;n;bought", *lines]) + "\n")
    (outcome,) = backtest_file(
        settings_of(broker.options), StreamFile(tmp_path / "t.csv"), tmp_path / "x", [], 100
    )
    assert (outcome.counts["trained"], outcome.counts["rejected"]) == (300, 0)
    assert outcome.directory is not None
    assert VersionLog(outcome.directory).manifest(1).schema["inputs"] == 34  # size, city hashed into 32, n


@pytest.mark.nightly
@pytest.mark.usefixtures("_one_session")
def test_without_kafka_a_broker_is_started_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Broker] = []
    start = Broker.start

    def record_start(*arguments: Any, **options: Any) -> Broker:
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(Broker, "start", record_start)
    x, y = rows()
    np.savez(tmp_path / "stream.npz", X=x, y=y)
    file = StreamFile(tmp_path / "stream.npz", regression=True)
    (outcome,) = backtest_file(settings_of({}), file, None, [], 256)
    assert outcome.metrics == learn_in_numpy(learner_from({**MLP, "inputs": 3}), x, y, 256)
    assert outcome.directory is None
    (running,) = started
    assert not running.running
    assert not running.directory.exists()


@pytest.mark.nightly
@pytest.mark.usefixtures("_one_session")
@pytest.mark.parametrize("format", ["json", "packed"])
def test_rejected_rows_are_counted_and_belong_to_their_micro_batch(
    broker: Any, tmp_path: Path, format: str
) -> None:
    """Some rows have no label; they count as records of a micro-batch."""
    x, target = rows()
    y = (target > 0).astype(np.int64)
    keep = np.arange(ROWS) % 50 != 7
    stream = pa.table({"a": x[:, 0], "b": x[:, 1], "unused": y, "y": pa.array(y, mask=~keep)})
    pa.parquet.write_table(stream, tmp_path / "stream.parquet")
    file = StreamFile(tmp_path / "stream.parquet", features=("b", "a"))
    settings = settings_of(broker.options, records={"format": format})
    (outcome,) = backtest_file(settings, file, None, [], 90)
    learner = learner_from({**MLP, "inputs": 2, "classes": [0, 1]})
    assert outcome.metrics == learn_in_numpy(learner, x[:, [1, 0]], y.astype(np.int32), 90, keep)
    assert (outcome.counts["received"], outcome.counts["rejected"]) == (ROWS, int((~keep).sum()))


@pytest.mark.nightly
@pytest.mark.usefixtures("_one_session")
def test_a_file_that_cannot_be_sent_completely_is_not_learned(broker: Any, tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 2}\n" for i in range(300_000))  # more than the block that is read at first
    (tmp_path / "stream.csv").write_text(f"a,y\n{rows}1,1,1\n")
    with pytest.raises(ValueError, match="cannot read row 300001: it has 3 fields, and the file 2 columns"):
        backtest_file(settings_of(broker.options), StreamFile(tmp_path / "stream.csv"), None, [], 90)


@pytest.mark.merge
@pytest.mark.usefixtures("_one_session")
def test_rows_of_a_file_have_lagged_values(broker: Any, tmp_path: Path) -> None:
    x, y = rows()
    pa.csv.write_csv(table(y), tmp_path / "stream.csv")
    file = StreamFile(tmp_path / "stream.csv", label="verdict", regression=True)
    records = {"label": "verdict", "regression": True, "lags": [1, 3]}
    settings = settings_of(broker.options, records=records)
    (outcome,) = backtest_file(settings, file, tmp_path / "x", [], ROWS)
    log = VersionLog(tmp_path / "x")
    assert log.manifest(1).schema["lags"] == [1, 3]
    lagged = [np.append(np.full(lag, np.nan), y[:-lag]) for lag in (1, 3)]
    age = np.append(np.nan, np.zeros(ROWS - 1))  # the records have one time
    learner = learner_from({**MLP, "inputs": 6, "missing": "impute"})
    state, _ = test_then_train(learner, initial(learner), [Batch(np.column_stack([x, *lagged, age]), y)])
    assert outcome.metrics["prequential"] == report(learner, state)["prequential"]
    np.testing.assert_array_equal(log.read(1).tensors["series.values"], y[None, :-4:-1, None])


@pytest.mark.parametrize(
    ("records", "file", "message"),
    [
        ({}, {"label": "verdict"}, "records.lags need a target that is a number: use --regression"),
        (
            {"series": "d"},
            {"label": "verdict", "regression": True},
            "records.series must be one of the file's features; got 'd'",
        ),
    ],
)
def test_lags_that_a_file_cannot_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: Any, file: Any, message: str
) -> None:
    monkeypatch.setattr(file_backtest, "running", must_not_start)
    y = rows()[1]
    pa.csv.write_csv(table(y if "regression" in file else np.where(y > 0, "a", "b")), tmp_path / "s.csv")
    lagged = {"label": "verdict", "regression": True, "lags": [1], **records}
    with pytest.raises(ValueError, match="records") as refused:
        backtest_file(settings_of({}, records=lagged), StreamFile(tmp_path / "s.csv", **file), None, [], 90)
    assert str(refused.value) == message


def must_not_start(*arguments: Any) -> Any:
    raise AssertionError("neither Spark nor Kafka may start for a mistake")


@pytest.mark.parametrize(
    ("name", "trials", "message"),
    [
        pytest.param("none.csv", [], "no such file", marks=pytest.mark.nightly),  # starts a process
        ("stream.txt", [], r"--file must end in \.csv, \.tsv, \.data, \.npz, \.parquet, \.jsonl; got"),
        ("stream.csv", ["learning_rat=1"], "did you mean 'learning_rate'"),
        ("stream.csv", ["nothing"], "a trial must be key=value"),
        ("words.csv", [], "must have 2 or more classes; got 1"),
    ],
)
def test_a_mistake_is_an_error_before_anything_starts(
    name: str, trials: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_backtest, "running", must_not_start)
    monkeypatch.setattr(file_backtest, "_start_broker", must_not_start)
    pa.csv.write_csv(table(rows()[1] > 0), tmp_path / "stream.csv")
    pa.csv.write_csv(pa.table({"a": ["one", "two"], "y": [1, 1]}), tmp_path / "words.csv")
    (tmp_path / "stream.txt").touch()
    file = StreamFile(tmp_path / name, label=None if name == "words.csv" else "verdict")
    with pytest.raises(ValueError, match=message) as caught:
        backtest_file(settings_of({}), file, None, trials, 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "stdout", "stderr", "error", "message"),
    [
        (2, "", "producers: no such file: 'x.csv'\n", ValueError, "^no such file: 'x.csv'$"),
        (
            1,
            '{"error": "row 8 is bad", "failed": 0}',
            "producers: row 8 is bad\n",
            ValueError,
            "row 8",
        ),
        (
            1,
            '{"error": "timed out", "failed": 3}',
            "producers: 3 records failed\n",
            ConnectionError,
            "3 rec",
        ),
        (1, "", "", ConnectionError, "the producer failed"),
    ],
    ids=["misused", "damaged file", "broker", "crash"],
)
def test_an_error_of_the_producer_is_one_of_the_file_or_of_the_broker(
    code: int,
    stdout: str,
    stderr: str,
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran = subprocess.CompletedProcess([], code, stdout, stderr)
    monkeypatch.setattr(subprocess, "run", lambda command, **options: ran)
    with pytest.raises(error, match=message):
        StreamFile(Path("x.csv")).send({}, "t", "json")


def test_options_of_kafka_are_not_arguments_of_the_producer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Arguments are visible to other users of the machine."""
    kafka = {"bootstrap.servers": "x:1", "ssl.key.password": 'a "secret"\n\\'}
    read: list[dict[str, str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert "secret" not in " ".join(command)
        assert {"--label=y", "--features=a,b", "--topic=t"} < set(command)
        (config,) = (Path(word.removeprefix("--config=")) for word in command if "--config=" in word)
        assert config.stat().st_mode & 0o077 == 0
        read.append(kafka_options(config, {}))
        return subprocess.CompletedProcess(command, 0, '{"records": 7}\n', "")

    monkeypatch.setattr(subprocess, "run", run)
    assert StreamFile(Path("x.csv"), "y", ("a", "b")).send(kafka, "t", "json") == 7
    assert read == [kafka]


def fill_topic(broker: Any, count: int, directory: Path) -> str:
    """Create a topic of two partitions with so many rows."""
    topic, (x, target) = broker.topic("filled", 2), rows(count)
    np.savez(directory / "stream.npz", x=x, y=(target > 0).astype(int))
    StreamFile(directory / "stream.npz").send(broker.options, topic, "json")
    return str(topic)


@pytest.mark.nightly
@pytest.mark.usefixtures("_one_session")
def test_the_model_of_a_topic_backtest_can_be_backtested(
    broker: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "streaming_nn")
    topic = fill_topic(broker, 500, tmp_path)
    settings = settings_of(broker.options, train={"max_offsets_per_trigger": 200})
    (base,) = backtest(settings, tmp_path / "x", [], Selection(topic=topic))
    assert (base.name, base.counts["trained"]) == ("settings", 500)
    of_model = settings.model_copy(update={"model": tmp_path / "x"})
    original, faster = backtest(of_model, tmp_path / "y", ["learning_rate=0.1"])
    assert (original.name, original.metrics) == ("original", base.metrics)
    assert faster.metrics["rows"] == 500
    assert "learning versions 1 to 3 with learning_rate=0.1" in caplog.text
    assert backtest(settings, tmp_path / "x", [], Selection(topic=topic)) == [base], "nothing is left to do"


@pytest.mark.nightly
def test_the_command_prints_tables_and_json(tmp_path: Path) -> None:
    x, target = rows()
    np.savez(tmp_path / "stream.npz", x=x, y=(target > 0).astype(int))
    command = [sys.executable, "-m", "streaming_nn.cli.app", "backtest", "--file", "stream.npz", "--json"]
    command += ["--trial", "learning_rate=0.1", "--batch", "200", "--master", "local[2]"]
    command += ["-s", "learner.learner=mlp", "-s", "learner.hidden=[8]", "-s", "learner.mini_batch=4"]
    env = {**os.environ, "COLUMNS": "140"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, env=env)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout.splitlines()[-1])
    learner = learner_from({**MLP, "inputs": 3, "classes": [0, 1], "learning_rate": 0.1})
    expected = learn_in_numpy(learner, x, (target > 0).astype(np.int32), 200)
    accuracies = [
        metrics["as_served"]["cumulative"]["accuracy"] for metrics in (printed["trials"][1], expected)
    ]
    assert accuracies[0] == accuracies[1]
    assert "over all rows" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stream.npz"], "nothing is left behind"


@pytest.mark.nightly
@pytest.mark.usefixtures("_one_session")
def test_a_killed_command_resumes(broker: Any, tmp_path: Path) -> None:
    """It is killed while it commits versions, and ends with the bits of a run that was not."""
    topic = fill_topic(broker, 300, tmp_path)
    command = [sys.executable, "-m", "streaming_nn.cli.app", "backtest", "--topic", topic]
    command += ["--trial", "seed=1"]
    command += ["--bootstrap", broker.bootstrap, "-s", "train.max_offsets_per_trigger=3", "--into", "x"]
    command += ["-s", "learner.learner=mlp", "-s", "learner.hidden=[8]", "-s", "learner.mini_batch=4"]
    killed = subprocess.Popen(
        [*command, "--master", "local[2]"], cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while (VersionLog(tmp_path / "x").head_number() or 0) < 5:
            assert killed.poll() is None
            time.sleep(0.002)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)  # Spark with it
        killed.wait()
    assert (VersionLog(tmp_path / "x").head_number() or 0) < 100
    settings = settings_of(broker.options, train={"max_offsets_per_trigger": 3})
    for into in ("x", "y"):
        backtest(settings, tmp_path / into, ["seed=1"], Selection(topic=topic))
    for name in (".", "settings"):
        resumed, whole = VersionLog(tmp_path / "x" / name), VersionLog(tmp_path / "y" / name)
        assert check(resumed) == []
        assert resumed.numbers() == whole.numbers() == list(range(101))
        assert resumed.manifest(100).digest == whole.manifest(100).digest
