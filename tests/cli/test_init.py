"""`streaming-nn init`: the file that it writes decodes the records, as the trainer does. No JVM."""

import gzip
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import HealthCheck
from hypothesis import given as drawn
from hypothesis import settings as profile
from hypothesis import strategies as st
from kafka import KafkaProducer
from paths import ROOT

from streaming_nn.cli import app, init
from streaming_nn.kafka import admin, reader
from streaming_nn.records import avro
from streaming_nn.records.decode import Decoded, decode
from streaming_nn.records.schema import Schema
from streaming_nn.settings import load
from streaming_nn.spark.train.initial_schema import read_schema

pytestmark = pytest.mark.commit

WORDS = ["init", "--bootstrap", "here:9092", "--topic", "sales"]
N = 120


class Topics:
    """A broker of which only the names of topics and the first records are known."""

    def __init__(self, values: Sequence[bytes | None] = ()):
        self.values, self.names, self.created = list(values), ["sales"], dict[str, int]()
        self.options: list[dict[str, str]] = []

    def __call__(self, kafka: Any) -> "Topics":
        assert kafka["bootstrap.servers"] == "here:9092"
        self.options.append(dict(kafka))
        return self

    def __enter__(self) -> "Topics":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def topics(self) -> list[str]:
        return self.names

    def partitions(self, topics: list[str]) -> dict[str, list[int]]:
        return {topic: [0, 1, 2] for topic in topics}

    def create(self, name: str, partitions: int, exist_ok: bool) -> None:
        self.created[name] = partitions

    def first_values(self, kafka: Any, topic: str, count: int) -> list[bytes | None]:
        if topic not in self.names:
            raise LookupError(f"topic {topic!r} does not exist at here:9092")
        return self.values[:count]


class First:
    """A source of the trainer's with the same records."""

    name = "topic sales"

    def __init__(self, values: Sequence[bytes | None]):
        self.values = list(values)

    def first_values(self, rows: int) -> list[bytes | None]:
        return self.values[:rows]


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Topics:
    found = Topics()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(admin, "KafkaAdmin", found)
    monkeypatch.setattr(reader, "first_values", found.first_values)
    return found


def as_trained(values: Sequence[bytes | None]) -> tuple[Any, Decoded]:
    """The schema that the trainer infers with the file's settings, and the rows that it then decodes."""
    settings = load("streaming-nn.toml", sets=["train.once=true"])
    assert settings.kafka == {"bootstrap.servers": "here:9092"}
    schema = read_schema(First(values), settings)
    return schema, decode(schema, values, labeled=True)


def run(*words: str, values: Sequence[bytes | None], topics: Topics, capsys: Any) -> dict[str, Any]:
    topics.values = list(values)
    assert app.run([*WORDS, "--json", "--force", *words]) == 0, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def in_json(rows: Any) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


X = [[i / 8, -1.5 * i] for i in range(N)]
LETTERS = ["ab"[i % 2] for i in range(N)]
LINES = [f"{a},{b},{letter}".encode() for (a, b), letter in zip(X, LETTERS, strict=True)]
NAMED = [{"id": i, "a": {"b": a}, "c": c, "target": i % 2} for i, (a, c) in enumerate(X)]
FRAMINGS: dict[str, list[bytes]] = {
    "array": in_json({"features": x, "label": y} for x, y in zip(X, LETTERS, strict=True)),
    "array by another name": in_json({"v": x, "y": y} for x, y in zip(X, LETTERS, strict=True)),
    "nested": in_json(NAMED),
    "gzip": [gzip.compress(blob) for blob in in_json(NAMED)],
    "confluent": [b"\0\0\0\0\7" + blob for blob in in_json(NAMED)],
    "JSON strings": in_json(json.dumps(row) for row in NAMED),
    "UTF-16": [blob.decode().encode("utf-16") for blob in in_json(NAMED)],
    "numbers as strings": in_json({**row, "c": str(row["c"])} for row in NAMED),
    "lines": LINES,
    "semicolons": [line.replace(b",", b";").replace(b".", b",") for line in LINES],
    "header": [b"a,b,class", *LINES],
    "packed": [struct.pack("<i2f", i % 2, *x) for i, x in enumerate(X)],
}


