"""What a record looks like: where its features and its label stand, and which values are allowed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

Label = str | int | bool

FORMATS = ("json", "packed")
MAX_BYTES = 1 << 20  # Kafka's own default limit of a message


@dataclass(frozen=True)
class Schema:
    """How the bytes of a record become a row; options, checked once.

    `features` is the name of an array field, or a tuple of the names of number fields; `a.b.c` is field c of
    object b of object a. `classes` are the labels in the order of the network's outputs, None for regression.
    `label` is None where records have none, as in a topic to be scored. Raises ValueError in one line.
    """

    inputs: int
    classes: tuple[Label, ...] | None = None
    features: str | tuple[str, ...] = "features"
    label: str | None = "label"
    format: str = "json"
    max_bytes: int = MAX_BYTES  # a record that is larger is rejected
    numbers_as_strings: bool = False  # True: "1.5" is a number

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", _names(self.features))
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {_listed(FORMATS)}; got {self.format!r}")
        _check_whole("inputs", self.inputs)
        _check_whole("max_bytes", self.max_bytes)
        if isinstance(self.features, tuple) and len(self.features) != self.inputs:
            raise ValueError(f"features names {len(self.features)} fields, but inputs is {self.inputs}")
        if self.label is not None:
            _check_path("label", self.label)
        if type(self.numbers_as_strings) is not bool:
            raise ValueError(f"numbers_as_strings must be true or false; got {self.numbers_as_strings!r}")
        if self.classes is not None:
            object.__setattr__(self, "classes", _labels(self.classes))

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


def label_key(label: object) -> object:
    """Return what a label is looked up by: 3 and 3.0 are the same, 1, true and "1" are three."""
    return ("bool", label) if type(label) is bool else label


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


def _labels(classes: Any) -> tuple[Label, ...]:
    if not isinstance(classes, (list, tuple)) or len(classes) < 2:
        raise ValueError(f"classes must be a list of two or more labels; got {classes!r}")
    for label in classes:
        if type(label) not in (str, int, bool):
            raise ValueError(f"classes must be strings, whole numbers or booleans; got {label!r}")
    keys = [label_key(label) for label in classes]
    if len(set(keys)) < len(keys):
        raise ValueError(f"classes must differ from each other; got {next(_doubles(keys))!r} twice")
    return tuple(classes)


def _check_path(what: str, path: Any) -> None:
    if not isinstance(path, str) or not all(path.split(".")):
        raise ValueError(f"{what} must be a field's name, or names joined by dots; got {path!r}")


def _check_whole(what: str, number: Any) -> None:
    if type(number) is not int or number < 1:
        raise ValueError(f"{what} must be a whole number, 1 or more; got {number!r}")


def _doubles(items: Any) -> Any:
    return (item for i, item in enumerate(items) if item in items[:i])


def _plain(option: Any) -> Any:
    return list(option) if isinstance(option, tuple) else option


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names))
