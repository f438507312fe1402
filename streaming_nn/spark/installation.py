"""Whether the environment and the options lead to the Spark that this package needs; starts nothing."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from streaming_nn.kafka import jars

MASTERS = ("local", "spark://", "k8s://", "yarn")  # what spark-submit accepts; it prints a page for others
SHELL = "pyspark-shell"  # what spark-submit runs for Python
CONNECT = {"SPARK_REMOTE": None, "SPARK_CONNECT_MODE_ENABLED": None, "SPARK_API_MODE": "connect"}
EVENT_LOG = "/tmp/spark-events"  # Spark's default of spark.eventLog.dir
DEFAULTS = "spark-defaults.conf"
PROPERTY = re.compile(r"\s*([^#!\s=:][^\s=:]*)\s*[\s=:]\s*(.*?)\s*$")


class Problem(NamedTuple):
    """A variable that leads elsewhere, and what to do."""

    detail: str
    fix: str


def check(options: Mapping[str, str]) -> None:
    """Raise ValueError in one line, which names the variable or the option, if Spark cannot start by it.

    `options` are Spark's; they override those of its configuration directory.
    """
    master = options.get("spark.master", "local[*]")
    if not master.startswith(MASTERS):
        raise ValueError(f"spark.master must begin with one of {', '.join(MASTERS)}; got {master!r}")
    for problem in problems(options):
        raise ValueError(f"{problem.detail}; {problem.fix}")


def problems(options: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong with the variables, in the order in which Spark would fail."""
    yield from _package()
    yield from _home()
    yield from _connect()
    yield from _submit_args()
    yield from _event_log(options)


def required() -> str:
    """Return the version of Spark that the Kafka connector is of."""
    return jars.ROOTS["connector"][0].rpartition(":")[2]


def home() -> str:
    """Return the directory of the Spark that is started."""
    return os.environ.get("SPARK_HOME") or str(_imported() or "")


def _imported() -> Path | None:
    """Return the directory of the pyspark that is imported."""
    spec = find_spec("pyspark")
    return Path(spec.origin).parent if spec and spec.origin else None


def _package() -> Iterator[Problem]:
    """Check the pyspark that is imported: PYTHONPATH may have another one than pip has installed."""
    folder = _imported()
    found = _search(folder / "version.py", r"__version__[^=]*= *['\"]([^'\"]+)") if folder else None
    if folder and found and found != required():
        by = " by PYTHONPATH" if _is_on_path(folder.parent) else ""
        fix = "unset PYTHONPATH" if by else f"pip install pyspark=={required()}"
        yield Problem(f"pyspark must be {required()}; got {found}, which is in {folder.parent}{by}", fix)


def _is_on_path(folder: Path) -> bool:
    return str(folder) in os.environ.get("PYTHONPATH", "").split(os.pathsep)


def _search(file: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, file.read_text("utf-8", "replace"))
    except OSError:
        return None
    return found[1] if found else None


def _home() -> Iterator[Problem]:
    home = os.environ.get("SPARK_HOME")
    if home is None:
        return
    fix = f"unset SPARK_HOME: pip has installed Spark {required()} with pyspark"
    if not os.access(Path(home, "bin", "spark-submit"), os.X_OK) or not home:
        yield Problem(f"SPARK_HOME is {home!r}, which has no bin/spark-submit", fix)
        return
    version = _version(Path(home))
    if version not in (None, required()):
        yield Problem(f"SPARK_HOME is {home!r}, which is Spark {version}; must be {required()}", fix)


def _version(home: Path) -> str | None:
    """Return the version of an installation; None: unknown, as of a source tree."""
    for jar in home.glob("jars/spark-core_*.jar"):
        return jar.stem.rpartition("_")[2].partition("-")[2]
    return _search(home / "RELEASE", r"Spark (\S+)")


def _connect() -> Iterator[Problem]:
    for name, value in CONNECT.items():
        found = os.environ.get(name)
        if found is not None and value in (None, found.lower()):
            detail = f"{name} is {found!r}: a session of Spark Connect cannot run these jobs"
            yield Problem(detail, f"unset {name}")


def _submit_args() -> Iterator[Problem]:
    text = os.environ.get("PYSPARK_SUBMIT_ARGS")
    if text is None:
        return
    try:
        words = shlex.split(text)
    except ValueError as error:
        yield Problem(f"PYSPARK_SUBMIT_ARGS cannot be read: {error}", "correct or unset it")
        return
    if not words or words[-1] != SHELL:  # what it has may be a password
        yield Problem(f"PYSPARK_SUBMIT_ARGS must end in {SHELL}", f"add {SHELL} at its end, or unset it")


def _event_log(options: Mapping[str, str]) -> Iterator[Problem]:
    """Check the folder of Spark's event log, without which no context starts."""
    by, file = _defaults_file()
    found = {**_properties(file), **options}
    url = urlsplit(found.get("spark.eventLog.dir", EVENT_LOG))
    if found.get("spark.eventLog.enabled", "").lower() != "true" or url.scheme not in ("", "file"):
        return
    folder = Path(unquote(url.path))
    if folder.is_dir() and os.access(folder, os.W_OK):
        return
    where = "the settings" if "spark.eventLog.enabled" in options else f"{file} ({by})"
    what = "which is not writable" if folder.is_dir() else "which is not a directory"
    yield Problem(
        f"spark.eventLog.enabled is true in {where}, and spark.eventLog.dir is {str(folder)!r}, {what}",
        "create it, or set spark.eventLog.enabled = false under [spark]",
    )


def _defaults_file() -> tuple[str, Path]:
    """Return what decides where Spark reads its defaults from, and the file, which may not exist."""
    if folder := os.environ.get("SPARK_CONF_DIR"):
        return "SPARK_CONF_DIR", Path(folder, DEFAULTS)
    by = "SPARK_HOME" if os.environ.get("SPARK_HOME") else "pyspark"
    return by, Path(home() or os.devnull, "conf", DEFAULTS)


def _properties(file: Path) -> dict[str, str]:
    """Return what a file of Java's properties sets, one a line; {} if it cannot be read."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    found = (PROPERTY.match(line) for line in lines)
    return {each[1]: each[2] for each in found if each}
