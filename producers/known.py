"""Which streams there are, and their own options."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from producers import digits, generators, machine, tables
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
FILES: dict[str, Callable[..., Stream]] = {"csv": tables.csv, "npz": tables.npz, "parquet": tables.parquet}
LIVE: dict[str, Callable[..., Stream]] = {"machine": machine.machine}
STREAMS = (*GENERATORS, *FILES, *LIVE)


def checked(name: str) -> str:
    """Return the name if there is such a stream; raises ValueError in one line."""
    if name not in STREAMS:
        raise ValueError(f"stream must be one of {', '.join(STREAMS)}; got {name!r}")
    return name


def generator(
    name: str, seed: int, drift_at: tuple[int, ...] = (), options: Mapping[str, str] | None = None
) -> Stream:
    """Make a generated stream; `options` are its own ones, as text. Raises ValueError in one line."""
    make = GENERATORS[checked(name)]
    own = {p.name: p.default for p in inspect.signature(make).parameters.values()}
    del own["seed"], own["drift_at"]
    given = {}
    for key, text in (options or {}).items():
        if key not in own:
            allowed = ", ".join(own) or "none"
            raise ValueError(f"{name}'s own options are: {allowed}; got {key!r}")
        given[key] = _number(key, text, type(own[key]))
    return make(seed, drift_at, **given)


def file(name: str, path: Path, **options: Any) -> Stream:
    """Open a file as a stream. Raises ValueError in one line."""
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    return FILES[name](path, **options)


def _number(key: str, text: str, kind: type) -> float:
    try:
        number: float = kind(text)
    except ValueError:
        raise ValueError(f"{key} must be a number; got {text!r}") from None
    return number
