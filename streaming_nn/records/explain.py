"""Why records cannot be read: the first of them, and the settings that would read them."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from streaming_nn.records import framing, json_text, reasons, recognize
from streaming_nn.records.decode import Values, decode, inspect
from streaming_nn.records.explode import explode
from streaming_nn.records.labels import parse_shown
from streaming_nn.records.paths import get_field, parse_path
from streaming_nn.records.reasons import BadRecord, show
from streaming_nn.records.recognize import is_text
from streaming_nn.records.remedies import (
    FORMAT_OPTIONS,
    Sample,
    Settings,
    apply,
    conflicting_marks,
    describe_number,
    guesses,
    has_ambiguous_marks,
    is_date,
    is_sparse_vector,
    is_word,
)
from streaming_nn.records.schema import Schema
from streaming_nn.records.types import Rejection
from streaming_nn.records.units import has_unit

CHECKED = 1000  # records that are read with the suggested settings
TRIED = 50  # records that are read with each guess
FEW = 0.1  # share of those that need not be read: settings for a few odd records would spoil the others
STEPS = 4  # guesses that are combined: a framing, a field, its values, the labels
LONGEST_SAMPLE = 120  # characters of a record that are shown
REASONS = 3  # that a line names
# Settings that help also if more is needed, since by accident no record fits them
AROUND: Mapping[str, Sequence[str]] = {
    "framing": framing.FRAMINGS,
    "encoding": ("utf-16", "utf-16-le", "utf-16-be", "utf-32"),
    "format": ("json", "avro"),
}
WORTH = 'state what each is worth, such as records.units = ["g=1", "kg=1000"], or send numbers alone'
FIELDS = 12  # of a record, and of a setting, that are named

Read = Callable[[Schema, Values], Sequence[Rejection]]

# How far a record came that was rejected for a reason; for any other one its values are wrong
_STAGES = {
    **dict.fromkeys((reasons.TOO_LARGE, reasons.NOT_GZIP, reasons.NOT_A_JSON_STRING), 0),
    **dict.fromkeys((reasons.WRONG_ENCODING, reasons.NO_SCHEMA_ID, reasons.UNKNOWN_SCHEMA), 0),
    **dict.fromkeys((reasons.UNUSABLE_SCHEMA, reasons.INCOMPATIBLE_SCHEMA), 0),
    **dict.fromkeys((reasons.NOT_JSON, reasons.NOT_CSV, reasons.WRONG_FIELDS, reasons.NOT_AVRO), 1),
    reasons.NOT_AN_OBJECT: 1,
    **dict.fromkeys((reasons.FIELD_MISSING, reasons.NO_FIELD), 2),
    **dict.fromkeys((reasons.NOT_AN_ARRAY, reasons.WRONG_WIDTH), 2),
    reasons.LABEL_MISSING: 3,
    **dict.fromkeys((reasons.LABEL_NOT_IN_CLASSES, reasons.TOO_MANY_CLASSES, reasons.LABEL_NOT_A_NUMBER), 4),
}
_VALUES, _READ = 5, 6
_DIGITS = re.compile(r"\s*\d{5,}(\.\d+)?\s*")
_ZONE = re.compile(r".*\d\d:\d\d.*?(\[[\w/+-]+\]|[A-Za-z]{3,5}|[A-Z]\w+/\w+)")
_BARE = re.compile("[A-Za-z0-9_-]+")  # a key that TOML has without quotes


def as_learned(schema: Schema, values: Values) -> Sequence[Rejection]:
    """Return the rejections of records to be learned."""
    return _of_rows(schema, values, lambda rows: decode(schema, rows, labeled=True).rejected)


def as_scored(schema: Schema, values: Values) -> Sequence[Rejection]:
    """Return the rejections of records to be scored."""
    return _of_rows(schema, values, lambda rows: decode(schema, rows, labeled=False).rejected)


def as_inferred(schema: Schema, values: Values) -> Sequence[Rejection]:
    """Return the rejections of records to be learned whose width and classes are inferred from them."""
    return _of_rows(schema, values, partial(_as_inferred, schema))


def _of_rows(
    schema: Schema, values: Values, read: Callable[[Values], Sequence[Rejection]]
) -> Sequence[Rejection]:
    """Return the rejections of records: of one with several rows, its first row's."""
    if schema.explode is None:
        return read(values)
    exploded, first = explode(schema, values), dict[int, Rejection]()
    for each in read(exploded.values):
        position = int(exploded.records[each.position])
        first.setdefault(position, each._replace(position=position))
    return [*first.values()]


