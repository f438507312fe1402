"""Settings of `[records]` that may read rejected records: guesses that `explain` tries and words."""

import codecs
import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from streaming_nn.records import avro, framing, json, json_text, reasons
from streaming_nn.records.datetimes import ISO, fitting_formats, set_options
from streaming_nn.records.dialect import DELIMITERS as ALL_DELIMITERS
from streaming_nn.records.dialect import GAPS, MARKS
from streaming_nn.records.explode import explode_values
from streaming_nn.records.labels import label_key, parse_shown
from streaming_nn.records.paths import format_path, get_field, parse_path, split_length
from streaming_nn.records.reasons import ABSENT, BadRecord
from streaming_nn.records.recognize import GZIP, are_decimals, is_text
from streaming_nn.records.schema import ARRAY_END, LINES, Schema, schema_from, width
from streaming_nn.records.types import Rejection
from streaming_nn.records.units import parse_units, units_of
from streaming_nn.records.values import Rules, is_gap, to_number

Settings = dict[str, Any]  # of [records], by their names

DELIMITERS = tuple(mark for mark in ALL_DELIMITERS if mark != " ")
CONNECT_DECIMAL = b"org.apache.kafka.connect.data.Decimal"  # a field's name in a schema of Kafka Connect
FORMAT_OPTIONS = ("csv_columns", "delimiter", "quote", "avro_schema", "registry")  # that only one format has
OBJECTS = (b"{", b"[", b"(", b"<")  # what begins with one is not CSV
MAX_DEPTH = 6  # of objects in which a field is looked for
MAX_NAME = 200  # characters of a field's name that is suggested
MAX_FIELDS = 1000  # of a record that are looked at
MAX_WORDS = 5  # for a gap
MAX_CLASSES = 20  # that are suggested
MAX_TARGETS = 20  # in one field
HASHED = 32  # columns of a category that are suggested
SIMILAR = 0.75  # how alike two names must be, from 0 to 1, as difflib measures it
LABELS = ("label", "target", "class", "y", "labels", "classes", "targets", "tags")  # usual names of a label
COMMA, GROUPS = (",", ""), (".", ",")  # decimal and thousands marks
BOM = codecs.BOM_UTF8
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DIGIT = re.compile(r"\d")
_QUANTITY = re.compile(r"\W*\d")
_BEHIND = re.compile(r"([\d.,]+)-")  # a negative number
_ALIKE = {
    "\u2212": "-",
    "\u2010": "-",
    "\u2011": "-",
    "\u2013": "-",
    "\u2019": "'",
    "\u066b": ".",
    "\u066c": ",",
}
IDENTIFIER = re.compile(r"(^|.*[_-])(id|ID|uuid)|.*[a-z]Id|ts|ts_ms|timestamp|offset|key")


