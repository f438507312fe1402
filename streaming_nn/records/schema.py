"""What a record looks like: where its features and its label stand, and which values are allowed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import urlsplit

from streaming_nn.records import avsc

Label = str | int | bool

FORMATS = ("json", "packed", "csv", "avro")
MAX_BYTES = 1 << 20  # Kafka's own default limit of a message
MAX_CLASSES = 1000  # that growing classes may become
LONGEST = 128  # characters of a value that may become a class or join a vocabulary: they are in every version
HOW = ("hash", "one_hot")


@dataclass(frozen=True)
class Schema:
    """How the bytes of a record become a row; options, checked once.

    `features` is the name of an array field, or a tuple of the names of fields; `a.b.c` is field c of object
    b of object a. `classes` are the labels in the order of the network's outputs, None for regression.
    `label` is None where records have none, as in a topic to be scored.

    `inputs` is the number of columns. A field in `categories` takes as many as it says, where it stands among
    the features: {"hash": 32} hashes values into 32 columns, {"one_hot": 16} gives each of the first 16
    values one of its own; `vocabulary` holds these, in the order of their first appearance. An array field's
    name with {"hash": n} means that the field is an object of tokens and their counts.

    With `missing`, what is null, NaN or not there is NaN in the row. With `grow`, a label that is not in
    `classes`, which may be none at first, is to be added; so is a value to a vocabulary: see `grown`.

    `csv_columns` names the fields of a line of CSV; without it they are the features, then the label.
    A record of Avro is written by `avro_schema`, a schema in JSON; or, where `registry` is the URL of a
    schema registry, by the schema whose number it begins with, and read as `avro_schema` has it, if any.
    Raises ValueError in one line.
    """

    inputs: int
    classes: tuple[Label, ...] | None = None
    features: str | tuple[str, ...] = "features"
    label: str | None = "label"
    format: str = "json"
    max_bytes: int = MAX_BYTES  # a record that is larger is rejected
    numbers_as_strings: bool = False  # True: "1.5" is a number
    missing: bool = False
    categories: Mapping[str, Mapping[str, int]] = field(default_factory=dict, hash=False)
    vocabulary: Mapping[str, tuple[Label, ...]] = field(default_factory=dict, hash=False)
    grow: bool = False
    csv_columns: tuple[str, ...] = ()
    avro_schema: str | None = None
    registry: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", _names(self.features))
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {_listed(FORMATS)}; got {self.format!r}")
        _check_whole("inputs", self.inputs)
        _check_whole("max_bytes", self.max_bytes)
        if self.label is not None:
            _check_path("label", self.label)
        for name in ("numbers_as_strings", "missing", "grow"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} must be true or false; got {getattr(self, name)!r}")
        object.__setattr__(self, "categories", _categories(self))
        object.__setattr__(self, "vocabulary", _vocabulary(self))
        self._check_width()
        object.__setattr__(self, "csv_columns", _csv_columns(self))
        _check_avro(self)
        if self.grow and self.classes is None:
            object.__setattr__(self, "classes", ())
        if self.classes is not None:
            object.__setattr__(self, "classes", _labels(self.classes, self.grow))
            self._check_growth()
            if self.format == "csv":
                _check_texts(self.classes)

    def _check_width(self) -> None:
        expected = width(self.features, self.categories)
        if expected is None or expected == self.inputs:
            return
        if not self.categories:
            raise ValueError(f"features names {expected} fields, but inputs is {self.inputs}")
        raise ValueError(f"features and categories take {expected} columns, but inputs is {self.inputs}")

    def _check_growth(self) -> None:
        assert self.classes is not None
        if self.grow and self.format == "packed" and list(self.classes) != [*range(len(self.classes))]:
            raise ValueError(
                f"packed records hold a label's place, so growing classes must be 0, 1, 2 and so on; "
                f"got {list(self.classes)!r}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the columns, in their order: "price", "city=a", and for hashed ones "city#3"."""
        if self.features in self.categories:
            return tuple(f"{self.features}#{i}" for i in range(self.inputs))
        if isinstance(self.features, str):
            return tuple(f"{self.features}[{i}]" for i in range(self.inputs))
        return tuple(column for name in self.features for column in self._columns_of(name))

    def _columns_of(self, name: str) -> list[str]:
        if name not in self.categories:
            return [name]
        ((how, columns),) = self.categories[name].items()
        if how == "hash":
            return [f"{name}#{i}" for i in range(columns)]
        values = [f"{name}={_spoken(value)}" for value in self.vocabulary[name]]
        return values + [f"{name}#{i}" for i in range(len(values), columns)]  # free still

    def options(self) -> dict[str, Any]:
        """Return the options as JSON can hold them; `schema_from` is the way back."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def schema_from(options: Mapping[str, Any]) -> Schema:
    """Make the schema again from `Schema.options()`; raises ValueError for an option that does not exist."""
    known = [field.name for field in fields(Schema)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"a schema's options are {_listed(known)}; got {unknown[0]!r}")
    if "inputs" not in options:
        raise ValueError("a schema needs inputs, the number of features a record has; got none")
    return Schema(**options)


def width(features: str | Sequence[str], categories: Mapping[str, Mapping[str, int]]) -> int | None:
    """Return how many columns the features take; None for an array field, which can have any width."""
    if isinstance(features, str):
        return sum(categories[features].values()) if features in categories else None
    return sum(sum(categories[name].values()) if name in categories else 1 for name in features)


def grown(schema: Schema, unseen: Mapping[str, Sequence[Label]]) -> Schema:
    """Return the schema that knows what was unseen: in its vocabulary by field, in its classes by the label.

    What is known keeps its place; what is new comes after it, in the order given, up to the bounds.
    Raises ValueError for a field that doesn't grow.
    """
    growing = [*schema.vocabulary] + ([schema.label] if schema.grow else [])
    for name in unseen:
        if name not in growing:
            raise ValueError(f"the fields that grow are {_listed(growing) or 'none'}; got {name!r}")
    vocabulary = {
        name: _joined(known, unseen.get(name, ()), schema.categories[name]["one_hot"])
        for name, known in schema.vocabulary.items()
    }
    new = unseen.get(schema.label or "", ())
    if schema.format == "packed":  # a label is its place among the classes: those below it come with it
        new = range(max(map(int, new), default=-1) + 1)
    classes = schema.classes if not schema.grow else _joined(schema.classes or (), new, MAX_CLASSES)
    return replace(schema, vocabulary=vocabulary, classes=classes)


def together(parts: Iterable[Mapping[str, Sequence[Label]]]) -> dict[str, tuple[Label, ...]]:
    """Join what several decodes have not seen before, in the order of the parts."""
    whole: dict[str, tuple[Label, ...]] = {}
    for part in parts:
        for name, values in part.items():
            known = whole.get(name, ())
            whole[name] = _joined(known, values, len(known) + len(values))
    return whole


def label_key(label: object) -> object:
    """Return what a label is looked up by: 3 and 3.0 are the same, 1, true and "1" are three."""
    return ("bool", label) if type(label) is bool else label


def nameable(value: object) -> bool:
    """Tell whether a value may become a class or join a vocabulary: it is short, and JSON can hold it."""
    if type(value) is str:
        return len(value) <= LONGEST
    return type(value) is bool or (type(value) is int and -(1 << 63) <= value < 1 << 63)


def _joined(known: Sequence[Label], new: Iterable[Label], bound: int) -> tuple[Label, ...]:
    all_of = {label_key(value): value for value in known}
    for value in new:
        all_of.setdefault(label_key(value), value)
    return tuple(all_of.values())[: max(bound, len(known))]


def _categories(schema: Schema) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    if not isinstance(schema.categories, Mapping):
        raise ValueError(f"categories must name fields and how each is encoded; got {schema.categories!r}")
    names = (schema.features,) if isinstance(schema.features, str) else schema.features
    for name, how in schema.categories.items():
        if name not in names or name == schema.label:
            raise ValueError(f"categories must be among the features, {_listed(names)}; got {name!r}")
        found[name] = encoding(name, how)
        if isinstance(schema.features, str) and "hash" not in how:
            raise ValueError(f"the tokens of {name!r} can only be hashed, {{hash = n}}; got {how!r}")
    if found and schema.format == "packed":
        raise ValueError("categories are for records whose fields have names; got format 'packed'")
    if found and schema.format == "csv" and isinstance(schema.features, str):
        raise ValueError(f"a line of CSV can't hold the tokens of {schema.features!r}")
    return found


def encoding(name: str, how: Any) -> dict[str, int]:
    """Check how a field is encoded. ValueError: it is neither {hash = n} nor {one_hot = n}."""
    if not isinstance(how, Mapping) or len(how) != 1 or next(iter(how)) not in HOW:
        raise ValueError(f"categories of {name!r} must be {{hash = n}} or {{one_hot = n}}; got {how!r}")
    ((kind, columns),) = how.items()
    _check_whole(f"{kind} of {name!r}", columns)
    return {kind: columns}


def _vocabulary(schema: Schema) -> dict[str, tuple[Label, ...]]:
    bounds = {name: how["one_hot"] for name, how in schema.categories.items() if "one_hot" in how}
    if not isinstance(schema.vocabulary, Mapping):
        raise ValueError(f"vocabulary must be fields and their values; got {schema.vocabulary!r}")
    for name, values in schema.vocabulary.items():
        if name not in bounds:
            raise ValueError(f"vocabulary must be of fields that are one_hot; got {name!r}")
        _check_labels(f"vocabulary of {name!r}", values)
        if len(values) > bounds[name]:
            raise ValueError(
                f"vocabulary of {name!r} may have {bounds[name]} values, its one_hot; got {len(values)}"
            )
    return {name: tuple(schema.vocabulary.get(name, ())) for name in bounds}


def _names(features: Any) -> str | tuple[str, ...]:
    if isinstance(features, str):
        _check_path("features", features)
        return features
    if not isinstance(features, (list, tuple)) or not features:
        raise ValueError(f"features must be a name or a list of names; got {features!r}")
    for name in features:
        _check_path("features", name)
    if len(set(features)) < len(features):
        raise ValueError(f"features must differ from each other; got {next(_doubles(features))!r} twice")
    return tuple(features)


def _csv_columns(schema: Schema) -> tuple[str, ...]:
    given = schema.csv_columns
    if not isinstance(given, (list, tuple)) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"csv_columns must be the names of a line's fields; got {given!r}")
    if not given:
        return ()
    if schema.format != "csv":
        raise ValueError(f"csv_columns are for CSV records; got format {schema.format!r}")
    if isinstance(schema.features, str):
        raise ValueError(f"csv_columns need features that are named, in a list; got {schema.features!r}")
    if len(set(given)) < len(given):
        raise ValueError(f"csv_columns must differ from each other; got {next(_doubles(given))!r} twice")
    for name in (*schema.features, *([schema.label] if schema.label else [])):
        if name not in given:
            raise ValueError(f"csv_columns must hold the features and the label; {name!r} is not among them")
    return tuple(given)


def _check_avro(schema: Schema) -> None:
    if schema.format != "avro":
        if schema.avro_schema is not None or schema.registry is not None:
            raise ValueError(f"avro_schema and registry are for Avro records; got format {schema.format!r}")
        return
    if schema.avro_schema is None and schema.registry is None:
        raise ValueError("format avro needs an avro_schema, or a registry that has the schemas; got neither")
    if schema.avro_schema is not None:
        avsc.parsed(schema.avro_schema)
    if schema.registry is not None:
        _check_registry(schema.registry)
    avsc.fastavro()  # where only a registry is named, this is what tells that it is not installed


def _check_registry(url: Any) -> None:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"registry must be a URL, http or https; got {url!r}")
    if "@" in parts.netloc:  # it would be in every version; and is not told here
        raise ValueError(
            "registry must hold no password: STREAMING_NN_REGISTRY_USER and _PASSWORD are for it"
        )


def _check_texts(classes: Sequence[Label]) -> None:
    """Refuse classes that a line of CSV can't tell apart, as 1 and "1"."""
    texts = [text_of(label) for label in classes]
    if len(set(texts)) < len(texts):
        raise ValueError(f"classes must differ as text in CSV; got {next(_doubles(texts))!r} twice")


