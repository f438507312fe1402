"""CSV records: one line each, quoted by RFC 4180, without a header; the schema may have other marks.

A line has the features in order and then the label, or the fields that `csv_columns` names; if no label is
required, it may be left out. A field has no type: it is a number where a number is expected; as a category or
a label it is an integer (1.0 is 1), a number or a boolean if it is written as one, else a string. An empty
field is missing.
"""

import csv
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from math import isnan
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streaming_nn.records import reasons, weights, where
from streaming_nn.records.field_records import (
    CHUNK,
    Table,
    concatenate,
    count_label,
    encode_fields,
    label_encoder,
    number_paths,
    parse_category,
    parse_label,
    to_rows,
)
from streaming_nn.records.json import shortest
from streaming_nn.records.labels import Label, label_to_csv
from streaming_nn.records.paths import column_name
from streaming_nn.records.reasons import BadRecord
from streaming_nn.records.schema import Schema
from streaming_nn.records.types import Blobs, DecodedRows, Inspected, Rejection
from streaming_nn.records.values import is_gap, to_number


def decode_rows(schema: Schema, blobs: Blobs, positions: NDArray[np.int64], labeled: bool) -> DecodedRows:
    """Decode the records at these positions, a chunk at a time."""
    decoder = _LineDecoder(schema, labeled)
    excluded = _excluded(schema, blobs, positions)
    positions = np.setdiff1d(positions, excluded) if excluded else positions
    chunks = np.split(positions, range(CHUNK, len(positions), CHUNK))
    rows = concatenate([decoder.decode_chunk(blobs.at(chunk), chunk) for chunk in chunks], labeled)
    rows.rejected.extend(Rejection(i, reasons.FILTERED) for i in excluded)
    return rows


def encode(
    schema: Schema, x: NDArray[Any], y: NDArray[Any] | None, ids: Sequence[object] | None
) -> list[bytes]:
    """Encode rows as JSON does; a column `id` has the IDs."""
    layout = _Layout(schema)
    numbers = [[_to_string(number) for number in row] for row in shortest(x).tolist()]
    fields = [dict(zip(layout.numbers.tolist(), row, strict=True)) for row in numbers]
    return layout.write(fields, None if y is None else _label_strings(schema, y), ids)


def encode_named(
    schema: Schema,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Any] | None,
    ids: Sequence[object] | None,
) -> list[bytes]:
    """Encode rows given by the fields' names; an absent field is empty."""
    layout = _Layout(schema)
    fields = [{layout.index[name]: _to_string(value) for name, value in row.items()} for row in rows]
    several = isinstance(schema.label, tuple)
    strings = [[*map(_to_string, each if several else [each])] for each in labels or ()]
    return layout.write(fields, None if labels is None else strings, ids)


def inspect(schema: Schema, blobs: Blobs) -> Inspected:
    """Count the widths, and the labels with their types, of the lines that can be decoded."""
    widths, labels = Counter[int](), Counter[tuple[type, Any]]()
    layout, positions = _Layout(schema), np.flatnonzero(~blobs.absent)
    excluded = _excluded(schema, blobs, positions)
    rejected = [Rejection(i, reasons.FILTERED) for i in excluded]
    positions = np.setdiff1d(positions, excluded)
    for i, blob in zip(positions.tolist(), blobs.at(positions), strict=True):
        try:
            fields = layout.split(blob)
            found = layout.pop_labels(fields)
            for index in layout.numbers if layout.named else range(len(fields)):
                to_number(fields[index], schema.rules, layout.path(index))
            if schema.weight and schema.label:
                weights.check(schema, fields[layout.index[schema.weight]])
        except BadRecord as error:
            rejected.append(error.at(i))
            continue
        widths[schema.inputs if layout.named else len(fields)] += 1
        for label in found:
            if not is_gap(label, schema.rules):
                count_label(labels, parse_label(label))
    return Inspected(widths, labels, rejected)


