"""Which feature of a dict or a frame has which columns of a row; features that are new take more columns.

A name's columns never move, except when a number that never had a value turns out to be a category.
"""

from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streaming_nn.nn.preprocessing import ColumnGrowth
from streaming_nn.records import categories, schema
from streaming_nn.records.labels import Label
from streaming_nn.records.paths import is_plain, parse_path
from streaming_nn.records.reasons import FROM_DATES, IS_A_DATE, NOT_FINITE, BadRecord
from streaming_nn.records.schema import Schema
from streaming_nn.records.values import LARGE, Rules, bounded, large_columns, to_number

Array = NDArray[Any]
Features = Mapping[str, Any]  # by name: a feature's values, one per row; a Series, an array or a list
Encoding = Mapping[str, int]
STRING_COLUMNS = 16  # one-hot columns of a string feature that no option names
STEP = 8  # columns are added by at least an eighth: each new one alone would copy the whole model
UNUSED = "unused#"  # and its number: the name of a column that no feature has yet
RULES = Rules(missing=True)  # of values: a gap is NaN, a boolean is 0 or 1
NUMERIC = "iufb"  # kinds of NumPy's types
PLAIN = frozenset((float, int, bool, np.float64, np.float32, np.int64))  # NumPy converts them as `to_number`


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of a row, and the feature of each. Immutable: methods return new ones.

    `numbers` has each number's column, `starts` the first column of each category, whose encodings and
    vocabularies are in `encoded`, the schema of the categories alone. `blank` is a row without features: NaN
    in the column of a number that is missing if it is absent, else 0. `unused` are the columns for numbers
    to come.
    """

    numbers: Mapping[str, int]
    starts: Mapping[str, int]
    encoded: Schema | None  # None: there are no categories
    blank: NDArray[np.float64]  # (inputs,)
    unused: Sequence[int] = ()

    @property
    def inputs(self) -> int:
        """Columns of a row."""
        return len(self.blank)

    def __contains__(self, name: object) -> bool:
        return name in self.numbers or name in self.starts

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The names in the order of their columns, unused ones included."""
        first = [(column, name) for each in (self.numbers, self.starts) for name, column in each.items()]
        first += [(column, f"{UNUSED}{column}") for column in self.unused]
        return tuple(name for _, name in sorted(first))

    @cached_property
    def sparse(self) -> tuple[str, ...]:
        """The numbers that are 0 if they are absent, in the order of their columns."""
        zero = {name for name, column in self.numbers.items() if self.blank[column] == 0}
        return tuple(name for name in self.features if name in zero or name.startswith(UNUSED))

    def options(self) -> dict[str, Any]:
        """Return the options of a schema that these columns decide."""
        encoded = self.encoded
        return {
            "inputs": self.inputs,
            "features": self.features,
            "sparse": self.sparse,
            "categories": {} if encoded is None else encoded.categories,
            "vocabulary": {} if encoded is None else encoded.vocabulary,
        }

    def schema(self, base: Schema) -> Schema:
        """Return the base schema with these columns; those of an array have no names of their own."""
        return replace(base, **self.options()) if isinstance(base.features, tuple) else base

    def named(self, features: Iterable[tuple[Hashable, Any]], others: Container[Any] = ()) -> dict[str, Any]:
        """Return features by the names that they have here; ValueError: two have the same one.

        A key is a feature's name; one with a dot or a quote is quoted, as in the path of a record's field,
        unless a feature is named by it as it is. `others` are keys that were read before.
        """
        found = dict[str, Any]()
        for key, values in features:
            name = name_of(key)
            if name not in self and str(key) in self:
                name = str(key)
            if name in found or (name != key and name in others):
                raise ValueError(f"features must have different names; got {name!r} twice")
            found[name] = values
        return found

    def row(self, x: Mapping[Any, Any]) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Return a dict as a row (1, inputs), and the features that are still to be filled in, by name."""
        numbers, columns, values, rest = self.numbers, list[int](), [], dict[Any, Any]()
        for key, value in x.items():
            column = numbers.get(key)
            if column is not None and type(value) in PLAIN:
                columns.append(column)
                values.append(value)
            else:
                rest[key] = value
        row = self.blank.copy()
        try:
            array = np.array(values, np.float64)
            if (np.abs(array) >= LARGE).any():  # `fill` names the feature of one that is too large
                rest = dict(x)
            else:
                row[columns] = array
        except OverflowError:  # an integer beyond float64
            rest = dict(x)
        if not rest:
            return row[None], {}
        return row[None], self.named(((key, (value,)) for key, value in rest.items()), x.keys() - rest.keys())

    def rows(
        self, features: Iterable[tuple[Hashable, Any]], rows: int
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Return rows (rows, inputs) without features, and the features that are to be filled in, by name."""
        return np.tile(self.blank, (rows, 1)), self.named(features)

    def fill(self, x: NDArray[np.float64], features: Features) -> dict[str, tuple[Label, ...]]:
        """Write features into rows (rows, inputs); return the values that vocabularies can be extended by.

        ValueError: an invalid value. A feature without columns is left out.
        """
        unseen = dict[str, tuple[Label, ...]]()
        for name, values in features.items():
            if name in self.numbers:
                x[:, self.numbers[name]] = _finite(name, numbers_of(f"feature {name!r}", values))
            elif name in self.starts and (new := self._encode(name, values, x)):
                unseen[name] = tuple(new)
        return unseen

    def _encode(self, name: str, values: Iterable[Any], x: NDArray[np.float64]) -> list[Label]:
        """Write a category's columns, and return the values that are new."""
        assert self.encoded is not None
        labels, size = list(map(to_label_type, values)), sum(self.encoded.categories[name].values())
        block = np.zeros((len(x), size))
        result = categories.encode_column(self.encoded, name, labels, block)
        if result.bad:
            value = labels[min(result.bad)]
            if value is None:
                raise _missing_error(name)
            raise ValueError(
                f"feature {name!r} must be a string, an integer or a boolean; got {shown(value)}"
            )
        x[:, self.starts[name] : self.starts[name] + size] = block
        known = self.encoded.vocabulary.get(name, ())
        room = self.encoded.categories[name].get("one_hot", 0) - len(known)
        return [*dict.fromkeys(value for _, value in result.unseen)][:room]

    def large(self, x: NDArray[np.float64]) -> list[str]:
        """Return the features whose numbers in rows may be identifiers: `values.large_columns`."""
        found = set(large_columns(x))
        return [name for name, column in self.numbers.items() if column in found] if found else []

    def refuse_missing(self, x: NDArray[np.float64], given: Iterable[str]) -> None:
        """Raise ValueError if a feature is missing; `given` are the categories that the rows have."""
        gaps: NDArray[np.bool_] = np.logical_or.reduce(np.isnan(x), axis=0)
        names = [name for name, column in self.numbers.items() if gaps[column]]
        names += sorted(self.starts.keys() - set(given))
        if names:
            raise _missing_error(names[0])

    def learn_values(self, unseen: Mapping[str, Sequence[Label]]) -> "Columns":
        """Return the columns with more values in their vocabularies."""
        assert self.encoded is not None
        return replace(self, encoded=schema.grow_schema(self.encoded, unseen))

    def add(self, numbers: Sequence[str], encodings: Mapping[str, Encoding], columns: int) -> "Columns":
        """Return the columns with more features, absent as 0; `columns` new ones are for numbers."""
        found, end = [*self.unused, *range(self.inputs, self.inputs + columns)], self.inputs + columns
        starts = dict(self.starts)
        for name, encoding in encodings.items():
            starts[name] = end
            end += sum(encoding.values())
        return Columns(
            {**self.numbers, **dict(zip(numbers, found, strict=False))},
            starts,
            _with_encodings(self.encoded, encodings, True),
            np.append(self.blank, np.zeros(end - self.inputs)),
            found[len(numbers) :] if columns else self.unused[len(numbers) :],
        )

    def drop(self, name: str) -> "Columns":
        """Return the columns without a number."""
        at = self.numbers[name]

        def moved(columns: Mapping[str, int]) -> dict[str, int]:
            return {each: old - (old > at) for each, old in columns.items() if old != at}

        return replace(
            self,
            numbers=moved(self.numbers),
            starts=moved(self.starts),
            blank=np.delete(self.blank, at),
            unused=[old - (old > at) for old in self.unused],
        )

    def growth(self, before: "Columns") -> ColumnGrowth:
        """Return how a model with the columns `before` grows to these, which were added to them."""
        new = self.inputs - before.inputs
        origin = np.append(np.arange(before.inputs), np.full(new, -1))
        return ColumnGrowth(before.inputs, origin, np.zeros(self.inputs))

    def cut(self, name: str) -> ColumnGrowth:
        """Return how a model with these columns is left without those that `drop` removes."""
        origin = np.delete(np.arange(self.inputs), self.numbers[name])
        return ColumnGrowth(self.inputs, origin, np.zeros(len(origin)))


