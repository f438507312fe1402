"""The command: what it says was acknowledged is what the topics hold, also after Ctrl-C."""

import json
import signal
import subprocess
import sys
import time

import pytest
from kafka import KafkaConsumer, TopicPartition

from producers.__main__ import _keep as keep
from producers.generators import sea
from producers.messages import Plan, schema_of
from streaming_nn.records.decode import decode


def command(broker, *flags):
    options = ["--kafka", f"bootstrap.servers={broker.bootstrap}", "--json", *map(str, flags)]
    return [sys.executable, "-m", "producers", *options]


def held(broker, topic):
    """All records of a topic."""
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


def until(happened, seconds=30):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def topics(broker):
    return broker.topic("labeled", partitions=3), broker.topic("unlabeled", partitions=2)


def flags(topics):
    return ("--topic", topics[0], "--unlabeled-topic", topics[1], "--unlabeled", 0.1, "--malformed", 0.02)


def check(broker, topics, said):
    labeled, unlabeled = held(broker, topics[0]), held(broker, topics[1])
    decoded = decode(schema_of(sea(0), Plan("t")), [r.value for r in labeled], labeled=True)
    assert said["labeled"] == len(decoded.kept)
    assert said["malformed"] == len(decoded.rejected)
    assert said["unlabeled"] == len(unlabeled)
    keys = [int(r.key) for r in labeled + unlabeled]
    assert sorted(keys) == list(range(len(keys)))
    return {r.partition for r in labeled}


def test_counts_equal_the_topics(broker, topics, tmp_path):
    run = subprocess.run(
        command(broker, "sea", *flags(topics), "--records", 3000, "--drift-at", 500, "--compression", "gzip"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = json.loads(run.stdout.splitlines()[-1])
    assert said["labeled"] + said["unlabeled"] + said["malformed"] == 3000
    assert (said["failed"], said["error"]) == (0, None)
    assert run.stderr.strip() == "row 500: the world changes"
    assert check(broker, topics, said) == {0, 1, 2}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(broker, topics, number):
    process = subprocess.Popen(
        command(broker, "sea", *flags(topics), "--rate", 500), stdout=subprocess.PIPE, text=True
    )
    until(lambda: len(held(broker, topics[0])) > 200)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    said = json.loads(out.splitlines()[-1])
    assert said["labeled"] > 0
    check(broker, topics, said)


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["sea2"], "stream must be one of digits"),
        (["sea", "--drift-at", "3s"], "drift-at in seconds needs --rate; got '3s' without"),
        (["sea", "--drift-at", "x"], "drift-at must be rows, like 5000, or seconds, like 30s; got 'x'"),
        (["csv"], "csv needs a file: python -m producers csv FILE"),
        (["sea", "--format", "xml"], "format must be one of 'json', 'packed', 'csv', 'avro'; got 'xml'"),
        (["sea", "--kafka", "x"], "--kafka must be key=value; got 'x'"),
        (["sea", "--set", "noise"], "--set must be key=value; got 'noise'"),
        (["sea", "--named"], "named fields need a stream whose features have names"),
        (["agrawal", "--named", "--format", "packed"], "named fields need JSON, CSV or Avro; got packed"),
        (["sea", "--seed", "-1"], "seed must be 0 or more; got -1"),
        (["sea", "--records", "0"], "--records must be 1 or more; got 0"),
        (["sea", "--seconds", "-1"], "--seconds must be more than 0; got -1"),
        (["sea", "t.csv"], "FILE is for csv, npz, parquet; got it for sea"),
        (["sea", "--loop"], "--loop is for csv, npz, parquet; got it for sea"),
        (["csv", "t.csv", "--drift-at", "5"], "--drift-at is for digits, sea,"),
        (["csv", "t.csv", "--set", "noise=1"], "--set is for digits, sea,"),
        (["csv", "t.csv", "--time", "t", "--rate", "5"], "--time gives the file's own pace, --rate another"),
        (["csv", "t.csv", "--speed", "5"], "--speed is of recorded times, and needs --time; got 5 without"),
        (["machine", "--label-delay", "5"], "--label-delay is for digits, sea,"),
        (["machine", "--drift-at", "5"], "--drift-at is for digits, sea,"),
        (["machine", "--rate", "1000"], "machine's rate must be 1 to 100 samples a second"),
        (["sea", "--label-delay", "5"], "label_delay = 5 is of unlabeled rows; got unlabeled = 0"),
        (
            ["sea", "--kafka", "bootstrap.servers=127.0.0.1:1", "--kafka", "request.timeout.ms=1000"],
            "no producer for",
        ),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_2(flags, error, monkeypatch, capsys, tmp_path):
    from typer.testing import CliRunner

    import producers.send
    from producers.__main__ import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(producers.send, "BOOTSTRAP_MS", 1000)
    result = CliRunner().invoke(app, flags)
    assert result.exit_code == 2
    assert f"producers: {error}" in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "flags",
    [["--topic", "nowhere"], ["--topic", "{there}", "--unlabeled-topic", "nowhere", "--unlabeled", 1]],
)
def test_a_topic_that_is_not_there_is_told_at_once(broker, topics, flags):
    flags = [str(flag).format(there=topics[0]) for flag in flags]
    began = time.monotonic()
    run = subprocess.run(
        command(broker, "sea", *flags, "--records", 5), capture_output=True, text=True, timeout=120
    )
    assert time.monotonic() - began < 30  # the producer alone gives up after 60
    assert run.stderr == f"producers: topic 'nowhere' does not exist at {broker.bootstrap}\n"
    assert (run.returncode, run.stdout) == (2, "")


