"""Documents, docstrings, comments, messages and names use the words of docs/glossary.md."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from paths import ROOT

pytestmark = pytest.mark.commit

# In prose (documents, docstrings, comments, string literals): what not to write, and what to write instead
PROSE = {
    r"answer(s|ed|ing|able)?": "predict, prediction; of a server: respond, response",
    r"portfolios?": "ensemble",
    r"(says?|said|saying)": "log, print, report, state, mean",
    r"(tells?|told|telling)": "report, print, identify, distinguish",
    r"ask(s|ed|ing)?": "request, require, set, fetch",
    r"anew|afresh": "from scratch, again",
    r"(goes|going|go|went|gone) on": "resume, continue",
    r"in spite of": "despite",
    r"mend(s|ed|ing)?|cure[ds]?": "fix, repair",
    r"(the|identify|such|no|of) doubles|doubled (records?|rows?|predictions?)": "duplicates",
    r"made again": "recreated, created again",
    r"gone": "expired (retention), deleted, missing",
    r"whole numbers?": "integer",
    r"texts|(a|as|is|be) text": "string",
    r"of (ours|theirs)": "our, internal, another",
    r"somebody": "a user, another process",
    r"awake|columns? at rest": "active or inactive columns",
    r"(?<!here )(is|are|was|were) no (?!longer\b|more\b|less\b|better\b|such\b)\w+": "is not a",
    r"into nothing|by and large|to be had|in vain|mood|as ever": "plain words",
    r"(die[ds]?|dying)": "end, is killed, crash",
    r"a look at": "infer from, check",
    r"what-ifs?": "backtest",
    r"(the|each|all|these|of|several|two|both) tries": "trials",
    r"replay --(verify|into|file|try)|--try": "verify, backtest --trial",
    r"thin(s|ned|ning)?": "prune",
    r"followers?": "sink (of metrics), SGD member",
    r"(its|their|whose|scorer's|trainer's|record's|label's) places?": "position, index, offsets, directory",
    r"where (there (is|are|was|were)|none)": "if there is",
    r"where (it|they|that) (is|are) not": "if it is not",
    r"(rows|records|images|versions?|files|tasks|samples|bytes|GB|MB|kB|one) an? "
    r"(second|minute|day|partition|batch|micro-batch|row|task|version)": "per",
    r"ways? on": "how to continue",
    r"hand(s|ed)? on": "pass",
    r"heard?|hears": "receive",
    r"(it|that|which|spark|river|kafka) wants": "require, need",
    r"version's record|record of (the|a|each|every) version": "manifest",
    r"(begins?|began) again": "restart",
    r"faces?": "API",
    r"chang(e[sd]?|ing) places": "swap",
    r"cuts? (a )?versions?|version (is|was) cut": "commit",
    r"accept[-_]loss": "accept_data_loss",
    r"(online|streaming)mlp\w+": "OnlineClassifier, RiverClassifier, StreamingClassifier …",
    r"streaming_nn[./](arrays|frames|log|stream|followers|export_\w+)": "the module's new name: CHANGELOG.md",
}

# In names of variables, functions, classes, modules: the parts of a name that it must not have
NAMES = {
    **dict.fromkeys(("answer", "answers", "answered", "answering"), "predict, prediction"),
    **dict.fromkeys(("tells", "told"), "report, print"),  # not "tell": files have it
    **dict.fromkeys(("say", "says", "said"), "log, message"),
    **dict.fromkeys(("ask", "asks", "asked"), "request, requested, settings"),
    **dict.fromkeys(("portfolio", "portfolios"), "ensemble"),
    **dict.fromkeys(("follower", "followers"), "sink, SGD member"),
    **dict.fromkeys(("mend", "mends", "mended"), "fix, repair"),
    **dict.fromkeys(("thin", "thinned"), "prune, pruned"),
    **dict.fromkeys(("place", "places"), "position, index, parent, directory"),  # but "in_place"
    "begun": "started, initial",
    "doubled": "duplicates",
    **dict.fromkeys(("face", "faces"), "API"),
    **dict.fromkeys(("tries", "whatif"), "trials, backtest"),
    **dict.fromkeys(("anew", "gone", "awake"), "from_scratch, missing, active"),
}

# How a docstring must not start
VERBS = {"Give": "Return", "Gives": "Return", "Say": "Return, Log", "Tell": "Return, Log", "Ask": "Request"}

# Exceptions: file, what is in the line, and the reason
ALLOWED = [
    ("CHANGELOG.md", "| `", "the table of the names before"),
    (
        "docs/decisions.md",
        "*answer* for predict, *portfolio* for ensemble",
        "decision 42 is about these words",
    ),
    ("tests/test_words.py", "files have it", "a comment on a word that is not banned"),
    ("tests/estimators/test_columns.py", "places=2", "a parameter of hypothesis"),
    ("docs/decisions.md", "then called *portfolio*", "a decision from before"),
]

CODE = ("streaming_nn", "producers", "benchmarks")
ALL_CODE = (*CODE, "tests")
# From Python 3.12 on, an f-string is several tokens
PROSE_TOKENS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
PATTERNS = [
    (re.compile(rf"(?<![\w-])(?:{word})(?!\w)", re.IGNORECASE), better) for word, better in PROSE.items()
]
ANY = re.compile(rf"(?<![\w-])(?:{'|'.join(f'(?:{word})' for word in PROSE)})(?!\w)", re.IGNORECASE)


class Text(NamedTuple):
    """A line of prose, or a name."""

    path: Path
    line: int
    text: str
    whole: str = ""  # the line of the file

    def __str__(self) -> str:
        return f"{self.name}:{self.line}"

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))


def files(suffix: str, *folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob(f"*{suffix}"))


def documents() -> Iterator[Text]:
    for path in [*sorted(ROOT.glob("*.md")), *files(".md", "docs"), *files(".ipynb", "docs")]:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield Text(path, number, line, line)


@cache
def tokens(path: Path) -> list[tokenize.TokenInfo]:
    """Return a Python file's tokens, without those that end a line within a statement."""
    lines = io.StringIO(path.read_text("utf-8")).readline
    return [token for token in tokenize.generate_tokens(lines) if token.type != tokenize.NL]


