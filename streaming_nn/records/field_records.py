"""Records that are objects of fields, whatever their bytes: to rows of numbers and labels, and back."""

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, chain, groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records import categories, datetimes, reasons, weights, where
from streaming_nn.records.labels import Label, integral_to_int, is_valid_label, label_key, label_to_csv
from streaming_nn.records.paths import get_field, is_plain, parse_path, split_length
from streaming_nn.records.reasons import ABSENT, BadRecord
from streaming_nn.records.schema import Schema
from streaming_nn.records.simd import ParsedFields
from streaming_nn.records.types import Blobs, DecodedRows, Inspected, Rejection, concatenate_labels
from streaming_nn.records.values import (
    BLANKS,
    BOOLEANS,
    Rules,
    from_mongo,
    is_gap,
    label_array,
    to_number,
)

CHUNK = 1024  # records whose numbers are Python objects before they become an array: about 2 MB
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,18})", re.ASCII)
_FLOAT = re.compile(r"-?(0|[1-9]\d*)\.\d+([eE][+-]?\d+)?", re.ASCII)  # pandas may write 1 as 1.0
_LABEL_TYPES = frozenset((str, int, float, bool))

Record = dict[str, Any]


class Table(NamedTuple):
    """A chunk's rows as numbers."""

    table: NDArray[np.float64]  # (rows, inputs) zeros where a row is bad
    bad: dict[int, BadRecord]  # row: why it is rejected
    unseen: Sequence[tuple[int, str, Label]] = ()  # row, field, value


def concatenate(parts: Sequence[DecodedRows], labeled: bool) -> DecodedRows:
    """Concatenate the rows of consecutive chunks; all have the list of labels of the last one."""
    if len(parts) == 1:
        return parts[0]
    x, y, kept, rejected, _, unseen = zip(*parts, strict=True)
    whole_y = concatenate_labels(y) if labeled else None
    rejects, new = list(chain.from_iterable(rejected)), list(chain.from_iterable(unseen))
    return DecodedRows(np.concatenate(x), whole_y, np.concatenate(kept), rejects, parts[-1].labels, new)


class RecordDecoder:
    """Decodes chunks; `parse` returns an object of a record's bytes, or raises BadRecord."""

    def __init__(self, schema: Schema, labeled: bool, parse: Callable[[bytes], Record]):
        self.schema, self.labeled, self.parse = schema, labeled, _filtering(schema, parse)
        self.labels = list(schema.classes or ())  # growing ones are extended for this batch
        self.read_features = (_weighted_reader if labeled and schema.weight else _feature_reader)(schema)
        self.encode_label = label_encoder(schema, self.labels) if labeled else return_none
        self.read_label = label_reader(schema)
        self.fast_parse: Callable[[bytes], ParsedFields | None] = return_none  # None: a record that it leaves

    def decode_rows(self, blobs: Blobs, positions: NDArray[np.int64]) -> DecodedRows:
        """Decode the records at these positions: row by row to lists, then a chunk of lists to numbers."""
        chunks = np.split(positions, range(CHUNK, len(positions), CHUNK))
        return concatenate([self.decode_chunk(blobs.at(chunk), chunk) for chunk in chunks], self.labeled)

    def decode_chunk(self, values: list[bytes], positions: NDArray[np.int64]) -> DecodedRows:
        """Decode consecutive records."""
        features, labels, kept, rejected = [], [], [], []
        encode_label = self.encode_label
        for i, blob in zip(positions.tolist(), values, strict=True):
            try:
                row, value = self.fast_parse(blob) or self.decode(blob)
                labels.append(encode_label(value))
                features.append(row)
                kept.append(i)
            except BadRecord as error:
                rejected.append(error.at(i))
        y = labels if self.labeled else None
        return to_rows(self.schema, _to_table(features, self.schema), y, self.labels, kept, rejected)

    def decode(self, blob: bytes) -> ParsedFields:
        """Decode one record."""
        return self.extract(self.parse(blob))

    def extract(self, record: Record) -> ParsedFields:
        """Return the features and the label of an object."""
        return self.read_features(record), self.read_label(record)