@dataclass(frozen=True)
class Sample:
    """Records that a schema rejects, and why."""

    schema: Schema
    blobs: Sequence[bytes]
    rejected: Sequence[Rejection]  # their positions are among the blobs
    labeled: bool  # whether labels are required
    others: Sequence[bytes] = ()  # records that it reads

    @cached_property
    def own(self) -> list[bytes]:
        """The rows of the records without their framing, as far as they have it."""
        unwrap = framing.unwrapper(self.schema.framing, self.schema.encoding, self.schema.max_bytes)
        rows = [row for row in explode_values(self.schema, self.blobs) if row is not None]
        return rows if unwrap is None else list(_each(unwrap, rows))

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """The records as objects, as far as they are."""
        if self.schema.format == "packed":
            return []
        if self.schema.format == "csv":
            return [record for record in map(self._parse_line, self.own) if record]
        parse = json.parse_object if self.schema.format == "json" else avro.record_parser(self.schema)
        return list(_each(parse, self.own))

    def _parse_line(self, line: bytes) -> dict[str, Any]:
        """Return the fields of a line of CSV by their names; none if it has more, or fewer.

        An array is as wide as the line, since its width may not be known yet.
        """
        schema = self.schema
        fields = _split_line(line, schema.delimiter, schema.quote)
        features = schema.features
        if isinstance(features, str):
            features = tuple(f"{features}[{i}]" for i in range(len(fields) - len(schema.labels)))
        names = schema.csv_columns or (*features, *schema.labels)
        return dict(zip(names, fields, strict=True)) if len(fields) == len(names) else {}

    @cached_property
    def richest(self) -> dict[str, Any]:
        """The fields of the object that has the most of them, by their paths."""
        return max(map(fields_of, self.objects), key=len, default={})

    @property
    def fields(self) -> list[str]:
        """The named features that are not arrays, so that may be categories or dates."""
        features = self.schema.features
        return [] if isinstance(features, str) else [n for n in features if split_length(n)[1] is None]

    @property
    def names(self) -> tuple[str, ...]:
        """The paths of the features."""
        return tuple(split_length(name)[0] for name in _as_tuple(self.schema.features))

    def at(self, name: str) -> list[Any]:
        """Return what is at a path in each record; an array for `a[0:64]`."""
        path = parse_path(split_length(name)[0])
        return [get_field(record, path) for record in self.objects]

    def values(self, name: str) -> Iterator[Any]:
        """Yield the values at a path; those of an array one by one."""
        for value in self.at(name):
            yield from value if type(value) is list else [value]

    def has_decimals(self, name: str) -> bool:
        """Return whether the values at a path are decimals in bytes."""
        described = any(CONNECT_DECIMAL in blob for blob in self.own[:1])
        return are_decimals([each for each in self.values(name) if each not in (None, ABSENT)], described)

    def formats(self, name: str) -> list[str]:
        """Return the formats of dates or times that all strings at a path may have; not ISO 8601."""
        strings = [value for value in self.values(name) if not _may_be_gap(value, self.schema)]
        if not strings or not all(isinstance(value, str) and _DIGIT.search(value) for value in strings):
            return []
        found = fitting_formats(strings)
        return [] if ISO in found else found

    @property
    def decimals(self) -> str | None:
        """The path of decimals in bytes where a number should be, in an envelope too."""
        targets = self.schema.labels if self.schema.classes is None else ()
        named = not isinstance(self.schema.features, str)
        numbers = [name for name in self.names if named or any(type(each) is list for each in self.at(name))]
        wanted = {parse_path(name)[-1] for name in (*numbers, *targets)}
        paths = [parse_path(path) for path in self.richest]
        paths += [path[:-1] for path in paths if len(path) > 1]  # an object of scale and value
        found = (format_path(path) for path in paths if path[-1] in wanted)
        return next(filter(self.has_decimals, found), None)

    @cached_property
    def numbers(self) -> list[Any]:
        """The values that should be numbers, of the features, of the weight and of targets."""
        return [value for values in self.numbers_of.values() for value in values]

    @cached_property
    def numbers_of(self) -> dict[str, list[Any]]:
        """The values that should be numbers, by their paths."""
        schema = self.schema
        known = [name for name in self.names if name not in schema.encoded]
        classes = () if schema.classes is None and self.labeled else schema.labels
        known += [name for name in schema.labels if name not in classes]
        known += [schema.weight] if schema.weight and self.labeled else []
        if schema.format == "csv":
            if isinstance(schema.features, str):
                known = [*dict.fromkeys(name for record in self.objects for name in record)]
            found = {name: [each.get(name, ABSENT) for each in self.objects] for name in known}
            return {name: values for name, values in found.items() if name not in classes}
        by_path = dict[str, list[Any]]()
        for name in known:
            for value in self.at(name):
                array = type(value) is list
                for i, each in enumerate(value if array else [value]):
                    by_path.setdefault(f"{name}[{i}]" if array else name, []).append(each)
        return by_path

    @cached_property
    def labels(self) -> list[Any]:
        """The labels that are there."""
        if not self.labeled or self.schema.label is None:
            return []
        paths = [*map(parse_path, self.schema.labels)]
        found = [get_field(record, path) for record in self.objects for path in paths]
        return [label for label in found if not is_gap(label, self.schema.rules)]


def guesses(sample: Sample) -> Iterator[Settings]:
    """Yield settings to try, the likeliest first."""
    fields = _fields_elsewhere, _other_fields, _inner
    for guess in (_framings, several_rows, _formats, _sizes, *fields, _values, _labels):
        yield from guess(sample)


def apply(schema: Schema, settings: Settings) -> Schema:
    """Return the schema with the settings changed. Raise ValueError if they do not fit it."""
    options = schema.options() | settings
    if options.pop("regression", False):
        options |= {"classes": None, "grow": False}
    elif options["classes"] == "grow":
        options |= {"classes": (), "grow": True}
    if options["multilabel"] and not isinstance(options["label"], str):
        options["classes"] = None  # they are the label's fields
    features, categories = options["features"], options["categories"]
    before = schema.features, schema.categories, schema.datetimes
    if (_as_tuple(features), categories, options["datetimes"]) != (_as_tuple(before[0]), *before[1:]):
        options |= {
            "vocabulary": {},
            "inputs": width(features, categories, options["datetimes"]) or options["inputs"],
        }
    return schema_from(options)


def _each(parse: Callable[[bytes], Any], blobs: Iterable[bytes]) -> Iterator[Any]:
    for blob in blobs:
        with suppress(BadRecord, ConnectionError):  # of a registry: what is reported is worse
            yield parse(blob)


def _as_tuple(features: str | Sequence[str]) -> tuple[str, ...]:
    return (features,) if isinstance(features, str) else tuple(features)


