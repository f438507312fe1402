"""JSON records: an object with an array of features, or with a number field for each, and a label."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, chain, groupby
from math import nan
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from streaming_nn.records import categories, simd
from streaming_nn.records import rows as reasons
from streaming_nn.records.categories import ABSENT
from streaming_nn.records.rows import Blobs, Rows, targets
from streaming_nn.records.schema import Label, Schema, label_key, nameable

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LABELS = frozenset((str, int, float, bool))
CHUNK = 1024  # records whose numbers are held as Python's own before they become an array: some 2 MB
PATIENCE = 64  # times in a batch that records with other keys change the keys that simdjson looks for


class Odd(ValueError):  # noqa: N818 (no error of the program: a record's fate)
    """A record can't be learned; the message is the reason."""


def rows(schema: Schema, blobs: Blobs, positions: NDArray[np.int64], labeled: bool) -> Rows:
    """Decode the records at these positions: row by row to lists, and a chunk of those to numbers at once."""
    read = _Reader(schema, labeled)
    cuts = range(CHUNK, len(positions), CHUNK)
    parts = [read.chunk(blobs.at(chunk), chunk) for chunk in np.split(positions, cuts)]
    if len(parts) == 1:
        return parts[0]
    x, y, kept, rejected, _, unseen = zip(*parts, strict=True)
    whole_y = np.concatenate(y) if labeled else None
    rejects, new = list(chain.from_iterable(rejected)), list(chain.from_iterable(unseen))
    return Rows(np.concatenate(x), whole_y, np.concatenate(kept), rejects, parts[-1].labels, new)


class _Table(NamedTuple):
    """A chunk's rows as numbers."""

    table: NDArray[np.float64]  # (rows, inputs) zeros where a row is bad
    bad: dict[int, str]  # row: why it is no row
    unseen: Sequence[tuple[int, str, Label]] = ()  # row, field, value


class _Reader:
    """Decodes chunks; simdjson takes records while they have the keys of the last one decoded row by row."""

    def __init__(self, schema: Schema, labeled: bool):
        self.schema, self.labeled = schema, labeled
        self.labels = list(schema.classes or ())  # where they grow, new ones join them for this batch
        self.features = _reader(schema)
        self.label = _labeler(schema, self.labels) if labeled else _nothing
        self.path = schema.label.split(".") if schema.label else ()
        names = (schema.features,) if isinstance(schema.features, str) else schema.features
        plain = not schema.categories and not any("." in name for name in (*names, schema.label or ""))
        self.left = PATIENCE if plain and simd.installed() else 0
        self.keys: list[str] = []
        self.take: Callable[[bytes], simd.Taken | None] = _nothing

    def chunk(self, values: list[bytes], positions: NDArray[np.int64]) -> Rows:
        """Decode consecutive records."""
        features, labels, kept, rejected = [], [], [], []
        label = self.label
        for i, blob in zip(positions.tolist(), values, strict=True):
            try:
                row, value = self.take(blob) or self._decode(blob)
                labels.append(label(value))
                features.append(row)
                kept.append(i)
            except Odd as odd:
                rejected.append((i, str(odd)))
        table, bad, unseen = _table(features, self.schema)
        new = [(kept[j], name, value) for j, name, value in unseen]
        x = _float32(table, bad)
        for j in sorted(bad, reverse=True):
            rejected.append((kept[j], bad[j]))
            del labels[j], kept[j]
        y = targets(labels, self.schema.classes) if self.labeled else None
        return Rows(x, y, np.array(kept, np.int64), rejected, self.labels, new)

    def _decode(self, blob: bytes) -> simd.Taken:
        """Decode one record; look for others with its keys from now on, unless the keys keep changing."""
        record = _object(blob)
        taken = self.features(record), _at(record, self.path)
        if self.left and self.keys != (keys := list(record)):
            self.left -= 1
            self.keys, self.take = keys, simd.taker(self.schema, keys) or _nothing
        return taken


