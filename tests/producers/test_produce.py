"""The command: its counts of acknowledged records are those of the topics, also after Ctrl-C."""

import json
import signal
import subprocess
import sys
import time

import pytest
from kafka import KafkaConsumer, TopicPartition
from waiting import until

from producers.__main__ import _write_avro_schema as write_avro_schema
from producers.generators import sea
from producers.messages import Plan, schema_of
from streaming_nn.kafka import admin
from streaming_nn.records.decode import decode
from streaming_nn.records.schema import schema_from

pytestmark = pytest.mark.merge


def command(broker, *flags):
    options = ["--kafka", f"bootstrap.servers={broker.bootstrap}", "--json", *map(str, flags)]
    return [sys.executable, "-m", "producers", *options]


def records_of(broker, topic):
    """Return all records of a topic."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    try:
        parts = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]
        consumer.assign(parts)
        ends = consumer.end_offsets(parts)
        records = []
        while any(consumer.position(part) < ends[part] for part in parts):
            records += [r for some in consumer.poll(500).values() for r in some]
        return records
    finally:
        consumer.close()


@pytest.fixture
def topics(broker):
    return broker.topic("labeled", partitions=3), broker.topic("unlabeled", partitions=2)


def flags(topics):
    return ("--topic", topics[0], "--unlabeled-topic", topics[1], "--unlabeled", 0.1, "--malformed", 0.02)


def check(broker, topics, result):
    labeled, unlabeled = records_of(broker, topics[0]), records_of(broker, topics[1])
    decoded = decode(schema_of(sea(0), Plan("t")), [r.value for r in labeled], labeled=True)
    assert result["labeled"] == len(decoded.kept)
    assert result["malformed"] == len(decoded.rejected)
    assert result["unlabeled"] == len(unlabeled)
    keys = [int(r.key) for r in labeled + unlabeled]
    assert sorted(keys) == list(range(len(keys)))
    return {r.partition for r in labeled}


def test_counts_are_those_of_the_topics(broker, topics, tmp_path):
    run = subprocess.run(
        command(broker, "sea", *flags(topics), "--records", 3000, "--drift-at", 500, "--compression", "gzip"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    result = json.loads(run.stdout.splitlines()[-1])
    assert result["labeled"] + result["unlabeled"] + result["malformed"] == 3000
    assert (result["failed"], result["error"]) == (0, None)
    assert run.stderr.strip() == "row 500: concept drift"
    assert check(broker, topics, result) == {0, 1, 2}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_after_a_flush(broker, topics, number):
    process = subprocess.Popen(
        command(broker, "sea", *flags(topics), "--rate", 500), stdout=subprocess.PIPE, text=True
    )
    until(lambda: len(records_of(broker, topics[0])) > 200)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    result = json.loads(out.splitlines()[-1])
    assert result["labeled"] > 0
    check(broker, topics, result)


@pytest.mark.commit
@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["sea2"], "stream must be one of digits"),
        (["sea", "--drift-at", "3s"], "--drift-at in seconds needs --rate; got '3s' without --rate"),
        (["sea", "--drift-at", "x"], "--drift-at must be rows, like 5000, or seconds, like 30s; got 'x'"),
        (["csv"], "csv needs a file: python -m producers csv FILE"),
        (["sea", "--format", "xml"], "format must be one of 'json', 'packed', 'csv', 'avro'; got 'xml'"),
        (["sea", "--kafka", "x"], "--kafka must be key=value; got 'x'"),
        (["sea", "--set", "noise"], "--set must be key=value; got 'noise'"),
        (["sea", "--named"], "named fields need a stream whose features have names; this stream has none"),
        (["agrawal", "--named", "--format", "packed"], "named fields need JSON, CSV or Avro; got packed"),
        (["sea", "--seed", "-1"], "seed must be 0 or more; got -1"),
        (["sea", "--records", "0"], "--records must be 1 or more; got 0"),
        (["sea", "--seconds", "-1"], "--seconds must be more than 0; got -1"),
        (["sea", "t.csv"], "FILE applies to csv, npz, parquet, jsonl only; got stream sea"),
        (["sea", "--loop"], "--loop applies to csv, npz, parquet, jsonl only; got stream sea"),
        (["csv", "t.csv", "--drift-at", "5"], "--drift-at applies to digits, sea,"),
        (["csv", "t.csv", "--set", "noise=1"], "--set applies to digits, sea,"),
        (
            ["csv", "t.csv", "--time", "t", "--rate", "5"],
            "--time and --rate both set the pace; give only one of them",
        ),
        (["csv", "t.csv", "--speed", "5"], "--speed needs --time; got --speed 5 without --time"),
        (["machine", "--label-delay", "5"], "--label-delay applies to digits, sea,"),
        (["machine", "--drift-at", "5"], "--drift-at applies to digits, sea,"),
        (["machine", "--rate", "1000"], "rate of machine must be 1 to 100 samples per second"),
        (["sea", "--timestamp", "noon"], "--timestamp must be now or milliseconds since 1970; got 'noon'"),
        (["sea", "--partitions", "2"], "--partitions needs --create-topics; got --partitions without"),
        (["sea", "--create-topics", "--partitions", "0"], "--partitions must be 1 or more; got 0"),
        (["csv", "t.csv", "--describe"], "no such file: 't.csv'"),
        (["sea", "--label-delay", "5"], "label_delay = 5 needs unlabeled rows; got unlabeled = 0"),
        (["sea", "--topic", "a b"], "--topic must be 1 to 249 letters, digits, '.', '_' or '-'; got 'a b'"),
        (["sea", "--kafka", "bootstrap.servers=a"], "bootstrap.servers must be host:port"),
    ],
)
def test_an_invalid_command_prints_one_line_and_exits_with_2(flags, error, monkeypatch, tmp_path):
    from typer.testing import CliRunner

    from producers.__main__ import app

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, flags)
    assert result.exit_code == 2
    assert f"producers: {error}" in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.commit
def test_a_broker_that_does_not_respond_is_one_line_and_exit_code_1(monkeypatch, capsys):
    import producers.send
    from producers.__main__ import main

    monkeypatch.setattr(producers.send, "BOOTSTRAP_MS", 500)
    monkeypatch.setattr(sys, "argv", ["producers", "sea", "--kafka", "bootstrap.servers=127.0.0.1:1"])
    assert main() == 1
    out, err = capsys.readouterr()
    assert err.startswith("producers: cannot reach a Kafka broker at 127.0.0.1:1: ")
    assert (err.count("\n"), out) == (1, "")


@pytest.mark.parametrize(
    "flags",
    [["--topic", "nowhere"], ["--topic", "{there}", "--unlabeled-topic", "nowhere", "--unlabeled", 1]],
)
def test_a_missing_topic_is_reported_at_once(broker, topics, flags):
    flags = [str(flag).format(there=topics[0]) for flag in flags]
    began = time.monotonic()
    run = subprocess.run(
        command(broker, "sea", *flags, "--records", 5), capture_output=True, text=True, timeout=120
    )
    assert time.monotonic() - began < 30  # the producer alone gives up after 60
    assert run.stderr == (
        f"producers: topic 'nowhere' does not exist at {broker.bootstrap}; create it with --create-topics\n"
    )
    assert (run.returncode, run.stdout) == (1, "")


@pytest.mark.commit
def test_the_help_names_the_settings_that_are_used():
    from typer.testing import CliRunner

    from producers.__main__ import app

    output = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert "Settings file: its kafka table is used" in " ".join(output.split())


@pytest.mark.commit
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["sea", "--rate", "fast"], "Invalid value for '--rate'"),
        (["sea", "--recods", "5"], "No such option: --recods"),
        (["sea", "a", "b"], "Got unexpected extra argument"),
    ],
)
def test_invalid_arguments_print_one_line(arguments, error, monkeypatch, capsys):
    from producers.__main__ import main

    monkeypatch.setattr(sys, "argv", ["producers", *arguments])
    assert main() == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"producers: {error}")
    assert (err.count("\n"), out) == (1, "")


@pytest.mark.nightly
def test_a_line_with_another_number_of_cells_is_reported_before_anything_is_sent(broker, topics, tmp_path):
    rows = "".join(
        f"{i},{i % 2}\n" for i in range(300_000)
    )  # more than the block from which Arrow infers the types
    (tmp_path / "t.csv").write_text(f"a,label\n{rows}1,1,1\n")
    run = subprocess.run(
        command(broker, "csv", tmp_path / "t.csv", "--topic", topics[0]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "producers: t.csv: cannot read row 300001: it has 3 fields, and the file 2 columns\n"
    assert records_of(broker, topics[0]) == []


@pytest.mark.nightly
def test_the_machine_is_sent_in_real_time(broker, topics):
    pytest.importorskip("psutil")
    began = time.monotonic()
    flags = ["--topic", topics[0], "--unlabeled-topic", topics[1], "--unlabeled", 1, "--records", 30]
    run = subprocess.run(
        command(broker, "machine", *flags), capture_output=True, text=True, timeout=60, check=True
    )
    assert time.monotonic() - began > 30 / 20 + 1  # the last label comes a second after the last row
    result = json.loads(run.stdout.splitlines()[-1])
    assert (result["labeled"], result["unlabeled"]) == (30, 30)
    unlabeled = {r.key: r.timestamp for r in records_of(broker, topics[1])}
    labeled = {r.key: r.timestamp for r in records_of(broker, topics[0])}
    assert unlabeled.keys() == labeled.keys()
    waits = sorted((labeled[key] - unlabeled[key]) / 1000 for key in labeled)
    assert waits[len(waits) // 2] == pytest.approx(1, abs=0.2)


def test_the_settings_file_names_the_broker(broker, topics, tmp_path):
    (tmp_path / "streaming-nn.toml").write_text(f'[kafka]\nbootstrap.servers = "{broker.bootstrap}"\n')
    line = [sys.executable, "-m", "producers", "sea", "--topic", topics[0], "--records", "50"]
    run = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.startswith("sea: 50 labeled acknowledged in ")
    assert len(records_of(broker, topics[0])) == 50


@pytest.mark.commit
def test_the_schema_of_avro_records_is_written(tmp_path):
    file = tmp_path / "record.avsc"
    schema = schema_of(sea(0), Plan("t", format="avro"))
    write_avro_schema(schema, file)
    assert file.read_text() == schema.avro_schema + "\n"
    with pytest.raises(ValueError, match="--avro-schema needs --format avro; got json"):
        write_avro_schema(schema_of(sea(0), Plan("t")), file)
    with pytest.raises(ValueError, match=r"cannot write --avro-schema .*: No such file or directory"):
        write_avro_schema(schema, tmp_path / "nowhere" / "record.avsc")


def run_json(broker, *flags):
    run = subprocess.run(command(broker, *flags), capture_output=True, text=True, timeout=60, check=True)
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture
def table(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,label\n1,2,yes\n3,4,no\n5,6,yes\n")
    return tmp_path / "t.csv"


SCHEMA = {"format": "json", "inputs": 2, "classes": ["no", "yes"], "features": "features", "label": "label"}
SCHEMA |= {"missing": False, "categories": {}, "csv_columns": []}
NOTHING = {
    "records": 0,
    "labeled": 0,
    "unlabeled": 0,
    "malformed": 0,
    "failed": 0,
    "seconds": 0,
    "error": None,
}


def describe(monkeypatch, tmp_path, *arguments):
    from typer.testing import CliRunner

    from producers.__main__ import app

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*map(str, arguments), "--describe"])
    assert result.exit_code == 0
    return json.loads(result.stdout)


@pytest.mark.commit
@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        ([], SCHEMA),
        (["--named", "--format", "csv"], SCHEMA | {"format": "csv", "features": ["a", "b"]}),
        (["--label", "b", "--features", "a", "--regression"], SCHEMA | {"inputs": 1, "classes": None}),
    ],
)
def test_describe_prints_the_schema_of_a_file(arguments, schema, table, monkeypatch, tmp_path):
    """It needs no broker: none is named, and none is running."""
    assert describe(monkeypatch, tmp_path, "csv", table, *arguments) == {"stream": "csv"} | NOTHING | schema


@pytest.mark.commit
def test_describe_prints_the_schema_of_other_streams(monkeypatch, tmp_path):
    found = describe(monkeypatch, tmp_path, "agrawal", "--named")
    assert (found["inputs"], found["classes"], found["features"][0]) == (9, [0, 1], "salary")


def test_a_described_file_is_sent_with_the_same_schema(broker, topics, table):
    result = run_json(broker, "csv", table, "--topic", topics[0])
    assert {name: result[name] for name in SCHEMA} == SCHEMA
    assert (result["records"], result["labeled"], result["error"]) == (3, 3, None)
    rows = decode(
        schema_from({name: result[name] for name in SCHEMA}), values_of(broker, topics[0]), labeled=True
    )
    assert sorted(rows.x[:, 0].tolist()) == [1, 3, 5]


def values_of(broker, topic):
    return [record.value for record in records_of(broker, topic)]


@pytest.mark.nightly
def test_all_records_can_have_one_timestamp(broker, topics, table):
    began = time.time() * 1000
    run_json(broker, "csv", table, "--topic", topics[0], "--timestamp", "now", "--rate", 10)
    (timestamp,) = {record.timestamp for record in records_of(broker, topics[0])}
    assert began <= timestamp <= time.time() * 1000
    run_json(broker, "csv", table, "--topic", topics[1], "--timestamp", 1_600_000_000_000)
    assert {record.timestamp for record in records_of(broker, topics[1])} == {1_600_000_000_000}


def test_missing_topics_are_created_and_existing_ones_kept(broker, topics):
    new = f"{topics[1]}-created"
    flags = ["--unlabeled-topic", new, "--unlabeled", 0.5, "--create-topics", "--partitions", 4]
    result = run_json(broker, "sea", "--topic", topics[0], "--records", 100, *flags)
    assert result["records"] == 100
    assert len(records_of(broker, new)) == result["unlabeled"] > 0
    found = admin.partitions(broker.options, [topics[0], new])
    assert {topic: len(numbers) for topic, numbers in found.items()} == {topics[0]: 3, new: 4}


def test_a_topic_is_created_with_one_partition(broker, topics):
    new = f"{topics[0]}-created"
    run_json(broker, "sea", "--topic", new, "--records", 5, "--create-topics")
    assert admin.partitions(broker.options, [new]) == {new: [0]}