# Bytes


def _framings(sample: Sample) -> Iterator[Settings]:
    """Yield another framing, alone and with an encoding or a format; then another encoding."""
    schema = sample.schema
    for begin, name in ((GZIP, "gzip"), (b"\0", "confluent"), (b'"', "json_string")):
        if (
            not any(blob.removeprefix(BOM).lstrip().startswith(begin) for blob in sample.blobs)
            or schema.framing == name
        ):
            continue
        yield {"framing": name}
        with suppress(ValueError):  # a registry excludes one
            inside = replace(sample, schema=apply(schema, {"framing": name}))
            formats = _formats(inside) if name != "confluent" else ()  # bytes after an ID are rather Avro
            for guess in chain(_encodings(inside), formats):
                yield {"framing": name} | guess
    if schema.framing != framing.NONE:
        yield {"framing": framing.NONE}
    yield from _encodings(sample)


def _encodings(sample: Sample) -> Iterator[Settings]:
    for blob in sample.own[:1]:
        for name in encodings_of(blob):
            yield {"encoding": name}
    if sample.schema.encoding != framing.UTF8:
        yield {"encoding": framing.UTF8}


def encodings_of(blob: bytes) -> Iterator[str]:
    """Yield the encodings that a string's bytes may have, the likeliest first; none for UTF-8."""
    if blob.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        yield "utf-32"
    elif blob.startswith(UTF16):
        yield "utf-16"
    elif b"\0" in blob:
        yield "utf-16-le" if blob[1::2].count(0) > blob[::2].count(0) else "utf-16-be"
    else:
        try:
            blob.decode()
        except UnicodeDecodeError:
            yield from ("cp1252", "latin-1")


def several_rows(sample: Sample) -> Iterator[Settings]:
    """Yield the setting that makes rows of an array's elements, or of lines."""
    schema = sample.schema
    if schema.explode is not None:
        return
    if any(len(blob.split(b"\n")) > 1 for blob in sample.own):
        yield {"explode": LINES}
    for blob in sample.own[:1]:
        with suppress(ValueError):
            for path, element in _arrays_of_objects(json_text.parse(blob)):
                yield {"explode": format_path(path) + ARRAY_END} | _names_below(schema, path, element)


