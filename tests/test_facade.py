"""`import streaming_nn as snn`: its public names, which are imported when they are used."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any, get_args, get_type_hints

import pytest
from paths import ROOT

import streaming_nn as snn
from streaming_nn import errors
from streaming_nn.model import Model

pytestmark = pytest.mark.commit

PUBLIC = vars(snn)["_PUBLIC"]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_its_module_s_attribute(name: str) -> None:
    module, _, attribute = PUBLIC[name].partition(":")
    assert getattr(snn, name) is getattr(import_module(f"streaming_nn.{module}"), attribute)
    assert vars(snn)[name] is getattr(snn, name), "not kept after the first use"


def test_the_stub_has_the_same_names() -> None:
    stub = ast.parse((ROOT / "streaming_nn" / "__init__.pyi").read_text())
    imported = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    exported = next(ast.literal_eval(node.value) for node in stub.body if isinstance(node, ast.Assign))
    assert imported == {name: f"streaming_nn.{target}" for name, target in PUBLIC.items()}
    assert set(exported) == PUBLIC.keys()


def test_every_error_is_public() -> None:
    defined = {name for name in vars(errors) if name.endswith("Error")}
    assert defined
    assert defined <= PUBLIC.keys()


def test_dir_lists_the_public_names() -> None:
    assert PUBLIC.keys() | {"__version__"} <= set(dir(snn))


def test_the_page_of_the_api_lists_the_public_names() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert sorted(re.findall(r"^::: streaming_nn\.(\w+)$", page, re.MULTILINE)) == sorted(PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'streaming_nn' has no attribute 'Trainr'"):
        snn.Trainr  # type: ignore[attr-defined]  # noqa: B018


def test_nothing_is_imported_before_it_is_used() -> None:
    code = "import sys; before = {*sys.modules}; import streaming_nn; print(*({*sys.modules} - before))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["streaming_nn"]


def test_a_learner_needs_numpy_alone() -> None:
    code = (
        "import sys, streaming_nn as snn; snn.Ensemble, snn.MLP, snn.learner_from, snn.test_then_train; "
        "snn.VersionLog, snn.Schema; print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pyspark", "kafka", "pandas", "sklearn", "pydantic"} & set(ran.stdout.split())


def parts_of(hint: Any) -> Iterator[Any]:
    """Yield a type, and those that it consists of, such as Settings of `list[Settings]`."""
    yield hint
    for part in get_args(hint):
        yield from parts_of(part)


def test_what_a_public_function_takes_and_returns_is_public() -> None:
    """A caller makes the arguments, and an editor completes the result."""
    public = [getattr(snn, name) for name in PUBLIC]
    needed = {
        kind
        for function in filter(inspect.isfunction, public)
        for hint in get_type_hints(function).values()
        for kind in parts_of(hint)
        if inspect.isclass(kind) and kind.__module__.startswith("streaming_nn.")
    }
    assert {snn.Settings, snn.Selection, snn.Outcome} <= needed
    assert needed - {Model} <= {*public}, "Model is the base of the public estimators"
