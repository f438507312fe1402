"""The schema of a record: its format, where its features and its label are, and which values are allowed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from streaming_nn.records import avsc, datetimes, framing, where
from streaming_nn.records.labels import Label, check_distinct, check_labels, label_key, label_to_csv
from streaming_nn.records.paths import column_name, parse_path, split_length
from streaming_nn.records.units import check_units, parse_units
from streaming_nn.records.values import Rules, is_gap, numbers_among

FORMATS = ("json", "packed", "csv", "avro")
MAX_BYTES = 1 << 20  # Kafka's default limit of a message
MAX_CLASSES = 1000  # limit of growing classes
AS_OF_ROW, AS_OF_VERSION = AS_OF = ("row", "version")  # the series that a row is learned with
MAX_SERIES = 10_000
MOST_LAGGED = 8_000_000  # values of all series: 64 MB of each version
LONGEST_EXPIRY = 1e11  # seconds, 3,000 years: times in ms stay integers
ENCODINGS = ("hash", "one_hot")
CSV_MARKS = {"delimiter": ",", "quote": '"'}  # the usual ones
UNUSABLE_MARKS = ("\r", "\n", "\0")
ARRAY_END = "[]"  # of a path whose array's elements are rows
LINES = "lines"  # of a record that are rows
THOUSANDS = ("", ",", ".", "'", "_", " ", "\u00a0", "\u202f")  # the last two: blanks without a line break


@dataclass(frozen=True)
class Schema:
    """How the bytes of a record become a row; options, checked once. Raise ValueError in one line.

    `features` is the name of an array field, or a tuple of the names of fields; `a.b.c` is field c of object
    b of object a, and `a.b[0:64]` is all 64 elements of array b of object a. `classes` are the labels in the
    order of the network's outputs, None for regression.
    `label` is None if records have none, as in a topic to be scored. A list of fields has several targets.
    With `multilabel` the label is an array of the classes that apply; a list of fields has the names of the
    classes, and each field is whether its class applies.

    `inputs` is the number of columns. A field in `categories` takes as many as its encoding has, at its
    position among the features: {"hash": 32} hashes values into 32 columns, {"one_hot": 16} has a column for
    each of the first 16 values; `vocabulary` holds these, in the order of their first appearance. An array
    field's name with {"hash": n} means that the field is an object of tokens and their counts. A field in
    `datetimes` has the columns of its parts: see `datetimes.check_options`.

    With `missing`, a value that is null, NaN or absent is NaN in the row. With `grow`, a label that is not in
    `classes`, which may be empty at first, is to be added; so is a value to a vocabulary: see `grow_schema`.
    A field in `sparse` is 0 where it is absent, as a word is that a message does not have.

    `csv_columns` names the fields of a line of CSV; without it they are the features, then the label. Fields
    are separated by `delimiter`, and one that contains it is in `quote`, unless that is empty: not quoted.
    An Avro record is written by `avro_schema`, a schema in JSON; or, if `registry` is the URL of a schema
    registry, by the schema whose ID it begins with, and read by `avro_schema`, if that is set.

    `framing` is what is around a record, one of `framing.FRAMINGS`, and `encoding` is that of its text, by a
    name that Python knows. A record for which `where` (`where.parse`) is not true is filtered.

    With `explode`, a record has several rows: `a.b[]` are the elements of array b of object a, `[]` those of
    a record that is an array, `lines` are its lines. See `explode.explode`.

    `weight` is the field of a labeled record's weight, a number >= 0; None: each weighs 1.

    `lags` are what a row has of the earlier rows of its series, after its own columns: of the target the
    values that many rows before, or of several fields by name, {"load": (1, 24), "temperature": (1,)}. A
    series is the records with the same value in the field `series`; None: all records are one. Up to
    `max_series` are kept, those with the newest records, and each for `series_expiry` seconds of record time
    (0: always). A row is learned with the series as of the "row" (`lags_as_of`), which all rows before it
    have joined, or as of the "version" before it, as a scorer has them.
    """

    inputs: int
    classes: tuple[Label, ...] | None = None
    features: str | tuple[str, ...] = "features"
    label: str | tuple[str, ...] | None = "label"
    format: str = "json"
    max_bytes: int = MAX_BYTES  # a larger record is rejected
    numbers_as_strings: bool = False  # True: "1.5" is a number
    na_values: tuple[str, ...] = ()  # words for a gap, as "NA"
    decimal: str = "."  # mark of a number that is a string
    thousands: str = ""  # mark between its groups of three digits
    units: tuple[str, ...] = ()  # signs or words before or after it, as "%" and "k=1000"
    missing: bool = False
    sparse: tuple[str, ...] = ()  # number fields that are 0 in a record that lacks them
    categories: Mapping[str, Mapping[str, int]] = field(default_factory=dict, hash=False)
    vocabulary: Mapping[str, tuple[Label, ...]] = field(default_factory=dict, hash=False)
    datetimes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    grow: bool = False
    csv_columns: tuple[str, ...] = ()
    delimiter: str = ","  # of the fields of a line of CSV
    quote: str = '"'  # around a field of CSV; "": fields are not quoted
    avro_schema: str | None = None
    registry: str | None = None
    framing: str = framing.NONE
    encoding: str = "utf-8"  # framing.UTF8: the field above hides the module
    where: str | None = None
    explode: str | None = None
    weight: str | None = None
    multilabel: bool = False
    lags: tuple[int, ...] | Mapping[str, tuple[int, ...]] = field(default=(), hash=False)
    lags_as_of: str = AS_OF_ROW
    series: str | None = None
    max_series: int = MAX_SERIES
    series_expiry: float = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", _check_features(self.features))
        if self.format not in FORMATS:
            hint = ": Protobuf is not read, send JSON, Avro or packed" if self.format == "protobuf" else ""
            raise ValueError(f"format must be one of {_join_names(FORMATS)}; got {self.format!r}{hint}")
        _check_positive("inputs", self.inputs)
        _check_positive("max_bytes", self.max_bytes)
        object.__setattr__(self, "label", _check_label(self.label))
        for name in ("numbers_as_strings", "missing", "grow", "multilabel"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} must be true or false; got {getattr(self, name)!r}")
        object.__setattr__(self, "na_values", _check_na_values(self.na_values))
        _check_marks(self)
        object.__setattr__(self, "units", check_units(self.units))
        object.__setattr__(self, "categories", _check_categories(self))
        object.__setattr__(self, "vocabulary", _check_vocabulary(self))
        object.__setattr__(self, "datetimes", _check_datetimes(self))
        object.__setattr__(self, "sparse", _check_sparse(self))
        _check_arrays(self)
        self._check_width()
        object.__setattr__(self, "csv_columns", _check_csv_columns(self))
        _check_csv_marks(self)
        _check_avro(self)
        _check_framing(self)
        _check_where(self)
        _check_explode(self)
        _check_weight(self)
        _check_outputs(self)
        if self.grow and self.classes is None:
            object.__setattr__(self, "classes", ())
        if self.multilabel and isinstance(self.label, tuple):
            object.__setattr__(self, "classes", self.label)
        if self.classes is not None:
            object.__setattr__(self, "classes", _check_classes(self.classes, self.grow))
            self._check_growth()
            if gaps := [label for label in self.classes if is_gap(label, self.category_rules)]:
                raise ValueError(f"classes must not be in na_values; got {gaps[0]!r}")
            if self.format == "csv":
                _check_csv_classes(self.classes)
        _check_series(self)
        object.__setattr__(self, "lags", _check_lags(self))

    def _check_width(self) -> None:
        expected = width(self.features, self.categories, self.datetimes)
        if expected is None or expected == self.inputs:
            return
        if not self.encoded and not self.arrays:
            raise ValueError(f"inputs must be {expected}, the number of features; got {self.inputs}")
        raise ValueError(f"inputs must be {expected}, the columns of all features; got {self.inputs}")

    def _check_growth(self) -> None:
        assert self.classes is not None
        if self.grow and self.format == "packed" and list(self.classes) != [*range(len(self.classes))]:
            raise ValueError(
                f"growing classes of packed records must be 0, 1, 2 and so on, the indices in the records; "
                f"got {list(self.classes)!r}"
            )

    @cached_property
    def exploded(self) -> tuple[str, ...]:
        """The path of the array whose elements are rows; () if a record is that array, or its lines are."""
        if self.explode in (None, ARRAY_END, LINES):
            return ()
        return parse_path(str(self.explode).removesuffix(ARRAY_END))

    @property
    def labels(self) -> tuple[str, ...]:
        """The paths of the label, or of the labels or targets if there are several fields of them."""
        if self.label is None:
            return ()
        return (self.label,) if isinstance(self.label, str) else self.label

    @property
    def columns_of_y(self) -> int | None:
        """The columns of y: one for each label or target, if there are several; None: y is (rows,)."""
        if self.multilabel:
            return len(self.classes or ())
        return len(self.label) if isinstance(self.label, tuple) else None

    @property
    def learner_options(self) -> dict[str, Any]:
        """The options of a learner that follow from the records."""
        targets = self.label if self.classes is None and isinstance(self.label, tuple) else None
        several = {"multilabel": self.multilabel, "targets": targets}
        missing = {"missing": "impute"} if self.missing or self.lags else {}
        return {"inputs": self.inputs + len(self.lag_columns), "classes": self.classes, **several, **missing}

    @cached_property
    def rules(self) -> Rules:
        """How values become numbers."""
        strings = self.numbers_as_strings or self.format == "csv"  # CSV has nothing but strings
        units = parse_units(self.units)
        rules = Rules(self.missing, strings, frozenset(self.na_values), self.decimal, self.thousands, units)
        return rules._replace(na_numbers=numbers_among(self.na_values, rules))

    @cached_property
    def category_rules(self) -> Rules:
        """What a gap is among categories, of which an empty string is one."""
        return self.rules._replace(numbers_as_strings=False)

    @cached_property
    def arrays(self) -> dict[str, int]:
        """The length of each feature that is an array beside other fields, by its name."""
        names = () if isinstance(self.features, str) else self.features
        lengths = {name: split_length(name)[1] for name in names}
        return {name: length for name, length in lengths.items() if length is not None}

    @cached_property
    def encoded(self) -> dict[str, int]:
        """The number of columns of each field that is not a number: of categories and dates."""
        return encoded_widths(self.categories, self.datetimes)

    @cached_property
    def scalars(self) -> tuple[str, ...]:
        """The paths of a row's values, before they are encoded: fields, and the elements of arrays."""
        names = (self.features,) if isinstance(self.features, str) else self.features
        lengths = {self.features: self.inputs} if isinstance(self.features, str) else self.arrays
        found = list[str]()
        for name in names:
            path, n = split_length(name)[0], lengths.get(name)
            found += [name] if n is None else [f"{path}[{i}]" for i in range(n)]
        return tuple(found)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order: "price", "city=a", and for hashed ones "city#3"."""
        return tuple(column for columns in self.columns_of_fields.values() for column in columns)

    @cached_property
    def lagged(self) -> dict[str, tuple[int, ...]]:
        """The lags of each field, the target's first; none without lags."""
        if not isinstance(self.lags, Mapping):
            return {str(self.label): self.lags} if self.lags else {}
        return dict(sorted(self.lags.items(), key=lambda item: item[0] != self.label))

    @property
    def lag_columns(self) -> tuple[str, ...]:
        """Names of what the series adds to a row: "load@lag_1", "load@lag_24", and "load@age"."""
        found = [f"{name}@lag_{lag}" for name, lags in self.lagged.items() for lag in lags]
        return (*found, f"{self.label}@age") if found else ()

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Names of a learner's inputs, in order: the record's columns, then those of its series."""
        return (*self.columns, *self.lag_columns)

    @property
    def columns_of_fields(self) -> dict[str, list[str]]:
        """The names of each field's columns, in order."""
        if self.features in self.categories:
            return {str(self.features): [f"{self.features}#{i}" for i in range(self.inputs)]}
        return {name: self._field_columns(name) for name in self.scalars}

    def _field_columns(self, name: str) -> list[str]:
        if name in self.datetimes:
            return datetimes.columns(name, self.datetimes[name])
        if name not in self.categories:
            return [name]
        ((encoding, columns),) = self.categories[name].items()
        if encoding == "hash":
            return [f"{name}#{i}" for i in range(columns)]
        values = [f"{name}={_quote_ambiguous(value)}" for value in self.vocabulary[name]]
        return values + [f"{name}#{i}" for i in range(len(values), columns)]  # not yet used

    def options(self) -> dict[str, Any]:
        """Return the options as JSON values; `schema_from` is the inverse."""
        return {field.name: _to_json(getattr(self, field.name)) for field in fields(self)}