def encode(
    schema: Schema, x: NDArray[np.float32], y: NDArray[Any] | None, ids: Sequence[object] | None
) -> list[bytes]:
    """Encode rows with the fewest digits that give the same float32 back."""
    table = _shortest(x).tolist()
    if y is not None and schema.classes is None:
        y = _shortest(np.asarray(y, np.float32))
    paths = None if isinstance(schema.features, str) else [name.split(".") for name in schema.features]
    out = []
    for i, row in enumerate(table):
        record: dict[str, Any] = {}
        if paths is None:
            _put(record, str(schema.features).split("."), row)
        else:
            for path, number in zip(paths, row, strict=True):
                _put(record, path, number)
        if y is not None and schema.label is not None:
            if schema.classes is None:
                _put(record, schema.label.split("."), float(y[i]))
            elif y[i] >= 0:
                _put(record, schema.label.split("."), schema.classes[y[i]])
        if ids is not None:
            record["id"] = ids[i]
        out.append(to_json(record, inf_nan_mode="null"))
    return out


def encode_named(
    schema: Schema,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Any] | None,
    ids: Sequence[object] | None,
) -> list[bytes]:
    """Encode rows given by the fields' names; a field that a row doesn't have is not written."""
    out = []
    for i, row in enumerate(rows):
        record: dict[str, Any] = {}
        for name, value in row.items():
            _put(record, name.split("."), value)
        if labels is not None and schema.label is not None:
            _put(record, schema.label.split("."), labels[i])
        if ids is not None:
            record["id"] = ids[i]
        out.append(to_json(record, inf_nan_mode="null"))
    return out


def look(schema: Schema, blobs: Blobs) -> tuple[Counter[int], Counter[tuple[type, Any]]]:
    """Count the widths, and the labels with their types, of the records that can be read."""
    widths, labels = Counter[int](), Counter[tuple[type, Any]]()
    label_path = schema.label.split(".") if schema.label else None
    for blob in blobs.at(np.flatnonzero(~blobs.absent)):
        try:
            record = _object(blob)
            width = _width(_row(record, schema), schema)
        except Odd:
            continue
        widths[width] += 1
        label = _at(record, label_path) if label_path else None
        if type(label) is float and label.is_integer():
            label = int(label)
        if type(label) in (str, int, float, bool):
            labels[type(label), label] += 1
    return widths, labels


def _width(row: Any, schema: Schema) -> int:
    """Return the columns of one record's features; raises Odd where they can't be read."""
    if not schema.categories:
        return len(_numbers(row, schema))
    bad = _table([row], schema).bad
    if bad:
        raise Odd(bad[0])
    return schema.inputs


def _object(blob: bytes) -> dict[str, Any]:
    try:
        record = from_json(blob)
    except ValueError:
        raise Odd(reasons.NOT_JSON) from None
    if type(record) is not dict:
        raise Odd(reasons.NOT_AN_OBJECT)
    return record


def _reader(schema: Schema) -> Callable[[dict[str, Any]], Any]:
    """Return what takes the features, not yet looked at, out of a record."""
    names, inputs = schema.features, schema.inputs

    name = names if isinstance(names, str) else ""

    def array(record: dict[str, Any]) -> Sequence[Any]:
        row = record.get(name)
        if type(row) is list and len(row) == inputs:
            return row
        raise Odd(_why_not(record, schema))

    def nested(record: dict[str, Any]) -> Any:
        row = _row(record, schema)
        if len(row) == inputs:
            return row
        raise Odd(reasons.WRONG_WIDTH)

    def objects(record: dict[str, Any]) -> Any:
        return _row(record, schema)

    if not isinstance(names, str):
        return _fields(schema)
    return objects if schema.categories else nested if "." in names else array