def _filtering(schema: Schema, parse: Callable[[bytes], Record]) -> Callable[[bytes], Record]:
    """Return a function that parses a record, and raises BadRecord too if `where` excludes it."""
    if schema.where is None:
        return parse
    keeps = where.parse(schema.where).keeps

    def parse_kept(blob: bytes) -> Record:
        record = parse(blob)
        if not keeps(record):
            raise BadRecord(reasons.FILTERED)
        return record

    return parse_kept


def to_rows(
    schema: Schema,
    table: Table,
    y: list[Any] | None,
    labels: Sequence[Label],
    kept: list[int],
    rejected: list[Rejection],
) -> DecodedRows:
    """Return the rows of a table; bad ones are added to the rejected. `y` are the rows' encoded labels."""
    new = [(kept[j], name, value) for j, name, value in table.unseen]
    for j in sorted(table.bad, reverse=True):
        rejected.append(table.bad[j].at(kept[j]))
        del kept[j]
        if y is not None:
            del y[j]
    array = None if y is None else label_array(y, schema.classes, schema.columns_of_y)
    x = np.delete(table.table, list(table.bad), axis=0) if table.bad else table.table
    return DecodedRows(x, array, np.array(kept, np.int64), rejected, labels, new)


def rows_to_records(
    schema: Schema, x: NDArray[np.float64], y: NDArray[Any] | None, ids: Sequence[object] | None
) -> list[Record]:
    """Return an object for each row; `x` and a target `y` are written as they are, class -1 not at all."""
    names = (schema.features,) if isinstance(schema.features, str) else schema.features
    lengths = {schema.features: schema.inputs} if isinstance(schema.features, str) else schema.arrays
    paths = [(parse_path(split_length(name)[0]), lengths.get(name)) for name in names]
    out = []
    for i, row in enumerate(x.tolist()):
        record: Record = {}
        numbers = iter(row)
        for path, length in paths:
            _set_field(record, path, next(numbers) if length is None else [*islice(numbers, length)])
        if y is not None:
            _set_labels(record, schema, y[i])
        if ids is not None:
            record["id"] = ids[i]
        out.append(record)
    return out


def named_rows_to_records(
    schema: Schema,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Any] | None,
    ids: Sequence[object] | None,
) -> list[Record]:
    """Return an object for each row of named fields; a field that a row does not have is absent."""
    out = []
    for i, row in enumerate(rows):
        record: Record = {}
        for name, value in row.items():
            _set_field(record, parse_path(split_length(name)[0]), value)
        if labels is not None and schema.label is not None:
            values = labels[i] if isinstance(schema.label, tuple) else [labels[i]]
            for name, value in zip(schema.labels, values, strict=True):
                _set_field(record, parse_path(name), value)
        if ids is not None:
            record["id"] = ids[i]
        out.append(record)
    return out


def inspect(schema: Schema, blobs: Blobs, parse: Callable[[bytes], Record]) -> Inspected:
    """Count the widths, and the labels with their types, of the records that can be decoded."""
    widths, labels, rejected = Counter[int](), Counter[tuple[type, Any]](), list[Rejection]()
    positions, parse = np.flatnonzero(~blobs.absent), _filtering(schema, parse)
    read_label = label_reader(schema)
    weight = parse_path(schema.weight) if schema.weight and schema.label else ()
    for i, blob in zip(positions.tolist(), blobs.at(positions), strict=True):
        try:
            record = parse(blob)
            width = _width(_read_row(record, schema), schema)
            if weight:
                weights.check(schema, get_field(record, weight))
        except BadRecord as error:
            rejected.append(error.at(i))
            continue
        widths[width] += 1
        value = read_label(record)
        for label in value if type(value) is list and schema.multilabel else [value]:
            if not is_gap(label, schema.rules):
                count_label(labels, label)
    return Inspected(widths, labels, rejected)