def schema_from(options: Mapping[str, Any]) -> Schema:
    """Create the schema from `Schema.options()`; raise ValueError for an unknown option."""
    known = [field.name for field in fields(Schema)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"options of a schema must be among {_join_names(known)}; got {unknown[0]!r}")
    if "inputs" not in options:
        raise ValueError("a schema must have inputs, the number of columns; got none")
    return Schema(**options)


def width(
    features: str | Sequence[str],
    categories: Mapping[str, Mapping[str, int]],
    dates: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> int | None:
    """Return the number of columns of the features; None for an array field, which may have any width."""
    columns = encoded_widths(categories, dates)
    if isinstance(features, str):
        return columns.get(features)
    return sum(columns.get(name, split_length(name)[1] or 1) for name in features)


def encoded_widths(
    categories: Mapping[str, Mapping[str, int]], dates: Mapping[str, Mapping[str, Any]]
) -> dict[str, int]:
    """Return the number of columns of each field of categories or dates."""
    columns = {name: sum(encoding.values()) for name, encoding in categories.items()}
    return columns | {name: datetimes.width(options) for name, options in dates.items()}


MOST_NAMED = 10  # values of a field, in an event


def grow_schema(schema: Schema, unseen: Mapping[str, Sequence[Label]]) -> Schema:
    """Return the schema with the unseen values: a field's in its vocabulary, the label's in the classes.

    Known values keep their index; new ones come after them, in the given order, up to the limits.
    Raise ValueError for a field that does not grow.
    """
    growing = [*schema.vocabulary] + ([*schema.labels] if schema.grow else [])
    for name in unseen:
        if name not in growing:
            raise ValueError(f"fields that grow must be among {_join_names(growing) or 'none'}; got {name!r}")
    vocabulary = {
        name: _extend(known, unseen.get(name, ()), schema.categories[name]["one_hot"])
        for name, known in schema.vocabulary.items()
    }
    new = unseen.get(schema.label, ()) if isinstance(schema.label, str) else ()
    if schema.format == "packed":  # a label is its index among the classes, so all lower ones exist too
        new = range(max(map(int, new), default=-1) + 1)
    classes = schema.classes if not schema.grow else _extend(schema.classes or (), new, MAX_CLASSES)
    return replace(schema, vocabulary=vocabulary, classes=classes)


def growth_events(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the event of classes and categories that a schema's options have, and an earlier one's had not.

    Of the classes, and of each field, the first MOST_NAMED are named.
    """
    if not old:
        return []
    before, after = old.get("vocabulary", {}), new.get("vocabulary", {})
    fields = {name: _added(before.get(name), known) for name, known in after.items()}
    found = {
        "classes": _added(old.get("classes"), new.get("classes")),
        "categories": {name: added for name, added in fields.items() if added},
    }
    grown = {name: added for name, added in found.items() if added}
    return [{"event": "schema grown", **grown}] if grown else []


def _added(before: Sequence[Any] | None, after: Sequence[Any] | None) -> list[Any]:
    return list((after or ())[len(before or ()) :])[:MOST_NAMED]


def merge_unseen(parts: Iterable[Mapping[str, Sequence[Label]]]) -> dict[str, tuple[Label, ...]]:
    """Merge the unseen values of several batches, in the order of the parts."""
    merged: dict[str, tuple[Label, ...]] = {}
    for part in parts:
        for name, values in part.items():
            known = merged.get(name, ())
            merged[name] = _extend(known, values, len(known) + len(values))
    return merged


def _extend(known: Sequence[Label], new: Iterable[Label], limit: int) -> tuple[Label, ...]:
    merged = {label_key(value): value for value in known}
    for value in new:
        merged.setdefault(label_key(value), value)
    return tuple(merged.values())[: max(limit, len(known))]


def _check_categories(schema: Schema) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    if not isinstance(schema.categories, Mapping):
        raise ValueError(f"categories must be fields and their encodings; got {schema.categories!r}")
    names = (schema.features,) if isinstance(schema.features, str) else schema.features
    for name, encoding in schema.categories.items():
        if name not in names or name in schema.labels:
            raise ValueError(f"categories must be among the features, {_join_names(names)}; got {name!r}")
        found[name] = check_encoding(name, encoding)
        if isinstance(schema.features, str) and "hash" not in encoding:
            raise ValueError(f"categories of the tokens {name!r} must be {{hash = n}}; got {encoding!r}")
    if found and schema.format == "packed":
        raise ValueError("categories need records with named fields; got format 'packed'")
    if found and schema.format == "csv" and isinstance(schema.features, str):
        raise ValueError(f"CSV cannot hold the tokens of {schema.features!r}; use JSON or Avro")
    return found


def _check_datetimes(schema: Schema) -> dict[str, dict[str, Any]]:
    names = () if isinstance(schema.features, str) else schema.features
    if not isinstance(schema.datetimes, Mapping):
        raise ValueError(f"datetimes must be fields and their options; got {schema.datetimes!r}")
    for name in schema.datetimes:
        if name not in names or name in schema.categories:
            raise ValueError(
                f"datetimes must be among the named features, and not in categories; got {name!r}"
            )
    if schema.datetimes and schema.format == "packed":
        raise ValueError("datetimes need records with named fields; got format 'packed'")
    return {name: datetimes.check_options(name, options) for name, options in schema.datetimes.items()}


def _check_arrays(schema: Schema) -> None:
    if schema.arrays and schema.format == "csv":
        raise ValueError(f"CSV cannot hold the array {next(iter(schema.arrays))!r}; use JSON or Avro")
    if encoded := [name for name in schema.arrays if name in schema.encoded]:
        raise ValueError(f"categories and datetimes must not be arrays; got {encoded[0]!r}")
    check_distinct("features and elements of arrays", schema.scalars if schema.arrays else ())


def _check_na_values(words: Any) -> tuple[str, ...]:
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"na_values must be a list of strings; got {words!r}")
    return tuple(words)


def _check_marks(schema: Schema) -> None:
    if schema.decimal not in (".", ","):
        raise ValueError(f"decimal must be '.' or ','; got {schema.decimal!r}")
    if schema.thousands not in THOUSANDS or schema.thousands == schema.decimal:
        raise ValueError(
            f"thousands must be one of {_join_names(THOUSANDS)}, and not the decimal mark; "
            f"got {schema.thousands!r}"
        )


def _check_sparse(schema: Schema) -> tuple[str, ...]:
    if not isinstance(schema.sparse, (list, tuple)):
        raise ValueError(f"sparse must be a list of features; got {schema.sparse!r}")
    names = () if isinstance(schema.features, str) else schema.features
    numbers = set(names) - schema.encoded.keys() - schema.arrays.keys()
    if other := [name for name in schema.sparse if name not in numbers]:
        raise ValueError(f"sparse must be among the features that are numbers; got {other[0]!r}")
    if schema.sparse and schema.format not in ("json", "avro"):
        raise ValueError(
            f"sparse needs format 'json' or 'avro', whose fields can be absent; got {schema.format!r}"
        )
    return tuple(schema.sparse)


def check_encoding(name: str, encoding: Any) -> dict[str, int]:
    """Return a field's encoding; raise ValueError unless it is {hash = n} or {one_hot = n}."""
    if not isinstance(encoding, Mapping) or len(encoding) != 1 or next(iter(encoding)) not in ENCODINGS:
        raise ValueError(f"categories of {name!r} must be {{hash = n}} or {{one_hot = n}}; got {encoding!r}")
    ((kind, columns),) = encoding.items()
    _check_positive(f"{kind} of {name!r}", columns)
    return {kind: columns}


def _check_vocabulary(schema: Schema) -> dict[str, tuple[Label, ...]]:
    limits = {name: kind["one_hot"] for name, kind in schema.categories.items() if "one_hot" in kind}
    if not isinstance(schema.vocabulary, Mapping):
        raise ValueError(f"vocabulary must be fields and their values; got {schema.vocabulary!r}")
    for name, values in schema.vocabulary.items():
        if name not in limits:
            raise ValueError(f"vocabulary must be of one_hot fields; got {name!r}")
        check_labels(f"vocabulary of {name!r}", values)
        if len(values) > limits[name]:
            raise ValueError(
                f"vocabulary of {name!r} must have at most {limits[name]} values (one_hot); got {len(values)}"
            )
    return {name: tuple(schema.vocabulary.get(name, ())) for name in limits}


def _check_features(features: Any) -> str | tuple[str, ...]:
    if isinstance(features, str):
        _check_field_path("features", features)
        return features
    if not isinstance(features, (list, tuple)) or not features:
        raise ValueError(f"features must be a name or a list of names; got {features!r}")
    for name in features:
        _check_field_path("features", split_length(name)[0] if isinstance(name, str) else name)
    check_distinct("features", features)
    return tuple(features)


def _check_label(label: Any) -> str | tuple[str, ...] | None:
    if label is None:
        return None
    several = isinstance(label, (list, tuple))
    if several and not label:
        raise ValueError("label must be a field's name, or a list of names; got an empty list")
    for name in label if several else (label,):
        _check_field_path("label", name)
    check_distinct("label", label if several else ())
    return tuple(label) if several else str(label)


def _check_outputs(schema: Schema) -> None:
    """Raise ValueError unless label, classes and multilabel fit each other."""
    names = isinstance(schema.label, tuple)
    if schema.multilabel and schema.classes is None and not names and not schema.grow:
        raise ValueError("multilabel needs classes, or the list of the labels' fields; got neither")
    if schema.multilabel and names and schema.classes is not None and tuple(schema.classes) != schema.label:
        raise ValueError(
            f"classes must be the labels' fields, {_join_names(schema.labels)}; got {schema.classes!r}"
        )
    if names and not schema.multilabel and (schema.classes is not None or schema.grow):
        raise ValueError(f"label must be one field with classes; got {_join_names(schema.labels)}")
    if schema.multilabel and schema.grow and (names or schema.format == "packed"):
        raise ValueError("grow must be false with several label fields, or packed ones; got true")
    if schema.multilabel and schema.format == "csv" and not names:
        raise ValueError(f"label must be a list of fields with multilabel in CSV; got {schema.label!r}")


def _check_csv_columns(schema: Schema) -> tuple[str, ...]:
    names = schema.csv_columns
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"csv_columns must be a list of the names of a line's fields; got {names!r}")
    if not names:
        return ()
    if schema.format != "csv":
        raise ValueError(f"csv_columns need format 'csv'; got {schema.format!r}")
    if isinstance(schema.features, str):
        raise ValueError(f"csv_columns need features in a list of names; got {schema.features!r}")
    check_distinct("csv_columns", names)
    for name in (*schema.features, *schema.labels):
        if name not in names:
            raise ValueError(f"csv_columns must include the features and the label; {name!r} is missing")
    return tuple(names)


def _check_csv_marks(schema: Schema) -> None:
    for name, allowed in (("delimiter", "one ASCII character"), ("quote", "one ASCII character, or empty")):
        mark = getattr(schema, name)
        plain = isinstance(mark, str) and mark.isascii() and not mark.isalnum() and mark not in UNUSABLE_MARKS
        if not plain or (len(mark) != 1 and (name, mark) != ("quote", "")):
            raise ValueError(f"{name} must be {allowed}, not a letter, digit or line break; got {mark!r}")
        if schema.format != "csv" and mark != CSV_MARKS[name]:
            raise ValueError(f"{name} needs format 'csv'; got {schema.format!r}")
    if schema.delimiter == schema.quote:
        raise ValueError(f"delimiter must differ from quote; got {schema.delimiter!r} for both")


def _check_avro(schema: Schema) -> None:
    if schema.format != "avro":
        if schema.avro_schema is not None or schema.registry is not None:
            raise ValueError(f"avro_schema and registry need format 'avro'; got {schema.format!r}")
        return
    if schema.avro_schema is None and schema.registry is None:
        raise ValueError("format 'avro' needs avro_schema or registry; got neither")
    if schema.avro_schema is not None:
        avsc.parse_schema(schema.avro_schema)
    if schema.registry is not None:
        _check_registry(schema.registry)
    avsc.fastavro()  # raises if it is not installed, also where only a registry is set


def _check_framing(schema: Schema) -> None:
    if schema.framing not in framing.FRAMINGS:
        raise ValueError(f"framing must be one of {_join_names(framing.FRAMINGS)}; got {schema.framing!r}")
    if not framing.is_encoding(schema.encoding):
        raise ValueError(f"encoding must be one that Python knows; got {schema.encoding!r}")
    if schema.registry is not None and schema.framing == "confluent":
        raise ValueError("framing must be 'none' with a registry, which implies it; got 'confluent'")
    if schema.format not in ("json", "csv") and schema.encoding != framing.UTF8:
        raise ValueError(f"encoding needs format 'json' or 'csv', which are text; got {schema.format!r}")


def _check_explode(schema: Schema) -> None:
    if schema.explode is None:
        return
    if schema.explode == LINES:
        if schema.format not in ("json", "csv"):
            raise ValueError(f"explode = 'lines' needs format 'json' or 'csv'; got {schema.format!r}")
        return
    text = schema.explode if isinstance(schema.explode, str) else ""
    if not text.endswith(ARRAY_END):
        raise ValueError(
            f"explode must be 'lines', '[]', or an array's path with '[]' after it; got {schema.explode!r}"
        )
    if text != ARRAY_END:
        _check_field_path("explode", text.removesuffix(ARRAY_END))
    if schema.format != "json":
        raise ValueError(f"explode of an array needs format 'json'; got {schema.format!r}")


def _check_weight(schema: Schema) -> None:
    if schema.weight is None:
        return
    _check_field_path("weight", schema.weight)
    names = (schema.features,) if isinstance(schema.features, str) else schema.features
    if schema.weight in (*names, *schema.labels):
        raise ValueError(f"weight must be neither a feature nor the label; got {schema.weight!r}")
    if schema.format == "packed" or schema.features in schema.categories:
        raise ValueError("weight requires records with named fields; packed records and tokens have none")
    if schema.format == "csv" and schema.weight not in schema.csv_columns:
        raise ValueError(f"csv_columns must include the weight; {schema.weight!r} is missing")


def _check_series(schema: Schema) -> None:
    if schema.lags_as_of not in AS_OF:
        raise ValueError(f"lags_as_of must be one of {_join_names(AS_OF)}; got {schema.lags_as_of!r}")
    _check_positive("max_series", schema.max_series)
    expiry = schema.series_expiry
    if type(expiry) not in (int, float) or not 0 <= expiry < LONGEST_EXPIRY:
        raise ValueError(f"series_expiry must be a number of seconds, 0 or more; got {expiry!r}")
    if schema.series is None:
        return
    _check_field_path("series", schema.series)
    if not schema.lags:
        raise ValueError(f"series needs lags, the earlier values that a row has of it; got {schema.series!r}")
    if schema.format == "packed" or (schema.format == "csv" and isinstance(schema.features, str)):
        raise ValueError(f"series needs records with named fields; got format {schema.format!r}")
    columns = schema.csv_columns or (*schema.features, *schema.labels)
    if schema.format == "csv" and schema.series not in columns:
        raise ValueError(f"csv_columns must include the series; {schema.series!r} is missing")


def _check_lags(schema: Schema) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
    if not schema.lags:
        return ()
    if schema.label is None or schema.classes is not None or isinstance(schema.label, tuple):
        raise ValueError(f"lags need regression with one target; got label {schema.label!r}")
    of = schema.lags if isinstance(schema.lags, Mapping) else {schema.label: schema.lags}
    numbers = {schema.label, *schema.scalars} & {schema.label, *schema.columns}
    if other := [name for name in of if name not in numbers]:
        raise ValueError(f"lags must be of the label or of features that are numbers; got {other[0]!r}")
    found = {name: _check_lags_of(name, lags) for name, lags in of.items()}
    rows = max(lags[-1] for lags in found.values()) * (1 if schema.series is None else schema.max_series)
    if rows * len(found) > MOST_LAGGED:
        raise ValueError(
            f"max_series times the largest lag must be at most {MOST_LAGGED // len(found):,}; got {rows:,}"
        )
    return found if isinstance(schema.lags, Mapping) else found[schema.label]


def _check_lags_of(name: str, lags: Any) -> tuple[int, ...]:
    valid = isinstance(lags, list | tuple) and all(type(lag) is int and lag > 0 for lag in lags)
    if not valid or not lags or sorted(set(lags)) != list(lags):
        raise ValueError(f"lags of {name!r} must be integers, 1 or more, in ascending order; got {lags!r}")
    return tuple(lags)


def _check_where(schema: Schema) -> None:
    if schema.where is None:
        return
    if not isinstance(schema.where, str):
        raise ValueError(f"where must be a filter, as a string; got {schema.where!r}")
    try:
        parsed = where.parse(schema.where)
    except ValueError as error:
        raise ValueError(f"where {error}; got {schema.where!r}") from None
    if schema.format == "packed" or (schema.format == "csv" and isinstance(schema.features, str)):
        raise ValueError(f"where needs records with named fields; got format {schema.format!r}")
    columns = schema.csv_columns or (*schema.features, *schema.labels)
    names = [column_name(name) for name in columns]
    for name in parsed.fields if schema.format == "csv" else ():
        if column_name(name) not in names or len(parse_path(name)) > 1:
            raise ValueError(f"where must name columns of a line, {_join_names(columns)}; got {name!r}")


def _check_registry(url: Any) -> None:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"registry must be an http or https URL; got {url!r}")
    if "@" in parts.netloc:  # it would be in every version, so it is not printed either
        raise ValueError("registry must not contain a password: set STREAMING_NN_REGISTRY_USER and _PASSWORD")