def _as_inferred(schema: Schema, values: Values) -> Sequence[Rejection]:
    found = inspect(schema, values)
    if not found.widths:
        return found.rejected
    ((inputs, _),) = found.widths.most_common(1)
    settings: Settings = {"inputs": max(inputs, 1)}
    if isinstance(schema.label, str) and schema.classes is not None:
        settings["classes"] = "grow"
    return decode(apply(schema, settings), values, labeled=schema.label is not None).rejected


def explain(schema: Schema, values: Values, read: Read = as_learned, where: str = "") -> list[str]:
    """Return lines about records that `read` rejects: the first one, and the settings that would read them.

    Suggested settings are applied to the records before they are suggested; `where` is added to them, such as
    " in a new model directory". Without any, a line names what the records look like. No lines: all are read.
    """
    records = [bytes(value) for value in _as_list(values) if value is not None][:CHECKED]
    rejected = _try(schema, {}, records, read)
    if not rejected:
        return []
    first = _most_frequent(rejected)
    lines = [f"the first: {_show(records[first.position])}{_show_value(first)}"]
    bad = {each.position for each in rejected}
    others = [record for i, record in enumerate(records) if i not in bad][:TRIED]
    settings = search(schema, [records[each.position] for each in _spread(rejected)], read, others)
    return lines + _advise(schema, records, rejected, settings, read, where)


def describe_filtered(schema: Schema, values: Values) -> list[str]:
    """Return lines about records that `where` leaves out: the first one, and the fields that they have."""
    sample = Sample(
        schema, [bytes(value) for value in _as_list(values) if value is not None][:TRIED], [], False
    )
    if schema.where is None or not sample.objects:
        return []
    return [f"the first: {_show(sample.blobs[0])}", _name_fields(sample)]