def count_label(labels: Counter[tuple[type, Any]], label: Any) -> None:
    """Count a label with its type, if it has a type of labels."""
    label = integral_to_int(from_mongo(label))
    if type(label) in _LABEL_TYPES:
        labels[type(label), label] += 1


def _width(row: Any, schema: Schema) -> int:
    """Return the number of columns of one record; raise BadRecord if its features cannot be decoded."""
    if not schema.encoded:
        return len(_parse_numbers(row, schema.rules, number_paths(schema, len(row))))
    bad = _to_table([row], schema).bad
    if bad:
        raise bad[0]
    return schema.inputs


def _feature_reader(schema: Schema) -> Callable[[Record], Any]:
    """Return a function that returns a record's features, with their values not yet checked."""
    names, inputs = schema.features, schema.inputs

    name = names if isinstance(names, str) else ""

    def array(record: Record) -> Sequence[Any]:
        row = record.get(name)
        if type(row) is list and len(row) == inputs:
            return row
        raise _row_error(record, schema)

    def nested(record: Record) -> Any:
        row = _read_row(record, schema)
        if len(row) == inputs:
            return row
        raise BadRecord(reasons.WRONG_WIDTH, name, row)

    def objects(record: Record) -> Any:
        return _read_row(record, schema)

    if not isinstance(names, str):
        return _named_reader(schema)
    return objects if schema.categories else array if is_plain(names) else nested


def _weighted_reader(schema: Schema) -> Callable[[Record], Any]:
    """Return a function that returns a record's array of features, and after it the weight."""
    assert schema.weight is not None
    read, path = _feature_reader(replace(schema, inputs=schema.inputs - 1)), parse_path(schema.weight)
    return lambda record: [*read(record), get_field(record, path)]


def _named_reader(schema: Schema) -> Callable[[Record], Any]:
    """Return a function that reads named fields; adjacent ones of the same object are read at once."""
    groups = []
    paths = [parse_path(split_length(name)[0]) for name in schema.features]
    for parent, members in groupby(paths, key=itemgetter(slice(-1))):
        leaves = [path[-1] for path in members]
        groups.append((parent, itemgetter(*leaves), len(leaves) == 1))
    has_arrays = bool(schema.arrays)

    def fields(record: Record) -> Any:
        row: list[Any] = []
        try:
            for parent, get, single in groups:
                value: Any = record
                for name in parent:
                    value = value[name]
                if single:
                    row.append(get(value))
                else:
                    row += get(value)
        except (KeyError, TypeError):  # TypeError: a parent is not an object
            return _read_row(record, schema)
        return _flattened(row, schema) if has_arrays else row

    return fields


def _flattened(row: Sequence[Any], schema: Schema) -> list[Any]:
    """Return the values of named fields, with each array replaced by its elements."""
    flat = list[Any]()
    for name, value in zip(schema.features, row, strict=True):
        length = schema.arrays.get(name)
        if length is None:
            flat.append(value)
        elif type(value) is list and len(value) == length:
            flat += value
        elif schema.missing and is_gap(value, schema.rules):
            flat += [None] * length
        else:
            reason = reasons.WRONG_WIDTH if type(value) is list else reasons.NOT_AN_ARRAY
            raise BadRecord(reason, split_length(name)[0], value)
    return flat


def _read_row(record: Record, schema: Schema) -> Any:
    """Return the features, whatever their number and types; the slow path, for any schema."""
    names = schema.features
    if not isinstance(names, str):
        sparse = frozenset(schema.sparse)
        row = [_require_field(record, name, schema.missing or name in sparse) for name in names]
        if all(value is ABSENT for value in row):
            # otherwise records of another kind would be learned as rows of missing values
            raise BadRecord(reasons.NO_FIELD)
        row = _zeros_for_absent(row, names, sparse) if sparse else row
        return _flattened(row, schema) if schema.arrays else row
    if schema.categories:
        counts = _require_field(record, names, schema.missing)
        if schema.missing and (counts is None or counts is ABSENT):
            return {}
        if type(counts) is not dict:
            raise BadRecord(reasons.NOT_AN_OBJECT, names, counts)
        return counts
    row = _require_field(record, names)
    if type(row) is not list:
        raise BadRecord(reasons.NOT_AN_ARRAY, names, row)
    return row


