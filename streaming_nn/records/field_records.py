"""Records that are objects of fields, whatever their bytes: to rows of numbers and labels, and back."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate, chain, groupby
from math import nan
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records import categories
from streaming_nn.records import reasons as reasons
from streaming_nn.records.categories import ABSENT
from streaming_nn.records.reasons import BadRecord, Blobs, Rows, targets
from streaming_nn.records.schema import Label, Schema, label_key, nameable

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
CHUNK = 1024  # records whose numbers are held as Python's own before they become an array: some 2 MB
_LABELS = frozenset((str, int, float, bool))

Record = dict[str, Any]
Taken = tuple[Any, Any]  # features, a buffer of float64 or numbers not yet looked at; the label's value


class Table(NamedTuple):
    """A chunk's rows as numbers."""

    table: NDArray[np.float64]  # (rows, inputs) zeros where a row is bad
    bad: dict[int, str]  # row: why it is no row
    unseen: Sequence[tuple[int, str, Label]] = ()  # row, field, value


def joined(parts: Sequence[Rows], labeled: bool) -> Rows:
    """Put the rows of consecutive chunks together; all have the list of labels of the last one."""
    if len(parts) == 1:
        return parts[0]
    x, y, kept, rejected, _, unseen = zip(*parts, strict=True)
    whole_y = np.concatenate(y) if labeled else None
    rejects, new = list(chain.from_iterable(rejected)), list(chain.from_iterable(unseen))
    return Rows(np.concatenate(x), whole_y, np.concatenate(kept), rejects, parts[-1].labels, new)


class Reader:
    """Decodes chunks; `parse` makes an object of a record's bytes, or raises BadRecord."""

    def __init__(self, schema: Schema, labeled: bool, parse: Callable[[bytes], Record]):
        self.schema, self.labeled, self.parse = schema, labeled, parse
        self.labels = list(schema.classes or ())  # where they grow, new ones join them for this batch
        self.features = _reader(schema)
        self.label = labeler(schema, self.labels) if labeled else nothing
        self.path = schema.label.split(".") if schema.label else ()
        self.take: Callable[[bytes], Taken | None] = nothing  # a faster way, for the records that it takes

    def rows(self, blobs: Blobs, positions: NDArray[np.int64]) -> Rows:
        """Decode the records at these positions: row by row to lists, a chunk of those to numbers at once."""
        cuts = range(CHUNK, len(positions), CHUNK)
        parts = [self.chunk(blobs.at(chunk), chunk) for chunk in np.split(positions, cuts)]
        return joined(parts, self.labeled)

    def chunk(self, values: list[bytes], positions: NDArray[np.int64]) -> Rows:
        """Decode consecutive records."""
        features, labels, kept, rejected = [], [], [], []
        label = self.label
        for i, blob in zip(positions.tolist(), values, strict=True):
            try:
                row, value = self.take(blob) or self.decode(blob)
                labels.append(label(value))
                features.append(row)
                kept.append(i)
            except BadRecord as odd:
                rejected.append((i, str(odd)))
        y = labels if self.labeled else None
        return finished(self.schema, _table(features, self.schema), y, self.labels, kept, rejected)

    def decode(self, blob: bytes) -> Taken:
        """Decode one record."""
        return self.taken(self.parse(blob))

    def taken(self, record: Record) -> Taken:
        """Take features and label out of an object."""
        return self.features(record), _at(record, self.path)


def finished(
    schema: Schema,
    table: Table,
    y: list[Any] | None,
    labels: Sequence[Label],
    kept: list[int],
    rejected: list[tuple[int, str]],
) -> Rows:
    """Make rows of a table; those that are bad join the rejected. `y` are the rows' labels, looked up."""
    new = [(kept[j], name, value) for j, name, value in table.unseen]
    for j in sorted(table.bad, reverse=True):
        rejected.append((kept[j], table.bad[j]))
        del kept[j]
        if y is not None:
            del y[j]
    found = None if y is None else targets(y, schema.classes)
    return Rows(_float32(table.table, table.bad), found, np.array(kept, np.int64), rejected, labels, new)