def _fields(schema: Schema) -> Callable[[dict[str, Any]], Any]:
    """Return what takes named fields; neighbours in one object are taken together."""
    groups = []
    paths = [name.split(".") for name in schema.features]
    for parent, members in groupby(paths, key=lambda path: path[:-1]):
        leaves = [path[-1] for path in members]
        groups.append((parent, itemgetter(*leaves), len(leaves) == 1))

    def fields(record: dict[str, Any]) -> Any:
        row: list[Any] = []
        try:
            for parent, get, alone in groups:
                value: Any = record
                for name in parent:
                    value = value[name]
                if alone:
                    row.append(get(value))
                else:
                    row += get(value)
        except (KeyError, TypeError):  # TypeError: what should be an object is none
            return _row(record, schema)
        return row

    return fields


def _row(record: dict[str, Any], schema: Schema) -> Any:
    """Return the features, whatever their number and kind; the long way, for any schema."""
    names = schema.features
    if not isinstance(names, str):
        row = [_present(record, name, schema.missing) for name in names]
        if schema.missing and all(value is ABSENT for value in row):
            raise Odd(reasons.NO_FIELD)  # else records of another kind would be learned as rows of nothing
        return row
    if schema.categories:
        counts = _present(record, names, schema.missing)
        if schema.missing and (counts is None or counts is ABSENT):
            return {}
        if type(counts) is not dict:
            raise Odd(f"{reasons.NOT_AN_OBJECT}: {names}")
        return counts
    row = _present(record, names)
    if type(row) is not list:
        raise Odd(f"{reasons.NOT_AN_ARRAY}: {names}")
    return row


def _present(record: dict[str, Any], name: str, missing: bool = False) -> Any:
    value = _at(record, name.split("."))
    if value is ABSENT and not missing:
        raise Odd(f"{reasons.FIELD_MISSING}: {name}")
    return value


def _why_not(record: dict[str, Any], schema: Schema) -> str:
    try:
        _row(record, schema)
    except Odd as odd:
        return str(odd)
    return reasons.WRONG_WIDTH


def _nothing(_: object) -> None:
    return None


def _labeler(schema: Schema, labels: list[Label]) -> Callable[[Any], Any]:
    """Return what makes of a label its place among the labels, which new ones may join, or the target."""
    if schema.classes is None:
        return lambda value: _target(value, schema)
    index = {label_key(label): i for i, label in enumerate(labels)}

    def label(value: Any) -> int:
        if type(value) in _LABELS:
            found = index.get(value if type(value) is not bool else label_key(value))
            if found is not None:
                return found
            new = _new_label(value) if schema.grow else None
            if new is not None:
                index[label_key(new)] = len(labels)
                labels.append(new)
                return len(labels) - 1
        missing = value is None or value is ABSENT
        raise Odd(reasons.LABEL_MISSING if missing else reasons.LABEL_NOT_IN_CLASSES)

    return label


def _new_label(value: Any) -> Label | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if nameable(value) else None


def _target(value: Any, schema: Schema) -> float:
    if value is None or value is ABSENT:
        raise Odd(reasons.LABEL_MISSING)
    try:
        return _number(value, schema)
    except Odd as odd:
        raise Odd(f"label {odd}") from None


def _at(record: dict[str, Any], path: Sequence[str]) -> Any:
    """Return the field at a path, or ABSENT."""
    value: Any = record
    for name in path:
        if type(value) is not dict or name not in value:
            return ABSENT
        value = value[name]
    return value


def _float32(table: NDArray[np.float64], bad: dict[int, str]) -> NDArray[np.float32]:
    """Return the table without its bad rows."""
    table = np.delete(table, list(bad), axis=0) if bad else table
    with np.errstate(over="ignore"):  # too large for float32: infinite, and rejected as such
        return table.astype(np.float32)


def _table(features: list[Any], schema: Schema) -> _Table:
    """Return what the records' features hold as one table."""
    if not schema.categories:
        return _numeric(features, schema)
    if isinstance(schema.features, str):
        return _Table(*categories.tokens(schema, features))
    return _coded(features, schema)