def _zeros_for_absent(row: list[Any], names: Sequence[str], sparse: frozenset[str]) -> list[Any]:
    pairs = zip(names, row, strict=True)
    return [0.0 if value is ABSENT and name in sparse else value for name, value in pairs]


def _require_field(record: Record, name: str, missing: bool = False) -> Any:
    path = split_length(name)[0]
    value = get_field(record, parse_path(path))
    if value is ABSENT and not missing:
        raise BadRecord(reasons.FIELD_MISSING, path)
    return value


def _row_error(record: Record, schema: Schema) -> BadRecord:
    try:
        row = _read_row(record, schema)
    except BadRecord as error:
        return error
    return BadRecord(reasons.WRONG_WIDTH, str(schema.features), row)


def return_none(_: object) -> None:
    """Return None, whatever the argument."""
    return


def label_reader(schema: Schema) -> Callable[[Record], Any]:
    """Return a function that returns a record's label, or the list of the values of several fields."""
    if not isinstance(schema.label, tuple):
        path = parse_path(schema.label) if schema.label else ()
        return lambda record: get_field(record, path)
    paths = [*map(parse_path, schema.label)]
    return lambda record: [get_field(record, path) for path in paths]


def label_encoder(schema: Schema, labels: list[Label]) -> Callable[[Any], Any]:
    """Return a function that returns a label's index among the labels, which it may extend, or its target.

    Of several labels or targets it returns a list: 0 or 1 for each label, or the targets.
    """
    rules, path = schema.rules, str(schema.label or "")
    if isinstance(schema.label, tuple):
        parse, fields = _parse_flag if schema.multilabel else _parse_target, schema.label
        usual = bool if schema.multilabel else float  # what is not finite is rejected later
        plain = () if rules.na_numbers else (usual,)
        return lambda values: [
            value if type(value) in plain else parse(value, rules, name)
            for name, value in zip(fields, values, strict=True)
        ]
    if schema.classes is None:
        return lambda value: _parse_target(value, rules, path)
    encode = _class_encoder(schema, labels, path)
    return _indicator_encoder(encode, labels, rules, path) if schema.multilabel else encode


def _indicator_encoder(
    encode: Callable[[Any], int], labels: Sequence[Label], rules: Rules, path: str
) -> Callable[[Any], list[int]]:
    """Return a function that returns 0 or 1 for each label so far, from the array of those that apply."""

    def encode_labels(values: Any) -> list[int]:
        if type(values) is not list:
            missing = is_gap(values, rules)
            raise BadRecord(reasons.LABEL_MISSING if missing else reasons.LABEL_NOT_AN_ARRAY, path, values)
        apply = {encode(value) for value in values}
        return [int(index in apply) for index in range(len(labels))]

    return encode_labels


def _class_encoder(schema: Schema, labels: list[Label], path: str) -> Callable[[Any], int]:
    index = {label_key(label): i for i, label in enumerate(labels)}
    strings = schema.rules.numbers_as_strings
    known = (
        reversed([*enumerate(labels)]) if strings else ()
    )  # of two that are written alike, the first counts
    by_text = {label_to_csv(label): i for i, label in known}

    def encode_label(value: Any) -> int:
        if type(value) in _LABEL_TYPES:
            position = index.get(value if type(value) is not bool else label_key(value))
            if position is None and strings:
                position = by_text.get(label_text(value))
            if position is not None:
                return position
            new = _new_label(value) if schema.grow and not is_gap(value, schema.rules) else None
            if new is not None:
                index[label_key(new)] = len(labels)
                by_text.setdefault(label_to_csv(new), len(labels))
                labels.append(new)
                return len(labels) - 1
        if type(value) is dict and type(plain := from_mongo(value)) is not dict:
            return encode_label(plain)
        missing = is_gap(value, schema.rules)
        reason = reasons.LABEL_MISSING if missing else reasons.LABEL_NOT_IN_CLASSES
        raise BadRecord(reason, path, value)

    return encode_label


