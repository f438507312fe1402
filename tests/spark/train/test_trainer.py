"""The trainer on a real broker: every record counts once, and a run stops at what cannot be right."""

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka_topics import (
    SCHEMA,
    fill,
    labeled,
    learn,
    learned_ranges,
    manifests_of,
    read,
    rows_of,
    seamless,
    settings_of,
)
from pyspark.sql import SparkSession
from scraping import Running, get, scrape
from waiting import until

from streaming_nn.cli.train import _show as show
from streaming_nn.core import library
from streaming_nn.errors import DataLossError, DeadLetterError, TooManyRejectedError, exit_code
from streaming_nn.kafka import admin
from streaming_nn.settings import Settings
from streaming_nn.sinks.sink import Sinks
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.train.executor import TaskExecutor
from streaming_nn.spark.train.trainer import Trainer
from streaming_nn.versions.version import no_counts
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

MALFORMED: list[tuple[bytes, str, dict[str, str]]] = [  # value, counted by, the headers of its dead letter
    (b"{not json", "not JSON", {"reason": "not JSON"}),
    (
        b'{"features": [1, 2], "label": 1}',
        "wrong width: features",
        {"reason": "wrong width", "field": "features", "value": "an array of 2 elements"},
    ),
    (b'{"label": 1}', "field missing: features", {"reason": "field missing", "field": "features"}),
    (
        b'{"features": [1, 2, 3], "label": 7}',
        "label not in classes: 7",
        {"reason": "label not in classes", "field": "label", "value": "7"},
    ),
    (
        b'{"features": [1, 2, "x"], "label": 0}',
        "not a number: features",
        {"reason": "not a number", "field": "features[2]", "value": "'x'"},
    ),
]
HEADERS = [("trace", b"\x00\xff"), ("trace", b"twice"), ("empty", b"")]


def running(spark: SparkSession, settings: Settings) -> Trainer:
    """A trainer that runs until it is stopped."""
    train = settings.train.model_copy(update={"once": False, "trigger": "100 milliseconds"})
    trainer = Trainer.open(spark, settings.model_copy(update={"train": train}))
    trainer.start()
    return trainer