def columns_of(
    names: Sequence[str], encodings: Mapping[str, Encoding], sparse: bool, missing: bool
) -> Columns:
    """Return the columns of the first features, in this order; one unused column if there are none.

    `sparse`: a number that is absent is 0, otherwise it is missing. `missing`: a category may be missing.
    """
    end, numbers, starts = 0, dict[str, int](), dict[str, int]()
    for name in names:
        (starts if name in encodings else numbers)[name] = end
        end += sum(encodings[name].values()) if name in encodings else 1
    blank = np.zeros(max(1, end))
    blank[list(numbers.values())] = 0 if sparse else np.nan
    encoded = _with_encodings(None, {name: encodings[name] for name in starts}, missing)
    return Columns(numbers, starts, encoded, blank, () if end else (0,))


def columns_from(described: Schema) -> Columns:
    """Return the columns that a schema describes."""
    names = described.features if isinstance(described.features, tuple) else described.columns
    columns = columns_of(names, described.categories, False, described.missing)
    if columns.encoded is not None:
        columns = columns.learn_values(described.vocabulary)
    numbers, blank = dict(columns.numbers), columns.blank.copy()
    blank[[numbers[name] for name in described.sparse]] = 0
    unused = [numbers.pop(name) for name in names if name.startswith(UNUSED)]
    return replace(columns, numbers=numbers, blank=blank, unused=unused)