def _check_csv_classes(classes: Sequence[Label]) -> None:
    """Raise ValueError for classes that are the same in CSV, such as 1 and "1"."""
    check_distinct("classes in CSV", [label_to_csv(label) for label in classes])


def _check_classes(classes: Any, grow: bool) -> tuple[Label, ...]:
    if not isinstance(classes, (list, tuple)) or (len(classes) < 2 and not grow):
        raise ValueError(f"classes must be a list of two or more labels; got {classes!r}")
    check_labels("classes", classes)
    if grow and len(classes) > MAX_CLASSES:
        raise ValueError(f"growing classes must be at most {MAX_CLASSES:,}; got {len(classes):,}")
    return tuple(classes)


def _check_field_path(what: str, path: Any) -> None:
    try:
        parse_path(path if isinstance(path, str) else "")
    except ValueError:
        raise ValueError(f"{what} must be a field's name, or names joined by dots; got {path!r}") from None


def _check_positive(what: str, number: Any) -> None:
    if type(number) is not int or number < 1:
        raise ValueError(f"{what} must be an integer, 1 or more; got {number!r}")


def _to_json(option: Any) -> Any:
    if isinstance(option, Mapping):
        return {name: _to_json(part) for name, part in option.items()}
    return list(option) if isinstance(option, tuple) else option


def _quote_ambiguous(value: Label) -> str:
    """Return a value as it is; a string that looks like a number or boolean is quoted."""
    if type(value) is not str:
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return json.dumps(value)


def _join_names(names: Any) -> str:
    return ", ".join(map(repr, names))
