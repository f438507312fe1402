"""The dialect of a CSV file: detected from the file's beginning, or set by options.

The rules are few and deterministic. The delimiter is the one that splits all lines into the same number of
fields; of several, the one that leaves the most numbers, dates and booleans. The marks of numbers are those
by which the most columns are numbers. Where two are as good as each other, a ValueError names the option.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any, NamedTuple

from streaming_nn.records.recognize import LIBSVM
from streaming_nn.records.units import MULTIPLES, Unit, check_units, parse_units, split_number, units_of
from streaming_nn.records.values import BOOLEANS, number_pattern

SAMPLE = 1 << 20  # bytes from which a dialect is detected
TRIED = 1000  # rows by which delimiters are compared: all rows of the sample type the columns
FEW = 0.01  # share of other values in a column of numbers
CUT = 100  # lines that a row may have that is cut at the end of the sample
MOSTLY = 0.9  # share of rows of one width: a few bad lines must not hide the delimiter

DELIMITERS = (",", ";", "\t", "|", " ")
QUOTES = (('"', ""), ('"', "\\"), ("", ""), ("'", ""))  # and what escapes a quote; "": doubled
COMMENTS = ("", "#", "%")
MARKS = (  # decimal and thousands, the likeliest first
    *((".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'")),
    *((".", "\u00a0"), (",", "\u00a0"), (",", "\u202f")),
)
# Words for a gap among numbers, those of pandas.read_csv and of statistical packages; "?" is the UCI's
GAPS = frozenset(
    (
        *("", "?", "NA", "N/A", "n/a", "na", "NaN", "nan", "NAN", "-NaN", "-nan", "#N/A", "#NA", "<NA>"),
        *("NULL", "Null", "null", "None", "none", "nil", "#NULL!", "-", "--", ".", "..", "*"),
    )
)
SIGNS = ("%", "$", "€", "£", "¥", "₹", "+")  # that are detected, of columns in which each number has it
UNITS = (*SIGNS, *(f"{name}={worth}" for name, worth in MULTIPLES.items()))  # that are detected
NUMBER, BOOLEAN, DATE, STRING, EMPTY = KINDS = ("number", "boolean", "date", "string", "empty")

_DIGITS = str.maketrans("23456789", "11111111")  # the shape of a number: 1,234 and 5,678 have the same
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
_TIME = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?(Z| ?[+-]\d{2}:?\d{2}| (UTC|GMT))?"
_DATE = re.compile(
    rf"(\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/.]\d{{1,2}}[-/.](\d{{4}}|\d\d))([T ]{_TIME})?"
    rf"|{_TIME}|\d\d\.\d\d\.\d\d",
    re.ASCII,
)
_UNIT = f"[{''.join(SIGNS)}]"
_VALUE = re.compile(  # a number by any marks, with a unit or without, or in brackets
    rf"[+-]?({_UNIT} ?)?[+(-]?(\d+([.,]\d+)*|[.,]\d+)\.?([eE][+-]?\d+)?( ?{_UNIT})?\)?", re.ASCII
)
_SEPARATOR = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # Excel's first line
_PADDED = re.compile(r"  |^ +\S| $", re.MULTILINE)  # a run of blanks, or one at a line's end
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_OTHERS = {  # first bytes of other files than CSV
    b"PAR1": "Parquet",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet: unpack it, or save it as CSV",
    b"\x89HDF": "HDF5",
    b"ARROW1": "Arrow",
    b"Obj\x01": "Avro",
    b"{": "JSON lines",
    b"[{": "a JSON array",
    b"\x1f\x8b": "compressed by gzip: its name must end in .gz",
    b"\xfd7zXZ": "compressed by xz",
}


class RowError(ValueError):
    """A row cannot be taken apart."""


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written."""

    delimiter: str = ","
    quote: str = '"'  # "": fields are not quoted
    escape: str = ""  # before a quote inside quotes; "": it is doubled
    comment: str = ""  # lines that begin with it are skipped; "": none
    encoding: str = "utf-8"
    header: bool = True  # the first line has the names of the columns
    decimal: str = "."
    thousands: str = ""
    units: tuple[str, ...] = ()  # what may be before or after a number, as "%" and "k=1000"
    na_values: tuple[str, ...] = ()  # words for a gap besides the empty field; a number means all its forms

    def __str__(self) -> str:
        parts = [f"delimiter {self.delimiter!r}", f"encoding {self.encoding}"]
        parts += ["header" if self.header else "no header"]
        parts += [f"quote {self.quote!r}"] if self.quote != '"' else []
        parts += [f"escape {self.escape!r}"] if self.escape else []
        parts += [f"comments {self.comment!r}"] if self.comment else []
        parts += [f"decimal {self.decimal!r}"] if self.decimal != "." else []
        parts += [f"thousands {self.thousands!r}"] if self.thousands else []
        parts += [f"units {', '.join(map(repr, self.units))}"] if self.units else []
        parts += [f"missing values {', '.join(map(repr, self.na_values))}"] if self.na_values else []
        return ", ".join(parts)

    def is_missing(self, field: str) -> bool:
        """Return whether a field is a gap."""
        if field in self.words or not field.strip():
            return True
        return bool(self.na_numbers) and self._number(field) in self.na_numbers

    def parse_number(self, field: str) -> int | float | None:
        """Return the number that a field is written as; None for any other field, also for a gap."""
        return None if self.is_missing(field) else self._number(field)

    def value(self, field: str, kind: str) -> Any:
        """Return a field of a column of that kind: a number, a boolean, None for a gap, else the string."""
        if self.is_missing(field):
            return None
        if kind == NUMBER:
            number = self._number(field)
            return field if number is None else number
        return BOOLEANS.get(field.strip(), field) if kind == BOOLEAN else field

    def kind(self, fields: Iterable[str]) -> str:
        """Return the kind of a column by its fields."""
        present = Counter[str]()
        for field, n in Counter(fields).items():
            if not self.is_missing(field):
                present[field.strip()] += n
        if not present:
            return EMPTY
        if self.numeric(present):
            return NUMBER
        if all(field in BOOLEANS for field in present):
            return BOOLEAN
        return DATE if all(map(_DATE.fullmatch, present)) else STRING

    @cached_property
    def na_numbers(self) -> frozenset[float]:
        """The words for a gap that are numbers."""
        return frozenset(n for n in map(self._number, self.na_values) if n is not None)

    @cached_property
    def words(self) -> frozenset[str]:
        """The fields that are a gap as they are written."""
        return frozenset(("", *self.na_values))

    def numeric(self, fields: Counter[str]) -> bool:
        """Return whether fields, counted, are numbers, but for a few bad ones."""
        others = sum(n for field, n in fields.items() if self._number(field) is None)
        return others <= FEW * fields.total() and others < fields.total()

    def _number(self, field: str) -> int | float | None:
        text, worth, pattern = field.strip(), 1.0, number_pattern(self.decimal, self.thousands)
        if _INTEGER.fullmatch(text):
            return int(text) if len(text) < 4000 else float("inf")  # Python refuses longer ones
        if not pattern.fullmatch(text):
            text, worth = split_number(text, self._units)
        if pattern.fullmatch(text):
            plain = text.replace(self.thousands, "").replace(self.decimal, ".")
            return int(plain) if _INTEGER.fullmatch(plain) and worth == 1 else float(plain) * worth
        return float(text) if _INFINITE.fullmatch(text) else None

    @cached_property
    def _units(self) -> tuple[Unit, ...]:
        return parse_units(self.units)