def test_help_says_which_settings_are_used():
    from typer.testing import CliRunner

    from producers.__main__ import app

    said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert "Settings whose kafka table is used" in " ".join(said.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sea", "--rate", "fast"], "Invalid value for '--rate'"),
        (["sea", "--recods", "5"], "No such option: --recods"),
        (["sea", "a", "b"], "Got unexpected extra argument"),
    ],
)
def test_words_that_are_no_command_are_one_line(words, said, monkeypatch, capsys):
    from producers.__main__ import main

    monkeypatch.setattr(sys, "argv", ["producers", *words])
    assert main() == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"producers: {said}")
    assert (err.count("\n"), out) == (1, "")


@pytest.mark.slow
def test_a_file_that_is_damaged_further_on_is_told_after_what_came_before(broker, topics, tmp_path):
    rows = "".join(f"{i},{i % 2}\n" for i in range(300_000))  # more than the block that tells the types
    (tmp_path / "t.csv").write_text(f"a,label\n{rows}what?,1\n")
    run = subprocess.run(
        command(broker, "csv", tmp_path / "t.csv", "--topic", topics[0]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1
    said = json.loads(run.stdout.splitlines()[-1])
    assert said["labeled"] > 0
    assert said["failed"] == 0
    assert run.stderr.startswith("producers: t.csv can't be read as CSV: ")
    assert run.stderr.count("\n") == 1
    assert len(held(broker, topics[0])) == said["labeled"]


def test_the_machine_is_sent_at_its_own_pace(broker, topics):
    pytest.importorskip("psutil")
    began = time.monotonic()
    flags = ["--topic", topics[0], "--unlabeled-topic", topics[1], "--unlabeled", 1, "--records", 30]
    run = subprocess.run(
        command(broker, "machine", *flags), capture_output=True, text=True, timeout=60, check=True
    )
    assert time.monotonic() - began > 30 / 20 + 1  # the last label comes a second after the last row
    said = json.loads(run.stdout.splitlines()[-1])
    assert (said["labeled"], said["unlabeled"]) == (30, 30)
    asked = {r.key: r.timestamp for r in held(broker, topics[1])}
    told = {r.key: r.timestamp for r in held(broker, topics[0])}
    assert asked.keys() == told.keys()
    waits = sorted((told[key] - asked[key]) / 1000 for key in told)
    assert waits[len(waits) // 2] == pytest.approx(1, abs=0.2)


def test_the_settings_file_gives_the_broker(broker, topics, tmp_path):
    (tmp_path / "streaming-nn.toml").write_text(f'[kafka]\nbootstrap.servers = "{broker.bootstrap}"\n')
    line = [sys.executable, "-m", "producers", "sea", "--topic", topics[0], "--records", "50"]
    run = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.startswith("sea: 50 labeled acknowledged in ")
    assert len(held(broker, topics[0])) == 50


def test_the_schema_of_avro_records_is_kept(tmp_path):
    file = tmp_path / "record.avsc"
    schema = schema_of(sea(0), Plan("t", format="avro"))
    keep(schema, file)
    assert file.read_text() == schema.avro_schema + "\n"
    with pytest.raises(ValueError, match="avro-schema is for format avro; got json"):
        keep(schema_of(sea(0), Plan("t")), file)
    with pytest.raises(ValueError, match=r"avro-schema can't be written to .*: No such file or directory"):
        keep(schema, tmp_path / "nowhere" / "record.avsc")