def records(
    schema: Schema, x: NDArray[np.float64], y: NDArray[Any] | None, ids: Sequence[object] | None
) -> list[Record]:
    """Make an object of each row; `x` and a target `y` are written as they are, class -1 not at all."""
    names = (schema.features,) if isinstance(schema.features, str) else schema.features
    paths = [name.split(".") for name in names]
    alone = isinstance(schema.features, str)
    out = []
    for i, row in enumerate(x.tolist()):
        record: Record = {}
        for path, number in zip(paths, [row] if alone else row, strict=True):
            _put(record, path, number)
        if y is not None and schema.label is not None:
            if schema.classes is None:
                _put(record, schema.label.split("."), float(y[i]))
            elif y[i] >= 0:
                _put(record, schema.label.split("."), schema.classes[y[i]])
        if ids is not None:
            record["id"] = ids[i]
        out.append(record)
    return out


def named(
    schema: Schema,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Any] | None,
    ids: Sequence[object] | None,
) -> list[Record]:
    """Make an object of each row of named fields; a field that a row doesn't have is not there."""
    out = []
    for i, row in enumerate(rows):
        record: Record = {}
        for name, value in row.items():
            _put(record, name.split("."), value)
        if labels is not None and schema.label is not None:
            _put(record, schema.label.split("."), labels[i])
        if ids is not None:
            record["id"] = ids[i]
        out.append(record)
    return out


def look(
    schema: Schema, blobs: Blobs, parse: Callable[[bytes], Record]
) -> tuple[Counter[int], Counter[tuple[type, Any]]]:
    """Count the widths, and the labels with their types, of the records that can be read."""
    widths, labels = Counter[int](), Counter[tuple[type, Any]]()
    label_path = schema.label.split(".") if schema.label else None
    for blob in blobs.at(np.flatnonzero(~blobs.absent)):
        try:
            record = parse(blob)
            width = _width(_row(record, schema), schema)
        except BadRecord:
            continue
        widths[width] += 1
        note_label(labels, _at(record, label_path) if label_path else None)
    return widths, labels


def note_label(labels: Counter[tuple[type, Any]], label: Any) -> None:
    """Count a label with its type, if it may be one."""
    if type(label) is float and label.is_integer():
        label = int(label)
    if type(label) in _LABELS:
        labels[type(label), label] += 1


def _width(row: Any, schema: Schema) -> int:
    """Return the columns of one record's features; raises BadRecord where they can't be read."""
    if not schema.categories:
        return len(_numbers(row, schema))
    bad = _table([row], schema).bad
    if bad:
        raise BadRecord(bad[0])
    return schema.inputs


def _reader(schema: Schema) -> Callable[[Record], Any]:
    """Return what takes the features, not yet looked at, out of a record."""
    names, inputs = schema.features, schema.inputs

    name = names if isinstance(names, str) else ""

    def array(record: Record) -> Sequence[Any]:
        row = record.get(name)
        if type(row) is list and len(row) == inputs:
            return row
        raise BadRecord(_why_not(record, schema))

    def nested(record: Record) -> Any:
        row = _row(record, schema)
        if len(row) == inputs:
            return row
        raise BadRecord(reasons.WRONG_WIDTH)

    def objects(record: Record) -> Any:
        return _row(record, schema)

    if not isinstance(names, str):
        return _fields(schema)
    return objects if schema.categories else nested if "." in names else array


def _fields(schema: Schema) -> Callable[[Record], Any]:
    """Return what takes named fields; neighbours in one object are taken together."""
    groups = []
    paths = [name.split(".") for name in schema.features]
    for parent, members in groupby(paths, key=lambda path: path[:-1]):
        leaves = [path[-1] for path in members]
        groups.append((parent, itemgetter(*leaves), len(leaves) == 1))

    def fields(record: Record) -> Any:
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


def _row(record: Record, schema: Schema) -> Any:
    """Return the features, whatever their number and kind; the long way, for any schema."""
    names = schema.features
    if not isinstance(names, str):
        row = [_present(record, name, schema.missing) for name in names]
        if schema.missing and all(value is ABSENT for value in row):
            raise BadRecord(
                reasons.NO_FIELD
            )  # else records of another kind would be learned as rows of nothing
        return row
    if schema.categories:
        counts = _present(record, names, schema.missing)
        if schema.missing and (counts is None or counts is ABSENT):
            return {}
        if type(counts) is not dict:
            raise BadRecord(f"{reasons.NOT_AN_OBJECT}: {names}")
        return counts
    row = _present(record, names)
    if type(row) is not list:
        raise BadRecord(f"{reasons.NOT_AN_ARRAY}: {names}")
    return row