def parse_category(text: str) -> Any:
    """Return what a string is written like: an integer, a boolean, None if it is empty, else itself."""
    if not text:
        return None
    return int(text) if _INTEGER.fullmatch(text) else BOOLEANS.get(text, text)


def parse_label(text: str) -> Any:
    """Return what a string is written like, as `parse_category`, or a number with a fraction."""
    value = parse_category(text)
    return float(value) if type(value) is str and _FLOAT.fullmatch(value) else value


def label_text(label: Any) -> str:
    """Return how a label is written in CSV; a string without blanks around it, and "1.0" as "1"."""
    return label_to_csv(integral_to_int(parse_label(label.strip(BLANKS)) if type(label) is str else label))


def _new_label(value: Any) -> Label | None:
    value = integral_to_int(value)
    return value if is_valid_label(value) else None


def _parse_target(value: Any, rules: Rules, path: str) -> float:
    if is_gap(value, rules):
        raise BadRecord(reasons.LABEL_MISSING, path, value)
    try:
        return to_number(value, rules, path)
    except BadRecord as error:
        finite = error.reason == reasons.NOT_FINITE
        reason = reasons.LABEL_NOT_FINITE if finite else reasons.LABEL_NOT_A_NUMBER
        raise BadRecord(reason, path, value) from None


def _parse_flag(value: Any, rules: Rules, path: str) -> int:
    number = _parse_target(value, rules, path)
    if number not in (0, 1):
        raise BadRecord(reasons.LABEL_NOT_A_BOOLEAN, path, value)
    return int(number)


def _to_table(features: list[Any], schema: Schema) -> Table:
    """Return the records' features as one table."""
    if not schema.encoded:
        return _numeric(features, schema)
    if isinstance(schema.features, str):
        return Table(*categories.hash_tokens(schema, features))
    return _encode_named(features, schema)


def _numeric(features: list[Any], schema: Schema) -> Table:
    """Return rows, as buffers of float64 or lists of numbers, as one table."""
    slow = [j for j, row in enumerate(features) if type(row) in (list, tuple)]
    table, bad = _float64([features[j] for j in slow], schema.inputs, schema)
    if len(slow) == len(features):
        return Table(table, bad)
    whole = np.empty((len(features), schema.inputs))
    whole[slow] = table
    fast = np.frombuffer(b"".join(row for row in features if type(row) not in (list, tuple)))
    whole[np.delete(np.arange(len(features)), slow)] = fast.reshape(-1, schema.inputs)
    return Table(whole, {slow[j]: reason for j, reason in bad.items()})


def _encode_named(features: list[Sequence[Any]], schema: Schema) -> Table:
    """Return named fields as one table of numbers, categories and dates, in the fields' order."""
    numbers = [i for i, name in enumerate(schema.scalars) if name not in schema.encoded]
    rows: list[Sequence[Any]] = [[row[i] for i in numbers] for row in features]
    table, bad = _float64(rows, len(numbers), schema)
    columns = {
        name: [row[i] for row in features] for i, name in enumerate(schema.scalars) if name in schema.encoded
    }
    return encode_fields(schema, table, bad, columns)


def encode_fields(
    schema: Schema,
    numbers: NDArray[np.float64],
    bad: dict[int, BadRecord],
    columns: Mapping[str, Sequence[Any]],
) -> Table:
    """Return one table of the numbers and of the encoded categories and dates, in the fields' order."""
    whole, unseen = np.zeros((len(numbers), schema.inputs)), list[tuple[int, str, Label]]()
    starts = _column_starts(schema)
    numeric = [starts[i] for i, name in enumerate(schema.scalars) if name not in schema.encoded]
    whole[:, numeric] = numbers
    for i, name in enumerate(schema.scalars):
        block = whole[:, starts[i] : starts[i + 1]]
        if name in schema.datetimes:
            options = schema.datetimes[name]
            bad = datetimes.encode_column(name, options, schema.rules, columns[name], block) | bad
        elif name in schema.categories:
            encoded = categories.encode_column(schema, name, columns[name], block)
            unseen += [(j, name, value) for j, value in encoded.unseen]
            bad = encoded.bad | bad
    return Table(whole, bad, unseen)


