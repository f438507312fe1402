from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import datasets
from benchmarks.datasets import dataset, hashed

pytestmark = pytest.mark.commit


def write(folder: Path, name: str, **arrays: Any) -> None:
    (folder / name).mkdir(parents=True)
    np.savez(folder / name / "stream.npz", **arrays)


def test_codes_become_columns_after_the_numbers(tmp_path: Path) -> None:
    x = np.array([[0, 1.5], [2, 2.5], [1, 3.5]], np.float32)
    y = np.array([0, 1, 1], np.int16)
    write(tmp_path, "small", X=x, y=y, task="clf", cat_idx=[0], cat_card=[3], classes=["a", "b"])
    data = dataset("small", tmp_path)
    assert data.x.tolist() == [[1.5, 1, 0, 0], [2.5, 0, 0, 1], [3.5, 0, 1, 0]]
    assert (data.x.dtype, data.y.dtype, data.classes) == (np.float32, np.int32, 2)
    assert datasets.names(tmp_path) == ["small", *datasets.DRIFTING]


def test_pixels_are_divided_by_255(tmp_path: Path) -> None:
    x = np.array([[0, 255], [51, 102]], np.uint8)
    write(
        tmp_path, "images", X=x, y=np.array([0, 1]), task="clf", cat_idx=[], cat_card=[], classes=["a", "b"]
    )
    np.testing.assert_allclose(dataset("images", tmp_path).x, [[0, 1], [0.2, 0.4]], rtol=1e-6)


def test_a_sparse_row_is_the_sum_of_its_hashed_columns(tmp_path: Path) -> None:
    one = [hashed(np.array([0, 1]), np.array([column]), np.array([1.0]))[0] for column in (7, 39_000)]
    both = hashed(np.array([0, 2, 3]), np.array([7, 39_000, 7]), np.array([2.0, 3.0, 5.0]))
    np.testing.assert_allclose(both, [2 * one[0] + 3 * one[1], 5 * one[0]])
    assert [np.abs(row).sum() for row in one] == [1, 1]


def test_hashing_spreads_columns_and_signs() -> None:
    x = hashed(np.arange(40_001), np.arange(40_000), np.ones(40_000))
    counts = np.abs(x).sum(axis=0)
    assert counts.min() > 0.8 * 40_000 / datasets.HASHED
    assert counts.max() < 1.2 * 40_000 / datasets.HASHED
    assert abs(x.sum()) < 0.02 * 40_000


@pytest.mark.parametrize("name", [*datasets.DRIFTING, *datasets.SHORT])
def test_a_generated_stream_is_the_same_each_time(name: str) -> None:
    data = dataset(name, Path())
    dataset.cache_clear()
    again = dataset(name, Path())
    assert data.x.tobytes() == again.x.tobytes()
    assert data.y.tobytes() == again.y.tobytes()
    assert data.drift_at
    assert data.drift_at[-1] < len(data.y)


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(ValueError, match=r"streams must be among .*; got 'nothing'"):
        datasets.check(["sea-drift", "nothing"], Path("nowhere"))


def test_sparse_rows_are_hashed_and_read_only_on_request(tmp_path: Path) -> None:
    starts, columns, values = np.array([0, 2, 3]), np.array([7, 39_000, 7]), np.array([2.0, 3.0, 5.0])
    sparse = {"indptr": starts, "indices": columns, "data": values, "shape": [2, 39_916]}
    write(tmp_path, "spam9324", **sparse, y=np.array([1, 0]), task="clf_sparse", classes=["0", "1"])
    data = dataset("spam9324", tmp_path)
    assert data.x.tolist() == hashed(starts, columns, values).tolist()
    assert (data.y.tolist(), data.classes) == ([1, 0], 2)
    assert "spam9324" not in datasets.names(tmp_path)
    datasets.check(["spam9324"], tmp_path)