def _present(record: Record, name: str, missing: bool = False) -> Any:
    value = _at(record, name.split("."))
    if value is ABSENT and not missing:
        raise BadRecord(f"{reasons.FIELD_MISSING}: {name}")
    return value


def _why_not(record: Record, schema: Schema) -> str:
    try:
        _row(record, schema)
    except BadRecord as odd:
        return str(odd)
    return reasons.WRONG_WIDTH


def nothing(_: object) -> None:
    """Take nothing."""
    return


def labeler(schema: Schema, labels: list[Label]) -> Callable[[Any], Any]:
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
        raise BadRecord(reasons.LABEL_MISSING if missing else reasons.LABEL_NOT_IN_CLASSES)

    return label


def _new_label(value: Any) -> Label | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if nameable(value) else None


def _target(value: Any, schema: Schema) -> float:
    if value is None or value is ABSENT:
        raise BadRecord(reasons.LABEL_MISSING)
    try:
        return _number(value, schema)
    except BadRecord as odd:
        raise BadRecord(f"label {odd}") from None


def _at(record: Record, path: Sequence[str]) -> Any:
    """Return the field at a path, or ABSENT."""
    value: Any = record
    for name in path:
        if type(value) is not dict or name not in value:
            return ABSENT
        value = value[name]
    return value


def _float32(table: NDArray[np.float64], bad: Mapping[int, str]) -> NDArray[np.float32]:
    """Return the table without its bad rows."""
    table = np.delete(table, list(bad), axis=0) if bad else table
    with np.errstate(over="ignore"):  # too large for float32: infinite, and rejected as such
        return table.astype(np.float32)


def _table(features: list[Any], schema: Schema) -> Table:
    """Return what the records' features hold as one table."""
    if not schema.categories:
        return _numeric(features, schema)
    if isinstance(schema.features, str):
        return Table(*categories.tokens(schema, features))
    return _coded(features, schema)


def _numeric(features: list[Any], schema: Schema) -> Table:
    """Return rows, buffers of float64 or numbers, as one table."""
    slow = [j for j, row in enumerate(features) if type(row) in (list, tuple)]
    table, bad = _float64([features[j] for j in slow], schema.inputs, schema)
    if len(slow) == len(features):
        return Table(table, bad)
    whole = np.empty((len(features), schema.inputs))
    whole[slow] = table
    taken = np.frombuffer(b"".join(row for row in features if type(row) not in (list, tuple)))
    whole[np.delete(np.arange(len(features)), slow)] = taken.reshape(-1, schema.inputs)
    return Table(whole, {slow[j]: reason for j, reason in bad.items()})


def _coded(features: list[Sequence[Any]], schema: Schema) -> Table:
    """Return named fields as one table, numbers and coded categories in the fields' order."""
    numbers = [i for i, name in enumerate(schema.features) if name not in schema.categories]
    rows: list[Sequence[Any]] = [[row[i] for i in numbers] for row in features]
    table, bad = _float64(rows, len(numbers), schema)
    columns = {
        name: [row[i] for row in features]
        for i, name in enumerate(schema.features)
        if name in schema.categories
    }
    return coded(schema, table, bad, columns)


def coded(
    schema: Schema, numbers: NDArray[np.float64], bad: dict[int, str], columns: Mapping[str, Sequence[Any]]
) -> Table:
    """Return one table of numbers, in the order of their fields, and of categories, each field's values."""
    whole, unseen = np.zeros((len(numbers), schema.inputs)), list[tuple[int, str, Label]]()
    begin = _starts(schema)
    places = [begin[i] for i, name in enumerate(schema.features) if name not in schema.categories]
    whole[:, places] = numbers
    for i, name in enumerate(schema.features):
        if name in schema.categories:
            block = whole[:, begin[i] : begin[i + 1]]
            found = categories.code(schema, name, columns[name], block)
            unseen += [(j, name, value) for j, value in found.unseen]
            bad = found.bad | bad
    return Table(whole, bad, unseen)


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
            except BadRecord as odd:
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
            raise BadRecord(reasons.NOT_FINITE) from None
    if schema.numbers_as_strings and type(value) is str and NUMBER.fullmatch(value):
        return float(value)
    if type(value) is Decimal:  # of Avro
        return float(value)
    if schema.missing and (value is None or value is ABSENT):
        return nan
    raise BadRecord(reasons.NOT_A_NUMBER)


def _put(record: Record, path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        record = record.setdefault(name, {})
    record[path[-1]] = value