class Sample(NamedTuple):
    """The beginning of a file, in its dialect."""

    dialect: Dialect
    names: list[str]  # of the columns
    rows: list[list[str]]  # those of one field for each name
    trailing: int = 0  # empty fields after these, of delimiters at the ends of lines
    padded: bool = (
        False  # of blanks as delimiters: some are doubled, or at the beginning or the end of a line
    )

    def column(self, index: int) -> list[str]:
        """Return the fields of a column."""
        return [row[index] for row in self.rows]


def detect(data: bytes, whole: bool = True, given: Mapping[str, Any] | None = None) -> Sample:
    """Detect the dialect of a file from its first bytes; `whole` if these are all of it.

    `given` has fields of the dialect that are not to be detected. Raise ValueError in one line that names the
    option to set: nothing splits the lines, or two dialects fit as well as each other.
    """
    given = dict(given or {})
    encoding = given.setdefault("encoding", _encoding(data))
    text = _decode(data, encoding, whole)
    given = _check_given(given)
    dialect, rows = _split(text, whole, given)
    width = _width(rows)
    first, below = rows[0], [_cut(row, width) for row in rows[1:]]
    below = [row for row in below if len(row) == width]
    columns = list(zip(*below, strict=True)) or [()] * width
    dialect = _with_units(_with_marks(dialect, columns, given), columns, given)
    if "header" not in given:
        dialect = replace(dialect, header=_has_header(first, columns, dialect))
        if not dialect.header:
            _check_joined(first, below, dialect)
    if not dialect.header:
        below.insert(0, _cut(first, width))
    names = _names(first, width, below, dialect)
    rows = [row[: len(names)] for row in below if len(row) == width]
    padded = dialect.delimiter == " " and _PADDED.search(text) is not None
    return Sample(_with_gaps(dialect, rows, given), names, rows, width - len(names), padded)