@pytest.mark.parametrize("values", FRAMINGS.values(), ids=FRAMINGS)
def test_the_file_decodes_the_records_as_the_trainer_does(
    values: list[bytes], topics: Topics, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(values=values, topics=topics, capsys=capsys)
    schema, decoded = as_trained(values)
    assert decoded.x.tolist() == X
    assert decoded.y is not None
    assert decoded.y.tolist() == [i % 2 for i in range(N)]
    assert (found["kept"], found["records"]) == (N, len(values))
    assert [[*row["features"].values()] for row in found["rows"]] == X[: init.SHOWN]
    assert found["classes"] == [*schema.classes] in ([0, 1], ["a", "b"])


numbers = st.floats(-1e6, 1e6, width=32)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "number": numbers,
    "count": st.integers(-1000, 1000),
    "flag": st.booleans(),
    "town": st.sampled_from(["Ulm", "Bonn", "Rom"]),
    "gap": numbers | st.none(),
    "inner": st.fixed_dictionaries({"x.y": numbers, "z": st.fixed_dictionaries({"deep": numbers})}),
    "when": st.dates().map(str),
    "row": st.lists(numbers, min_size=3, max_size=3),
}
LABELS = st.sampled_from([(0, 1, 2), ("no", "yes"), (True, False)]).flatmap(st.sampled_from)


