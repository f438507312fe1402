"""The learners' options as written-out parameters: what the estimators' constructors must have.

`python tests/support/parameters.py` prints them, to be pasted when an option is added; `--spark`: in Spark's
names.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from streaming_nn.nn.factory import LEARNERS

NOT_PARAMETERS = {
    "inputs",
    "classes",
    "multilabel",
    "targets",
    "seed",
}  # every API has them in its own way, or from the rows
WIDER = {  # a parameter takes more than the option, which is a tuple
    "tuple[int, ...]": "Sequence[int] | int",
    "tuple[float, ...]": "Sequence[float]",
    "tuple[tuple[float, float], ...]": "Sequence[tuple[float, float]]",
}


def options() -> dict[str, str]:
    """Return the type of each option of any learner; None, the learner's default, is allowed for all."""
    types: dict[str, str] = {}
    for learner in LEARNERS.values():
        for field in fields(learner):
            if field.name not in NOT_PARAMETERS:
                types.setdefault(field.name, parameter_type(field.type))
    return types


def parameter_type(option_type: Any) -> str:
    name = type_name(option_type).removesuffix(" | None")
    return f"{WIDER.get(name, name)} | None"


def type_name(annotation: Any) -> str:
    name = (
        annotation.__name__
        if isinstance(annotation, type) and "[" not in str(annotation)
        else str(annotation)
    )
    return name.replace("typing.", "").replace("collections.abc.", "")


def keywords(constructor: Callable[..., Any]) -> dict[str, tuple[str, Any]]:
    """Return type and default of each keyword-only parameter."""
    parameters = inspect.signature(constructor).parameters.values()
    return {
        each.name: (type_name(each.annotation), each.default)
        for each in parameters
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    }


def written(names: Mapping[str, str]) -> str:
    """Return the parameters as source; `names` has those with another name than the option's."""
    return "\n".join(f"        {names.get(name, name)}: {kind} = None," for name, kind in options().items())


if __name__ == "__main__":
    if "--spark" in sys.argv:
        from streaming_nn.mllib.params import NAMES

        print(written(NAMES))
    else:
        print(written({}))
