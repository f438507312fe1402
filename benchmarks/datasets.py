"""Streams to learn, in order: those of a data directory, and generated ones with drift at known rows."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from producers.known import generator
from producers.streams import limited

Array = NDArray[Any]
MOST_ROWS = 45_312  # all of elec2; longer streams are cut here
HASHED = 256  # columns that sparse rows are hashed into
KNUTH = 2_654_435_761  # the golden ratio of 2**32: a multiplicative hash (TAOCP volume 3, section 6.4)
GENERATED_ROWS = 20_000
DRIFT_AT = (5_000, 10_000, 15_000)
DRIFTING = {f"{name}-drift": name for name in ("sea", "sine", "agrawal", "hyperplane")}
SHORT = {"sea-short": "sea", "friedman-short": "friedman"}
SHORT_ROWS = 1_000
KNOWN_DRIFT = {"sea50k": (12_500, 25_000, 37_500)}
WHOLE = {"mnist70k"}  # its last 10,000 rows are its test set
LAST = {"mnist70k": 10_000}  # only these last rows are scored
HIDDEN = {"mnist70k": (128,)}
ON_REQUEST = {"spam9324"}  # not a default: hashing makes it another stream


class Dataset(NamedTuple):
    """A stream as two arrays."""

    name: str
    x: NDArray[np.float32]  # (rows, inputs)
    y: Array  # (rows,) int32 class index, or float32 target
    classes: int | None  # None: regression
    drift_at: tuple[int, ...] = ()  # rows at which a drift is known to start

    @property
    def scored_rows(self) -> int:
        """Return how many rows at the end are scored."""
        return min(LAST.get(self.name, len(self.y)), len(self.y))


def names(folder: Path) -> list[str]:
    """Return the names of the streams that are measured by default."""
    return [name for name in _in(folder) if name not in ON_REQUEST] + list(DRIFTING)


def _in(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/stream.npz"))


def check(wanted: list[str], folder: Path) -> None:
    """Raise ValueError for an unknown stream."""
    known = [*_in(folder), *DRIFTING, *SHORT]
    for name in wanted:
        if name not in known:
            raise ValueError(f"streams must be among {', '.join(known)}; got {name!r}")


@lru_cache(1)
def dataset(name: str, folder: Path) -> Dataset:
    """Load a stream. A generated one is the same at each call."""
    if name in DRIFTING:
        return _generated(name, DRIFTING[name], GENERATED_ROWS, DRIFT_AT)
    if name in SHORT:
        return _generated(name, SHORT[name], SHORT_ROWS, (SHORT_ROWS // 2,))
    return _read(name, folder / name / "stream.npz")


def _generated(name: str, kind: str, rows: int, drift_at: tuple[int, ...]) -> Dataset:
    stream = limited(generator(kind, seed=1, drift_at=drift_at), rows)
    x, y = zip(*((block.x, block.y) for block in stream.blocks), strict=True)
    classes = None if stream.classes is None else len(stream.classes)
    return Dataset(name, np.concatenate(x), np.concatenate(y), classes, drift_at)


def _read(name: str, path: Path) -> Dataset:
    with np.load(path, allow_pickle=False) as file:
        task = str(file["task"])
        limit = None if name in WHOLE else MOST_ROWS
        y = file["y"][:limit].astype(np.float32 if task == "reg" else np.int32)
        if task == "clf_sparse":
            x = hashed(file["indptr"][: len(y) + 1], file["indices"], file["data"])
        else:
            x = _dense(file["X"][:limit], file["cat_idx"].tolist(), file["cat_card"].tolist())
        classes = len(file["classes"]) if task != "reg" else None
    drifts = tuple(row for row in KNOWN_DRIFT.get(name, ()) if row < len(y))
    return Dataset(name, x, y, classes, drifts)


def _dense(x: Array, coded: list[int], sizes: list[int]) -> NDArray[np.float32]:
    """Return the numbers first, then one column per code of each coded column; pixels divided by 255."""
    if x.dtype == np.uint8:
        return x.astype(np.float32) / np.float32(255)
    numbers = [column for column in range(x.shape[1]) if column not in coded]
    parts = [x[:, numbers]] + [x[:, [c]] == np.arange(size) for c, size in zip(coded, sizes, strict=True)]
    return np.concatenate([part.astype(np.float32) for part in parts], axis=1)


def hashed(starts: Array, columns: Array, values: Array) -> NDArray[np.float32]:
    """Sum sparse rows in HASHED columns, each value with its column's sign (Weinberger et al. 2009)."""
    hashes = columns.astype(np.uint64) * np.uint64(KNUTH) % np.uint64(1 << 32)
    at, sign = (hashes >> np.uint64(24)) % np.uint64(HASHED), (hashes >> np.uint64(23)) & np.uint64(1)
    x = np.zeros((len(starts) - 1, HASHED), np.float32)
    rows = np.repeat(np.arange(len(x)), np.diff(starts))
    end = int(starts[-1])
    np.add.at(x, (rows, at[:end].astype(np.intp)), np.where(sign[:end] == 1, values[:end], -values[:end]))
    return x


def plain_rows(data: Dataset, rows: int | None = None) -> Iterator[tuple[dict[int, float], Any]]:
    """Yield rows as River takes them: a dict of the features, and the label."""
    for x, y in zip(data.x[:rows].tolist(), data.y[:rows].tolist(), strict=True):
        yield dict(enumerate(x)), y