def _with_encodings(
    encoded: Schema | None, encodings: Mapping[str, Encoding], missing: bool
) -> Schema | None:
    """Return the schema of categories alone, with more of them; None: there are none."""
    if not encodings:
        return encoded
    every = {**({} if encoded is None else encoded.categories), **encodings}
    return Schema(
        sum(sum(encoding.values()) for encoding in every.values()),
        features=tuple(every),
        label=None,
        missing=missing if encoded is None else encoded.missing,
        categories=every,
        vocabulary={} if encoded is None else encoded.vocabulary,
    )


def name_of(key: Hashable) -> str:
    """Return the name of a feature: its key as a string, in quotes if it has a dot or a quote."""
    text = str(key)
    if not text or text.startswith(UNUSED):
        raise ValueError(f"a feature's name must not be empty, nor begin with {UNUSED!r}; got {text!r}")
    return text if is_plain(text) else '"{}"'.format(text.replace('"', '""'))


def path_of(name: str) -> str:
    """Return the name of a feature that an option names: a path of a record's field as it is."""
    try:
        parse_path(str(name))
    except ValueError:
        return name_of(name)
    return str(name)


def infer_encoding(values: Any) -> Encoding | None:
    """Return a feature's encoding by its first value that is not missing; None for a number."""
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, pd.CategoricalDtype):
        return {"one_hot": STRING_COLUMNS}
    if dtype is not None and dtype.kind in NUMERIC:
        return None
    first = next((value for value in values if not is_missing(value)), 0.0)
    return {"one_hot": STRING_COLUMNS} if isinstance(first, str) else None


def has_value(name: str, values: Any) -> bool:
    """Return whether a number is neither missing nor 0 in one of the rows."""
    numbers = numbers_of(f"feature {name!r}", values)
    return bool(((numbers != 0) & ~np.isnan(numbers)).any())


def numbers_of(what: str, values: Any) -> NDArray[np.float64]:
    """Return numbers as float64, NaN for a missing one; ValueError for what is not a number."""
    if isinstance(values, pd.Series) and values.dtype.kind in NUMERIC:
        numbers: NDArray[np.float64] = values.to_numpy(np.float64, na_value=np.nan)
        return numbers
    return np.array([_number(what, value) for value in values], np.float64)


def _number(what: str, value: Any) -> float:
    if type(value) is float:
        return value
    try:
        return to_number(value, RULES)
    except BadRecord as error:
        if error.reason == NOT_FINITE:  # an integer that does not fit into float64
            return np.inf
        hint = f": {FROM_DATES}" if error.reason == IS_A_DATE else ""
        raise ValueError(f"{what} must be a number; got {shown(value)}{hint}") from None


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN or pandas' NA or NaT."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def to_label_type(value: Any) -> Any:
    """Return a category's value in Python's own types, None where it is missing."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if is_missing(value) else value


def shown(value: Any) -> str:
    """Return a value as an error shows it: in one line, cut."""
    return " ".join(repr(value).split())[:80]


def _finite(name: str, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    large = np.isinf(bounded(numbers))
    if large.any():
        raise ValueError(f"feature {name!r} must be finite; got {numbers[large][0]}")
    return numbers


def _missing_error(name: str) -> ValueError:
    return ValueError(f"feature {name!r} must not be missing with missing = 'refuse'; got no value")