def text_of(label: Label) -> str:
    """Write a label as CSV has it: true and false in small letters."""
    return str(label).lower() if type(label) is bool else str(label)


def _labels(classes: Any, grow: bool) -> tuple[Label, ...]:
    if not isinstance(classes, (list, tuple)) or (len(classes) < 2 and not grow):
        raise ValueError(f"classes must be a list of two or more labels; got {classes!r}")
    _check_labels("classes", classes)
    if grow and len(classes) > MAX_CLASSES:
        raise ValueError(f"classes that grow may be {MAX_CLASSES:,} at most; got {len(classes):,}")
    return tuple(classes)


def _check_labels(what: str, labels: Any) -> None:
    if not isinstance(labels, (list, tuple)):
        raise ValueError(f"{what} must be a list; got {labels!r}")
    for label in labels:
        if type(label) not in (str, int, bool):
            raise ValueError(f"{what} must be strings, whole numbers or booleans; got {label!r}")
    keys = [label_key(label) for label in labels]
    if len(set(keys)) < len(keys):
        raise ValueError(f"{what} must differ from each other; got {next(_doubles(keys))!r} twice")


def _check_path(what: str, path: Any) -> None:
    if not isinstance(path, str) or not all(path.split(".")):
        raise ValueError(f"{what} must be a field's name, or names joined by dots; got {path!r}")


def _check_whole(what: str, number: Any) -> None:
    if type(number) is not int or number < 1:
        raise ValueError(f"{what} must be a whole number, 1 or more; got {number!r}")


def _doubles(items: Any) -> Any:
    return (item for i, item in enumerate(items) if item in items[:i])


def _plain(option: Any) -> Any:
    if isinstance(option, Mapping):
        return {name: _plain(part) for name, part in option.items()}
    return list(option) if isinstance(option, tuple) else option


def _spoken(value: Label) -> str:
    """Write a value as it is; a string that would read as a number or boolean is quoted."""
    if type(value) is not str:
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return json.dumps(value)


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names))
