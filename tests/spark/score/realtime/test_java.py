"""The Java class beside the batch engine: equal predictions, to the last bit, of each kind of record."""

import itertools
import json
import struct
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from each_member import thetas
from pyspark.sql import SparkSession

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Learner, initial
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.decode import encode
from streaming_nn.records.paths import parse_path
from streaming_nn.records.schema import Schema
from streaming_nn.spark import java_compiler
from streaming_nn.spark.score.predictions import Predict
from streaming_nn.spark.score.realtime.scorer import HERE, SOURCES
from streaming_nn.spark.session import SPARK_ERRORS
from streaming_nn.spark.tasks import pack
from streaming_nn.versions.retention import prune
from streaming_nn.versions.tags import tag
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge

INPUTS = 5
LABELS = ["a", 2, True, 'é"']
LONGEST = 5000  # bytes of fields
NAMES = itertools.count()


def rows(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Columns of several scales, the last constant but for a few rows far off."""
    x = np.random.default_rng(seed).normal(size=(count, INPUTS)) * [1, 1000, 1e-3, 5, 0] + [0, 7, 0, -2, 3]
    x[:: max(count // 3, 1), -1] = 1e6
    return x


def trained(options: dict[str, Any], count: int = 200) -> Any:
    """Return a learner and its state after some rows."""
    learner = learner_from({"inputs": INPUTS, **options})
    x, rng = rows(count), np.random.default_rng(1)
    if learner.columns_of_y is not None:
        noise = rng.normal(size=(count, learner.columns_of_y))
        y = (noise > 0).astype(np.int32) if learner.multilabel else (noise + x[:, :1]).astype(np.float32)
    elif learner.classes is None:
        y = np.rint(100 + 20 * x[:, 0] + rng.normal(size=count)).astype(np.float32)
    else:
        y = rng.integers(0, len(learner.classes), count).astype(np.int32)
    state = initial(learner)
    model, _, learned = learner.learn(learner.copy(state.model), Batch(x, y))
    assert learned == count
    return learner, state._replace(model=model)


def commit(log: VersionLog, learner: Learner[Any], state: Any, schema: Schema) -> Manifest:
    """Commit a version with the state."""
    options = {"learner": learner.options(), "schema": schema.options()}
    return log.commit(log.head(), flatten(state), **options).manifest


def predict_in_java(
    spark: SparkSession,
    model: Path,
    values: list[bytes | None],
    probabilities: str = "object",
    fields: tuple[str, ...] = (),
) -> list[dict[str, Any]]:
    predictor = java_compiler.instance(spark, HERE, SOURCES)
    paths = json.dumps({name: parse_path(name) for name in fields}) if fields else ""
    predictor.configure(str(model), 0.0, probabilities, False, paths, LONGEST)
    name = f"predict_{next(NAMES)}"
    java_compiler.register(spark, name, predictor)
    frame = spark.createDataFrame([(i, v) for i, v in enumerate(values)], "offset long, value binary")
    predictions = frame.selectExpr(f"{name}(value, 'unlabeled', 0, offset, null)").collect()
    return [json.loads(bytes(row[0])) for row in predictions]


def predict_in_python(
    learner: Learner[Any],
    state: Any,
    schema: Schema,
    manifest: Manifest,
    values: list[bytes | None],
    probabilities: str = "object",
    fields: tuple[str, ...] = (),
) -> list[dict[str, Any]]:
    version_fields = {"version": manifest.number, "digest": manifest.digest[:12]}
    broadcast = SimpleNamespace(value=pack(state))
    options: dict[str, Any] = {"probabilities": probabilities, "fields": fields, "longest": LONGEST}
    work = Predict(learner, schema, broadcast, version_fields, **options)
    batch = pa.record_batch(
        {
            "key": pa.nulls(len(values), pa.binary()),
            "value": pa.array(values, pa.binary()),
            "topic": ["unlabeled"] * len(values),
            "partition": pa.array([0] * len(values), pa.int32()),
            "offset": pa.array(range(len(values)), pa.int64()),
        }
    )
    return [json.loads(value.as_py()) for value in next(work(iter([batch]))).column("value")]


def assert_equal(java: list[dict[str, Any]], python: list[dict[str, Any]]) -> None:
    """Require the same fields in the same order, with equal values."""
    for ours, theirs in zip(java, python, strict=True):
        assert ours.pop("stale") is False
        assert 0 <= ours.pop("age_seconds") < 3600
        assert list(ours) == list(theirs)
        if isinstance(theirs.get("probabilities"), dict):
            assert list(ours["probabilities"]) == list(theirs["probabilities"])
        assert ours == theirs


MLP = {"learner": "mlp", "hidden": [16]}
ENSEMBLE = {"learner": "ensemble", "hidden": [16]}
TASKS: dict[str, dict[str, Any]] = {"labels": {"classes": LABELS}, "target": {"classes": None}}
SEVERAL: list[dict[str, Any]] = [
    {"classes": LABELS, "multilabel": True},
    {"targets": ["a", 'weather."b c"', "\u00e9"]},
    {"targets": ["one"]},
]
NETWORKS = {
    "mlp": MLP,
    "ensemble": ENSEMBLE,
    "tanh, deep": MLP | {"hidden": [7, 3], "activation": "tanh"},
    "sigmoid, minmax": ENSEMBLE | {"activation": "sigmoid", "scale": "minmax"},
    "linear, unscaled": MLP | {"hidden": [], "scale": "none", "clip_norm": 1.0},
    "ramps, mixed shapes": {
        "learner": "ensemble",
        "members": [
            {"optimizer": "adam", "learning_rate": 0.01, "inputs": "ramps", "hidden": []},
            {"optimizer": "sgd", "learning_rate": 0.03, "activation": "tanh", "linear": False},
            {"optimizer": "sgd", "learning_rate": 0.1, "inputs": "ramps", "hidden": [7, 3]},
        ],
    },
}


@pytest.mark.parametrize("format", ["json", "packed"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("network", NETWORKS)
def test_predictions_equal_those_of_the_batch_engine(
    spark: SparkSession, tmp_path: Path, network: str, task: str, format: str
) -> None:
    learner, state = trained(NETWORKS[network] | TASKS[task])
    schema = Schema(inputs=INPUTS, classes=learner.classes, format=format)
    manifest = commit(VersionLog(tmp_path), learner, state, schema)
    values = list[bytes | None](encode(replace(schema, label=None), rows(50, seed=2)))
    assert_equal(
        predict_in_java(spark, tmp_path, values), predict_in_python(learner, state, schema, manifest, values)
    )


@pytest.mark.parametrize(
    "options",
    [
        MLP | {"classes": [0, 1], "loss": "logistic"},
        MLP | {"classes": None, "loss": "huber", "huber_delta": 0.5},
        MLP | {"classes": None, "loss": "quantile", "activation": "gelu"},
        MLP | {"classes": None, "loss": "poisson", "activation": "softplus"},
        *(
            network | {"classes": [0, 1], "missing": missing, "scale": scale}
            for network, missing, scale in itertools.product(
                (MLP, ENSEMBLE), ("impute", "indicate"), ("standard", "minmax", "none")
            )
        ),
        MLP | {"classes": [0, 1], "missing": "indicate", "scale": "sparse"},
    ],
    ids=str,
)
def test_predictions_are_equal_with_other_options(
    spark: SparkSession, tmp_path: Path, options: dict[str, Any]
) -> None:
    learner, state = trained(options if options.get("scale") != "none" else options | {"clip": 1.0})
    missing = options.get("missing") is not None
    schema = Schema(inputs=INPUTS, classes=learner.classes, missing=missing)
    manifest = commit(VersionLog(tmp_path), learner, state, schema)
    x = rows(20, seed=3)
    if missing:
        x[::3, 1] = x[::4, 0] = np.nan
    values = list[bytes | None](encode(replace(schema, label=None), x))
    assert_equal(
        predict_in_java(spark, tmp_path, values), predict_in_python(learner, state, schema, manifest, values)
    )


@pytest.mark.parametrize("network", [MLP, ENSEMBLE], ids=["mlp", "ensemble"])
@pytest.mark.parametrize("several", SEVERAL, ids=str)
def test_several_targets_and_labels_are_predicted_alike(
    spark: SparkSession, tmp_path: Path, network: dict[str, Any], several: dict[str, Any]
) -> None:
    learner, state = trained(network | several)
    label = learner.targets or "label"
    schema = Schema(INPUTS, learner.classes, "features", label, "packed", multilabel=learner.multilabel)
    manifest = commit(VersionLog(tmp_path), learner, state, schema)
    assert learner.columns_of_y is not None
    y = np.zeros((9, learner.columns_of_y), int)
    values = [*encode(schema, rows(9), y), *encode(schema, rows(9, seed=2)), bytes(4 * INPUTS + 5)]
    assert_equal(
        predict_in_java(spark, tmp_path, values), predict_in_python(learner, state, schema, manifest, values)
    )


@pytest.mark.parametrize("probabilities", ["object", "array", "none"])
@pytest.mark.parametrize("labels", [LABELS, [1, "1"], [True, "true", "\u00e9"], None], ids=str)
def test_probabilities_have_the_same_form(
    spark: SparkSession, tmp_path: Path, labels: list[Any] | None, probabilities: str
) -> None:
    """Labels are keys; those with equal strings are keys in JSON."""
    learner, state = trained(MLP | {"classes": labels})
    schema = Schema(inputs=INPUTS, classes=learner.classes)
    manifest = commit(VersionLog(tmp_path), learner, state, schema)
    values = [*encode(replace(schema, label=None), rows(5)), b"bad"]
    java = predict_in_java(spark, tmp_path, values, probabilities)
    assert_equal(java, predict_in_python(learner, state, schema, manifest, values, probabilities))


@pytest.mark.parametrize("network", [MLP, ENSEMBLE], ids=["mlp", "ensemble"])
@pytest.mark.parametrize("classes", [LABELS, None, list(range(128))], ids=["labels", "target", "ties"])
def test_predictions_of_an_untrained_model_are_equal(
    spark: SparkSession, tmp_path: Path, network: dict[str, Any], classes: list[Any] | None
) -> None:
    """1/128 has a 5 after its sixth digit, and nothing after that."""
    learner = learner_from({"inputs": INPUTS, **network, "classes": classes})
    state, schema = initial(learner), Schema(inputs=INPUTS, classes=learner.classes)
    manifest = commit(VersionLog(tmp_path), learner, state, schema)
    values = list[bytes | None](encode(replace(schema, label=None), rows(3)))
    assert_equal(
        predict_in_java(spark, tmp_path, values), predict_in_python(learner, state, schema, manifest, values)
    )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("members", [slice(0, None, 3), slice(None)], ids=["some", "all"])
def test_a_member_that_is_not_finite_has_weight_0(
    spark: SparkSession, tmp_path: Path, members: slice, task: str
) -> None:
    learner, state = trained(ENSEMBLE | TASKS[task])
    for member, theta in enumerate(thetas(learner, state.model)[members]):
        theta[:] = (np.nan, np.inf)[member % 2]
    schema = Schema(inputs=INPUTS, classes=learner.classes)
    manifest = commit(VersionLog(tmp_path), learner, state, schema)
    values = list[bytes | None](encode(replace(schema, label=None), rows(9)))
    assert_equal(
        predict_in_java(spark, tmp_path, values), predict_in_python(learner, state, schema, manifest, values)
    )


@pytest.mark.parametrize("format", ["json", "csv"])
def test_named_fields_and_categories_are_predicted_alike(
    spark: SparkSession, tmp_path: Path, format: str
) -> None:
    learner, state = trained(MLP | {"classes": LABELS, "missing": "impute"})
    names: dict[str, Any] = {"features": ("n.a" if format == "json" else "n", "c", "m"), "missing": True}
    encoded: dict[str, Any] = {"categories": {"c": {"one_hot": 3}}, "vocabulary": {"c": ("x", 1)}}
    schema = Schema(inputs=INPUTS, classes=learner.classes, format=format, **names, **encoded)
    manifest = commit(VersionLog(tmp_path), learner, state, schema)
    values: list[bytes | None] = [
        b'{"m":0.5,"n":{"a":%s},"c":%s}' % each for each in ((b"1", b'"x"'), (b"null", b"1"))
    ]
    values += [b'{"m":2}', b'{"m":1,"c":[]}'] if format == "json" else [b"1,x,0.5", b",1,.5", b",,", b"a,1,2"]
    python = predict_in_python(learner, state, schema, manifest, values)
    assert ["error" in each for each in python[-2:]] == [False, True]
    assert_equal(predict_in_java(spark, tmp_path, values), python)


GOOD = b"[1,2,3,4,5]"
UNUSUAL: list[bytes | None] = [
    *(b"", b"what?", b"[]", b"1", b'"features"', b"null", b"[1,2", b'{"features":', b"{}", b"[1]x"),
    *(b'{"features":%s}' % value for value in (GOOD, b"[]", b"[1,2,3,4]", b"[1,2,3,4,5,6]", b"1", b"null")),
    *(b'{"features":%s}' % value for value in (b"{}", b'{"a":[1,2,3,4,5]}', b"[[1,2,3,4,5]]", b'"x"')),
    *(b'{"features":[1,2,3,4,%s]}' % value for value in (b"null", b"true", b'"1"', b"[5]", b"{}", b'"x"')),
    *(
        b'{"features":[1,2,3,4,%s]}' % value
        for value in (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1e39")
    ),
    *(b'{"features":[1,2,3,4,%s]}' % value for value in (b"1" * 400, b"1" * 30, b"1e-400", b"-0", b"1.5e-3")),
    *(b'{"features":[1,2,3,4,%s]}' % value for value in (b"01", b"+1", b"1.", b".5", b"-", b"1e", b"0x1")),
    *(b'{"features":["x",2,3,4,%s]}' % value for value in (b"5", b"1" * 400, b"1e400")),
    *(
        b'{"features":[1,2,3,%s,5]}' % value
        for value in (
            *(
                b'"2024-05-01"',
                b'" 2024-05-01T18:30 "',
                b'"2024-05-01 x"',
                b'{"$date":5}',
                b'{"$date":{"a":[]}}',
            ),
            *(
                b'{"$numberInt":"3"}',
                b'{"$numberLong":7}',
                b'{"$numberDecimal":" 1.5 "}',
                b'{"$numberDouble":"NaN"}',
            ),
            *(
                b'{"$numberInt":{"$numberInt":"3"}}',
                b'{"$numberInt":"x"}',
                b'{"$numberInt":null}',
                b'{"$numberInt":[]}',
            ),
            *(
                b'{"$numberInt":"3","a":1}',
                b'{"$numberInt":1,"$numberInt":"2"}',
                b'{"$oid":"3"}',
                b'{"a":{"b":{}}}',
            ),
            *(b'{"$numberInt":"2024-05-01"}', b'{"$numberInt":1e400}', b'{"$numberint":"3"}'),
        )
    ),
    b'{"features":[1e400,2,3,4,"x"]}',
    b'{"features":%s} ' % GOOD,
    b' \n{"features":%s}' % GOOD,
    b'{"features":%s}{' % GOOD,
    b'{"features":%s,}' % GOOD,
    b'{"features":%s,"id":"\xc3\xa9","deep":{"features":[1]},"more":[{"features":2}]}' % GOOD,
    b'{"features":%s,"features":[5,4,3,2,1]}' % GOOD,
    b'{"features":%s,"features":null}' % GOOD,
    b'{"features":[1],"features":%s}' % GOOD,
    b'{"id":"\xff","features":%s}' % GOOD,
    b"{'features':%s}" % GOOD,
    b'\xef\xbb\xbf{"features":%s}' % GOOD,
    b'{"features":%s}' % GOOD.replace(b",", b", "),
    f'{{"features":{GOOD.decode()}}}'.encode("utf-16"),
    f'{{"features":{GOOD.decode()}}}'.encode("utf-16-le"),
    b'{"deep":%s,"features":%s}' % (b"[" * 150 + b"]" * 150, GOOD),
    b'{"deep":%s,"features":%s}' % (b"[" * 250 + b"]" * 250, GOOD),
    b'{"features":%s,"pad":"%s"}' % (GOOD, b"x" * 1000),
    *(
        b'{"x":%s,"features":%s}' % (value, GOOD)
        for value in (
            *(
                rb'"\ud800"',
                rb'"\udc00"',
                rb'"\ud83d\ude00"',
                rb'"\uDe00\uD83d"',
                rb'"\ud800a"',
                rb'"\ud800\u0041"',
            ),
            *(
                rb'"\\ud800"',
                rb'"\\\ud800"',
                rb'"\u0000"',
                b'"\x01"',
                rb'"\/"',
                rb'"\q"',
                b'"\xed\xa0\x80"',
                b'"\xc0\x80"',
                b'"\xf4\x90\x80\x80"',
            ),
            *(b"-NaN", b"nan", b"+Infinity", b"INF", b"-INF", b"+INF", b"-Infinity", b"+1", b"-01"),
        )
    ),
    b'{"\\ud800":1,"features":%s}' % GOOD,
]
LONG = [
    *(
        b'{"x":%s,"features":%s}' % (value, GOOD)
        for value in (
            *(b"9" * 4300, b"9" * 4301, b"-" + b"9" * 4300, b"-" + b"9" * 4301, b"0." + b"9" * 9000),
            *(b"9" * 4301 + b".5", b"9" * 4300 + b"e5", b"1e" + b"9" * 9000, b'[{"y":%s}]' % (b"9" * 4301)),
            *(b"[" * depth + b"]" * depth for depth in (198, 199, 202)),
        )
    ),
    *(b'{"features":[1,2,3,4,%s]}' % value for value in (b"9" * 4301, b"0." + b"9" * 9000, b"0" * 4301)),
    b'{"%s":1,"features":%s}' % (b"k" * 60_000, GOOD),
]
SCHEMAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "missing": {"missing": True},
    "strings": {"numbers_as_strings": True},
    "framed": {"framing": "confluent"},
}
ID = b"\0\0\0\0\7"


@pytest.mark.parametrize("schema", SCHEMAS)
def test_unusual_and_bad_records_are_read_alike(spark: SparkSession, tmp_path: Path, schema: str) -> None:
    missing = "impute" if schema == "missing" else "refuse"
    learner, state = trained(MLP | {"classes": LABELS, "missing": missing})
    of = Schema(inputs=INPUTS, classes=learner.classes, max_bytes=1000, **SCHEMAS[schema])
    manifest = commit(VersionLog(tmp_path), learner, state, of)
    values = UNUSUAL if schema != "framed" else [ID + bytes(value or b"") for value in UNUSUAL] + UNUSUAL
    python = predict_in_python(learner, state, of, manifest, values)
    assert 20 < sum("error" in prediction for prediction in python) < len(values) - 10
    assert_equal(predict_in_java(spark, tmp_path, values), python)


@pytest.mark.parametrize("framing", ["none", "confluent"])
def test_chosen_fields_are_copied_alike(spark: SparkSession, tmp_path: Path, framing: str) -> None:
    learner, state = trained(MLP | {"classes": LABELS})
    of = Schema(inputs=INPUTS, classes=learner.classes, max_bytes=9000, framing=framing)
    manifest = commit(VersionLog(tmp_path), learner, state, of)
    ids = (
        *(
            b"7",
            b"-0.5",
            b"1e22",
            b"12345678901234567890",
            b'"a\\u00e4\\"\\n"',
            b"true",
            b"null",
            b"NaN",
            b"1e400",
        ),
        *(b'{"b":{"c":[1,null,NaN,{}]}}', b"[]", b'"%s"' % (b"x" * LONGEST)),
    )
    values = [*(b'{"id":%s,"features":%s,"a":{"b":1}}' % (each, GOOD) for each in ids), *UNUSUAL]
    values += [b'{"id":8,"features":%s,"x":"%s"%s' % (GOOD, b"x" * 9000, end) for end in (b"}", b"")]
    if framing == "confluent":
        values = [ID + bytes(value or b"") for value in values] + values[-3:]
    names = ("id", "a.b", "id.b", 'q"', "features.1", "features.9999999999", "id.b.c.0", "features.x")
    python = predict_in_python(learner, state, of, manifest, values, fields=names)
    assert python[0]["fields"] == dict(zip(names, [7, 1, None, None, 2, None, None, None], strict=True))
    assert python[len(ids) - 1]["fields"] is None, "they are too long"
    assert_equal(predict_in_java(spark, tmp_path, values, fields=names), python)


def test_long_records_are_read_alike(spark: SparkSession, tmp_path: Path) -> None:
    learner, state = trained(MLP | {"classes": LABELS})
    of = Schema(inputs=INPUTS, classes=learner.classes)
    manifest = commit(VersionLog(tmp_path), learner, state, of)
    python = predict_in_python(learner, state, of, manifest, LONG)
    assert_equal(predict_in_java(spark, tmp_path, LONG), python)


@pytest.mark.parametrize("missing", [False, True])
def test_packed_records_of_other_lengths_are_read_alike(
    spark: SparkSession, tmp_path: Path, missing: bool
) -> None:
    learner, state = trained(MLP | {"classes": LABELS, "missing": "impute" if missing else "refuse"})
    framing = "confluent" if missing else "none"
    schema = Schema(INPUTS, learner.classes, format="packed", missing=missing, framing=framing)
    manifest = commit(VersionLog(tmp_path), learner, state, schema)
    values = [
        *(b"x" * size for size in (0, 4, 16, 19, 21, 23, 25, 28)),
        struct.pack("<5f", 1, 2, 3, 4, 5),
        struct.pack("<i5f", 9, 1, 2, 3, 4, 5),
        struct.pack("<5f", 1, 2, np.nan, 4, 5),
        struct.pack("<5f", 1, 2, np.inf, 4, 5),
    ]
    values = [ID + value for value in values] + values if missing else values
    assert_equal(
        predict_in_java(spark, tmp_path, values), predict_in_python(learner, state, schema, manifest, values)
    )


def test_a_version_with_more_classes_is_used_with_its_labels(spark: SparkSession, tmp_path: Path) -> None:
    log, state = VersionLog(tmp_path), None
    for classes in ([0, 1], [0, 1, 2]):
        learner, state = trained(MLP | {"classes": classes})
        schema = Schema(inputs=INPUTS, classes=tuple(classes), grow=True)
        manifest = commit(log, learner, state, schema)
        values = list[bytes | None](encode(replace(schema, label=None), rows(5)))
        time.sleep(1.1)  # a prediction is by a version that was the newest at most a second ago
        assert_equal(
            predict_in_java(spark, tmp_path, values),
            predict_in_python(learner, state, schema, manifest, values),
        )


@pytest.mark.parametrize("known", [False, True], ids=["new reader", "reader of a pruned version"])
def test_the_newest_version_is_found_after_older_ones_were_pruned(
    spark: SparkSession, tmp_path: Path, known: bool
) -> None:
    log = VersionLog(tmp_path)
    learner, state = trained(MLP | {"classes": [0, 1]}, 20)
    schema = Schema(inputs=INPUTS, classes=(0, 1))
    values = list[bytes | None](encode(replace(schema, label=None), rows(3)))
    for _ in range(4):
        commit(log, learner, state, schema)
    if known:
        assert predict_in_java(spark, tmp_path, values)[0]["version"] == 3
    for _ in range(3):
        commit(log, learner, state, schema)
    tag(log, "best", 3)  # the reader's stays, and the next ones do not
    assert prune(log, keep_bytes=0) == [1, 2, 4, 5]
    time.sleep(1.1 * known)
    assert predict_in_java(spark, tmp_path, values)[0]["version"] == 6


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("at", [9, 400, -1], ids=["header", "manifest", "tensor"])
def test_a_damaged_version_predicts_nothing(spark: SparkSession, tmp_path: Path, at: int) -> None:
    learner, state = trained(MLP | {"classes": LABELS}, 20)
    schema = Schema(inputs=INPUTS, classes=learner.classes)
    commit(VersionLog(tmp_path), learner, state, schema)
    damage(VersionLog(tmp_path).path(0), at)
    with pytest.raises(SPARK_ERRORS, match="is damaged: "):
        predict_in_java(spark, tmp_path, [b"{}"])


def test_a_directory_that_an_executor_cannot_see_is_reported(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(SPARK_ERRORS, match="must be at this path on every executor; --engine batch"):
        predict_in_java(spark, tmp_path / "nowhere", [b"{}"])