def _numeric(features: list[Any], schema: Schema) -> _Table:
    """Return rows, buffers of float64 or numbers, as one table."""
    slow = [j for j, row in enumerate(features) if type(row) in (list, tuple)]
    table, bad = _float64([features[j] for j in slow], schema.inputs, schema)
    if len(slow) == len(features):
        return _Table(table, bad)
    whole = np.empty((len(features), schema.inputs))
    whole[slow] = table
    taken = np.frombuffer(b"".join(row for row in features if type(row) not in (list, tuple)))
    whole[np.delete(np.arange(len(features)), slow)] = taken.reshape(-1, schema.inputs)
    return _Table(whole, {slow[j]: reason for j, reason in bad.items()})


def _coded(features: list[Sequence[Any]], schema: Schema) -> _Table:
    """Return named fields as one table, numbers and coded categories in the fields' order."""
    whole, unseen = np.zeros((len(features), schema.inputs)), list[tuple[int, str, Label]]()
    starts = _starts(schema)
    numbers = [i for i, name in enumerate(schema.features) if name not in schema.categories]
    rows: list[Sequence[Any]] = [[row[i] for i in numbers] for row in features]
    whole[:, [starts[i] for i in numbers]], bad = _float64(rows, len(numbers), schema)
    for i, name in enumerate(schema.features):
        if name in schema.categories:
            block = whole[:, starts[i] : starts[i + 1]]
            coded = categories.code(schema, name, [row[i] for row in features], block)
            unseen += [(j, name, value) for j, value in coded.unseen]
            bad = coded.bad | bad
    return _Table(whole, bad, unseen)


def _starts(schema: Schema) -> list[int]:
    """Return where each named field's columns begin, and where the last one's end."""
    widths = [sum(schema.categories.get(name, {"": 1}).values()) for name in schema.features]
    return [0, *accumulate(widths)]


def _float64(
    features: list[Sequence[Any]], width: int, schema: Schema
) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Return rows as one array; those that hold no numbers are zeros, their places and reasons beside it."""
    bad: dict[int, str] = {}
    plain = {int, float, type(None)} if schema.missing else {int, float}  # NumPy takes None for NaN
    if not set(map(type, chain.from_iterable(features))) <= plain:
        bad = _mend(features, schema, plain)
    try:
        table = np.array(features, np.float64)
    except OverflowError:  # a whole number that no float64 holds
        bad |= _mend(features, schema, {float})
        table = np.array(features, np.float64)
    return table.reshape(len(features), width), bad


def _mend(features: list[Sequence[Any]], schema: Schema, plain: set[type]) -> dict[int, str]:
    """Replace rows with anything but plain numbers: by numbers, or by zeros and a reason."""
    bad: dict[int, str] = {}
    for j, row in enumerate(features):
        if not set(map(type, row)) <= plain:
            try:
                features[j] = _numbers(row, schema)
            except Odd as odd:
                features[j], bad[j] = [0.0] * len(row), str(odd)
    return bad


def _numbers(row: Sequence[Any], schema: Schema) -> list[float]:
    return [_number(value, schema) for value in row]


def _number(value: Any, schema: Schema) -> float:
    """Return a number as float64; infinite ones pass, they are rejected with the whole batch."""
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise Odd(reasons.NOT_FINITE) from None
    if schema.numbers_as_strings and type(value) is str and _NUMBER.fullmatch(value):
        return float(value)
    if schema.missing and (value is None or value is ABSENT):
        return nan
    raise Odd(reasons.NOT_A_NUMBER)


def _put(record: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        record = record.setdefault(name, {})
    record[path[-1]] = value


def _shortest(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return x in float64 with the fewest of 6 to 9 decimal digits that round to the same float32."""
    wide = x.astype(np.float64)
    size = np.where((wide == 0) | ~np.isfinite(wide), 1.0, np.abs(wide))
    magnitude = np.floor(np.log10(size)).astype(np.int64)
    short = wide.copy()
    for digits in (9, 8, 7, 6):
        scale = 10.0 ** np.clip(digits - 1 - magnitude, -22, 22)
        with np.errstate(invalid="ignore", over="ignore"):
            tried = np.round(wide * scale) / scale
            short = np.where(tried.astype(np.float32) == x, tried, short)
    return short
