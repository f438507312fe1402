"""Settings of `[records]` for a topic of which only the bytes are known: proposed from its first records.

Framing, encoding and format are those of most records. Features are all fields that can be, and settings for
their values are those that `explain` would suggest.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from streaming_nn.records import dialect, recognize
from streaming_nn.records.datetimes import ISO, fitting_formats
from streaming_nn.records.decode import inspect
from streaming_nn.records.explain import FEW, as_inferred, search
from streaming_nn.records.field_records import parse_label
from streaming_nn.records.infer_schema import USUAL_CLASSES
from streaming_nn.records.paths import column_name, format_path, is_plain, split_length
from streaming_nn.records.recognize import is_text
from streaming_nn.records.remedies import (
    HASHED,
    IDENTIFIER,
    LABELS,
    Sample,
    Settings,
    apply,
    are_numbers,
    are_packed,
    closest,
    encodings_of,
    fields_of,
    is_date,
    is_number,
    several_rows,
)
from streaming_nn.records.schema import MAX_CLASSES, Schema, schema_from
from streaming_nn.records.units import units_of
from streaming_nn.records.values import is_gap

TRIED = 200  # records whose fields are compared
MANY = 20  # records of which each has another string: an identifier, or a description
HARMLESS = ("missing", "na_values", "numbers_as_strings", "max_bytes")  # cannot spoil records that are read
ROUNDS = 3  # of settings for values
PLAIN = Schema(1)
NAMED = 12  # fields that a line names


class Layout(NamedTuple):
    """How the records are written, and their fields."""

    settings: Settings  # of [records]: those that were given, and framing, encoding, format and marks
    fields: tuple[str, ...]  # paths, as most records have them; (): records have no named fields
    label: str  # the likeliest one; "": there is none
    is_named: bool  # whether it has a label's usual name or position
    header: bytes | None = None  # the record that has the names of the fields of CSV


class Proposal(NamedTuple):
    """Settings of `[records]`, and what they leave out."""

    settings: Settings
    unused: tuple[str, ...]  # fields that are left out: identifiers, and what no setting reads


def find_layout(records: Sequence[bytes], given: Mapping[str, Any]) -> Layout:
    """Find how the records are written; `given` settings of [records] are kept.

    Raise ValueError in one line if they are in no format that is read.
    """
    found = dict(given)
    if "framing" not in found and (name := _most(map(_outer_framing, records))):
        found["framing"] = name
    if "registry" in found or "avro_schema" in found:
        found.setdefault("format", "avro")
    sample = _sample(found, records)
    if "format" not in found:
        found |= _format(sample, found)
        sample = _sample(found, records)
    if found["format"] == "packed":
        return Layout(found, (), "label", is_named=True)
    if found["format"] == "csv":
        return _layout_of_lines(sample, found)
    return _layout_of_objects(sample, found)


def _sample(settings: Mapping[str, Any], records: Sequence[bytes], names: Sequence[str] = ()) -> Sample:
    """Return the records as they are read without features or a label; `names` are those of a line."""
    kept = ("format", "framing", "encoding", "delimiter", "quote", "avro_schema", "registry", "explode")
    options = {name: settings[name] for name in (*kept, "max_bytes", "na_values") if name in settings}
    fields = {"features": names, "csv_columns": names, "inputs": len(names)} if names else {"inputs": 1}
    return Sample(schema_from({**options, **fields, "label": None}), records, [], labeled=False)


def _most(names: Iterable[str]) -> str:
    """Return the most frequent name; "": there is none."""
    return next((name for name, _ in Counter(names).most_common(1)), "")


def _outer_framing(blob: bytes) -> str:
    return next(iter(recognize.framings(blob)[0]), "")


def _format(sample: Sample, given: Mapping[str, Any]) -> Settings:
    """Return the format of most records, and their encoding."""
    odd = [blob for blob in sample.own if not is_text(blob)]
    if 2 * len(odd) <= len(sample.own):
        return {"format": _format_of_text(sample)}
    if are_packed(odd):
        return {"format": "packed"}
    for name in encodings_of(odd[0]) if "encoding" not in given else ():
        inside = replace(sample, schema=replace(sample.schema, encoding=name))
        if 2 * sum(map(is_text, inside.own)) > len(sample.own):
            return {"encoding": name, "format": _format_of_text(inside)}
    raise ValueError(f"the records are in no format that is read{_recognized(sample.blobs)}")


def _format_of_text(sample: Sample) -> str:
    begin = _most(blob.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")[:1] for blob in sample.own)
    return "json" if begin in ("{", "[") else "csv"


def _recognized(blobs: Sequence[bytes]) -> str:
    found = Counter(filter(None, map(recognize.recognize, blobs[:TRIED]))).most_common(1)
    return f": they look like {found[0][0]}" if found else f"; the first: {blobs[0][:60]!r}"


# Lines


def _layout_of_lines(sample: Sample, given: Settings) -> Layout:
    lines = [line.strip(b"\r\n") for line in sample.own]
    marks = ("delimiter", "quote", "decimal", "thousands", "units")
    try:
        known = {name: given[name] for name in marks if name in given}
        read = dialect.detect(b"\n".join(lines), given={"encoding": "utf-8", **known})
    except ValueError as error:
        recognized = _most(filter(None, map(recognize.recognize, lines[:TRIED])))
        why = f"they look like {recognized}" if recognized else str(error)
        raise ValueError(f"the records are in no format that is read: {why}") from None
    found = {name: value for name in marks if (value := getattr(read.dialect, name)) != getattr(PLAIN, name)}
    found = given | found
    names = [format_path((name,)) for name in read.names]
    names += [f"end{i or ''}" for i in range(read.trailing)]
    if "csv_columns" in given:
        names = given["csv_columns"]
    has_header = read.dialect.header and "csv_columns" not in given
    if has_header or read.trailing:
        found["csv_columns"] = names
    fields = tuple(names[: len(names) - read.trailing])
    if len(fields) < 2:
        raise ValueError(f"the records are in no format that is read{_recognized(lines)}")
    label = _usual_label(fields)
    header = sample.blobs[0] if has_header else None
    return Layout(found, fields, label or fields[-1], bool(label) or not has_header, header)


# Objects


def _layout_of_objects(sample: Sample, given: Settings) -> Layout:
    found = dict(given)
    if not sample.objects and "explode" not in found:
        for guess in several_rows(sample):
            inside = _sample(found | {"explode": guess["explode"]}, sample.blobs)
            if inside.objects:
                found, sample = found | {"explode": guess["explode"]}, inside
                break
    if not sample.objects:
        raise ValueError(f"no record is an object with fields{_recognized(sample.blobs)}")
    values = _values_of(sample)
    label = _usual_label([*values])
    last = [name for name, each in values.items() if not _is_identifier(name) and type(each[0]) is not list]
    return Layout(found, (*values,), label or (last or [""])[-1], bool(label))


def _values_of(sample: Sample) -> dict[str, list[Any]]:
    """Return the values of each field that at least a tenth of the records have."""
    objects, values = sample.objects[:TRIED], dict[str, list[Any]]()
    for record in objects:
        for path, value in (record if sample.schema.format == "csv" else fields_of(record)).items():
            values.setdefault(path, []).append(value)
    return {path: each for path, each in values.items() if len(each) >= FEW * len(objects)}


def _usual_label(names: Sequence[str]) -> str:
    """Return the field that has a label's usual name; "": none has."""
    return next(filter(None, (closest(name, names, 1.0) for name in LABELS)), "")


