"""Files as streams: the same rows from CSV, Parquet and NPZ, once or looped, with recorded times."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from record_values import keys_of

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
    np.testing.assert_array_equal(decoded.x, X)


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
    np.testing.assert_array_equal(decoded.x, [X[0, [2, 0]]])
    np.testing.assert_array_equal(decoded.y, X[:1, 1])


def test_a_row_with_a_missing_number_is_sent_as_it_is_and_rejected(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,label\n1,2,0\n,2,1\n3,4,1\n")
    stream = known.file("csv", tmp_path / "t.csv")
    values = [m.value for m in messages(stream, Plan("t"))]
    decoded = decode(schema_of(stream, Plan("t")), values, labeled=True)
    assert keys_of(decoded.rejected) == [(1, "not a number: features")]
    np.testing.assert_array_equal(decoded.y, [0, 1])


def write(folder, kind, a, label):
    file = folder / f"t.{kind}"
    if kind == "npz":
        np.savez(file, x=np.array(a, np.float64)[:, None], y=np.array(label))
        return
    table = pa.table({"a": pa.array(a, pa.float64()), "label": label})
    (pa.csv.write_csv if kind == "csv" else pa.parquet.write_table)(table, file)


BAD = 300  # the bad row: neither the first of a block, nor in the first block


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
@pytest.mark.parametrize(
    ("a", "label", "error"),
    [
        (np.inf, 0.5, "must have a finite float32 in '{a}'; got inf"),
        (-1e308, 0.5, "must have a finite float32 in '{a}'; got -1e+308"),
        (1.0, 1e39, "must have a finite float32 in '{label}'; got 1e+39"),
        (1.0, np.nan, "must have a label in '{label}'; got none"),
        (1.0, "", "must have a label in '{label}'; got none"),
    ],
)
def test_a_row_that_cannot_be_sent_ends_the_file_after_the_rows_before_it(tmp_path, kind, a, label, error):
    numbers, labels = [1.0] * ROWS, ["no", "yes"] * (ROWS // 2) if label == "" else [0.5] * ROWS
    numbers[BAD], labels[BAD] = a, label
    write(tmp_path, kind, numbers, labels)
    stream = known.file(kind, tmp_path / f"t.{kind}", regression=label != "")
    assert stream.classes == (("no", "yes") if label == "" else None)
    sent, names = [], {"a": "x[0]", "label": "y"} if kind == "npz" else {"a": "a", "label": "label"}
    with pytest.raises(ValueError) as raised:
        sent.extend(len(block.x) for block in stream.blocks)
    assert sum(sent) == BAD
    assert str(raised.value) == f"row {BAD + 1} of t.{kind} {error.format(**names)}"


def test_a_null_label_is_rejected(tmp_path):
    (tmp_path / "t.csv").write_text("a,label\n1,0\n1,\n1,1\n")
    with pytest.raises(ValueError, match=r"row 2 of t.csv must have a label in 'label'; got none"):
        list(known.file("csv", tmp_path / "t.csv").blocks)


@pytest.mark.parametrize("regression", [True, False])
def test_an_integer_beyond_float64_names_its_column(tmp_path, regression):
    column = "label" if regression else "a"
    rows = pa.table({"a": [1, 2], "label": [0, 1]} | {column: [1, 2**53 + 1]})
    pa.parquet.write_table(rows, tmp_path / "t.parquet")
    with pytest.raises(ValueError) as raised:
        list(known.file("parquet", tmp_path / "t.parquet", regression=regression).blocks)
    assert str(raised.value).startswith(
        f"cannot convert column {column!r} of t.parquet to float: Integer value"
    )


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
        ("x,étiquette\n1,0\n3,1\n", {}, "t.csv must be UTF-8; cannot decode its header: "),
        ("x,label\n1,é\n3,e\n", {}, "t.csv must be UTF-8; its label 'label' is binary"),
    ],
)
def test_ambiguous_or_undecodable_columns(tmp_path, text, options, error):
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
        (
            {"features": ("a", "label"), "label": "b"},
            "column 'label' must contain numbers; got string: leave it out (--features)",
        ),
        ({"label": "b", "features": ("a",)}, "label 'b' has 700 values, such as "),
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
        ("", "cannot read t.csv as CSV: Empty CSV file"),
        ("a,b,label\n", "t.csv has no rows below its header a, b, label"),
        ("label\n0\n1\n", "t.csv must have a column of features; got only label"),
        ("1.5,2,0\n3,4,1\n5,6,0\n", "t.csv must begin with a header of column names; got 1.5, 2, 0"),
        ("a,label\n1,0\n2\n", "cannot read t.csv as CSV: CSV parse error: Expected 2 columns, got 1: 2"),
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