@profile(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@drawn(
    names=st.lists(st.sampled_from([*FIELDS]), min_size=1, unique=True),
    labels=st.sampled_from([(0, 1, 2), ("no", "yes"), (True, False), (0.25, 1.5, -3.75)]),
    data=st.data(),
)
def test_named_fields_of_every_kind_are_learned(
    names: list[str],
    labels: tuple[Any, ...],
    data: st.DataObject,
    topics: Topics,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Few distinct records, each several times: the rows are those that the trainer decodes, and all."""
    few = data.draw(st.lists(st.fixed_dictionaries({name: FIELDS[name] for name in names}), min_size=3))
    rows = [{**few[i % len(few)], "label": labels[i % len(labels)]} for i in range(N)]
    if any(all(row[name] is None for row in rows) for name in names):
        return  # such a field is left out
    values = in_json(rows)
    found = run(values=values, topics=topics, capsys=capsys)
    schema, decoded = as_trained(values)
    assert decoded.y is not None
    assert (found["kept"], found["reasons"], found["unused"]) == (N, {}, [])
    assert (len(decoded.kept), found["columns"]) == (N, schema.inputs)
    y = decoded.y.tolist()
    assert [schema.classes[i] if schema.classes else i for i in y] == [row["label"] for row in rows]
    for name in {"number", "count", "flag", "gap"} & {*names}:
        column = decoded.x[:, schema.columns.index(name)]
        assert np.array_equal(column, np.array([row[name] for row in rows], float), equal_nan=True)


def test_what_is_written_and_printed(topics: Topics, capsys: pytest.CaptureFixture[str]) -> None:
    topics.values = [*in_json(NAMED), b"broken", None]
    topics.names = ["sales", "sales-predictions"]
    sets = {"kafka.sasl.password": "xyzzy", "kafka.sasl.username": "me", "kafka.sasl.mechanism": "PLAIN"}
    sets |= {"kafka.security.protocol": "SASL_PLAINTEXT", "train.max_rejected": "0.25"}
    given = [word for name, value in sets.items() for word in ("-s", f"{name}={value}")]
    assert app.run([*WORDS, *given, "--model", "m"]) == 0
    out, _ = capsys.readouterr()
    text = Path("streaming-nn.toml").read_text()
    assert "xyzzy" not in text
    assert "# sasl.password is not here: set STREAMING_NN_KAFKA__SASL_PASSWORD" in text
    assert topics.options[-1]["sasl.password"] == "xyzzy"
    assert '# classes, inferred from the first 1,000 records: 0, 1; "grow": new labels become classes' in text
    used = load()
    assert (used.model, used.train.topics, used.train.max_rejected) == (Path("m"), ["sales"], 0.25)
    assert (used.train.dead_letters, used.score.predictions) == ("sales-dead-letters", "sales-predictions")
    assert (used.score.topic, used.metrics.file) == ("sales-unlabeled", "metrics.jsonl")
    assert (used.records.features, used.records.label) == (["a.b", "c"], "target")
    shown = [line.split() for line in out.splitlines()]
    assert ["field", "1", "2", "3", "4", "5"] in shown
    assert ["c", "0", "-1.5", "-3", "-4.5", "-6"] in shown
    assert ["label", "0", "1", "0", "1", "0"] in shown
    for line in (
        "topic sales: 122 records, read as json",
        "learned: 120 rows of 2 columns, classes 0, 1",
        "filtered: 1 record",
        "left out: id",
        "rejected: 1 record, 1 not JSON",
        "  the first: b'broken'",
        "wrote streaming-nn.toml",
        "topic sales-dead-letters: missing: `streaming-nn doctor` prints how to create it",
        "topic sales-predictions: exists",
        "next: streaming-nn train",
    ):
        assert line in out.splitlines()
    assert topics.created == {}


def test_the_page_shows_what_is_printed_and_written(
    topics: Topics, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "init.md").read_text()
    rows = [
        {
            "id": i,
            "shop": {"city": ("Ulm", "Bonn", "Rom")[i % 3]},
            "price": i / 4,
            "target": ("no", "yes")[i % 2],
        }
        for i in range(init.RECORDS)
    ]
    topics.values = [*in_json(rows)]
    topics.values[12] = b'{"id": 12, "shop'
    assert app.run([*WORDS, "--create-topics"]) == 0
    out = capsys.readouterr().out
    assert "".join(f"    {line.rstrip()}\n" for line in out.splitlines()) in page
    assert Path("streaming-nn.toml").read_text().replace("here:9092", "localhost:9092") in page


def test_it_creates_topics_and_keeps_a_file(topics: Topics, capsys: pytest.CaptureFixture[str]) -> None:
    found = run("-o", "a.toml", "--create-topics", values=in_json(NAMED), topics=topics, capsys=capsys)
    assert topics.created == {"sales-dead-letters": 1, "sales-predictions": 3}
    assert found["topics"] == dict.fromkeys(topics.created, "created")
    assert found["next"] == "streaming-nn train --config a.toml"
    before = Path("a.toml").read_bytes()
    assert app.run([*WORDS, "-o", "a.toml"]) == 2
    assert capsys.readouterr().err.startswith("streaming-nn: --output must be a new file")
    assert Path("a.toml").read_bytes() == before


UNCLEAR = in_json({"x": i / 3, "price": i % 2} for i in range(N))


@pytest.mark.parametrize(
    ("words", "values", "code", "message"),
    [
        ([], UNCLEAR, 2, "--label must name the label's field, one of x, price"),
        (["--label", "cost"], UNCLEAR, 2, "label must be among x, price; got 'cost'"),
        (["--label", "x", "--features", "y,"], UNCLEAR, 2, "features must be among x, price; got 'y'"),
        ([], [None], 1, "topic 'sales' at here:9092 has no records yet: send some, then repeat"),
        (
            ["--topic", "sale"],
            [],
            1,
            "topic 'sale' does not exist at here:9092; --topic must name one that does: there are sales",
        ),
        ([], [b"<a/>"] * 3, 2, "the records are in no format that is read: they look like XML: send JSON"),
        ([], [b"\x00\x00\x00\x00\x05\x04\x80\x3f\x02"] * 3, 2, "the records are in no format that is read"),
        ([], in_json([{"label": 1}] * 3), 2, "no field can be a feature besides the label 'label'"),
        (
            ["-s", "records.label=y", "--features", "x"],
            in_json([{"x": "1 m", "y": 1}] * 3),
            2,
            "cannot infer the schema",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[:1] == ["--label"] else None,
)
def test_a_mistake_ends_in_one_line_and_writes_nothing(
    words: list[str],
    values: list[bytes | None],
    code: int,
    message: str,
    topics: Topics,
    capsys: pytest.CaptureFixture[str],
) -> None:
    topics.values = values
    assert app.run([*WORDS, *words]) == code
    err = capsys.readouterr().err
    assert err.startswith(f"streaming-nn: {message}")
    assert err.count("\n") == 1
    assert not Path("streaming-nn.toml").exists()


def test_a_terminal_chooses_the_label_and_the_topics(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", lambda text, default, err: "x" if default == "price" else None)
    monkeypatch.setattr(typer, "confirm", lambda text, default, err: True)
    topics.values = [*UNCLEAR]
    assert app.run(WORDS) == 0
    assert (load().records.label, load().records.features) == ("x", ["price"])
    assert len(topics.created) == 2


def test_avro_is_read_by_its_schema(topics: Topics, capsys: pytest.CaptureFixture[str]) -> None:
    fields = [{"name": "a", "type": "double"}, {"name": "b", "type": "string"}, {"name": "y", "type": "int"}]
    schema = json.dumps({"type": "record", "name": "R", "fields": fields})
    Path("r.avsc").write_text(schema)
    rows = [{"a": i / 4, "b": "uv"[i % 2], "y": i % 3} for i in range(N)]
    values = avro.write(Schema(1, format="avro", avro_schema=schema), rows)
    found = run("-s", "records.avro_schema=r.avsc", values=values, topics=topics, capsys=capsys)
    assert load().records.avro_schema == "r.avsc"
    _, decoded = as_trained(values)
    assert decoded.y is not None
    assert decoded.y.tolist() == [row["y"] for row in rows]
    assert decoded.x[:, 0].tolist() == [row["a"] for row in rows]
    assert [row["features"] for row in found["rows"]] == [{"a": r["a"], "b": r["b"]} for r in rows[:5]]


@pytest.mark.merge
def test_a_real_topic(
    broker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from kafka_topics import fill  # imports Spark

    monkeypatch.chdir(tmp_path)
    topic = broker.topic("sales", 3)
    words = ["init", "--bootstrap", broker.bootstrap, "--topic", topic]
    assert app.run(words) == 1
    assert "has no records yet" in capsys.readouterr().err
    values = [*in_json(NAMED), b"broken", None]
    fill(broker.options, topic, values, keys=[b"key"] * len(values))  # a tombstone needs one
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=topic, acks="all")
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"aborted").get(10)
    producer.abort_transaction()
    producer.close()
    assert app.run([*words, "--create-topics", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["records"], found["kept"]) == (len(values), N)
    assert found["reasons"] == {"not JSON": 1}
    assert found["topics"] == {f"{topic}-dead-letters": "created", f"{topic}-predictions": "created"}
    assert {t: len(p) for t, p in admin.partitions(broker.options, found["topics"]).items()} == {
        f"{topic}-dead-letters": 1,
        f"{topic}-predictions": 3,
    }
    assert (load().kafka, load().records.features) == (broker.options, ["a.b", "c"])
    assert app.run(["init", "--bootstrap", broker.bootstrap, "--topic", "none", "--force"]) == 1
    assert "topic 'none' does not exist" in capsys.readouterr().err


def test_yes_takes_the_last_field(topics: Topics, capsys: pytest.CaptureFixture[str]) -> None:
    run("--yes", values=UNCLEAR, topics=topics, capsys=capsys)
    assert (load().records.label, load().records.features) == ("price", ["x"])