def _is_identifier(path: str) -> bool:
    return bool(IDENTIFIER.fullmatch(path.rpartition(".")[2].strip('"')))


# Settings


def propose(
    records: Sequence[bytes], layout: Layout, label: str, features: str | Sequence[str] | None = None
) -> Proposal:
    """Return settings of [records] for this label, and for these features or all that can be.

    Raise ValueError in one line for a field that no record has, and if no field can be a feature.
    """
    base, unused = dict(layout.settings), tuple[str, ...]()
    if layout.fields:
        sample = _sample(base, records, layout.fields if base["format"] == "csv" else ())
        if base["format"] == "csv" and "csv_columns" in base:
            sample = _sample(base, records, base["csv_columns"])
        values = _values_of(sample)
        _check_fields("label", [label], layout.fields)
        if features is None:
            features, unused = _features(values, sample, label)
        elif not isinstance(features, str):
            _check_fields("features", features, layout.fields)
        base |= {"features": features, "label": label}
        if base["format"] == "csv" and "csv_columns" not in base:
            base |= _unnamed(layout.fields, base, values)
        base = _encodings(values, features, sample) | base
        if not {"regression", "classes", "multilabel"} & base.keys():
            base |= _kind_of_label(values.get(label, []), sample)
    elif not {"regression", "classes"} & base.keys():
        base |= _kind_of_packed(_sample(base, records).own)
    base |= _settings_of_values(base, records)
    if layout.header is not None:
        base |= _without_header(base, layout.header, label)
    return Proposal(_without_defaults(base | _growing(base, records)), unused)


