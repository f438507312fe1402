"""Files as streams: the same rows from CSV, Parquet and NPZ, once or looped, with recorded times."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from producers import known
from producers.messages import Plan, messages, schema_of
from producers.streams import limited
from streaming_nn.records.decode import decode

pytestmark = pytest.mark.commit

ROWS = 700
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
WORDS = np.array(["no", "yes", "maybe"])[np.arange(ROWS) % 3]
TIMES = np.arange(ROWS) * 0.25 + 1e9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables")
    table = pa.table({"a": X[:, 0], "b": X[:, 1], "when": TIMES, "c": X[:, 2], "label": WORDS})
    pa.csv.write_csv(table, path / "t.csv")
    pa.parquet.write_table(table, path / "t.parquet")
    np.savez(path / "t.npz", X=X, y=WORDS, when=TIMES)
    return path


def open_table(folder, kind, **options):
    return known.file(kind, folder / f"t.{kind}", **({"time": "when"} | options))


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_rows_labels_and_times(folder, kind):
    stream = open_table(folder, kind)
    assert (stream.inputs, stream.classes) == (3, ("maybe", "no", "yes"))
    assert stream.names == (None if kind == "npz" else ("a", "b", "c"))
    blocks = list(stream.blocks)
    np.testing.assert_array_equal(np.concatenate([b.x for b in blocks]), X)
    np.testing.assert_array_equal(np.array(stream.classes)[np.concatenate([b.y for b in blocks])], WORDS)
    np.testing.assert_allclose(np.concatenate([b.at for b in blocks]), TIMES - TIMES[0])
    out = list(messages(open_table(folder, kind), Plan("t", speed=2)))
    np.testing.assert_allclose([m.at for m in out], (TIMES - TIMES[0]) / 2)
    decoded = decode(schema_of(stream, Plan("t")), [m.value for m in out], labeled=True)
    np.testing.assert_array_equal(decoded.x.astype(np.float32), X)


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_a_looped_file_starts_again_and_its_time_increases(folder, kind):
    blocks = list(limited(open_table(folder, kind, loop=True), 2 * ROWS + 5).blocks)
    np.testing.assert_array_equal(np.concatenate([b.x for b in blocks]), np.concatenate([X, X, X[:5]]))
    at = np.concatenate([b.at for b in blocks])
    assert (np.diff(at) >= 0).all()
    assert at[-1] == pytest.approx(2 * (TIMES[-1] - TIMES[0]) + 1)


def test_named_columns_and_a_regression_target(folder):
    stream = open_table(folder, "csv", features=("c", "a"), label="b", regression=True)
    assert stream.classes is None
    (message,) = messages(limited(stream, 1), Plan("t", named=True))
    decoded = decode(schema_of(stream, Plan("t", named=True)), [message.value], labeled=True)
    np.testing.assert_array_equal(decoded.x.astype(np.float32), [X[0, [2, 0]]])
    np.testing.assert_array_equal(decoded.y.astype(np.float32), X[:1, 1])


def test_a_missing_number_is_sent_as_null(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,label\n1,2,0\n,2,1\n3,4,1\n")
    stream = known.file("csv", tmp_path / "t.csv")
    values = [m.value for m in messages(stream, Plan("t"))]
    assert json.loads(values[1])["features"] == [None, 2]
    assert schema_of(stream, Plan("t")).missing
    decoded = decode(schema_of(stream, Plan("t")), values, labeled=True)
    np.testing.assert_array_equal(decoded.x, [[1, 2], [np.nan, 2], [3, 4]])


def write(folder, kind, a, label):
    file = folder / f"t.{kind}"
    if kind == "npz":
        np.savez(file, x=np.array(a, np.float64)[:, None], y=np.array(label))
        return
    table = pa.table({"a": pa.array(a, pa.float64()), "label": label})
    (pa.csv.write_csv if kind == "csv" else pa.parquet.write_table)(table, file)


BAD = 300  # the bad row: neither the first of a block, nor in the first block


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("format", ["json", "csv", "packed", "avro"])
@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
@pytest.mark.parametrize(
    ("a", "label", "reason"),
    [
        (np.inf, 0.5, "not finite"),
        (-1e308, 0.5, "not finite"),
        (1.0, 1e39, "label not finite"),
        (1.0, np.nan, "label missing"),
        (1.0, "", "label missing"),
    ],
)
def test_a_row_that_cannot_be_learned_is_sent_and_rejected(tmp_path, kind, a, label, reason, format):
    """The file does not end there: the trainer rejects one row by its reason."""
    numbers, labels = [1.0] * ROWS, ["no", "yes"] * (ROWS // 2) if label == "" else [0.5] * ROWS
    numbers[BAD], labels[BAD] = a, label
    write(tmp_path, kind, numbers, labels)
    stream = known.file(kind, tmp_path / f"t.{kind}", regression=label != "")
    assert stream.classes == (("no", "yes") if label == "" else None)
    plan = Plan("t", format=format)
    decoded = decode(schema_of(stream, plan), [m.value for m in messages(stream, plan)], labeled=True)
    assert len(decoded.kept) == ROWS - 1
    if label == "" and (format == "packed" or (format == "json" and kind != "csv")):
        reason = "label not in classes"  # packed has a code for a class that is none, JSON an empty string
    assert [(r.position, r.reason) for r in decoded.rejected] == [(BAD, reason)]


def test_an_integer_that_float64_has_not_is_sent_as_it_is(tmp_path):
    pa.parquet.write_table(pa.table({"a": [1, 2**53 + 1], "label": [0, 1]}), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text(f"a,label\n1,0\n{2**53 + 1},1\n")
    for kind in ("csv", "parquet"):
        values = [m.value for m in messages(known.file(kind, tmp_path / f"t.{kind}"), Plan("t"))]
        assert json.loads(values[1])["features"] == [2**53 + 1]


@pytest.mark.parametrize("format", ["packed", "avro"])
def test_a_string_among_numbers_needs_json_or_csv(tmp_path, format):
    rows = "".join(f"{i},{i % 2}\n" for i in range(200))
    (tmp_path / "t.csv").write_text(f"a,label\n{rows}what?,1\n")
    stream = known.file("csv", tmp_path / "t.csv")
    with pytest.raises(ValueError, match=f"{format} records have numbers only; got 'what\\?' in 'features"):
        list(messages(stream, Plan("t", format=format)))
    (tmp_path / "t.csv").write_text("a,label\nx,1\ny,0\n")
    with pytest.raises(ValueError, match=f"{format} records have numbers only; 'a' has other values: use"):
        schema_of(known.file("csv", tmp_path / "t.csv"), Plan("t", format=format))


@pytest.mark.parametrize("format", ["json", "csv"])
def test_a_later_string_in_a_column_of_numbers_is_sent_and_rejected(tmp_path, format):
    rows = "".join(f"{i},{i % 2}\n" for i in range(1_000))
    (tmp_path / "t.csv").write_text(f"a,label\n{rows}what?,1\n5,1\n")
    stream, plan = known.file("csv", tmp_path / "t.csv"), Plan("t", format=format)
    values = [m.value for m in messages(stream, plan)]
    decoded = decode(schema_of(stream, plan), values, labeled=True)
    assert b"what?" in values[1000]
    assert [(r.position, r.reason) for r in decoded.rejected] == [(1000, "not a number")]
    assert len(decoded.kept) == 1001


@pytest.mark.parametrize(
    ("text", "options", "error"),
    [
        ("x,x,label\n1,2,0\n3,4,1\n", {}, "t.csv must have one column 'x'; got 2"),
        ("x,x,label\n1,2,0\n3,4,1\n", {"features": ("x", "x")}, "t.csv must have one column 'x'; got 2"),
        (
            "x,label\n1,0\n3,1\n",
            {"features": ("x", "x")},
            "column 'x' must be one feature or the label; got it twice",
        ),
        (
            "x,label\n1,0\n3,1\n",
            {"features": ("x", "label")},
            "column 'label' must be one feature or the label; got it twice",
        ),
    ],
)
def test_ambiguous_columns(tmp_path, text, options, error):
    (tmp_path / "t.csv").write_text(text, "latin-1")
    with pytest.raises(ValueError) as raised:
        known.file("csv", tmp_path / "t.csv", **options)
    assert str(raised.value).startswith(error)


def test_a_time_may_be_a_feature_too(tmp_path):
    (tmp_path / "t.csv").write_text("when,label\n1,0\n3,1\n")
    (block,) = known.file("csv", tmp_path / "t.csv", features=("when",), time="when").blocks
    np.testing.assert_array_equal(block.x, [[1], [3]])
    np.testing.assert_array_equal(block.at, [0, 2])


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_a_file_without_rows(tmp_path, kind):
    write(tmp_path, kind, [], [])
    with pytest.raises(ValueError) as raised:
        known.file(kind, tmp_path / f"t.{kind}")
    assert str(raised.value) == f"t.{kind} has no rows"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"label": "d"}, "column must be one of a, b, when, c, label; got 'd'"),
        ({"label": "b", "features": ("a",)}, "label 'b' has numbers such as "),
        ({"regression": True}, "label 'label' must contain numbers with --regression; got string"),
        (
            {"label": "b", "features": ("a",), "regression": True, "time": "label"},
            "time 'label' must contain timestamps or seconds; got string",
        ),
    ],
)
def test_an_invalid_column_raises_one_line(folder, options, error):
    with pytest.raises(ValueError) as raised:
        open_table(folder, "csv", **options)
    assert str(raised.value).startswith(error)


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_a_missing_or_invalid_file(tmp_path, kind):
    with pytest.raises(ValueError, match="no such file: "):
        known.file(kind, tmp_path / "nothing")
    (tmp_path / "bad").write_bytes(b"\x00\x01nonsense")
    with pytest.raises(ValueError):
        known.file(kind, tmp_path / "bad")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "t.csv: it has no lines"),
        ("a,b,label\n", "t.csv has no rows below its header a, b, label"),
        ("label\n0\n1\n", "t.csv must have a column of features; got only label"),
        (
            "a,label\n1,0\n2\n",
            "t.csv: cannot detect the delimiter: at best, most rows have 2 fields and row 3 has 1; "
            "set delimiter and quote",
        ),
    ],
)
def test_an_invalid_csv_file(tmp_path, text, error):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError) as raised:
        known.file("csv", tmp_path / "t.csv")
    assert str(raised.value) == error


def test_columns_may_be_numbered(tmp_path):
    (tmp_path / "t.csv").write_text("0,1,2\n1.5,2,0\n3,4,1\n")
    assert known.file("csv", tmp_path / "t.csv").names == ("0", "1")


@pytest.mark.parametrize(
    ("arrays", "options", "error"),
    [
        (
            {"x": np.array([["a"], ["b"]]), "y": np.arange(2)},
            {},
            "t.npz's array 'x' must contain numbers; got <U1",
        ),
        (
            {"x": np.zeros((2, 1)), "y": np.array(["a", "b"])},
            {"regression": True},
            "t.npz's array 'y' must contain numbers; got <U1",
        ),
        (
            {"x": np.zeros((2, 1)), "y": np.array([{}, {}])},
            {},
            "cannot read t.npz as NPZ: Object arrays cannot",
        ),
    ],
)
def test_an_npz_file_without_numbers(tmp_path, arrays, options, error):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(ValueError) as raised:
        known.file("npz", tmp_path / "t.npz", **options)
    assert str(raised.value).startswith(error)


def test_a_single_array_is_not_an_npz_file(tmp_path):
    np.save(tmp_path / "t.npy", X)
    with pytest.raises(ValueError, match="is not an NPZ file"):
        known.file("npz", tmp_path / "t.npy")
