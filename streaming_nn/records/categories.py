"""Categories to columns: hashed with a sign, or one column for each value of a vocabulary that grows."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records.reasons import NOT_A_CATEGORY, NOT_A_NUMBER
from streaming_nn.records.schema import LONGEST, Label, Schema, label_key, nameable

ABSENT = object()  # in place of the value of a field that is not there
CACHED = 1 << 16  # values whose places are remembered


class Coded(NamedTuple):
    """What became of a column of values."""

    bad: dict[int, str]  # row: why its value is no category
    unseen: list[tuple[int, Label]]  # row and value, where the vocabulary may take it in


def place(key: object, columns: int) -> tuple[int, float]:
    """Return the column and the sign of a value (Weinberger et al. 2009, section 3), by its `label_key`.

    Byte for byte: h is the first 8 bytes of the sha256 of one letter and a text, read as a little-endian
    number; the letter and text are `s` and the string in UTF-8, `i` and the decimal digits of a whole number,
    or `b` and `true` or `false`. The sign is -1 where h is odd, the column is (h // 2) % columns.
    """
    if type(key) is str and len(key) > LONGEST:
        return _place(key, columns)
    return _remembered(key, columns)


def _place(key: object, columns: int) -> tuple[int, float]:
    if type(key) is str:
        text = b"s" + key.encode("utf-8")
    elif type(key) is int:
        text = b"i%d" % key
    else:
        text = b"btrue" if key == ("bool", True) else b"bfalse"
    h = int.from_bytes(sha256(text).digest()[:8], "little")
    return (h >> 1) % columns, -1.0 if h & 1 else 1.0


_remembered = lru_cache(CACHED)(_place)


def code(schema: Schema, name: str, values: Sequence[Any], block: NDArray[np.float64]) -> Coded:
    """Write a field's values, one a row, into its block of columns, which is all zeros."""
    keys, bad = _keys(schema, name, values)
    how = schema.categories[name]
    if "hash" in how:
        _hashed(keys, block)
        return Coded(bad, [])
    known = schema.vocabulary[name]
    index = {label_key(value): i for i, value in enumerate(known)}
    at = np.array([index.get(key, -1) for key in keys], np.int64)
    hits = np.flatnonzero(at >= 0)
    block[hits, at[hits]] = 1.0
    if len(known) == how["one_hot"] or len(hits) == len(keys):
        return Coded(bad, [])
    return Coded(bad, _unseen(keys, np.flatnonzero(at < 0)))


def _unseen(keys: Sequence[Any], rows: NDArray[np.int64]) -> list[tuple[int, Label]]:
    values = [(j, keys[j][1] if type(keys[j]) is tuple else keys[j]) for j in rows.tolist()]
    return [(j, value) for j, value in values if nameable(value)]


def tokens(schema: Schema, rows: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Hash objects of tokens and their counts, one a row; a token's count is added to its column."""
    table, bad = np.zeros((len(rows), schema.inputs)), dict[int, str]()
    for j, row in enumerate(rows):
        if not set(map(type, row.values())) <= {int, float}:
            bad[j] = NOT_A_NUMBER
            continue
        for token, count in row.items():
            column, sign = place(token, schema.inputs)
            try:
                table[j, column] += sign * count
            except OverflowError:  # a whole number that no float64 holds
                table[j, column] = np.inf
    return table, bad


def _keys(schema: Schema, name: str, values: Sequence[Any]) -> tuple[Sequence[Any], dict[int, str]]:
    """Return the values' keys, None for a missing one and for what is no category."""
    if set(map(type, values)) <= {str, int}:
        return values, {}
    keys, bad = [_key(value) for value in values], dict[int, str]()
    for j, key in enumerate(keys):
        if key is None and not (schema.missing and (values[j] is None or values[j] is ABSENT)):
            bad[j] = f"{NOT_A_CATEGORY}: {name}"
    return keys, bad


def _key(value: Any) -> Any:
    if type(value) is float and value.is_integer():
        return int(value)
    return label_key(value) if type(value) in (str, int, bool) else None


def _hashed(keys: Sequence[Any], block: NDArray[np.float64]) -> None:
    there = [j for j, key in enumerate(keys) if key is not None]
    if there:
        columns, signs = zip(*(place(keys[j], block.shape[1]) for j in there), strict=True)
        block[there, columns] = signs
