"""CSV records: one line each, its fields quoted as RFC 4180 has it, without a header.

A line has the features in their order and then the label, or what `csv_columns` names; where no label is
asked for, it may be left out. A field has no type: it is a number where a number is due; as a category or a
label it is a whole number or a boolean where it is written as one, else a text. An empty field is missing.
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from math import isnan, nan
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streaming_nn.records import reasons as reasons
from streaming_nn.records.field_records import (
    CHUNK,
    NUMBER,
    Table,
    coded,
    finished,
    joined,
    labeler,
    note_label,
)
from streaming_nn.records.json import shortest
from streaming_nn.records.reasons import BadRecord, Blobs, Rows
from streaming_nn.records.schema import Label, Schema, text_of

_WHOLE = re.compile(r"-?(0|[1-9]\d{0,18})", re.ASCII)
_POINT = re.compile(r"-?(0|[1-9]\d*)\.\d+([eE][+-]?\d+)?", re.ASCII)  # 1.0 may be what pandas made of 1
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_BOOLEANS = {word: word[0] in "tT" for word in ("true", "false", "True", "False", "TRUE", "FALSE")}
_BLANKS = " \t"  # that may stand around a number
COMMA = ord(",")


def rows(schema: Schema, blobs: Blobs, positions: NDArray[np.int64], labeled: bool) -> Rows:
    """Decode the records at these positions, a chunk at a time."""
    read = _Reader(schema, labeled)
    cuts = range(CHUNK, len(positions), CHUNK)
    return joined([read.chunk(blobs.at(chunk), chunk) for chunk in np.split(positions, cuts)], labeled)


def encode(
    schema: Schema, x: NDArray[np.float32], y: NDArray[Any] | None, ids: Sequence[object] | None
) -> list[bytes]:
    """Encode rows with the fewest digits that give the same float32 back; a column `id` takes the ids."""
    line = _Line(schema)
    numbers = [[_text(number) for number in row] for row in shortest(x).tolist()]
    fields = [dict(zip(line.numbers.tolist(), row, strict=True)) for row in numbers]
    return line.written(fields, None if y is None else _labels(schema, y), ids)


def encode_named(
    schema: Schema,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Any] | None,
    ids: Sequence[object] | None,
) -> list[bytes]:
    """Encode rows given by the fields' names; a field that a row doesn't have is empty."""
    line = _Line(schema)
    fields = [{line.place[name]: _text(value) for name, value in row.items()} for row in rows]
    return line.written(fields, None if labels is None else [_text(label) for label in labels], ids)


def look(schema: Schema, blobs: Blobs) -> tuple[Counter[int], Counter[tuple[type, Any]]]:
    """Count the widths, and the labels with their types, of the lines that can be read."""
    widths, labels = Counter[int](), Counter[tuple[type, Any]]()
    line = _Line(schema)
    for blob in blobs.at(np.flatnonzero(~blobs.absent)):
        try:
            fields = _fields(blob)
            label = line.taken_out(fields)
            for place in line.numbers if line.named else range(len(fields)):
                _number(fields[place], schema.missing)
        except BadRecord:
            continue
        widths[schema.inputs if line.named else len(fields)] += 1
        note_label(labels, _label(label))
    return widths, labels


class _Line:
    """Where the fields stand in a line."""

    def __init__(self, schema: Schema):
        features = schema.columns if isinstance(schema.features, str) else schema.features
        own = [schema.label] if schema.label else []
        names = schema.csv_columns or (*features, *own)
        self.named, self.width = not isinstance(schema.features, str), len(names)
        backwards = reversed([*enumerate(names)])  # of two with one name, as a feature "label[0]", the first
        self.place = {name: place for place, name in backwards}
        self.label = None if not own else names.index(own[0]) if schema.csv_columns else len(names) - 1
        numbers = [self.place[name] for name in features if name not in schema.categories]
        self.numbers = np.array(numbers, np.int64)
        self.categories = {name: self.place[name] for name in features if name in schema.categories}

    def taken_out(self, fields: list[str]) -> str:
        """Return the label of a line of any width; the last field, if they have no names, is one no more."""
        if len(fields) != self.width if self.named else self.label is not None and len(fields) < 2:
            raise BadRecord(reasons.WRONG_FIELDS)
        if self.label is None:
            return ""
        return fields[self.label] if self.named else fields.pop()

    def written(
        self,
        rows: Sequence[Mapping[int, str]],
        labels: Sequence[str] | None,
        ids: Sequence[object] | None,
    ) -> list[bytes]:
        """Write lines of the texts at their places; without labels, the label's field is left out."""
        places = [place for place in range(self.width) if labels is not None or place != self.label]
        out = []
        for i, row in enumerate(rows):
            texts = dict(row)
            if ids is not None and "id" in self.place:
                texts.setdefault(self.place["id"], _text(ids[i]))
            if labels is not None and self.label is not None:
                texts[self.label] = labels[i]
            out.append(",".join(_quoted(texts.get(place, "")) for place in places).encode())
        return out


