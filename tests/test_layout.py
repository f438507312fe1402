"""Who imports whom: the table of the README, compared with every import there is."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest
from paths import ROOT

pytestmark = pytest.mark.commit

FACADE = ROOT / "streaming_nn" / "__init__.py"  # its imports are lazy: see test_facade.py
FILES = sorted({p for top in ("streaming_nn", "producers") for p in (ROOT / top).rglob("*.py")} - {FACADE})
INITS = [path for path in FILES if path.name == "__init__.py"]


def read_table() -> dict[str, set[str]]:
    """Return which rooms each room imports by README's table, besides the version in __init__.py.

    A row names rooms, and what all of them import, or each: `a`: `b`, `c`; `d`: these, `e`.
    """
    found, these = dict[str, set[str]](), set[str]()
    text = (ROOT / "README.md").read_text().partition("## The code")[2]
    for line in text.splitlines():
        if line.startswith("| `"):
            first, _, imported = line.strip("| ").split(" | ")
            rooms = re.findall(r"`(?:streaming_nn/)?(\w+)(?:/|\.py)`", first)
            for part in imported.split("; "):
                named, _, listed = part.rpartition(": ")
                these = set(re.findall(r"`(\w+)`", listed)) | (these if "these" in listed else set())
                found |= dict.fromkeys(re.findall(r"`(\w+)`", named) or rooms, these)
    return found


ROOMS = read_table()
# what else a room may import; every other one may use all that pyproject.toml names but Spark
PACKAGES = {
    "core": {"numpy", "setuptools"},
    "nn": {"numpy"},
    "versions": {"numpy", "safetensors", "pandas", "matplotlib"},  # the last two where they are used
}
PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def imports(source: str) -> set[str]:
    """Name every module that the source imports, wherever in it; for `from a import b` both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            assert isinstance(node.args[0], ast.Constant), f"line {node.lineno}: names what it imports"
            found.add(str(node.args[0].value))
    return found


@cache
def of(path: Path) -> frozenset[str]:
    return frozenset(imports(path.read_text()))


def within(room: str) -> list[Path]:
    inside = ROOT / room if room == "producers" else ROOT / "streaming_nn" / room
    paths = [path for path in FILES if path.is_relative_to(inside) or path == inside.with_suffix(".py")]
    assert paths, f"{inside} is missing: change README's table"
    return paths


def ours(path: Path) -> set[str]:
    """Name the folders and modules right under streaming_nn that a file imports."""
    return {
        name.split(".")[1]
        for name in of(path)
        if name.startswith("streaming_nn.") and name != "streaming_nn.__version__"
    } | {"producers" for name in of(path) if name.split(".")[0] == "producers"}