def _arrays_of_objects(
    value: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the path of each array of objects in a record, and its first object."""
    if type(value) is str:
        value = json_text.in_string(value)
    if type(value) is list and value and type(value[0]) is dict:
        yield path, value[0]
    elif type(value) is dict and len(path) < MAX_DEPTH:
        for name, each in value.items():
            yield from _arrays_of_objects(each, (*path, name)) if name else ()


def _names_below(schema: Schema, path: tuple[str, ...], element: dict[str, Any]) -> Settings:
    """Return the settings that find features and label in an element, where they are in it."""

    def below(name: str) -> str:
        inside = get_field(element, parse_path(split_length(name)[0])) is not ABSENT
        return f"{format_path(path)}.{name}" if path and inside else name

    found: Settings = {}
    if isinstance(schema.features, str):
        found["features"] = below(schema.features)
    elif not schema.encoded:
        found["features"] = [below(name) for name in schema.features]
    if isinstance(schema.label, str):
        found["label"] = below(schema.label)
    return found if path else {}


def _formats(sample: Sample) -> Iterator[Settings]:
    """Yield another format; what only the present one has is reset."""
    schema, own = sample.schema, sample.own
    plain = Schema(1)
    reset = {
        name: getattr(plain, name) for name in FORMAT_OPTIONS if getattr(schema, name) != getattr(plain, name)
    }
    begins = [blob.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] for blob in own]
    if schema.format != "json" and any(begin in (b"{", b"[", b'"') for begin in begins):
        yield {"format": "json"} | reset
    if schema.format != "json" and any(b"{" in blob[framing.HEADER :][:1] for blob in sample.blobs):
        yield {"format": "json", "framing": "confluent"} | reset
    array = isinstance(schema.features, str) and not schema.categories
    lines = [blob for blob, begin in zip(own, begins, strict=True) if begin not in OBJECTS]
    marks = [mark for mark in DELIMITERS if any(mark.encode() in line for line in lines)]
    for mark in marks or ([" "] if _have_blanks(lines) else []):
        delimiter = {} if mark == schema.delimiter else {"delimiter": mark}
        columns: list[Settings] = [{}] if array else []
        if schema.format != "csv":
            columns = [{"format": "csv"} | reset | each for each in columns + _headers(sample, mark)]
        yield from (each | delimiter for each in columns if each | delimiter)
    if schema.format == "csv" and schema.delimiter == ",":
        for mark in (*DELIMITERS[1:], " "):
            if _have_blanks(own) if mark == " " else all(mark.encode() in line for line in own):
                yield {"delimiter": mark}
                yield {"delimiter": mark, "decimal": ","}
    for mark in ("'", '"') if schema.format == "csv" else ():
        if mark != schema.quote and any(line.lstrip().startswith(mark.encode()) for line in own):
            yield {"quote": mark}
    if schema.format == "csv" and all(_ends_with(line, schema.delimiter) for line in own):
        yield from _with_empty_end(sample)
    if schema.format != "packed" and array and are_packed(own):
        yield {"format": "packed"} | reset


def _have_blanks(lines: Sequence[bytes]) -> bool:
    """Return whether single blanks may separate the fields of lines; runs of them would be empty fields."""
    return bool(lines) and all(b" " in line.strip() and b"  " not in line for line in lines)


def _ends_with(line: bytes, delimiter: str) -> bool:
    return line.rstrip(b"\r\n").endswith(delimiter.encode())


def _with_empty_end(sample: Sample) -> Iterator[Settings]:
    """Yield names for the fields of lines that end with a delimiter, so with an empty field."""
    schema = sample.schema
    for fields in (_split_line(line, schema.delimiter) for line in sample.own[:1]):
        named = not isinstance(schema.features, str)
        count = len(fields) - len(schema.labels) - 1
        features = [*schema.features] if named else [f"x{i}" for i in range(count)]
        names = [*(schema.csv_columns or (*features, *schema.labels)), "end"]
        if features and len(names) == len(fields) == len({*names}):
            yield {"csv_columns": names} | ({} if named else {"features": features})


def _headers(sample: Sample, delimiter: str) -> list[Settings]:
    """Return the names of a line's fields, if one of the first records has the names of the schema."""
    schema = sample.schema
    named = not isinstance(schema.features, str)
    wanted = {*schema.labels}
    wanted |= set(schema.features) if named else set()
    for fields in (_split_line(line, delimiter) for line in sample.own[:3]):
        if wanted and wanted <= {*fields} and len({*fields}) == len(fields) and all(fields):
            features = [name for name in fields if name not in (*schema.labels, schema.weight)]
            return [{"csv_columns": fields} | ({} if named else {"features": features})]
    return []


def _split_line(line: bytes, delimiter: str, quote: str = '"') -> list[str]:
    """Return the fields of a line of CSV; none if a quote does not fit."""
    text = line.decode("utf-8", "replace").strip("\ufeff\r\n")
    try:
        quoting = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
        return next(csv.reader([text], delimiter=delimiter, **quoting), [])
    except csv.Error:
        return []


def are_packed(blobs: Sequence[bytes]) -> bool:
    """Return whether the records have one length and plausible float32 values."""
    sizes = {len(blob) for blob in blobs}
    if len(sizes) != 1 or (size := sizes.pop()) % 4 or size < 8 or all(map(is_text, blobs)):
        return False
    values = np.abs(np.frombuffer(b"".join(blobs), "<f4").reshape(-1, size // 4)[:, 1:])
    return bool(((values == 0) | ((values > 1e-20) & (values < 1e20))).mean() > 0.9)


def _sizes(sample: Sample) -> Iterator[Settings]:
    schema = sample.schema
    if (longest := max(map(len, sample.blobs), default=0)) > schema.max_bytes:
        yield {"max_bytes": 1 << (longest - 1).bit_length()}
    found = Counter[int]()
    for record in sample.objects if isinstance(schema.features, str) and schema.format != "csv" else ():
        row = get_field(record, parse_path(schema.features))
        found[len(row) if type(row) is list else 0] += 1
    for each, _ in found.most_common(1):
        if each and each != schema.inputs:
            yield {"inputs": each}
    size = max(map(len, sample.own), default=0)
    if schema.format == "packed" and size % 4 == 0 and size >= 8:
        yield {"inputs": max(size // 4 - sample.labeled * (schema.columns_of_y or 1), 1)}
    counts = Counter(int(each.value) for each in sample.rejected if each.reason == reasons.WRONG_FIELDS)
    if schema.format == "csv" and not schema.csv_columns:
        yield from _headers(sample, schema.delimiter)
    if schema.format == "csv" and isinstance(schema.features, str) and counts:
        yield {"inputs": max(counts.most_common(1)[0][0] - len(schema.labels), 1)}


# Fields


def fields_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return an object's fields by their paths, those of nested objects too."""
    return dict(_fields(record))


def _fields(record: dict[str, Any], names: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, value in list(record.items())[:MAX_FIELDS]:
        if not 0 < len(name) <= MAX_NAME:  # no path has an empty one
            continue
        inside = json_text.in_string(value) if type(value) is str else value
        if type(inside) is dict and len(names) < MAX_DEPTH:
            yield from _fields(inside, (*names, name))
        else:
            yield format_path((*names, name)), value
    if json_text.DATA not in record and type(data := json_text.data_of_event(record)) is dict:
        yield from _fields(data, (*names, json_text.DATA))


def _fields_elsewhere(sample: Sample) -> Iterator[Settings]:
    """Yield the missing fields under another name, or in a nested object."""
    schema, found = sample.schema, sample.richest
    if not found or schema.format == "csv":
        return
    free = [path for path in found if path not in (*schema.labels, schema.weight)]
    renamed = {
        name: other
        for name in sample.names
        if name not in found and _is_missing(sample, name) and (other := closest(name, free))
    }
    features = [_renamed(name, renamed) for name in _as_tuple(schema.features)]
    settings: Settings = {}
    if features != [*_as_tuple(schema.features)] and len(set(features)) == len(features):
        settings["features"] = features[0] if isinstance(schema.features, str) else features
        if schema.categories:
            settings["categories"] = {renamed.get(n, n): how for n, how in schema.categories.items()}
        if schema.datetimes:
            settings["datetimes"] = {renamed.get(n, n): how for n, how in schema.datetimes.items()}
    settings |= _renamed_label(sample)
    if sample.labeled and schema.weight and _is_missing(sample, schema.weight):
        other = closest(schema.weight, found)
        settings |= {"weight": other} if other else {}
    for guess in _with_filter(sample, settings) if settings else ():
        yield guess
        with suppress(ValueError):  # else fewer features, which need nothing more, would be better
            inside = replace(sample, schema=apply(schema, guess))
            yield from (guess | more for more in _values(inside))


def _renamed(name: str, renamed: Mapping[str, str]) -> str:
    """Return the feature under its other name; an array keeps its length."""
    path, length = split_length(name)
    return renamed.get(path, path) + ("" if length is None else f"[0:{length}]")


def _with_filter(sample: Sample, settings: Settings) -> Iterator[Settings]:
    """Yield the settings, and with a filter of Debezium's deletes if the features are in such changes."""
    yield settings
    feature, *_ = _as_tuple(settings.get("features", sample.schema.features))
    if sample.schema.where is None and (where := _without_deletes(feature, sample.objects)):
        yield settings | {"where": where}


def _is_missing(sample: Sample, name: str) -> bool:
    path = parse_path(name)
    return all(get_field(record, path) is ABSENT for record in sample.objects)


def _renamed_label(sample: Sample) -> Settings:
    """Return where the label is, if it is not where it should be."""
    label, found = sample.schema.label, sample.richest
    if isinstance(label, tuple) and sample.labeled:
        missing = [name for name in label if name not in found and _is_missing(sample, name)]
        others = {name: other for name in missing if (other := closest(name, found))}
        return {"label": [others.get(name, name) for name in label]} if others else {}
    if not sample.labeled or not isinstance(label, str) or not _is_missing(sample, label):
        return {}
    for name in (label, *LABELS):
        other = closest(name, found, 1.0 if name != label else SIMILAR)
        if other and (settings := _label_at(sample, other)):
            return settings
    return {}


def _label_at(sample: Sample, path: str) -> Settings:
    """Return the settings for a label at a path: several targets in an array, or one; none for neither."""
    schema = sample.schema
    values = [value for value in sample.at(path) if not is_gap(value, schema.rules)]
    if targets := _targets_in(path, values, schema):
        return targets
    if not values or any((type(value) is list) != schema.multilabel for value in values):
        return {}
    if schema.classes is None:
        return {"label": path} if are_numbers(values) else {}
    if not any(map(_is_fraction, values)):
        return {"label": path}
    return {"label": path, "regression": True} if schema.grow else {}


def _targets_in(path: str, values: Sequence[Any], schema: Schema) -> Settings:
    """Return the settings for targets in arrays of one length, or in objects with the same fields."""
    first = values[0] if values else None
    if type(first) is list and len({len(value) if type(value) is list else -1 for value in values}) == 1:
        names = [*map(str, range(len(first)))]
        numbers = [number for value in values for number in value]
    elif type(first) is dict and all(type(each) is dict and each.keys() == first.keys() for each in values):
        names, numbers = [*first], [number for value in values for number in value.values()]
    else:
        return {}
    plain = all(names) and all(type(number) in (int, float) for number in numbers)
    if not plain or schema.multilabel or not 2 <= len(names) <= MAX_TARGETS:
        return {}
    targets: Settings = {"label": [format_path((*parse_path(path), name)) for name in names]}
    if schema.classes is None:
        return targets
    return targets | {"regression": True} if any(map(_is_fraction, numbers)) else {}


def _is_fraction(value: Any) -> bool:
    return type(value) is float and not value.is_integer()


def closest(name: str, found: Iterable[str], similar: float = SIMILAR) -> str | None:
    """Return the path that a name may mean: in another case, in an object, or spelled nearly so."""
    wanted = parse_path(name)[-1]
    last = {path: parse_path(path)[-1] for path in found}
    for same in (str, _plain):
        if alike := [path for path, each in last.items() if same(each) == same(wanted)]:
            return min(alike, key=_rank)
    near = get_close_matches(_plain(wanted), map(_plain, last.values()), 1, similar) if similar < 1 else []
    return min((path for path, each in last.items() if _plain(each) in near), key=_rank, default=None)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name).casefold())


def _rank(path: str) -> tuple[bool, int]:
    """Order paths: Debezium's row after a change before that before it, then the shortest."""
    return "before" in parse_path(path), len(path)


def _without_deletes(feature: str, objects: Sequence[Any]) -> str | None:
    """Return the filter of Debezium's changes that leaves out deletes, whose row is null."""
    *parents, _ = parse_path(feature)
    if not parents or parents[-1] != "after":
        return None
    op = (*parents[:-1], "op")
    if all(get_field(record, op) is ABSENT for record in objects):
        return None
    return f"{format_path(op)} in ('c', 'r', 'u')"


def _other_fields(sample: Sample) -> Iterator[Settings]:
    """Yield other features for a name that no record has: an array, or all fields that are numbers."""
    schema, found = sample.schema, sample.richest
    name = schema.features if isinstance(schema.features, str) else ""
    if not found or schema.format == "csv" or schema.categories or sample.decimals:
        return
    if not name and not all(_is_missing(sample, each) for each in sample.names):
        return
    label = _renamed_label(sample)
    rows = [get_field(record, parse_path(name)) for record in sample.objects] if name else []
    if any(map(is_sparse_vector, rows)):
        return
    arrays = [path for path, value in found.items() if type(value) is list and are_numbers(value)]
    for path in arrays[:3]:
        size = len(found[path])
        if path != name:
            yield {"features": path} | label | ({"inputs": size} if size != schema.inputs else {})
    if rows and all(type(row) is list and len(row) == 1 and type(row[0]) is list for row in rows):
        yield {"features": f"{name}.0"} | label
    skip = {*schema.labels, schema.weight, *_as_tuple(label.get("label", ()))}
    groups: dict[tuple[str, ...], list[str]] = {}
    for path, value in found.items():
        *parents, last = parse_path(path)
        if path not in skip and not IDENTIFIER.fullmatch(last) and are_numbers([value]):
            groups.setdefault(tuple(parents), []).append(path)
    if groups:
        features = max(groups.values(), key=lambda group: (len(group), not _rank(group[0])[0]))
        yield from _with_filter(sample, {"features": features} | label)


def _inner(sample: Sample) -> Iterator[Settings]:
    """Yield what is in the arrays and objects that are at named fields: "a[0:64]", "a.0", "a.double"."""
    schema = sample.schema
    if schema.format == "csv":
        return
    names = () if isinstance(schema.features, str) else schema.features
    features = [_inside(sample, name, arrays=True) for name in names]
    settings: Settings = {"features": features} if features != [*names] else {}
    if sample.labeled and not schema.multilabel:
        labels = [_inside(sample, name, arrays=False) for name in schema.labels]
        label = labels[0] if isinstance(schema.label, str) else labels
        settings |= {"label": label} if labels != [*schema.labels] else {}
    if settings:
        yield settings
    if "label" in settings and schema.classes is not None and not schema.grow:  # it is in no class either
        yield settings | {"classes": "grow"}


def _inside(sample: Sample, name: str, arrays: bool) -> str:
    """Return the path of the only value in the objects or arrays at a name, or of all; else the name."""
    if name in sample.schema.encoded or split_length(name)[1] is not None:
        return name
    values = [value for value in sample.at(name) if not is_gap(value, sample.schema.rules)]
    sizes = {len(value) if type(value) in (list, dict) else 0 for value in values}
    if len(sizes) != 1 or not (size := sizes.pop()) or len({*map(type, values)}) > 1:
        return name
    path, first = parse_path(name), values[0]
    if type(first) is dict:
        (key, *others) = first
        only = not others and key and not key.startswith("$") and all(key in value for value in values)
        return format_path((*path, key)) if only else name
    if size == 1:
        return format_path((*path, "0"))
    return f"{name}[0:{size}]" if arrays else name


def is_sparse_vector(value: Any) -> bool:
    """Return whether a value is a vector as Spark writes it in JSON, with the indices of what is not 0."""
    return type(value) is dict and value.keys() >= {"indices", "values"}


def are_numbers(values: Sequence[Any]) -> bool:
    """Return whether all values are numbers, or strings of them, or gaps; and there is one."""
    return bool(values) and all(is_number(value, MARKS[0]) for value in values)


def is_number(value: Any, marks: tuple[str, str], units: Sequence[str] = ()) -> bool:
    """Return whether a value is a number, a string of one with these marks and units, or a gap."""
    try:
        to_number(value, Rules(True, True, frozenset(GAPS), *marks, parse_units(units)))
    except BadRecord:
        return False
    return value is not ABSENT


# Values


def _values(sample: Sample) -> Iterator[Settings]:
    """Yield settings for numbers that are strings, for gaps, for dates and for categories; then for several.

    What one field needs reads no record in which another field needs something else.
    """
    yield from _numbers(sample)
    for encoded in _encoded(sample):
        yield encoded
        with suppress(ValueError):
            others = replace(sample, schema=apply(sample.schema, encoded))
            yield from (encoded | guess for guess in _numbers(others))


def _numbers(sample: Sample) -> Iterator[Settings]:
    """Yield settings for numbers that are strings, in several marks and with units, and for gaps."""
    schema, numbers = sample.schema, [value for value in sample.numbers if value is not ABSENT]
    strings = [value for value in numbers if isinstance(value, str)]
    bases: list[Settings] = [{}]
    if strings:
        plain = {} if schema.rules.numbers_as_strings else {"numbers_as_strings": True}
        bases += [plain, plain | _marks(sample, strings, schema.units)]
        if units := _units(sample):
            known = {unit.name for unit in parse_units(schema.units)}
            named = [*schema.units, *(each for each in units if each.partition("=")[0] not in known)]
            with_units = plain | {"units": named}
            bases += [with_units, with_units | _marks(sample, strings, named)]
    yield from filter(None, bases)
    encoded = [value for name in schema.encoded for value in sample.values(name)]
    if any(is_gap(value, schema.rules) for value in numbers + encoded) or _are_known(sample):
        yield from (base | {"missing": True} for base in bases)
    dates = [value for name in schema.datetimes for value in sample.values(name) if isinstance(value, str)]
    for base in bases:
        if words := _words(strings, dates, schema, base):
            yield base | {"missing": True, "na_values": [*schema.na_values, *words]}


def _encoded(sample: Sample) -> Iterator[Settings]:
    """Yield the named fields that are dates or categories, alone and together."""
    dates, categories = _datetimes(sample), [*_categories(sample)]
    yield from filter(None, (dates, *categories))
    yield from (dates | each for each in categories if dates)


def _datetimes(sample: Sample) -> Settings:
    """Return the named fields that hold dates as such, with their formats."""
    schema, found = sample.schema, dict[str, Settings]()
    known = {name: set_options(options) for name, options in schema.datetimes.items()}
    for name in sample.fields:
        formats = sample.formats(name) if name not in schema.categories else []
        if len(formats) == 1:
            found[name] = {**known.get(name, {}), "format": formats[0]}
        elif name not in schema.encoded and any(map(is_date, sample.values(name))):
            found[name] = {}
    return {"datetimes": known | found} if found else {}


def is_date(value: Any) -> bool:
    """Return whether a value looks like a date."""
    try:
        to_number(value, Rules())
    except BadRecord as error:
        return error.reason == reasons.IS_A_DATE
    return False


def _may_be_gap(value: Any, schema: Schema) -> bool:
    """Return whether there is no value, or a usual word for none."""
    return is_gap(value, schema.rules) or (isinstance(value, str) and value.strip() in GAPS)


def _units(sample: Sample) -> list[str]:
    """Return the units of numbers; [] if it is not known what those of a field are worth."""
    found, every = dict[str, None](), replace(sample, blobs=[*sample.blobs, *sample.others])
    for values in every.numbers_of.values():
        present = [value for value in values if not _may_be_gap(value, sample.schema)]
        if (units := units_of(present)) is None:
            return []
        found |= dict.fromkeys(units)
    return [*found]


def _marks(sample: Sample, strings: Sequence[str], units: Sequence[str]) -> Settings:
    """Return the marks by which the most strings are numbers, if they are not the schema's."""
    schema = sample.schema
    present = schema.decimal, schema.thousands
    if has_ambiguous_marks(sample):
        return {}
    best = max([present, *MARKS], key=lambda pair: sum(is_number(text, pair, units) for text in strings))
    named = {"decimal": best[0], "thousands": best[1]}
    return {name: mark for name, mark in named.items() if mark != getattr(schema, name)}


def conflicting_marks(sample: Sample) -> tuple[str, ...]:
    """Return two fields whose strings are numbers by no marks that both have; () if there are none."""
    found = dict[str, set[tuple[str, str]]]()
    for name, values in sample.numbers_of.items():
        strings = [value for value in values if isinstance(value, str)]
        if own := {pair for pair in MARKS if all(is_number(text, pair) for text in strings)}:
            if other := next((each for each, theirs in found.items() if not own & theirs), None):
                return other, name
            found[name] = own
    return ()


def has_ambiguous_marks(sample: Sample) -> bool:
    """Return whether a comma in the strings may be a decimal or a thousands mark, as in "1,234"."""
    marked = [value for value in sample.numbers if isinstance(value, str) and "," in value]
    return bool(marked) and all(is_number(value, pair) for value in marked for pair in (COMMA, GROUPS))


def _are_known(sample: Sample) -> bool:
    """Return whether each named field is in a record, and none in all."""
    return len(sample.names) > 1 and not any(_is_missing(sample, name) for name in sample.names)


def _words(strings: Sequence[str], dates: Sequence[str], schema: Schema, base: Settings) -> list[str]:
    """Return the usual words for a gap among dates, and among strings that are numbers otherwise."""
    marks = base.get("decimal", schema.decimal), base.get("thousands", schema.thousands)
    plain = Rules(True, True, frozenset(), *marks, parse_units(base.get("units", schema.units)))
    others = dict.fromkeys(text.strip() for text in dates if text.strip() in GAPS)
    for text in strings:
        try:
            to_number(text, plain)
        except BadRecord:
            others[text.strip()] = None
    return [*others] if len(others) <= MAX_WORDS and others.keys() <= GAPS else []


def is_word(value: Any) -> bool:
    """Return whether a value is a string, neither a number nor one with a unit, such as "$12"."""
    return isinstance(value, str) and not _QUANTITY.match(value) and not is_number(value, MARKS[0])


def describe_number(shown: str) -> str | None:
    """Return what keeps a string from being a number: another character than it looks like, or a sign."""
    text = parse_shown(shown)
    if not isinstance(text, str):
        return None
    if found := _BEHIND.fullmatch(text.strip()):
        return f"has its sign behind it: send -{found[1]}"
    plain = "".join(map(_in_ascii, unicodedata.normalize("NFKC", text)))
    if text.isascii() or not any(is_number(plain, marks) for marks in MARKS):
        return None
    odd = next(c for c in text if not c.isascii())
    return f"has {unicodedata.name(odd, 'a character')} (U+{ord(odd):04X}) in a number: send ASCII alone"


def _in_ascii(c: str) -> str:
    """Return the ASCII character that one looks like in a number; none for an invisible one."""
    return str(unicodedata.decimal(c)) if c.isdecimal() else _ALIKE.get(c, c) if c.isprintable() else ""


def _categories(sample: Sample) -> Iterator[Settings]:
    """Yield the named fields that hold strings as categories."""
    schema = sample.schema
    if schema.format == "packed":
        return
    strings = [
        name
        for name in sample.fields
        if name not in schema.encoded
        and any(is_word(value) and value.strip() not in GAPS for value in sample.values(name))
    ]
    strings = [name for name in strings if not sample.has_decimals(name) and not sample.formats(name)]
    if strings:
        found: Mapping[str, Any] = {**schema.categories, **{name: {"hash": HASHED} for name in strings}}
        yield {"categories": dict(found)}
    numbers = [
        name for name in schema.categories if any(type(value) is float for value in sample.values(name))
    ]
    if numbers:
        yield {"categories": {name: how for name, how in schema.categories.items() if name not in numbers}}


# Labels


def _labels(sample: Sample) -> Iterator[Settings]:
    """Yield settings for labels that are not in the classes, or not numbers."""
    schema, labels = sample.schema, sample.labels
    if not labels or schema.columns_of_y is not None or sample.decimals:
        return
    if all(type(label) is list and len(label) == 1 for label in labels):
        yield {"label": f"{schema.label}.0"}
    elif schema.format != "csv" and (targets := _targets_in(str(schema.label), labels, schema)):
        yield targets
    classified = {} if schema.classes is not None else {"regression": False}
    if all(type(label) is list for label in labels) and not classified and schema.format != "csv":
        yield {"multilabel": True}
        if not schema.grow:
            yield {"multilabel": True, "classes": "grow"}
    if any(isinstance(label, str) for label in labels) and not schema.numbers_as_strings:
        yield {"numbers_as_strings": True}
    if classified and not all(map(is_word, labels)):
        return
    every = [*labels, *replace(sample, blobs=sample.others).labels]
    distinct = {label_key(label): label for label in every if isinstance(label, str | int)}
    if 2 <= len(distinct) <= MAX_CLASSES and not schema.grow:
        yield classified | {"classes": sorted(distinct.values(), key=lambda label: (str(type(label)), label))}
    if not schema.grow:
        yield classified | {"classes": "grow"}
    if schema.classes is not None and all(type(label) in (int, float) for label in labels):
        yield {"regression": True}