def _check_fields(name: str, fields: Sequence[str], known: Sequence[str]) -> None:
    for field in fields:
        if (
            field not in known
            and split_length(field)[0] not in known
            and not any(field.startswith(f"{each}.") for each in known)
        ):
            raise ValueError(f"{name} must be among {list_fields(known)}; got {field!r}")


def list_fields(fields: Sequence[str]) -> str:
    """Return the names of fields in one line."""
    shown = ", ".join(fields[:NAMED])
    return shown + (f" and {len(fields) - NAMED:,} more" if len(fields) > NAMED else "")


def _features(
    values: Mapping[str, list[Any]], sample: Sample, label: str
) -> tuple[str | list[str], tuple[str, ...]]:
    """Return the array that holds the features, or all fields that can be features; and those left out."""
    lengths = {path: n for path, each in values.items() if path != label and (n := _length(each))}
    if array := closest("features", lengths, 1.0):
        return array, ()
    found, unused = list[str](), list[str]()
    for path, each in values.items():
        if path in lengths:
            found.append(f"{path}[0:{lengths[path]}]")
        elif path != label:
            (found if _can_be_feature(path, each, sample) else unused).append(path)
    if not found:
        raise ValueError(f"no field can be a feature besides the label {label!r}; set --features")
    if len(found) == 1 and lengths:
        return next(iter(lengths)), tuple(unused)
    return found, tuple(unused)


def _length(values: Sequence[Any]) -> int:
    """Return the length of most arrays of numbers; 0: the values are not such arrays of one length."""
    present = [value for value in values if value is not None]
    lengths = Counter(len(value) for value in present if type(value) is list and are_numbers(value))
    return next((n for n, count in lengths.most_common(1) if count >= (1 - FEW) * len(present)), 0)


def _can_be_feature(path: str, values: Sequence[Any], sample: Sample) -> bool:
    """Return whether the values are scalars, and not an identifier or another string in each record."""
    present = _present(values, sample)
    if _is_identifier(path) or not present or any(type(value) in (list, dict) for value in present):
        return False
    words = _categories_among(present)
    return len(words) < MANY or len({*words}) <= (1 - FEW) * len(words)


def _present(values: Sequence[Any], sample: Sample) -> list[Any]:
    """Return the values without gaps, also those that are a usual word for one."""
    rules = sample.schema.rules
    return [v for v in values if not is_gap(v, rules) and not (type(v) is str and v.strip() in dialect.GAPS)]


def _categories_among(values: Sequence[Any]) -> list[Any]:
    """Return the values that are categories; none of numbers with units."""
    return [] if units_of(values) else [*filter(_is_category, values)]


def _is_category(value: Any) -> bool:
    """Return whether a value is a string that is neither a number nor a date."""
    return (
        isinstance(value, str) and not is_date(value) and not any(is_number(value, m) for m in dialect.MARKS)
    )


def _encodings(values: Mapping[str, list[Any]], features: str | Sequence[str], sample: Sample) -> Settings:
    """Return the categories, the datetimes and the gaps among named features, as far as there are any."""
    categories, datetimes = Settings(), Settings()
    names = [] if isinstance(features, str) else features
    for name in (name for name in names if split_length(name)[1] is None):
        present = _present(values.get(name, ()), sample)
        strings = [value for value in present if isinstance(value, str)]
        formats = fitting_formats(strings) if len([*filter(_is_category, strings)]) == len(strings) else []
        least = FEW * len(present)
        if sum(map(is_date, present)) > least:
            datetimes[name] = {}
        elif present and len(strings) == len(present) and len(formats) == 1 and formats != [ISO]:
            datetimes[name] = {"format": formats[0]}
        elif len(_categories_among(present)) > least:
            categories[name] = {"hash": HASHED}
    found = {"categories": categories, "datetimes": datetimes}
    return {name: each for name, each in found.items() if each} | _missing(values, features, sample)