def _column_starts(schema: Schema) -> list[int]:
    """Return the first column of each value of a row, and the end of the last one."""
    return [0, *accumulate(schema.encoded.get(name, 1) for name in schema.scalars)]


def _float64(
    features: list[Sequence[Any]], width: int, schema: Schema
) -> tuple[NDArray[np.float64], dict[int, BadRecord]]:
    """Return rows as one array, and a reason for each bad row, whose numbers are zeros."""
    bad: dict[int, BadRecord] = {}
    given = [*features]
    plain = {int, float, bool, type(None)} if schema.missing else {int, float, bool}  # None is NaN in NumPy
    if not set(map(type, chain.from_iterable(features))) <= plain:
        bad = _replace_rows(features, schema, schema.rules, plain, range(len(features)))
    try:
        table = np.array(features, np.float64)
    except OverflowError:  # an integer beyond float64
        rules = schema.rules._replace(na_numbers=frozenset())  # gaps come below, in whatever batch a row is
        bad |= _replace_rows(features, schema, rules, {float}, range(len(features)))
        table = np.array(features, np.float64)
    table = table.reshape(len(features), width)
    if schema.rules.na_numbers and len(table):
        found = np.isin(table, [*schema.rules.na_numbers]).any(axis=1)
        rows = [j for j in np.flatnonzero(found).tolist() if j not in bad]
        bad |= _replace_rows(
            given, schema, schema.rules, set(), rows
        )  # not those replaced above: "true" is 1, and no gap
        for j in rows:
            table[j] = given[j]
    return table, bad


def _replace_rows(
    features: list[Sequence[Any]], schema: Schema, rules: Rules, plain: set[type], rows: Iterable[int]
) -> dict[int, BadRecord]:
    """Replace rows of anything but plain numbers: by numbers, or by zeros and a reason."""
    bad: dict[int, BadRecord] = {}
    paths = number_paths(schema, len(features[0]))
    for j in rows:
        row = features[j]
        if not set(map(type, row)) <= plain:
            try:
                features[j] = _parse_numbers(row, rules, paths, plain)
            except BadRecord as error:
                features[j], bad[j] = [0.0] * len(row), error
    return bad


def _parse_numbers(
    row: Sequence[Any], rules: Rules, paths: Sequence[str], plain: Container[type] = ()
) -> list[Any]:
    """Return the row's numbers; those of `plain` types are left to NumPy."""
    return [
        value if type(value) in plain else to_number(value, rules, path)
        for value, path in zip(row, paths, strict=True)
    ]


def number_paths(schema: Schema, width: int) -> Sequence[str]:
    """Return the paths of a record's numbers: those of an array of this width, or of the number fields."""
    if isinstance(schema.features, str):
        return [f"{schema.features}[{i}]" for i in range(width)]
    return [name for name in schema.scalars if name not in schema.encoded]


def _set_labels(record: Record, schema: Schema, y: Any) -> None:
    """Write a row's label, or its labels or targets; class -1 is not written."""
    if schema.classes is None:
        values = y.tolist() if isinstance(schema.label, tuple) else [float(y)]
    elif not schema.multilabel:
        values = [schema.classes[y]] if y >= 0 else []
    elif isinstance(schema.label, tuple):
        values = [bool(each) for each in y]
    else:
        values = [[label for label, applies in zip(schema.classes, y, strict=True) if applies]]
    for name, value in zip(schema.labels, values, strict=False):
        _set_field(record, parse_path(name), value)


def _set_field(record: Record, path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        record = record.setdefault(name, {})
    record[path[-1]] = value