def describe_reasons(counts: Mapping[str, int]) -> str:
    """Return how many records were rejected for the most frequent reasons: "300 not JSON, 2 too large"."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{n:,} {reason}" for reason, n in ordered[:REASONS]]
    if len(ordered) > REASONS:
        shown.append(f"{sum(n for _, n in ordered[REASONS:]):,} for {len(ordered) - REASONS:,} more reasons")
    return ", ".join(shown)


def count_reasons(rejected: Sequence[Rejection]) -> Counter[str]:
    """Count rejected records by reason and field."""
    return Counter(map(reasons.key, rejected))


def to_toml(value: Any) -> str:
    """Return a setting as TOML has it: strings, booleans, integers, lists and tables of them."""
    if isinstance(value, Mapping):
        pairs = (f"{k if _BARE.fullmatch(k) else to_toml(k)} = {to_toml(v)}" for k, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    shown = json.dumps(value, ensure_ascii=False)  # TOML's strings have JSON's escapes, and one of 8 digits
    return "".join(
        c if c.isprintable() else f"\\u{ord(c):04x}" if c <= "\uffff" else f"\\U{ord(c):08x}" for c in shown
    )


def _as_list(values: Values) -> Sequence[bytes | None]:
    return values.to_pylist() if hasattr(values, "to_pylist") else values


def _most_frequent(rejected: Sequence[Rejection]) -> Rejection:
    """Return the first rejection for the most frequent reason."""
    ((reason, _),) = count_reasons(rejected).most_common(1)
    return next(each for each in rejected if reasons.key(each) == reason)


def _show(blob: bytes) -> str:
    """Return a record's first bytes, escaped."""
    shown = blob[:LONGEST_SAMPLE]
    while len(repr(shown)) > LONGEST_SAMPLE:
        shown = shown[: len(shown) * 3 // 4]
    return repr(shown) + ("..." if len(blob) > len(shown) else "")


def _show_value(rejection: Rejection) -> str:
    return f", whose {rejection.field} is {rejection.value}" if rejection.field and rejection.value else ""


def _spread(rejected: Sequence[Rejection]) -> Sequence[Rejection]:
    """Return up to TRIED rejections: the first ones, and some of the others."""
    half = TRIED // 2
    return [*rejected[:half], *rejected[half :: max(len(rejected) // half, 1)]]


def search(schema: Schema, blobs: Sequence[bytes], read: Read, others: Sequence[bytes] = ()) -> Settings:
    """Return settings with which rejected records come further, one guess after another, the best each.

    `others` are records that the schema reads: of guesses that are as good, one that still does is better.
    """
    found, every = Settings(), [*blobs, *others]

    def progress(rejected: Sequence[Rejection] | None) -> tuple[float, float]:
        if rejected is None:
            return float("-inf"), 0.0
        first = [each for each in rejected if each.position < len(blobs)]
        return _progress(first), _progress(rejected)

    rejected = _try(schema, found, every, read)
    for _ in range(STEPS):
        if not rejected or len(rejected) <= FEW * len(blobs):
            break
        current, positions = apply(schema, found), {each.position for each in rejected}
        left = [every[each.position] for each in rejected]
        again = [each._replace(position=i) for i, each in enumerate(rejected)]
        done = [blob for i, blob in enumerate(every) if i not in positions]
        tried = [
            (found | guess, _try(schema, found | guess, every, read))
            for guess in guesses(Sample(current, left, again, read is not as_scored, done))
        ]
        best = max(tried, key=lambda pair: progress(pair[1]), default=(found, rejected))
        if progress(best[1])[0] <= progress(rejected)[0]:
            break
        found, rejected = best
    return found


def _try(
    schema: Schema, settings: Settings, blobs: Sequence[bytes], read: Read
) -> Sequence[Rejection] | None:
    """Return the rejections with these settings; None if they do not fit each other, or need a registry."""
    try:
        return read(apply(schema, settings), blobs)
    except (ValueError, ConnectionError, ImportError):
        return None


def _progress(rejected: Sequence[Rejection]) -> float:
    """Return how far the records came: 0 if all are read, else less."""
    return sum(_STAGES.get(each.reason, _VALUES) - _READ for each in rejected)


def _advise(
    schema: Schema,
    records: Sequence[bytes],
    rejected: Sequence[Rejection],
    settings: Settings,
    read: Read,
    where: str,
) -> list[str]:
    left = _try(schema, settings, records, read) if settings else rejected
    if left is None:
        settings, left = {}, rejected
    lines = []
    if len(left) < len(rejected):
        number = f"{len(records) - len(left):,} of {len(records):,}"
        return [f"with {_show_settings(settings)}{where}, {number} would be read"]
    before = {each.position for each in rejected}
    if kept := len(before) - len(before.intersection(each.position for each in left)):
        return [
            f"with {_show_settings(settings)}{where}, {kept:,} of these would be read, and "
            f"{len(left) - len(before) + kept:,} others would not: are there records of two kinds?"
        ]
    settings = _around(settings)
    left = _try(schema, settings, records, read) or rejected
    current, first = apply(schema, settings), _most_frequent(left)
    if settings and not recognize.is_nested(records[first.position]):
        reason = describe_reasons(count_reasons(left))
        lines = [f"with {_show_settings(settings)}{where}, they would still be rejected: {reason}"]
    sample = Sample(current, [records[each.position] for each in _spread(left)], left, labeled=False)
    decimals = sample.decimals and f"{sample.decimals} is {recognize.DECIMAL}"
    note = decimals or _conflict(sample) or _note(current, records[first.position], first)
    return lines + ([note] if note else [])


def _conflict(sample: Sample) -> str | None:
    if sample.rejected[0].reason not in (reasons.NOT_A_NUMBER, reasons.LABEL_NOT_A_NUMBER):
        return None
    names = " and ".join(conflicting_marks(sample))
    return names and f"{names} have other marks of decimals or thousands than each other: send numbers"


def _around(settings: Settings) -> Settings:
    """Return the settings that help by themselves."""
    kept = {name: value for name, value in settings.items() if value in AROUND.get(name, ())}
    reset = {name: settings[name] for name in FORMAT_OPTIONS if name in settings and "format" in kept}
    return kept | reset


def _show_settings(settings: Settings) -> str:
    shown = [
        f"no records.{name}" if value is None else f"records.{name} = {_show_setting(value)}"
        for name, value in settings.items()
    ]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _show_setting(value: Any) -> str:
    if isinstance(value, list) and len(value) > FIELDS:
        return f"{to_toml(value[:FIELDS])[:-1]}, ... {len(value):,} in all]"
    return to_toml(value)


def _note(schema: Schema, blob: bytes, rejection: Rejection) -> str | None:
    """Return what a record that no setting reads is, or which fields it has."""
    try:
        unwrap = framing.unwrapper(schema.framing, schema.encoding, schema.max_bytes)
        own = blob if unwrap is None else unwrap(blob)
    except BadRecord:
        own = blob
    if schema.framing == "confluent" and not is_text(own):
        own = blob  # Protobuf has more of a header
    name = recognize.recognize(blob if recognize.is_nested(blob) else own)
    if name and (schema.format, name) != ("avro", recognize.AVRO):
        return f"it looks like {name}"
    sample = Sample(schema, [blob], [rejection], labeled=False)
    if sample.objects or rejection.reason == reasons.WRONG_FIELDS:
        return _describe_fields(sample, rejection)
    if schema.format == "json" and b"," in own and rejection.reason == reasons.NOT_JSON and is_text(own):
        return 'is it CSV? set records.format = "csv", and records.csv_columns to the names of its fields'
    return None


def _describe_fields(sample: Sample, rejection: Rejection) -> str | None:
    """Return what is where the field of a rejection should be, or which fields there are."""
    schema, record = sample.schema, sample.objects[0] if sample.objects else {}
    name = rejection.field
    name = name[: name.rindex("[")] if name.endswith("]") else name
    value = get_field(record, parse_path(name)) if name and schema.format != "csv" else None
    if type(value) is str and rejection.reason == reasons.NOT_AN_ARRAY:
        return f"{name} is a string: send an array of numbers"
    if rejection.reason == reasons.WRONG_FIELDS and not isinstance(schema.features, str):
        columns = len(schema.csv_columns or (*sample.names, *schema.labels))
        return (
            f"a line has {rejection.value} fields, and {columns} are named: name all in records.csv_columns"
        )
    if type(value) is list and value and all(type(row) is list for row in value):
        rows = f"{len(value):,} rows of {len(value[0]):,}"
        return f"{name} is a matrix, {rows}: flatten it, or {recognize.SPLIT}"
    if is_sparse_vector(value):
        return f"{name} is a sparse vector: send all its numbers as an array"
    for path, text in sample.richest.items():
        if type(text) is str and text[:1] == "[" and recognize.is_json(text.encode()):
            return f"{path} is JSON in a string: send it as an array"
        kind = record.get(json_text.TYPE)
        if path == json_text.IN_BASE64 and kind is not None and not json_text.is_json_type(kind):
            return f"{path} is of type {show(kind)}, which is not read: send JSON in data"
        if type(text) is str and (inside := recognize.from_base64(text.encode())):
            return f"{path} is {inside} in base64: send it as an object"
    if isinstance(schema.features, str) and (
        rejection.reason == reasons.IS_A_DATE or any(map(is_word, sample.numbers))
    ):
        return "a category or a date needs a name: set records.features to a list of the fields"
    if rejection.reason == reasons.NOT_A_DATE and (type(value) in (int, float) or _is_digits(value)):
        unit = f'name its unit in records.datetimes, such as {name} = {{format = "ms"}}'
        return f"{name} is a number: {unit}" + ", and set records.numbers_as_strings" * _is_digits(value)
    if rejection.reason in (reasons.NOT_A_DATE, reasons.IS_A_DATE) and (zone := _ZONE.fullmatch(str(value))):
        return f"{name} has a time zone by its name, {zone[1]}: send an offset alone, such as +02:00"
    if name and len(formats := sample.formats(name)) > 1:
        shown = " or ".join(map(repr, formats))
        return f"{name} may be written as {shown}: set its format in records.datetimes"
    if has_ambiguous_marks(sample):
        mark = f"is the comma in {rejection.value} a decimal mark?"
        return f"{mark} set records.numbers_as_strings, and records.decimal or records.thousands to ','"
    if rejection.reason in (reasons.NOT_A_NUMBER, reasons.LABEL_NOT_A_NUMBER):
        if note := describe_number(rejection.value):
            return f"{rejection.field} {note}"
        if has_unit(parse_shown(rejection.value)):
            return f"{rejection.field} is a number with a unit, and not all have the same: {WORTH}"
        if is_date(value):
            return f"{rejection.field} is a date: send a number"
    if rejection.reason not in (reasons.FIELD_MISSING, reasons.NO_FIELD, reasons.LABEL_MISSING):
        return None
    return _name_fields(sample)


def _is_digits(value: Any) -> bool:
    return isinstance(value, str) and _DIGITS.fullmatch(value) is not None


def _name_fields(sample: Sample) -> str:
    names = [*sample.richest]
    more = [f"{len(names) - FIELDS:,} more"] if len(names) > FIELDS else []
    return f"its fields are {', '.join(names[:FIELDS] + more) or 'none'}"