def others(path: Path) -> set[str]:
    tops = {name.split(".")[0] for name in of(path)}
    return tops - set(sys.stdlib_module_names) - {"streaming_nn", "producers"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_the_table_lists(room: str) -> None:
    assert set().union(*map(ours, within(room))) - {room} == ROOMS[room]


def test_every_room_is_in_the_table_and_none_imports_itself_by_others() -> None:
    rooms = {
        path.relative_to(ROOT / "streaming_nn").parts[0] for path in FILES if "producers" not in path.parts
    }
    assert set(ROOMS) == {name.removesuffix(".py") for name in rooms} | {"producers"}
    assert [*TopologicalSorter(ROOMS).static_order()]  # CycleError


@pytest.mark.parametrize("folder", PACKAGES)
def test_the_inner_folders_need_little(folder: str) -> None:
    beyond = {str(path.relative_to(ROOT)): others(path) - PACKAGES[folder] for path in within(folder)}
    assert {path: names for path, names in beyond.items() if names} == {}


def test_spark_appears_in_spark_and_mllib_only() -> None:
    users = {path for path in FILES if {"pyspark", "py4j"} & others(path)}
    allowed = {*within("spark"), *within("mllib")}
    assert users <= allowed
    assert users, "the test no longer sees imports"


def test_only_commands_print() -> None:
    """`doctor` and wheels are commands; `jvm` passes Spark's own lines on."""
    prints = re.compile(r"\b(print|Console|typer\.echo)\(")
    printing = {path for path in FILES if prints.search(path.read_text())}
    commands = {*within("cli"), ROOT / "producers" / "__main__.py"}
    others = {str(path.relative_to(ROOT / "streaming_nn")) for path in printing - commands}
    assert others == {"doctor.py", "core/build_wheels.py", "spark/jvm.py"}


def test_nothing_is_pickled() -> None:
    for path in FILES:
        assert not PICKLES & {name.split(".")[0] for name in of(path)}, path
        assert "allow_pickle=True" not in path.read_text(), path


@pytest.mark.parametrize("path", INITS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_package_imports_nothing_by_itself(path: Path) -> None:
    assert of(path) == set()


@pytest.mark.parametrize(
    "statement",
    [
        "import streaming_nn",
        "import streaming_nn.nn.factory, streaming_nn.nn.metrics, streaming_nn.nn.state_dict",
        "import streaming_nn.versions.version_log",
        "import streaming_nn.records.decode",
        "import streaming_nn.cli.app",  # `--help` must not wait for Spark
    ],
)
def test_what_needs_no_spark_does_not_load_it(statement: str) -> None:
    code = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pyspark", "py4j", "kafka", "sklearn", "pandas"} & set(loaded.stdout.split())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.b as c", {"a.b"}),
        ("def f():\n    from a import b", {"a", "a.b"}),
        ("import_module('a')", {"a"}),
    ],
)
def test_imports_are_seen_wherever_they_stand(source: str, found: set[str]) -> None:
    assert imports(source) == found


def test_every_requirement_is_locked_with_a_hash_and_no_host() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pins = {block.split("==")[0]: block for block in lock.replace(" \\\n", " ").splitlines() if "==" in block}
    for name in {requirement.split("[")[0].split(">")[0].split("=")[0] for requirement in requirements}:
        if name != "streaming_nn":
            assert "--hash=sha256:" in pins[name.lower().replace("_", "-")], name


# What ends in a version, beside the core; operations whose bits depend on the machine, on NumPy or on Python
EXACT = [*within("nn"), *within("core"), ROOT / "streaming_nn" / "records" / "datetimes.py"]
UNORDERED = {
    *("sum", "mean", "average", "std", "var", "prod", "dot", "vdot", "inner", "matmul", "einsum", "vecdot"),
    *("add.reduce", "reduceat", "nansum", "trace", "cumprod", "convolve", "interp"),
    *("exp", "expm1", "log", "log1p", "log2", "log10", "logaddexp", "power", "pow", "hypot", "cbrt"),
    *("sin", "cos", "tan", "tanh"),
}


def unordered(source: str) -> list[int]:
    """Return the lines with a product of matrices, a power, or a call of one of these; but `int(x.sum())`."""
    found, tree = list[int](), ast.parse(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    integers = {argument for call in calls if ast.unparse(call.func) == "int" for argument in call.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult | ast.Pow):
            numbers = isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant)
            if not (numbers and isinstance(node.left.value, int) and isinstance(node.op, ast.Pow)):
                found.append(node.lineno)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node not in integers:
            name = f".{ast.unparse(node.func)}"
            found += [node.lineno for each in UNORDERED if name.endswith(f".{each}")]
        if isinstance(node, ast.ImportFrom) and node.module in ("math", "numpy"):
            found += [node.lineno for alias in node.names if alias.name in UNORDERED]
    return found


@pytest.mark.parametrize("path", EXACT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_ends_in_a_version_has_an_order(path: Path) -> None:
    assert unordered(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "x.sum()",
        "np.log(x)",
        "np.sin(x)",
        "a @ b",
        "x **= 2",
        "decay**n",
        "np.add.reduce(x)",
        "from math import log",
    ],
)
def test_an_operation_without_an_order_is_found(line: str) -> None:
    assert unordered(line) == [1]
    assert unordered("y = 2**level + chain_sum(x) + np.add.accumulate(x)[-1] + sqrt(x) + int(n.sum())") == []
