"""The streams, and their options."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from producers import digits, files, generators, machine
from producers.streams import Stream

GENERATORS: dict[str, Callable[..., Stream]] = {
    "digits": digits.digits,
    "sea": generators.sea,
    "sine": generators.sine,
    "hyperplane": generators.hyperplane,
    "agrawal": generators.agrawal,
    "led": generators.led,
    "random_rbf": generators.random_rbf,
    "friedman": generators.friedman,
}
FILES: dict[str, Callable[..., Stream]] = {
    "csv": files.csv,
    "npz": files.npz,
    "parquet": files.parquet,
    "jsonl": files.jsonl,
}
LIVE: dict[str, Callable[..., Stream]] = {"machine": machine.machine}
STREAMS = (*GENERATORS, *FILES, *LIVE)


def checked(name: str) -> str:
    """Return the name; raise ValueError if it is not a stream."""
    if name not in STREAMS:
        raise ValueError(f"stream must be one of {', '.join(STREAMS)}; got {name!r}")
    return name


def generator(
    name: str, seed: int, drift_at: tuple[int, ...] = (), options: Mapping[str, str] | None = None
) -> Stream:
    """Create a generated stream; `options` are its options as strings. Raise ValueError in one line."""
    make = GENERATORS[checked(name)]
    defaults = {p.name: p.default for p in inspect.signature(make).parameters.values()}
    del defaults["seed"], defaults["drift_at"]
    given = {}
    for key, text in (options or {}).items():
        if key not in defaults:
            allowed = ", ".join(defaults) or "none"
            raise ValueError(f"the options of {name} are: {allowed}; got {key!r}")
        given[key] = _parse_number(key, text, type(defaults[key]))
    return make(seed, drift_at, **given)


def file(name: str, path: Path, **options: Any) -> Stream:
    """Open a file as a stream. Raise ValueError in one line."""
    if not path.is_file():
        raise ValueError(f"no such file: {str(path)!r}")
    return FILES[name](path, **options)


def _parse_number(key: str, text: str, kind: type) -> float:
    try:
        number: float = kind(text)
    except ValueError:
        raise ValueError(f"{key} must be a number; got {text!r}") from None
    return number