def field_reader(schema: Schema, name: str) -> Callable[[bytes], str]:
    """Return a function that returns a field of a line that was decoded; of one without labels, too."""
    layout = _Layout(schema)
    index, least = layout.index[name], layout.width - len(layout.labels)

    def read(line: bytes) -> str:
        fields = layout.split(line)
        if len(fields) == least < layout.width:
            layout.insert_labels(fields)
        return fields[index]

    return read


def _excluded(schema: Schema, blobs: Blobs, positions: NDArray[np.int64]) -> list[int]:
    """Return those of the positions whose line the schema's `where` excludes."""
    if schema.where is None:
        return []
    keeps, layout = where.parse(schema.where).keeps, _Layout(schema)
    lines = zip(positions.tolist(), map(layout.record, blobs.at(positions)), strict=True)
    return [i for i, record in lines if record is not None and not keeps(record)]


class _Layout:
    """The positions of the fields in a line."""

    def __init__(self, schema: Schema):
        features = schema.columns if isinstance(schema.features, str) else schema.features
        names = schema.csv_columns or (*features, *schema.labels)
        self.named, self.width, self.names = not isinstance(schema.features, str), len(names), names
        backwards = reversed([*enumerate(names)])  # of two with the same name ("label[0]"), the first
        self.index = {name: index for index, name in backwards}
        last = range(len(names) - len(schema.labels), len(names))
        self.labels = [names.index(label) for label in schema.labels] if schema.csv_columns else [*last]
        numbers = [self.index[name] for name in features if name not in schema.encoded]
        self.numbers = np.array(numbers, np.int64)
        self.encoded = {name: self.index[name] for name in features if name in schema.encoded}
        self.delimiter, self.quote = schema.delimiter, schema.quote
        self.special = (*self.quote, "\r", "\n")  # a line with one of them is not plain
        self.dialect = _dialect(schema)

    def split(self, line: bytes) -> list[str]:
        """Take a line apart; a line break at its end is not part of it."""
        try:
            text = line.removeprefix(BOM_UTF8).decode()
        except UnicodeDecodeError:
            raise BadRecord(reasons.NOT_CSV) from None
        text = text.removesuffix("\n").removesuffix("\r")
        if not any(mark in text for mark in self.special):
            return text.split(self.delimiter)
        try:
            return next(csv.reader([text], **self.dialect))
        except csv.Error:
            raise BadRecord(reasons.NOT_CSV) from None

    def pop_labels(self, fields: list[str]) -> list[str]:
        """Return the labels of a line of any width, and remove them from fields that have no names."""
        count = len(self.labels)
        if len(fields) != self.width if self.named else count and len(fields) <= count:
            raise BadRecord(reasons.WRONG_FIELDS, value=len(fields))
        if self.named or not count:
            return [fields[index] for index in self.labels]
        found, fields[-count:] = fields[-count:], []
        return found

    def insert_labels(self, fields: list[str]) -> None:
        """Insert empty labels into the fields of a line without them."""
        for index in sorted(self.labels):
            fields.insert(index, "")

    def path(self, index: int) -> str:
        """Return the path of a field in a line of any width."""
        return self.names[index] if index < self.width else f"[{index}]"

    def record(self, line: bytes) -> dict[str, Any] | None:
        """Return a line's fields by the columns' names; None if it has other fields, and is rejected."""
        try:
            fields = self.split(line)
        except BadRecord:
            return None
        if len(fields) == self.width - len(self.labels):
            self.insert_labels(fields)
        if len(fields) != self.width:
            return None
        return {column_name(name): parse_label(field) for name, field in zip(self.names, fields, strict=True)}

    def write(
        self,
        rows: Sequence[Mapping[int, str]],
        labels: Sequence[Sequence[str]] | None,
        ids: Sequence[object] | None,
    ) -> list[bytes]:
        """Return lines of the strings at their indices; without labels, the labels' fields are left out."""
        indices = [index for index in range(self.width) if labels is not None or index not in self.labels]
        out = []
        for i, row in enumerate(rows):
            strings = dict(row)
            if ids is not None and "id" in self.index:
                strings.setdefault(self.index["id"], _to_string(ids[i]))
            if labels is not None:
                strings |= zip(self.labels, labels[i], strict=True)
            out.append(
                self.delimiter.join(self._quoted(strings.get(index, "")) for index in indices).encode()
            )
        return out

    def _quoted(self, text: str) -> str:
        if not any(mark in text for mark in (self.delimiter, *self.special)):
            return text
        if not self.quote:
            raise ValueError(f"cannot write a field with {self.delimiter!r} or a line break: quote is empty")
        return self.quote + text.replace(self.quote, 2 * self.quote) + self.quote


