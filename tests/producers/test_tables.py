"""Files as streams: the same rows from CSV, Parquet and NPZ, once or looped, with recorded times."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from producers import known
from producers.messages import Plan, messages, schema_of
from producers.streams import limited
from streaming_nn.records.decode import decode

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


def open_(folder, kind, **options):
    return known.file(kind, folder / f"t.{kind}", **({"time": "when"} | options))


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_rows_labels_and_times(folder, kind):
    stream = open_(folder, kind)
    assert (stream.inputs, stream.classes) == (3, ("maybe", "no", "yes"))
    assert stream.names == (None if kind == "npz" else ("a", "b", "c"))
    blocks = list(stream.blocks)
    np.testing.assert_array_equal(np.concatenate([b.x for b in blocks]), X)
    np.testing.assert_array_equal(np.array(stream.classes)[np.concatenate([b.y for b in blocks])], WORDS)
    np.testing.assert_allclose(np.concatenate([b.at for b in blocks]), TIMES - TIMES[0])
    out = list(messages(open_(folder, kind), Plan("t", speed=2)))
    np.testing.assert_allclose([m.at for m in out], (TIMES - TIMES[0]) / 2)
    decoded = decode(schema_of(stream, Plan("t")), [m.value for m in out], labeled=True)
    np.testing.assert_array_equal(decoded.x, X)


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_a_looped_file_begins_again_and_its_time_goes_on(folder, kind):
    blocks = list(limited(open_(folder, kind, loop=True), 2 * ROWS + 5).blocks)
    np.testing.assert_array_equal(np.concatenate([b.x for b in blocks]), np.concatenate([X, X, X[:5]]))
    at = np.concatenate([b.at for b in blocks])
    assert (np.diff(at) >= 0).all()
    assert at[-1] == pytest.approx(2 * (TIMES[-1] - TIMES[0]) + 1)


def test_named_columns_and_a_number_to_be_told(folder):
    stream = open_(folder, "csv", features=("c", "a"), label="b", regression=True)
    assert stream.classes is None
    (message,) = messages(limited(stream, 1), Plan("t", named=True))
    decoded = decode(schema_of(stream, Plan("t", named=True)), [message.value], labeled=True)
    np.testing.assert_array_equal(decoded.x, [X[0, [2, 0]]])
    np.testing.assert_array_equal(decoded.y, X[:1, 1])


def test_a_row_without_label_or_number_is_sent_as_it_is_and_rejected(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,label\n1,2,0\n,2,1\n1,2,\n3,4,1\n")
    stream = known.file("csv", tmp_path / "t.csv")
    values = [m.value for m in messages(stream, Plan("t"))]
    decoded = decode(schema_of(stream, Plan("t")), values, labeled=True)
    assert decoded.rejected == [(1, "not a number"), (2, "label missing")]
    np.testing.assert_array_equal(decoded.y, [0, 1])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"label": "d"}, "the columns are a, b, when, c, label; none is 'd'"),
        (
            {"features": ("a", "label"), "label": "b"},
            "column 'label' holds string, no numbers: name the features without it",
        ),
        ({"label": "b", "features": ("a",)}, "label 'b' has 700 values, like "),
        ({"regression": True}, "label 'label' holds string, no numbers: leave --regression out for classes"),
        (
            {"label": "b", "features": ("a",), "regression": True, "time": "label"},
            "time 'label' must hold timestamps or seconds; got string",
        ),
    ],
)
def test_a_wrong_column_is_one_line(folder, options, error):
    with pytest.raises(ValueError) as raised:
        open_(folder, "csv", **options)
    assert str(raised.value).startswith(error)


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_a_file_that_is_none(tmp_path, kind):
    with pytest.raises(ValueError, match="there is no file"):
        known.file(kind, tmp_path / "nothing")
    (tmp_path / "bad").write_bytes(b"\x00\x01nonsense")
    with pytest.raises(ValueError):
        known.file(kind, tmp_path / "bad")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "t.csv can't be read as CSV: Empty CSV file"),
        ("a,b,label\n", "t.csv has no rows beneath a, b, label"),
        ("label\n0\n1\n", "there is no column but label: a row needs features too"),
        ("1.5,2,0\n3,4,1\n5,6,0\n", "t.csv must begin with the names of its columns; got 1.5, 2, 0"),
        ("a,label\n1,0\n2\n", "t.csv can't be read as CSV: CSV parse error: Expected 2 columns, got 1: 2"),
    ],
)
def test_a_csv_file_that_is_none(tmp_path, text, error):
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
            "t.npz's array 'x' must hold numbers; got <U1",
        ),
        (
            {"x": np.zeros((2, 1)), "y": np.array(["a", "b"])},
            {"regression": True},
            "t.npz's array 'y' must hold numbers; got <U1",
        ),
        (
            {"x": np.zeros((2, 1)), "y": np.array([{}, {}])},
            {},
            "t.npz can't be read as NPZ: Object arrays cannot",
        ),
    ],
)
def test_an_npz_file_without_numbers(tmp_path, arrays, options, error):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(ValueError) as raised:
        known.file("npz", tmp_path / "t.npz", **options)
    assert str(raised.value).startswith(error)


def test_an_array_alone_is_no_npz_file(tmp_path):
    np.save(tmp_path / "t.npy", X)
    with pytest.raises(ValueError, match="is no NPZ file"):
        known.file("npz", tmp_path / "t.npy")