class _Reader:
    """Decodes chunks of lines."""

    def __init__(self, schema: Schema, labeled: bool):
        self.schema, self.labeled = schema, labeled
        self.line = _Line(schema)
        self.labels = list(schema.classes or ())  # where they grow, new ones join them for this batch
        self.label = labeler(schema, self.labels)
        self.written: dict[str, Label] = {text_of(label): label for label in self.labels}
        self.bare = self.line.width - 1 if not labeled and self.line.label is not None else self.line.width

    def chunk(self, values: list[bytes], positions: NDArray[np.int64]) -> Rows:
        """Decode consecutive lines."""
        kept, rejected = positions.tolist(), list[tuple[int, str]]()
        cells, width = self._plain(values)
        if cells is None:
            cells, kept, rejected = self._quoted(values, kept)
            width = self.line.width
        bad = dict[int, str]()
        y = self._labels(cells, len(kept), bad) if self.labeled else None
        table = self._table(cells, width, len(kept), bad)
        return finished(self.schema, table, y, self.labels, kept, rejected)

    def _table(self, cells: Any, width: int, rows: int, bad: dict[int, str]) -> Table:
        numbers = self._numbers(cells, width, rows, bad)
        if not self.schema.categories:
            return Table(numbers, bad)
        texts = {
            name: self._column(cells, place, width, rows) for name, place in self.line.categories.items()
        }
        columns = {name: [_category(text) for text in column] for name, column in texts.items()}
        return coded(self.schema, numbers, bad, columns)

    def _plain(self, values: list[bytes]) -> tuple[Any, int]:
        """Cut lines of one width without quotes at their commas, all at once; None: they are not such."""
        widths = {value.count(b",") + 1 for value in values}
        width = widths.pop() if len(widths) == 1 else 0
        data = b",".join(values)
        if width not in (self.bare, self.line.width) or any(sign in data for sign in (b'"', b"\n", b"\r")):
            return None, 0
        return (_cut(data), width) if data.isascii() or _is_text(data) else (None, 0)

    def _quoted(
        self, values: list[bytes], positions: list[int]
    ) -> tuple[Any, list[int], list[tuple[int, str]]]:
        """Take lines apart one by one; those of too many or too few fields are rejected."""
        lines, kept, rejected = [], [], []
        for i, value in zip(positions, values, strict=True):
            try:
                fields = _fields(value)
                if len(fields) == self.bare < self.line.width:
                    fields.insert(self.line.label or 0, "")
                if len(fields) != self.line.width:
                    raise BadRecord(reasons.WRONG_FIELDS)
                lines.append(fields)
                kept.append(i)
            except BadRecord as odd:
                rejected.append((i, str(odd)))
        return pa.array(list(chain.from_iterable(lines)), pa.large_string()), kept, rejected

    def _places(self, places: NDArray[np.int64], width: int, rows: int) -> NDArray[np.int64]:
        """Return which cells stand at these places of each line; `width` is the lines' own."""
        if self.line.label is not None and width < self.line.width:  # they come without the label
            places = places - (places > self.line.label)
        found: NDArray[np.int64] = (np.arange(rows)[:, None] * width + places).ravel()
        return found

    def _column(self, cells: Any, place: int, width: int, rows: int) -> list[str]:
        texts: list[str] = cells.take(self._places(np.array([place]), width, rows)).to_pylist()
        return texts

    def _labels(self, cells: Any, rows: int, bad: dict[int, str]) -> list[Any]:
        """Return the place, or the target, of each row's label; those without one are bad."""
        assert self.line.label is not None  # decode() has seen to it
        found: list[Any] = []
        for j, text in enumerate(self._column(cells, self.line.label, self.line.width, rows)):
            try:
                found.append(self.label(self._value(text)))
            except BadRecord as odd:
                found.append(0)
                bad[j] = str(odd)
        return found

    def _value(self, text: str) -> Any:
        if self.schema.classes is not None:
            return self.written[text] if text in self.written else _label(text)
        if not text.strip(_BLANKS):
            return None
        try:
            return _number(text, False)
        except BadRecord:
            return text  # which is no target

    def _numbers(self, cells: Any, width: int, rows: int, bad: dict[int, str]) -> NDArray[np.float64]:
        """Return the number fields as numbers; what holds none is bad."""
        texts = cells.take(self._places(self.line.numbers, width, rows))
        there = pc.if_else(pc.not_equal(texts, ""), texts, None) if self.schema.missing else texts
        try:
            flat = np.array(pc.cast(there, pa.float64()).to_numpy(zero_copy_only=False))
            strange = np.flatnonzero(~np.isfinite(flat))  # nan(1) is one to Arrow
        except pa.ArrowInvalid:
            flat = np.zeros(len(texts))
            strange = np.arange(len(texts))
        for cell, text in zip(strange.tolist(), texts.take(strange).to_pylist(), strict=True):
            try:
                flat[cell] = _number(text, self.schema.missing)
            except BadRecord as odd:
                bad.setdefault(cell // max(len(self.line.numbers), 1), str(odd))
                flat[cell] = 0.0
        return flat.reshape(rows, len(self.line.numbers))


def _cut(data: bytes) -> Any:
    """Return what is between the commas, as an Arrow array of texts."""
    letters = np.frombuffer(data, np.uint8)
    commas = letters == COMMA
    ends = np.append(np.flatnonzero(commas), len(letters))
    edges = np.append(0, ends - np.arange(len(ends))).astype(np.int64)
    text = letters[~commas]
    return pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(edges), pa.py_buffer(text))


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _fields(value: bytes) -> list[str]:
    """Take a line apart; a line break at its end is none of it."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise BadRecord(reasons.NOT_CSV) from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not any(sign in text for sign in '"\r\n'):
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error:
        raise BadRecord(reasons.NOT_CSV) from None


def _number(text: str, missing: bool) -> float:
    text = text.strip(_BLANKS)
    if NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        return float(text)
    if missing and not text:
        return nan
    raise BadRecord(reasons.NOT_A_NUMBER)


def _category(text: str) -> Any:
    if not text:
        return None
    return int(text) if _WHOLE.fullmatch(text) else _BOOLEANS.get(text, text)


def _label(text: str) -> Any:
    value = _category(text)
    return float(value) if type(value) is str and _POINT.fullmatch(value) else value


def _labels(schema: Schema, y: NDArray[Any]) -> list[str]:
    if schema.classes is None:
        return [_text(number) for number in shortest(np.asarray(y, np.float32)).tolist()]
    return [text_of(schema.classes[place]) if place >= 0 else "" for place in y.tolist()]


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    return text_of(value) if type(value) is bool else str(value)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\r\n') else text
