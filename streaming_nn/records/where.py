"""`where`: a filter on the fields of a record, in a small part of SQL.

    payload.op in ('c', 'r', 'u') and not (amount is null or amount >= 1e6)

A field is a path, as in `features`. A value is a string in single quotes (doubled inside it), a number, true
or false. A comparison with a field that is null or absent is unknown, as in SQL, and so is `not` of it: only
records for which the filter is true are kept. A field of another type than the value is neither equal to it
nor less nor greater; a boolean is not a number here.
"""

import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from streaming_nn.records.paths import get_field, parse_path

Test = Callable[[Mapping[str, Any]], bool | None]  # None: unknown

MAX_DEPTH = 50  # of parentheses and `not`: Python's stack ends at a few hundred
_TOKEN = re.compile(
    r"""(?P<string>'(?:[^']|'')*')
      | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![^\s'=<>!(),])
      | (?P<sign><=|>=|!=|[=<>(),])
      | (?P<word>(?:"[^"]*"|[^\s'"=<>!(),])+)""",
    re.VERBOSE | re.ASCII,
)
_BLANKS = re.compile(r"\s*")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_BOOLEANS = {"true": True, "false": False}
_KEYWORDS = frozenset(("and", "or", "not", "in", "is", "null", *_BOOLEANS))


class Where(NamedTuple):
    """A filter that was read."""

    keeps: Test  # of a record
    fields: tuple[str, ...]  # their paths, as written


class _Token(NamedTuple):
    kind: str  # string, number, sign, word, keyword; "": the end
    text: str  # a keyword is in lower case
    start: int


@lru_cache(64)
def parse(text: str) -> Where:
    """Read a filter. Raise ValueError, "must have … at character …", to follow the setting's name."""
    parser = _Parser(text)
    test = parser.disjunction(0)
    if parser.token.kind:
        raise parser.error("'and', 'or' or its end")
    return Where(test, tuple(dict.fromkeys(parser.fields)))


class _Parser:
    """Reads from left to right: each method reads its part of the grammar, and returns its test."""

    def __init__(self, text: str) -> None:
        self.text, self.end = text, 0
        self.fields: list[str] = []
        self.token = self._next()

    def _next(self) -> _Token:
        start = self._skip_blanks()
        if start == len(self.text):
            return _Token("", "", start)
        found = _TOKEN.match(self.text, start)
        if found is None:
            raise self.error("a closed quote" if self.text[start] in "'\"" else "a field or a value", start)
        self.end, kind, text = found.end(), str(found.lastgroup), found.group()
        if kind == "word" and text.lower() in _KEYWORDS:
            return _Token("keyword", text.lower(), start)
        return _Token(kind, text, start)

    def _skip_blanks(self) -> int:
        blanks = _BLANKS.match(self.text, self.end)
        assert blanks is not None  # it matches none, too
        return blanks.end()

    def error(self, expected: str, start: int | None = None) -> ValueError:
        start = self.token.start if start is None else start
        after = f", after {self.text[:start].rstrip()[-40:]!r}" if start else ""
        return ValueError(f"must have {expected} at character {start + 1}{after}")

    def take(self, *texts: str) -> str:
        """Return the token's text and take the next if it is a sign or keyword among these; "" otherwise."""
        text = self.token.text
        if self.token.kind not in ("sign", "keyword") or text not in texts:
            return ""
        self.token = self._next()
        return text

    def require(self, text: str) -> None:
        if not self.take(text):
            raise self.error(repr(text))

    def disjunction(self, depth: int) -> Test:
        tests = [self.conjunction(depth)]
        while self.take("or"):
            tests.append(self.conjunction(depth))
        return tests[0] if len(tests) == 1 else _any(tests)

    def conjunction(self, depth: int) -> Test:
        tests = [self.condition(depth)]
        while self.take("and"):
            tests.append(self.condition(depth))
        return tests[0] if len(tests) == 1 else _all(tests)

    def condition(self, depth: int) -> Test:
        if depth > MAX_DEPTH:
            raise self.error(f"at most {MAX_DEPTH} parentheses inside each other")
        if self.take("not"):
            return _not(self.condition(depth + 1))
        if self.take("("):
            test = self.disjunction(depth + 1)
            self.require(")")
            return test
        return self.predicate()

    def predicate(self) -> Test:
        get = self.field()
        if self.take("is"):
            negated = bool(self.take("not"))
            self.require("null")
            return lambda record: (get(record) is None) != negated
        if self.take("not"):
            self.require("in")
            return _not(_in(get, self.values()))
        if self.take("in"):
            return _in(get, self.values())
        sign = self.take(*_COMPARISONS)
        if not sign:
            raise self.error("=, !=, <, <=, >, >=, 'in', 'not in' or 'is'")
        return _comparison(get, sign, self.value())

    def field(self) -> Callable[[Mapping[str, Any]], Any]:
        if self.token.kind != "word":
            raise self.error("a field")
        path = self.token.text
        try:
            names = parse_path(path)
        except ValueError:
            raise self.error("a field's path") from None
        self.fields.append(path)
        self.token = self._next()
        return lambda record: get_field(record, names, None)

    def values(self) -> list[Any]:
        self.require("(")
        values = [self.value()]
        while self.take(","):
            values.append(self.value())
        self.require(")")
        return values

    def value(self) -> Any:
        kind, text, _ = self.token
        if kind == "string":
            value: Any = text[1:-1].replace("''", "'")
        elif kind == "number":
            value = float(text) if set(text) & set(".eE") else int(text)
        elif kind == "keyword" and text in _BOOLEANS:
            value = _BOOLEANS[text]
        else:
            raise self.error("a value ('string' in single quotes, number, true or false)")
        self.token = self._next()
        return value


def _any(tests: list[Test]) -> Test:
    def test(record: Mapping[str, Any]) -> bool | None:
        found: bool | None = False
        for each in tests:
            truth = each(record)
            if truth:
                return True
            found = None if truth is None else found
        return found

    return test


def _all(tests: list[Test]) -> Test:
    return _not(_any([_not(test) for test in tests]))


def _not(test: Test) -> Test:
    def negated(record: Mapping[str, Any]) -> bool | None:
        truth = test(record)
        return None if truth is None else not truth

    return negated


def _comparison(get: Callable[[Mapping[str, Any]], Any], sign: str, literal: Any) -> Test:
    compare, kind, if_other = _COMPARISONS[sign], _kind(literal), sign == "!="

    def test(record: Mapping[str, Any]) -> bool | None:
        value = get(record)
        if value is None:
            return None
        return compare(value, literal) if _kind(value) == kind else if_other

    return test


def _in(get: Callable[[Mapping[str, Any]], Any], literals: list[Any]) -> Test:
    known = {(_kind(literal), literal) for literal in literals}

    def test(record: Mapping[str, Any]) -> bool | None:
        value = get(record)
        if value is None:
            return None
        kind = _kind(value)
        return kind != "" and (kind, value) in known

    return test


def _kind(value: Any) -> str:
    """Return the type of a value that a literal can have; "": another one."""
    if type(value) is bool:
        return "boolean"
    return (
        "string" if isinstance(value, str) else "number" if isinstance(value, int | float | Decimal) else ""
    )