def summary(kinds: Iterable[str]) -> str:
    """Return how many columns are of each kind, in the order of their first: "3 number, 1 string"."""
    return ", ".join(f"{n} {kind}" for kind, n in Counter(kinds).items())


def read_rows(lines: Iterable[str], dialect: Dialect) -> Iterator[list[str]]:
    """Yield the fields of each row, also of the header; blank rows and comments are skipped.

    Raise RowError for a line with a quote that does not fit.
    """
    try:
        yield from filter(any, _reader(lines, dialect))
    except csv.Error as error:
        raise RowError(f"a quote does not fit, {error}: set quote") from None


def _reader(lines: Iterable[str], dialect: Dialect) -> Any:
    options: dict[str, Any] = {"quoting": csv.QUOTE_NONE}
    if dialect.quote:
        options = {"quotechar": dialect.quote, "doublequote": not dialect.escape}
        options["escapechar"] = dialect.escape or None
    blank = dialect.delimiter == " "
    plain = _plain_lines(lines, dialect.comment, blank)
    return csv.reader(plain, delimiter=dialect.delimiter, skipinitialspace=not blank, strict=True, **options)


def fit(row: list[str], width: int) -> list[str]:
    """Return a row of that many fields, without empty ones after them; RowError for another number."""
    row = _cut(row, width)
    if len(row) != width:
        raise RowError(f"it has {len(row)} fields, and the file {width} columns")
    return row


def _plain_lines(lines: Iterable[str], comment: str, blank: bool) -> Iterator[str]:
    """Yield the lines that have fields; with `blank`, a run of blanks is one delimiter."""
    lines = iter(lines)
    first = next(lines, "").removeprefix("\ufeff")
    for line in lines if _SEPARATOR.fullmatch(first) else chain([first], lines):
        if not (comment and line.startswith(comment)):
            yield " ".join(line.split()) if blank else line


def _check_given(given: dict[str, Any]) -> dict[str, Any]:
    for name in ("delimiter", "decimal"):
        if name in given and (len(given[name]) != 1 or given[name] in "\r\n"):
            raise ValueError(f"{name} must be one character; got {given[name]!r}")
    for name in ("quote", "thousands"):
        if len(given.get(name, "")) > 1:
            raise ValueError(f"{name} must be one character, or empty for none; got {given[name]!r}")
    return given | ({"units": check_units(given["units"])} if "units" in given else {})


def _encoding(data: bytes) -> str:
    """Return the encoding of a file by its first bytes; Windows' if Latin-1 lacks a character."""
    for bom, encoding in _BOMS.items():
        if data.startswith(bom):
            return encoding
    for magic, name in _OTHERS.items():
        if data.lstrip().startswith(magic):
            raise ValueError(f"it is not CSV but {name}")
    begin = data[: 1 << 12]
    if LIBSVM.fullmatch(begin.strip().partition(b"\n")[0].rstrip()):
        raise ValueError("it is not CSV but LIBSVM's format, which --source libsvm of train reads")
    if b"\0" in begin:
        odd = begin[1::2].count(0) > begin[::2].count(0)
        if begin.count(0) < len(begin) / 4:
            raise ValueError("it is binary: it has zero bytes")
        return "utf-16-le" if odd else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return "cp1252" if re.search(rb"[\x80-\x9f]", data) else "latin-1"
    return "utf-8"