def python_prose() -> Iterator[Text]:
    for path in files(".py", *CODE):
        for token in tokens(path):
            if token.type in PROSE_TOKENS:
                text = re.sub(r"\{[^{}]*\}", "{}", token.string)  # what an f-string computes is code
                for offset, line in enumerate(text.splitlines()):
                    yield Text(path, token.start[0] + offset, line, token.line)


def prose_of_tests() -> Iterator[Text]:
    """Yield the tests' comments and docstrings; their other strings are data."""
    for path in files(".py", "tests"):
        before = tokenize.NEWLINE
        for token in tokens(path):
            begins = before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
            if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and begins):
                for offset, line in enumerate(token.string.splitlines()):
                    yield Text(path, token.start[0] + offset, line, token.line)
            if token.type != tokenize.COMMENT:
                before = token.type


def settings_prose() -> Iterator[Text]:
    """Yield the lines of the project's own files, of the image and of CI."""
    for path in [*ROOT.glob("*.toml"), *ROOT.glob("*.yml"), *ROOT.glob("*.in"), *(ROOT / ".ci").iterdir()]:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield Text(path, number, line, line)


def compiled_files(*folders: str) -> list[Path]:
    return [path for suffix in (".java", ".c", ".h") for path in files(suffix, *folders)]


def parts(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield line, text and whether it is prose, for each comment, string and stretch of code."""
    pattern = re.compile(r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\])+'|[^/"']+|.""", re.DOTALL)
    line = 1
    for match in pattern.finditer(path.read_text("utf-8")):
        text = match.group()
        yield line, text, text[:2] in ("/*", "//") or (text[0] == '"' and len(text) > 1)
        line += text.count("\n")


def compiled_prose() -> Iterator[Text]:
    for path in compiled_files(*ALL_CODE):
        for line, text, is_prose in parts(path):
            if is_prose:
                for offset, part in enumerate(text.splitlines()):
                    yield Text(path, line + offset, part, part)


def names(*folders: str) -> Iterator[Text]:
    """Yield the names in Python, Java and C code, and those of the files."""
    for path in files(".py", *folders):
        yield Text(path, 0, path.stem)
        for token in tokens(path):
            if token.type == tokenize.NAME:
                yield Text(path, token.start[0], token.string, token.line)
    for path in compiled_files(*folders):
        yield Text(path, 0, path.stem)
        for line, text, is_prose in parts(path):
            for match in [] if is_prose else re.finditer(r"[A-Za-z_]\w*", text):
                number = line + text[: match.start()].count("\n")
                yield Text(path, number, match.group())


@cache
def parts_of(name: str) -> list[str]:
    """Return the words of a snake_case or camelCase name."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("in_place", "").split("_")


def is_allowed(text: Text) -> bool:
    return any(part in text.whole and text.name == name for name, part, _ in ALLOWED)


def report(findings: list[str]) -> str:
    return "\n".join([f"{len(findings)} words that docs/glossary.md does not have:", *findings])


@pytest.mark.parametrize("source", [documents, python_prose, prose_of_tests, compiled_prose, settings_prose])
def test_prose_uses_the_words_of_the_field(source) -> None:
    findings = [
        f"{text}: {match.group()!r}; take: {better}"
        for text in source()
        if ANY.search(text.text) and not is_allowed(text)
        for pattern, better in PATTERNS
        for match in [pattern.search(text.text)]
        if match
    ]
    assert not findings, report(findings)


@pytest.mark.parametrize("folder", ALL_CODE)
def test_names_use_the_words_of_the_field(folder: str) -> None:
    findings = dict.fromkeys(  # one line for each name and file
        f"{text.name}: {text.text}; take: {NAMES[part]}"
        for text in names(folder)
        for part in parts_of(text.text)
        if part in NAMES and not is_allowed(text)
    )
    assert not findings, report(list(findings))


def test_docstrings_are_imperative() -> None:
    findings = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {verb!r}; take: {VERBS[verb]}"
        for path in files(".py", *CODE)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for verb in (ast.get_docstring(node) or "-").split()[:1]
        if verb in VERBS
    ]
    assert not findings, report(findings)


def test_each_exception_is_still_needed() -> None:
    for name, part, reason in ALLOWED:
        assert part in (ROOT / name).read_text("utf-8"), f"{name}: {reason}"
