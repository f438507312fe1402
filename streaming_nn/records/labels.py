"""Labels and categories: strings, integers and booleans, and when two of them are the same."""

import ast
from collections.abc import Sequence
from typing import Any, TypeAlias

Label: TypeAlias = str | int | bool

KINDS = {str: "a string", int: "an integer", float: "a number with a fraction", bool: "a boolean"}
MAX_LENGTH = 128  # characters of a value that may become a class or join a vocabulary: every version has them


def integral_to_int(value: Any) -> Any:
    """Return a float without a fraction as an integer, since 1.0 means 1; anything else as it is."""
    return int(value) if type(value) is float and value.is_integer() else value


def label_key(label: object) -> object:
    """Return the key to look up a label by: 3 and 3.0 are the same; 1, true and "1" are three labels."""
    return ("bool", label) if type(label) is bool else label


def is_valid_label(value: object) -> bool:
    """Return whether a value may become a class or join a vocabulary: it is short, and JSON can hold it."""
    if type(value) is str:
        return len(value) <= MAX_LENGTH
    return type(value) is bool or (type(value) is int and -(1 << 63) <= value < 1 << 63)


def label_to_csv(label: Label) -> str:
    """Return a label as CSV has it: true and false in lower case."""
    return str(label).lower() if type(label) is bool else str(label)


def parse_shown(text: str) -> Any:
    """Return the value that `reasons.show` shows so; the text if it was cut."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def suggest_setting(shown: str, classes: Sequence[Label]) -> str:
    """Return which setting reads a label that is in no class; `shown` is its repr, which may be cut."""
    label = parse_shown(shown)
    kind = type(label)
    if kind not in (str, bool) or any(type(each) is kind for each in classes):
        return 'with records.classes = "grow" new labels become classes'
    alike = next((each for each in classes if kind is str and label_to_csv(each) == label.strip()), None)
    other = f"the label {shown} is {KINDS[kind]}, and no class is one"
    if alike is not None:
        return f"{other}: with records.numbers_as_strings = true it is read as the class {alike!r}"
    return f"{other}: name such labels in records.classes"


def check_labels(name: str, labels: Any) -> None:
    """Raise ValueError unless `labels` are a list of labels that differ from each other."""
    if not isinstance(labels, (list, tuple)):
        raise ValueError(f"{name} must be a list; got {labels!r}")
    for label in labels:
        if type(label) not in (str, int, bool):
            raise ValueError(f"{name} must be strings, integers or booleans; got {label!r}")
    check_distinct(name, [label_key(label) for label in labels])


def check_distinct(name: str, items: Sequence[Any]) -> None:
    """Raise ValueError if one of `items` occurs twice."""
    if len(set(items)) < len(items):
        first = next(item for i, item in enumerate(items) if item in items[:i])
        raise ValueError(f"{name} must differ from each other; got {first!r} twice")