def _decode(data: bytes, encoding: str, whole: bool) -> str:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(data, whole)
    except LookupError:
        raise ValueError(f"encoding must be one that Python knows; got {encoding!r}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"encoding must be the file's; got {encoding!r}: {error.reason}") from None


class _Lines(NamedTuple):
    """The lines of a sample."""

    lines: list[str]
    whole: bool  # False: a row may be cut at the end

    def rows(self, dialect: Dialect, limit: int | None = None) -> list[list[str]]:
        """Return the first rows; none if a quote does not fit the dialect."""
        rows, reader, after = list[list[str]](), _reader(self.lines, dialect), 0
        try:
            for row in islice(filter(any, reader), limit):
                rows.append(row)
                after = reader.line_num
        except csv.Error:
            if self.whole or len(self.lines) - after > CUT:
                return []
        return rows


def _split(text: str, whole: bool, given: dict[str, Any]) -> tuple[Dialect, list[list[str]]]:
    """Return the delimiter, quote and comments that fit, and the rows."""
    lines = list(io.StringIO(text, newline=""))
    if lines and (stated := _SEPARATOR.fullmatch(lines[0].removeprefix("\ufeff"))):
        given.setdefault("delimiter", stated[1])
    sample = _Lines(lines if whole or len(lines) < 2 else lines[:-1], whole)
    base = Dialect(**given)
    quotes = [
        (quote, escape)
        for quote, escape in _quotes(given)
        if not escape or "escape" in given or escape + quote in text
    ]
    comments = (given["comment"],) if "comment" in given else COMMENTS
    forms = [replace(base, quote=q, escape=e, comment=comment) for comment in comments for q, e in quotes]
    for least in (1.0, MOSTLY):
        blank = None  # the last resort
        for form in forms:
            best = _best_delimiter(sample, form, least, given)
            if best is not None and best.delimiter != " ":
                return _unquoted(best, sample, given)
            blank = blank or best
        if blank is not None:
            return _unquoted(blank, sample, given)
    return _single_column(base, sample, given)


def _quotes(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the quotes to try, each with what escapes it, in order."""
    pairs = [(given.get("quote", quote), given.get("escape", escape)) for quote, escape in QUOTES]
    return [*dict.fromkeys(pairs)]


def _single_column(
    dialect: Dialect, sample: _Lines, given: dict[str, Any]
) -> tuple[Dialect, list[list[str]]]:
    """Return the rows of a file of one column; ValueError if a delimiter occurs."""
    rows = sample.rows(dialect)
    if not rows:
        raise ValueError("it has no lines" if not any(map(str.strip, sample.lines)) else "quotes do not fit")
    delimiters = [dialect.delimiter, *(d for d in DELIMITERS if d != " " and "delimiter" not in given)]
    closest = max((sample.rows(replace(dialect, delimiter=d)) for d in delimiters), key=_most)
    if max(map(len, closest)) == 1:
        return dialect, rows
    width = _width(closest)
    other = next(i for i, row in enumerate(closest) if len(row) != width)
    if (above := _rows_above(closest, width)) and "delimiter" not in given:
        raise ValueError(
            f"cannot detect the delimiter: the columns' names seem to be in row {above + 1}; remove what is "
            "above"
        )
    raise ValueError(
        f"cannot detect the delimiter: at best, most rows have {width} fields and row {other + 1} has "
        f"{len(closest[other])}; set delimiter and quote"
    )


def _rows_above(rows: list[list[str]], width: int) -> int:
    """Return how many rows are before the first of this width, if that and all below have it; else 0."""
    above = next((i for i, row in enumerate(rows) if len(row) == width), 0)
    return above if 2 * above < len(rows) and all(len(row) == width for row in rows[above:]) else 0


def _most(rows: list[list[str]]) -> tuple[int, int]:
    width = _width(rows) if rows else 0
    return sum(len(row) == width for row in rows) if width > 1 else 0, max(map(len, rows), default=0)


def _unquoted(dialect: Dialect, sample: _Lines, given: dict[str, Any]) -> tuple[Dialect, list[list[str]]]:
    """Return the dialect and its rows; with the quote ' if all of a column's fields have it."""
    rows = sample.rows(dialect)
    if "quote" in given or dialect.quote == "'":
        return dialect, rows
    fields = zip(*(row for row in rows[1:] if len(row) == len(rows[-1])), strict=True)
    if any(all(len(f) > 1 and f[0] == f[-1] == "'" for f in column) for column in fields):
        single = replace(dialect, quote="'")
        return single, sample.rows(single) or rows
    return dialect, rows


def _best_delimiter(sample: _Lines, form: Dialect, least: float, given: dict[str, Any]) -> Dialect | None:
    """Return the form with the delimiter that fits best; None if none gives `least` of the rows one width.

    A blank must fit better than any other, as most strings have some.
    """
    scores: list[tuple[float, Dialect]] = []
    for delimiter in [given["delimiter"]] if "delimiter" in given else DELIMITERS:
        tried = replace(form, delimiter=delimiter)
        rows = sample.rows(tried, TRIED)
        if rows and (width := _width(rows)) > 1 and _consistency(rows) >= least:
            scores.append((_typed_share(rows, width), tried))
    best = max((score for score, _ in scores), default=0.0)
    alike = [dialect for score, dialect in scores if score == best]
    alike = [dialect for dialect in alike if dialect.delimiter != " "] or alike
    if len(alike) > 1:
        found = " and ".join(repr(dialect.delimiter) for dialect in alike)
        raise ValueError(f"cannot detect the delimiter: {found} fit alike; set delimiter")
    return alike[0] if alike else None


def _width(rows: list[list[str]]) -> int:
    """Return the number of fields that most rows have; the first may be a header."""
    return Counter(map(len, rows[1:] or rows)).most_common(1)[0][0]


def _consistency(rows: list[list[str]]) -> float:
    """Return the share of rows of the same width; the first may lack the name of one column."""
    width, first = _width(rows), len(rows[0])
    trailing = first == width - 1 and not any(row[-1] for row in rows[1:])
    if first != width and not trailing and not (first == width - 1 and first > 1):
        return 0.0
    return (1 + sum(len(row) == width for row in rows[1:])) / len(rows)


def _typed_share(rows: list[list[str]], width: int) -> float:
    fields = [field.strip() for row in rows[1:] or rows if len(row) == width for field in row]
    return sum(map(_is_typed, fields)) / len(fields)


def _is_typed(field: str) -> bool:
    return bool(field in GAPS or field in BOOLEANS or _VALUE.fullmatch(field) or _DATE.fullmatch(field))


def _cut(row: list[str], width: int) -> list[str]:
    """Return the row without empty fields after its columns: of a trailing delimiter."""
    return row if any(row[width:]) else row[:width]


def _with_marks(dialect: Dialect, columns: Sequence[Sequence[str]], given: dict[str, Any]) -> Dialect:
    """Return the dialect with the marks by which the most columns are numbers."""
    pairs = [(given.get("decimal", decimal), given.get("thousands", marks)) for decimal, marks in MARKS]
    form = replace(dialect, units=given.get("units", UNITS))
    tried = [replace(form, decimal=d, thousands=t) for d, t in dict.fromkeys(pairs) if d != t]
    if not tried:
        raise ValueError(f"decimal and thousands must differ; got {given['decimal']!r} for both")
    gaps = GAPS.union(given.get("na_values", ()))
    shapes = [
        Counter(field.strip().translate(_DIGITS) for field in column if field not in gaps)
        for column in columns
    ]
    counts = [sum(map(form.numeric, shapes)) for form in tried]
    alike = [form for form, n in zip(tried, counts, strict=True) if n == max(counts)]
    grouped = [form for form in alike if (form.decimal, form.thousands) == (".", ",")]
    if not grouped or (alike[0].decimal, alike[0].thousands) != (",", ""):
        return alike[0]
    if dialect.delimiter == ",":  # a comma that separates fields is not the decimal mark too
        return grouped[0]
    raise ValueError("cannot detect whether 1,234 has a decimal comma: set decimal=',' or thousands=','")


def _with_units(dialect: Dialect, columns: Sequence[Sequence[str]], given: dict[str, Any]) -> Dialect:
    """Return the dialect with the units of columns of numbers, as far as it is known what they are worth."""
    if "units" in given:
        return dialect
    gaps, plain = GAPS.union(given.get("na_values", ())), replace(dialect, units=())
    found, mixed = set[str](), set[str]()
    for column in columns:
        fields = Counter(field.strip() for field in column if field.strip() not in gaps)
        if dialect.numeric(fields) and not plain.numeric(fields):
            numbers = [field for field in fields if dialect.parse_number(field) is not None]
            units = units_of(numbers)
            if units is None:
                mixed.update(unit for number in numbers for unit in units_of([number]) or ())
            found.update(units or ())
    return replace(dialect, units=tuple(unit for unit in UNITS if unit in found - mixed))


def _has_header(first: list[str], columns: Sequence[Sequence[str]], dialect: Dialect) -> bool:
    """Return whether the first line has names: words above numbers, or strings that do not occur below."""
    if not columns[0] or first == [str(i) for i in range(len(first))]:  # columns without names
        return True
    form = replace(dialect, na_values=tuple(GAPS))
    kinds = [form.kind(column[:TRIED]) for column in columns]
    above = [
        form.kind([name]) == kind
        for name, kind in zip(first, kinds, strict=False)
        if kind in (NUMBER, BOOLEAN, DATE) and name.strip() not in GAPS
    ]
    if above:
        return not all(above)
    names = [name for name in first if name.strip()]
    below = any(name in column for name, column in zip(first, columns, strict=False) if name)
    return len(set(names)) == len(names) and not below


def _check_joined(first: list[str], below: Sequence[list[str]], dialect: Dialect) -> None:
    """Raise ValueError if a row repeats the first one, and without it the first one is a header."""
    first = [field.removeprefix("\ufeff") for field in first]
    plain = [[row[0].removeprefix("\ufeff"), *row[1:]] for row in below]
    others = [row for row in plain if row != first]
    columns = list(zip(*others, strict=True))
    typed = len(others) < len(plain) and any(dialect.kind(c) in (NUMBER, BOOLEAN, DATE) for c in columns)
    if typed and _has_header(first, columns, dialect):
        row = plain.index(first) + 2
        raise ValueError(f"row {row} has the columns' names again, as files that were joined do: remove it")


def _names(first: list[str], width: int, rows: list[list[str]], dialect: Dialect) -> list[str]:
    """Return the columns' names; one without a name is named by its position, as Spark names it.

    A last column without a name or a value is none: it is there because lines end with a delimiter.
    """
    names = [name.strip() for name in first] if dialect.header else [""] * width
    if len(names) == width - 1 and any(row[-1] for row in rows):
        names = ["", *names]  # R's names of rows
    names = (names + [""] * width)[:width]
    if dialect.header:
        names[0] = names[0].lstrip("#% ")  # NumPy's header is a comment
    while len(names) > 1 and not names[-1] and not any(row[len(names) - 1] for row in rows):
        names.pop()
    return [name or f"_c{i}" for i, name in enumerate(names)]


def _with_gaps(dialect: Dialect, rows: list[list[str]], given: dict[str, Any]) -> Dialect:
    """Return the dialect with the words for a gap: of the columns of numbers, and `?` of any column."""
    if "na_values" in given:
        return dialect
    form, found = replace(dialect, na_values=tuple(GAPS)), set[str]()
    for column in zip(*rows, strict=True):
        words = GAPS.intersection(map(str.strip, set(column)))
        if words - {"", "?"} and form.kind(column) != NUMBER:
            words &= {"?"}
        found |= words
    return replace(dialect, na_values=tuple(sorted(found - {""})))