@pytest.mark.smoke
def test_every_record_is_learned_or_becomes_a_dead_letter(
    spark: SparkSession, broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming_nn.sinks.position.POLL", 0.1)
    topic = broker.topic("rows", 3)
    metrics = {"prometheus": "127.0.0.1:0", "group": f"group-{topic}"}
    settings = settings_of(broker.options, tmp_path / "model", topic, metrics=metrics)
    fill(broker.options, topic, labeled(2500))
    keys = [b"key-0", b"", None, b"\xff", b"key-4"]
    fill(
        broker.options,
        topic,
        [v for v, _, _ in MALFORMED] + [None],
        None,
        [*keys, b"d"],
        [HEADERS, [], HEADERS],
    )
    trainer = Trainer.open(spark, settings)
    with ExitStack() as stack:
        server = stack.enter_context(closing(Running()))
        sinks = Sinks(trainer.log, show(server, trainer, stack, as_table=False))
        trainer.start()
        trainer.wait()
        assert sinks.stop(drain=10)
        until(lambda: get(server, "/readyz") == (200, "ready\n"))
        found = scrape(server)

    with admin.KafkaAdmin(broker.options) as client:
        assert client.committed(f"group-{topic}") == client.ends([topic])
    assert rows_of(settings.model) == {
        "received": 2506,
        "trained": 2500,
        "skipped": 0,
        "rejected": 5,
        "filtered": 1,
    }
    manifests = manifests_of(settings.model)
    for outcome in ("trained", "skipped", "rejected", "filtered"):
        assert found["records_total", (outcome,)] == rows_of(settings.model)[outcome]
    assert found["dead_letters_total", ()] == 5
    assert found["head_version", ()] == found["micro_batch_step_seconds_count", ("learn",)]
    assert {key: n for key, n in found.items() if key[0] == "lag_offsets"} == {
        ("lag_offsets", (str(p), topic)): 0 for p in range(3)
    }
    assert len(manifests) > 3, "one micro-batch would prove little"
    counted = sum((Counter(m.rejected_by_reason) for m in manifests), Counter())
    assert counted == Counter(reason for _, reason, _ in MALFORMED)
    assert [m.metrics["prequential"]["cumulative"]["accuracy"] > 0.8 for m in manifests[-1:]] == [True]
    assert manifests[-1].metrics["rows"] == 2500

    sources = {(r.partition, r.offset): r for r in read(broker.options, topic)}
    dead_letters = read(broker.options, settings.train.dead_letters)
    described = {value: headers for value, _, headers in MALFORMED}
    assert Counter(x.value for x in dead_letters) == Counter(list(described))
    for letter in dead_letters:
        headers = {k: v.decode() for k, v in letter.headers if k.startswith("streaming_nn.")}
        assert headers.pop("streaming_nn.topic") == topic
        position = int(headers.pop("streaming_nn.partition")), int(headers.pop("streaming_nn.offset"))
        assert {name.removeprefix("streaming_nn."): value for name, value in headers.items()} == described[
            letter.value
        ]
        source = sources[position]
        assert (letter.key, letter.value) == (source.key, source.value)
        assert [h for h in letter.headers if not h[0].startswith("streaming_nn.")] == list(source.headers)


def test_spark_shows_the_query_by_its_model_and_its_jobs_by_the_version(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("rows")
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(1500))
    trainer = Trainer.open(spark, settings, executor=TaskExecutor(spark))
    traced = list[tuple[int, list[str]]]()
    trainer.traced = lambda manifest, steps, _: traced.append((manifest.number, [*steps]))
    assert trainer.start().name == f"train {settings.model}"
    trainer.wait()

    context: Any = spark.sparkContext
    context._jsc.sc().listenerBus().waitUntilEmpty()  # the UI is one of its listeners
    jobs = context._jsc.sc().statusStore().jobsList(None)
    texts = [jobs.apply(i).description() for i in range(jobs.size())]
    described = {text.get() for text in texts if text.isDefined()}  # jobs of other tests have none
    window = VersionLog(settings.model).manifest(1).metrics["prequential"]["window"]
    figures = [f"{name} {window[name]:.3f}" for name in ("accuracy", "f1_macro", "log_loss")]
    expected = f"train {settings.model} after version 1: 1,000 rows, {', '.join(figures)}"
    assert {f"train {settings.model} after version 0: 0 rows", expected} <= described
    assert traced == [(n, ["plan", "learn", "dead_letters", "commit", "publish"]) for n in (1, 2)]


def test_a_record_without_key_and_value_is_filtered(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    """kafka-python cannot send such a record; other clients (Spark's here) can."""
    topic = broker.topic("nothing")
    settings = settings_of({**broker.options, "acks": "1"}, tmp_path / "model", topic)
    nothing = spark.createDataFrame([(None, None)], "key binary, value binary")
    sink = {"kafka.bootstrap.servers": broker.bootstrap, "topic": topic}
    nothing.write.format("kafka").options(**sink).save()
    learn(spark, settings)
    assert rows_of(settings.model)["filtered"] == 1
    assert read(broker.options, settings.train.dead_letters) == []


@pytest.mark.smoke
def test_a_second_run_resumes_from_the_head(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("again", 3)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(1200))
    learn(spark, settings)
    middle = VersionLog(settings.model).head_number()
    learn(spark, settings)
    assert VersionLog(settings.model).head_number() == middle, "no record arrived, so nothing is learned"
    fill(broker.options, topic, labeled(900, seed=1))
    learn(spark, settings)

    assert rows_of(settings.model)["trained"] == 2100
    found = learned_ranges(settings.model)
    assert {partition: (r[0][0], r[-1][1]) for partition, r in found.items()} == {
        (topic, p): (0, 700) for p in range(3)
    }
    assert all(seamless(ranges) for ranges in found.values())

    log = VersionLog(settings.model)
    result = verify(spark, broker.options, log)
    assert result.identical, result
    assert (result.first, result.last, result.rows) == (1, log.head_number(), 2100)
    assert middle is not None
    part = verify(spark, broker.options, log, middle + 1, middle + 1)
    assert part.identical, part
    assert part.rows == log.manifest(middle + 1).counts["received"]


def test_a_release_with_another_arithmetic_continues_and_names_it(
    spark: SparkSession,
    broker: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topic = broker.topic("arithmetic", 1)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(50))
    learn(spark, settings)
    log = VersionLog(settings.model)
    before = log.head_number()
    assert before is not None
    later = library.ARITHMETIC + 1
    monkeypatch.setattr(library, "RELEASES", {**library.RELEASES, later: "9.0.0"})
    monkeypatch.setattr(library, "ARITHMETIC", later)
    fill(broker.options, topic, labeled(50, seed=1))
    learn(spark, settings)
    assert f"arithmetic {later - 1}, and continues by {later}; `verify` of the versions before" in caplog.text
    change = {"event": "arithmetic changed", "from": later - 1, "to": later}
    assert log.manifest(before + 1).events == [change]
    assert verify(spark, broker.options, log, before + 1).identical
    with pytest.raises(ValueError, match=f"<9.0.0, and later versions with --from {before + 1}$"):
        verify(spark, broker.options, log)


def test_a_wrong_schema_stops_the_run(spark: SparkSession, broker: Any, tmp_path: Path) -> None:
    topic = broker.topic("wrong", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(40) + [b'{"pixels": [1, 2, 3], "label": 1}'] * 160)
    with pytest.raises(TooManyRejectedError, match="160 of 200 records cannot be learned") as caught:
        learn(spark, settings)
    reason, first, advice = str(caught.value).splitlines()
    assert "allows: 160 field missing: features. Nothing of this batch" in reason
    assert first == """  the first: b'{"pixels": [1, 2, 3], "label": 1}'"""
    assert advice == '  with records.features = "pixels", 160 of 160 would be read'
    log = VersionLog(settings.model)
    assert log.head_number() == 0
    assert read(broker.options, settings.train.dead_letters) == []

    fixed = settings.records.model_copy(update={"features": "pixels"})
    head = learn(spark, settings.model_copy(update={"records": fixed})).head
    kinds = [log.manifest(number).kind for number in range(head.number + 1)]
    assert kinds == ["initial", "initial", "learned"], "case 12: version 0 does not refuse other settings"
    assert head.manifest.counts == no_counts() | {"received": 200, "trained": 160, "rejected": 40}
    verified = verify(spark, broker.options, log)
    assert (verified.identical, verified.rows) == (True, 200)


def test_a_record_that_can_be_neither_learned_nor_recorded_stops_the_run(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic, dead_letters = broker.topic("full"), broker.topic("dead", config={"max.message.bytes": "100"})
    settings = settings_of(broker.options, tmp_path / "model", topic, train={"dead_letters": dead_letters})
    fill(broker.options, topic, [*labeled(50), b"x"])
    with pytest.raises(DeadLetterError, match=r"max\.message\.bytes of the topic.* offset 50 of") as caught:
        learn(spark, settings)
    assert exit_code(caught.value) == 7
    assert VersionLog(settings.model).head_number() == 0


def test_rejected_bytes_past_the_limit_are_cut_and_the_run_goes_on(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("heavy", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic, train={"max_rejected_bytes": 20_000})
    fill(broker.options, topic, labeled(200) + [b"x" * 5000] * 10)
    learn(spark, settings)
    assert rows_of(settings.model)["rejected"] == 10
    letters = read(broker.options, settings.train.dead_letters)
    assert len({tuple(x.headers) for x in letters}) == len(letters) == 10
    whole = [x for x in letters if x.value == b"x" * 5000]
    assert len(whole) == 3
    assert all(("streaming_nn.cut", b"value") in x.headers for x in letters if x not in whole)


@pytest.mark.parametrize(
    ("planned", "refilled"),
    [
        pytest.param(
            True, 2000, marks=pytest.mark.nightly, id="during a batch, refilled to the same offsets"
        ),
        pytest.param(False, 2000, marks=pytest.mark.nightly, id="between two, refilled to the same offsets"),
        pytest.param(True, 30, marks=pytest.mark.nightly, id="during a batch"),
        pytest.param(False, 30, id="between two"),
    ],
)
def test_a_recreated_topic_stops_the_run_unless_accepted(
    spark: SparkSession, broker: Any, tmp_path: Path, planned: bool, refilled: int
) -> None:
    """The batch is planned on the old topic or the new one, which has the same offsets or does not."""
    topic = broker.topic("recreated", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(400))
    trainer = running(spark, settings)
    try:
        trainer.drain()
        head = VersionLog(settings.model).head_number()
        with trainer.busy if planned else asleep(spark):
            if planned:  # and waits for the lock
                fill(broker.options, topic, labeled(100, seed=1))
                until(lambda: (trainer.source.checkpoint / "offsets" / str(head)).exists())
            admin.delete(broker.options, topic)
            admin.create(broker.options, topic, 2)
            fill(broker.options, topic, labeled(refilled, seed=2))
        with pytest.raises(DataLossError, match="was recreated"):
            trainer.wait(90)
    finally:
        trainer.stop()
    assert VersionLog(settings.model).head_number() == head
    assert rows_of(settings.model)["received"] == 400

    with pytest.raises(DataLossError, match="was recreated"):
        Trainer.open(spark, settings)
    accepted = settings.train.model_copy(update={"accept_data_loss": True})
    learn(spark, settings.model_copy(update={"train": accepted}))
    assert rows_of(settings.model)["received"] == 400 + refilled
    assert manifests_of(settings.model)[-1].topic_ids == admin.ids(broker.options, [topic])


@contextmanager
def asleep(spark: SparkSession) -> Iterator[None]:
    """Suspend Spark's JVM, so that it plans no micro-batch meanwhile."""
    jvm: Any = spark.sparkContext._gateway
    os.kill(jvm.proc.pid, signal.SIGSTOP)  # the launcher's shell has become the JVM by `exec`
    try:
        yield
    finally:
        os.kill(jvm.proc.pid, signal.SIGCONT)


def expire(broker: Any, topic: str, before: dict[int, int]) -> None:
    """Delete the records before these offsets, as retention does."""
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.delete_records({TopicPartition(topic, p): offset for p, offset in before.items()})
    admin.close()


def test_records_that_expire_while_a_run_reads_stop_it_unless_learned(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    """Learned records may expire; those that are planned and not read yet may not."""
    topic = broker.topic("shrinks", 2)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(400))
    trainer = running(spark, settings)
    try:
        trainer.drain()
        expire(broker, topic, {0: 200, 1: 150})
        fill(broker.options, topic, labeled(100, seed=1))
        until(lambda: rows_of(settings.model)["trained"] == 500)
        trainer.drain()
    finally:
        trainer.stop()
    head = VersionLog(settings.model).head_number()
    other = {**settings.kafka, "client.id": "another"}  # its consumers have read nothing ahead
    trainer = Trainer.open(spark, settings.model_copy(update={"kafka": other}))
    fill(broker.options, topic, labeled(100, seed=2))
    try:
        with trainer.busy:  # the first batch waits here
            trainer.start()
            until(lambda: (trainer.source.checkpoint / "offsets" / "0").exists())
            expire(broker, topic, {0: 260})
        with pytest.raises(
            DataLossError, match=f"offsets 250 to 259 of '{topic}' partition 0 expired before"
        ) as caught:
            trainer.wait(90)
    finally:
        trainer.stop()
    assert "\n" not in str(caught.value)
    assert VersionLog(settings.model).head_number() == head

    accepted = settings.train.model_copy(update={"accept_data_loss": True})
    learn(spark, settings.model_copy(update={"train": accepted}))
    assert rows_of(settings.model)["trained"] == 590
    found = learned_ranges(settings.model)
    assert (found[topic, 0][-1], found[topic, 1][-1]) == ((260, 300), (250, 300))


def test_records_that_expired_before_a_run_stop_it_unless_accepted(
    spark: SparkSession, broker: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic = broker.topic("short", 3)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(300))
    learn(spark, settings)
    head = VersionLog(settings.model).head_number()
    assert head is not None
    fill(broker.options, topic, labeled(300, seed=1))
    expire(broker, topic, {0: 150})

    expired = f"offsets 100 to 149 of '{topic}' partition 0 expired before"
    with pytest.raises(DataLossError, match=expired) as caught:
        Trainer.open(spark, settings)
    assert "--accept-data-loss" in str(caught.value)
    assert VersionLog(settings.model).head_number() == head

    accepted = settings.model_copy(
        update={"train": settings.train.model_copy(update={"accept_data_loss": True})}
    )
    trainer = Trainer.open(spark, accepted)
    trainer.start()
    trainer.wait()
    event = {"event": "data loss accepted", "lost": {topic: {"0": [100, 150]}}}
    assert [m.events for m in manifests_of(settings.model)[head + 1 :]] == [[event]]
    assert any("continuing despite" in line and "150" in line for line in caplog.messages)
    assert rows_of(settings.model)["received"] == 550
    assert learned_ranges(settings.model)[topic, 0] == [(0, 100), (150, 200)]
    assert verify(spark, broker.options, VersionLog(settings.model), head + 1).identical
    with pytest.raises(DataLossError, match="partition 0 from offset 0"):
        verify(spark, broker.options, VersionLog(settings.model))


def test_added_partitions_are_read_from_their_first_record(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    """One during the run, one between two runs."""
    topic = broker.topic("grows", 1)
    settings = settings_of(broker.options, tmp_path / "model", topic)
    fill(broker.options, topic, labeled(200))
    trainer = running(spark, settings)
    try:
        trainer.drain()
        admin.add_partitions(broker.options, topic, 2)
        fill(broker.options, topic, labeled(150, seed=1), [1])
        until(lambda: rows_of(settings.model)["received"] == 350)
    finally:
        trainer.stop()
    admin.add_partitions(broker.options, topic, 3)
    fill(broker.options, topic, labeled(90, seed=2), [2, 1, 0])
    learn(spark, settings)

    found = learned_ranges(settings.model)
    ends = admin.ends(broker.options, [topic])[topic]
    assert ends == {0: 230, 1: 180, 2: 30}
    assert {p: (r[0][0], r[-1][1]) for (_, p), r in found.items()} == {p: (0, end) for p, end in ends.items()}
    assert all(seamless(ranges) for ranges in found.values())
    assert rows_of(settings.model)["trained"] == 440
    assert verify(spark, broker.options, VersionLog(settings.model)).identical


def test_a_start_opens_one_admin_connection(
    spark: SparkSession, broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, connections = admin._connect, []

    def count(*options: Any) -> Any:
        connections.append(options)
        return connect(*options)

    settings = settings_of(broker.options, tmp_path, broker.topic("once"))
    monkeypatch.setattr(admin, "_connect", count)
    for number, start in enumerate(("new", "resumed"), 1):
        Trainer.open(spark, settings).stop()
        assert len(connections) == number, start


def test_a_run_of_available_records_reports_its_progress(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    calls: list[tuple[str, int, int]] = []
    topic = broker.topic("long", 2)
    settings = settings_of(broker.options, tmp_path, topic)
    for rows in (1500, 2500):
        fill(broker.options, topic, labeled(rows, seed=rows))
        trainer = Trainer.open(spark, settings)
        trainer.progress = lambda *call: calls.append(call)
        trainer.start()
        trainer.wait()
    done = [(1000, 1500), (1500, 1500), (1000, 2500), (2000, 2500), (2500, 2500)]
    assert calls == [("learning records", *each) for each in done]


def test_settings_that_need_other_tensors_are_refused(
    spark: SparkSession, broker: Any, tmp_path: Path
) -> None:
    topic = broker.topic("fixed")
    fill(broker.options, topic, labeled(20))
    settings = settings_of(broker.options, tmp_path / "model", topic)
    learn(spark, settings)
    with pytest.raises(ValueError, match=r"was created with hidden = \[8\], now \[9\]") as caught:
        Trainer.open(spark, settings.model_copy(update={"learner": {"hidden": [9]}}))
    assert "\n" not in str(caught.value)
    wider = settings_of(broker.options, settings.model, topic, records={"inputs": 4})
    with pytest.raises(ValueError, match=r"was created with records.inputs = 3, now 4"):
        Trainer.open(spark, wider)
    Trainer.open(spark, settings.model_copy(update={"learner": {"eta": 0.5}}))  # this option may change


def test_width_and_classes_are_inferred(
    spark: SparkSession, broker: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    topic, few = broker.topic("unknown", 3), broker.topic("few")
    settings = settings_of(broker.options, tmp_path / "model", topic, records={})
    fill(broker.options, topic, [b'{"features": [1, 2], "label": 9}', b"", *labeled(1500)])
    Trainer.open(spark, settings)
    assert any("3 features, classes [0, 1" in line for line in caplog.messages), caplog.messages
    schema = VersionLog(settings.model).manifest(0).schema
    assert schema["inputs"] == SCHEMA.inputs

    fill(broker.options, few, labeled(20))
    with pytest.raises(ValueError, match=r"has 20 records.*set records.inputs and records.classes"):
        Trainer.open(spark, settings_of(broker.options, tmp_path / "few", few, records={}))
    assert VersionLog(tmp_path / "few").head_number() is None


@pytest.mark.parametrize("update", ["sequential", "averaged"])
def test_empty_and_small_micro_batches_are_learned_in_the_driver(
    spark: SparkSession, broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: str
) -> None:
    def tasks(*_: Any) -> Any:
        raise AssertionError("a Spark job was started")

    monkeypatch.setattr("streaming_nn.spark.sources.kafka_source.KafkaPlan.tasks", tasks)
    topic = broker.topic("empty")
    train = {"update": update, "once": False}
    trainer = Trainer.open(spark, settings_of(broker.options, tmp_path, topic, train=train))
    trainer.start()
    try:
        trainer.drain()
        assert trainer.head.number == 0
        assert "reader" in vars(trainer.source)  # it is compiled before there is anything to learn
        fill(broker.options, topic, labeled(20))
        trainer.drain()
    finally:
        trainer.stop()
    assert rows_of(tmp_path) == {"received": 20, "trained": 20, "skipped": 0, "rejected": 0, "filtered": 0}


@pytest.mark.parametrize("update", ["sequential", "averaged"])
def test_the_driver_learns_the_same_bits_as_tasks(
    spark: SparkSession, broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: str
) -> None:
    topic = broker.topic("few", partitions=3)
    fill(broker.options, topic, [*labeled(150), b"{not json", *labeled(49, seed=1)])
    train = {"update": update, "max_offsets_per_trigger": 90}
    seen = []
    for few, name in ((1000, "driver"), (0, "tasks")):
        monkeypatch.setattr("streaming_nn.spark.train.executor.DRIVER_RECORDS", few)
        learn(spark, settings_of(broker.options, tmp_path / name, topic, train=train))
        found = manifests_of(tmp_path / name)
        seen.append(
            [
                (manifest.digest, manifest.counts, manifest.rejected_by_reason, manifest.ranges)
                for manifest in found
            ]
        )
    assert seen[0] == seen[1]
    assert rows_of(tmp_path / "driver") == {
        "received": 200,
        "trained": 199,
        "skipped": 0,
        "rejected": 1,
        "filtered": 0,
    }
