"""Encode categories as columns: hashed with a sign, or one column for each value of a growing vocabulary."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records.labels import MAX_LENGTH, Label, integral_to_int, is_valid_label, label_key
from streaming_nn.records.reasons import NOT_A_CATEGORY, BadRecord
from streaming_nn.records.schema import Schema
from streaming_nn.records.values import from_mongo, is_gap, to_number

CACHED = 1 << 16  # values whose hashes are cached


class EncodedColumn(NamedTuple):
    """Result of encoding a column of values."""

    bad: dict[int, BadRecord]  # row: why its value is not a category
    unseen: list[tuple[int, Label]]  # row and value that the vocabulary may be extended by


def hash_column(key: object, columns: int) -> tuple[int, float]:
    """Return the column and the sign of a value (Weinberger et al. 2009, section 3), by its `label_key`.

    Byte for byte: h is the first 8 bytes of the sha256 of one letter and a string, as a little-endian
    integer; the letter and the string are `s` and the string in UTF-8, `i` and the decimal digits of an
    integer, or `b` and `true` or `false`. The sign is -1 where h is odd, the column is (h // 2) % columns.
    """
    if type(key) is str and len(key) > MAX_LENGTH:
        return _hash_column(key, columns)
    return _cached(key, columns)


def _hash_column(key: object, columns: int) -> tuple[int, float]:
    if type(key) is str:
        text = b"s" + key.encode("utf-8")
    elif type(key) is int:
        text = b"i%d" % key
    else:
        text = b"btrue" if key == ("bool", True) else b"bfalse"
    h = int.from_bytes(sha256(text).digest()[:8], "little")
    return (h >> 1) % columns, -1.0 if h & 1 else 1.0


_cached = lru_cache(CACHED)(_hash_column)


def encode_column(
    schema: Schema, name: str, values: Sequence[Any], block: NDArray[np.float64]
) -> EncodedColumn:
    """Encode a field's values, one per row, into its block of columns, which is all zeros."""
    keys, bad = _keys(schema, name, values)
    encoding = schema.categories[name]
    if "hash" in encoding:
        _hash_values(keys, block)
        return EncodedColumn(bad, [])
    known = schema.vocabulary[name]
    index = {label_key(value): i for i, value in enumerate(known)}
    column = np.array([index.get(key, -1) for key in keys], np.int64)
    hits = np.flatnonzero(column >= 0)
    block[hits, column[hits]] = 1.0
    if len(known) == encoding["one_hot"] or len(hits) == len(keys):
        return EncodedColumn(bad, [])
    return EncodedColumn(bad, _unseen(keys, np.flatnonzero(column < 0)))


def _unseen(keys: Sequence[Any], rows: NDArray[np.int64]) -> list[tuple[int, Label]]:
    values = [(j, keys[j][1] if type(keys[j]) is tuple else keys[j]) for j in rows.tolist()]
    return [(j, value) for j, value in values if is_valid_label(value)]


def hash_tokens(
    schema: Schema, rows: Sequence[Mapping[str, Any]]
) -> tuple[NDArray[np.float64], dict[int, BadRecord]]:
    """Hash objects of tokens and their counts, one per row: add each count to its token's column."""
    table, bad = np.zeros((len(rows), schema.inputs)), dict[int, BadRecord]()
    for j, row in enumerate(rows):
        if not set(map(type, row.values())) <= {int, float, bool} or schema.na_values:
            try:
                row = _counts(schema, row)
            except BadRecord as error:
                bad[j] = error
                continue
        for token, count in row.items():
            column, sign = hash_column(token, schema.inputs)
            try:
                table[j, column] += sign * count
            except OverflowError:  # an integer beyond float64
                table[j, column] = np.inf
    return table, bad


def _counts(schema: Schema, row: Mapping[str, Any]) -> dict[str, float]:
    rules = schema.rules._replace(missing=False)
    return {token: to_number(count, rules, _path(schema, token)) for token, count in row.items()}


def _path(schema: Schema, token: str) -> str:
    """Return a token's path, in which the last bracket is the one before the token: see `reasons.key`."""
    shown = f"{token!r:.60}".replace("[", r"\x5b")
    return f"{schema.features}[{shown}]"


def _keys(schema: Schema, name: str, values: Sequence[Any]) -> tuple[Sequence[Any], dict[int, BadRecord]]:
    """Return the values' keys, None for a missing value and for one that is not a category."""
    if set(map(type, values)) <= {str, int} and not schema.na_values:
        return values, {}
    values = [from_mongo(value) for value in values]
    gaps = [is_gap(value, schema.category_rules) for value in values]
    keys = [None if gap else _key(value) for value, gap in zip(values, gaps, strict=True)]
    bad = dict[int, BadRecord]()
    for j, key in enumerate(keys):
        if key is None and not (schema.missing and gaps[j]):
            bad[j] = BadRecord(NOT_A_CATEGORY, name, values[j])
    return keys, bad


def _key(value: Any) -> Any:
    value = integral_to_int(value)
    return label_key(value) if type(value) in (str, int, bool) else None


def _hash_values(keys: Sequence[Any], block: NDArray[np.float64]) -> None:
    present = [j for j, key in enumerate(keys) if key is not None]
    if present:
        columns, signs = zip(*(hash_column(keys[j], block.shape[1]) for j in present), strict=True)
        block[present, columns] = signs