class _LineDecoder:
    """Decodes chunks of lines."""

    def __init__(self, schema: Schema, labeled: bool):
        self.schema, self.labeled = schema, labeled
        self.layout = _Layout(schema)
        self.rules = schema.rules
        self.paths = number_paths(schema, schema.inputs)
        self.labels = list(schema.classes or ())  # growing ones are extended for this batch
        self.encode_label = label_encoder(schema, self.labels)
        self.by_string: dict[str, Label] = {label_to_csv(label): label for label in self.labels}
        self.least_width = self.layout.width - (0 if labeled else len(self.layout.labels))

    def decode_chunk(self, values: list[bytes], positions: NDArray[np.int64]) -> DecodedRows:
        """Decode consecutive lines."""
        kept, rejected = positions.tolist(), list[Rejection]()
        cells, width = self._split_plain(values)
        if cells is None:
            cells, kept, rejected = self._split_quoted(values, kept)
            width = self.layout.width
        bad = dict[int, BadRecord]()
        y = self._encode_labels(cells, len(kept), bad) if self.labeled else None
        table = self._table(cells, width, len(kept), bad)
        return to_rows(self.schema, table, y, self.labels, kept, rejected)

    def _table(self, cells: Any, width: int, rows: int, bad: dict[int, BadRecord]) -> Table:
        numbers = self._parse_numbers(cells, width, rows, bad)
        if not self.schema.encoded:
            return Table(numbers, bad)
        columns, words = dict[str, Sequence[Any]](), self.schema.category_rules
        for name, index in self.layout.encoded.items():
            strings = self._column(cells, index, width, rows)
            dates = name in self.schema.datetimes
            columns[name] = (
                strings
                if dates
                else [text if is_gap(text, words) else parse_category(text) for text in strings]
            )
        return encode_fields(self.schema, numbers, bad, columns)

    def _split_plain(self, values: list[bytes]) -> tuple[Any, int]:
        """Split lines of one width without quotes at their delimiters, all at once; None for other lines."""
        mark = self.layout.delimiter.encode()
        widths = {value.count(mark) + 1 for value in values}
        width = widths.pop() if len(widths) == 1 else 0
        data = mark.join(values)
        if width not in (self.least_width, self.layout.width) or any(
            sign in data for sign in (*map(str.encode, self.layout.special), BOM_UTF8)
        ):
            return None, 0
        return (_split_at(mark[0], data), width) if data.isascii() or _is_utf8(data) else (None, 0)

    def _split_quoted(
        self, values: list[bytes], positions: list[int]
    ) -> tuple[Any, list[int], list[Rejection]]:
        """Split lines one by one; those of too many or too few fields are rejected."""
        lines, kept, rejected = [], [], []
        for i, value in zip(positions, values, strict=True):
            try:
                fields = self.layout.split(value)
                if len(fields) == self.least_width < self.layout.width:
                    self.layout.insert_labels(fields)
                if len(fields) != self.layout.width:
                    raise BadRecord(reasons.WRONG_FIELDS, value=len(fields))
                lines.append(fields)
                kept.append(i)
            except BadRecord as error:
                rejected.append(error.at(i))
        return pa.array(list(chain.from_iterable(lines)), pa.large_string()), kept, rejected

    def _cells(self, indices: NDArray[np.int64], width: int, rows: int) -> NDArray[np.int64]:
        """Return the positions of each line's cells at these indices; `width` is that of the lines."""
        if width < self.layout.width:  # they have no labels
            indices = indices - np.searchsorted(np.sort(self.layout.labels), indices)
        found: NDArray[np.int64] = (np.arange(rows)[:, None] * width + indices).ravel()
        return found

    def _column(self, cells: Any, index: int, width: int, rows: int) -> list[str]:
        column: list[str] = cells.take(self._cells(np.array([index]), width, rows)).to_pylist()
        return column

    def _encode_labels(self, cells: Any, rows: int, bad: dict[int, BadRecord]) -> list[Any]:
        """Return the index, or the target, of each row's label; rows without one are bad."""
        columns = [self._column(cells, index, self.layout.width, rows) for index in self.layout.labels]
        several, found = isinstance(self.schema.label, tuple), list[Any]()
        for j, texts in enumerate(zip(*columns, strict=True)):
            try:
                found.append(self.encode_label(texts if several else self._label_value(texts[0])))
            except BadRecord as error:
                found.append([0] * len(texts) if several else 0)
                bad[j] = error
        return found

    def _label_value(self, text: str) -> Any:
        if self.schema.classes is not None:
            gap = is_gap(text, self.rules)  # "-999" is one as it is written, before it is an integer
            return self.by_string[text] if text in self.by_string else text if gap else parse_label(text)
        return text

    def _parse_numbers(
        self, cells: Any, width: int, rows: int, bad: dict[int, BadRecord]
    ) -> NDArray[np.float64]:
        """Return the number fields as numbers; rows with any other value are bad."""
        texts = cells.take(self._cells(self.layout.numbers, width, rows))
        flat = self._cast(texts)
        if flat is None:
            flat, unclear = np.zeros(len(texts)), np.arange(len(texts))
        else:
            unclear = ~np.isfinite(flat)  # Arrow reads nan(1) as a number too
            if self.rules.na_numbers:
                unclear |= np.isin(flat, [*self.rules.na_numbers])
            unclear = np.flatnonzero(unclear)
        for cell, text in zip(unclear.tolist(), texts.take(unclear).to_pylist(), strict=True):
            try:
                flat[cell] = to_number(text, self.rules, self.paths[cell % len(self.paths)])
            except BadRecord as error:
                bad.setdefault(cell // len(self.paths), error)
                flat[cell] = 0.0
        return flat.reshape(rows, len(self.layout.numbers))

    def _cast(self, texts: Any) -> NDArray[np.float64] | None:
        """Return strings as numbers, NaN for a gap, at once; None if Arrow cannot read them all."""
        gaps = list(self.rules.na_values) + [""] * self.rules.missing
        present = pc.if_else(pc.is_in(texts, pa.array(gaps, texts.type)), None, texts) if gaps else texts
        if self.rules.decimal != ".":
            if pc.any(pc.match_substring(present, ".")).as_py():
                return None
            present = pc.replace_substring(present, self.rules.decimal, ".")
        try:
            return np.array(pc.cast(present, pa.float64()).to_numpy(zero_copy_only=False))
        except pa.ArrowInvalid:
            return None


def _dialect(schema: Schema) -> dict[str, Any]:
    """Return the options of Python's reader of CSV."""
    quoting = {"quotechar": schema.quote} if schema.quote else {"quoting": csv.QUOTE_NONE}
    return {"delimiter": schema.delimiter, "strict": True, **quoting}


def _split_at(mark: int, data: bytes) -> Any:
    """Return the strings between the marks, a byte each, as an Arrow array."""
    letters = np.frombuffer(data, np.uint8)
    marks = letters == mark
    ends = np.append(np.flatnonzero(marks), len(letters))
    edges = np.append(0, ends - np.arange(len(ends))).astype(np.int64)
    text = letters[~marks]
    return pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(edges), pa.py_buffer(text))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _label_strings(schema: Schema, y: NDArray[Any]) -> list[list[str]]:
    """Return each row's labels or targets as CSV has them; class -1 is empty."""
    rows = y.reshape(len(y), len(schema.labels))
    if schema.classes is None:
        return [[*map(_to_string, row)] for row in shortest(rows).tolist()]
    if schema.multilabel:
        return [[*map(str, row)] for row in rows.tolist()]
    return [[label_to_csv(schema.classes[index]) if index >= 0 else ""] for (index,) in rows.tolist()]


def _to_string(value: Any) -> str:
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    return label_to_csv(value) if type(value) is bool else str(value)