def _missing(
    values: Mapping[str, list[Any]], features: str | Sequence[str], sample: Sample
) -> dict[str, Any]:
    """Return `missing` if records that have a named feature lack another one."""
    names = [] if isinstance(features, str) else [split_length(name)[0] for name in features]
    found = [values[name] for name in names if name in values]
    most, rules = max(map(len, found), default=0), sample.schema.rules
    gaps = any(len(each) < most or any(is_gap(value, rules) for value in each) for each in found)
    return {"missing": True} if gaps else {}


def _unnamed(fields: Sequence[str], base: Settings, values: Mapping[str, list[Any]]) -> Settings:
    """Return the names of a line's fields; none if they are numbers, and then the label."""
    *first, last = fields
    numbers = all(are_numbers(values[name]) for name in first if name in values)
    if numbers and base["features"] == first and base["label"] == last:
        return {"features": PLAIN.features, "label": PLAIN.label}
    return {"csv_columns": [*fields]}


def _kind_of_label(values: Sequence[Any], sample: Sample) -> Settings:
    """Return `regression` if the labels are numbers that are not classes."""
    labels = [value for value in values if not is_gap(value, sample.schema.rules)]
    labels = [parse_label(value) if isinstance(value, str) else value for value in labels]
    numbers = [value for value in labels if type(value) in (int, float)]
    if not labels or len(numbers) < (1 - FEW) * len(labels):
        return {}
    fractions = sum(type(value) is float and not value.is_integer() for value in numbers)
    many = len({*numbers}) > max(USUAL_CLASSES, len(numbers) / 2)
    return {"regression": True} if many or fractions > FEW * len(numbers) else {}


def _kind_of_packed(own: Sequence[bytes]) -> Settings:
    """Return `regression` if the first words are not indices of classes, as a float is not, except 0."""
    first = np.array([int.from_bytes(blob[:4], "little", signed=True) for blob in own])
    classes = (first >= 0) & (first < min(MAX_CLASSES, max(len(own), MANY)))
    return {} if classes.mean() > 1 - FEW else {"regression": True}


def _settings_of_values(base: Settings, records: Sequence[bytes]) -> Settings:
    """Return the settings with which more of the records are read, and none less."""
    found: Settings = {}
    for _ in range(ROUNDS):
        schema = _schema(base | found)
        rejected = {each.position for each in as_inferred(schema, records)}
        others = [record for i, record in enumerate(records) if i not in rejected][:TRIED]
        guess = search(schema, [records[i] for i in sorted(rejected)][:TRIED], as_inferred, others)
        if not guess or not (len(rejected) > FEW * len(records) or guess.keys() <= {*HARMLESS}):
            break
        left = {each.position for each in as_inferred(apply(schema, guess), records)}
        if not left < rejected:
            break
        found |= guess
    return found


def _schema(settings: Settings) -> Schema:
    return apply(PLAIN, {"classes": "grow"} | settings)


def _without_header(settings: Settings, header: bytes, label: str) -> Settings:
    """Return a filter of the header of CSV if it would be learned, since all its fields may be strings."""
    if "where" in settings or as_inferred(_schema(settings), [header]):
        return {}
    path = f'"{label}"' if is_plain(label) else label
    name = column_name(label).replace("'", "''")
    return {"where": f"{path} is null or {path} != '{name}'"}


def _growing(settings: Settings, records: Sequence[bytes]) -> Settings:
    """Return growing classes if the records have only one, from which no classes can be inferred."""
    if {"classes", "regression"} & settings.keys() or not isinstance(settings.get("label", ""), str):
        return {}
    found = inspect(_schema(settings), records)
    return {"classes": "grow"} if found.widths and len(found.labels) < 2 else {}


def _without_defaults(settings: Settings) -> Settings:
    """Return the settings that are not the defaults, and the three that show what a record is."""
    plain, first = PLAIN.options() | {"regression": False}, ("format", "features", "label")
    shown = {name: settings.get(name, plain[name]) for name in first}
    if shown["format"] == "packed":
        shown = {"format": "packed"}
    rest = {name: value for name, value in settings.items() if name not in first and value != plain.get(name)}
    return shown | rest
