"""Checks of what a run needs, each with how to fix it."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from streaming_nn import cache
from streaming_nn.kafka import jars, java
from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.kafka.broker import is_embedded
from streaming_nn.settings import Settings
from streaming_nn.spark import installation
from streaming_nn.versions import atomic_files

# Package -> (oldest, first too new version), as in pyproject.toml, which pip checks only when it installs
VERSIONS: dict[str, tuple[str, str | None]] = {
    "pyspark": ("4.2.0", "4.2.1"),
    "numpy": ("2.0", None),
    "pandas": ("2.2.3", "3"),
    "pyarrow": ("18", None),
    "kafka-python": ("3.0", "4"),
    "safetensors": ("0.5", None),
}
JOBS = ("train", "score")
WIDTH = 160  # columns without a terminal: a command that is cut off cannot be copied from a file
TIMEOUT = 4.0  # seconds for a broker to respond
MIN_FREE = 1 << 30  # bytes: Spark spills, and each version of a wide network is some MB
PORTS = ("spark.driver.port", "spark.blockManager.port")  # Spark takes any free port for the others
START = "`streaming-nn broker start` starts one on this machine"
FETCH = f"`{sys.executable} -c 'from streaming_nn.kafka import jars; jars.connector()'`"


class Finding(NamedTuple):
    """The result of one check."""

    name: str
    ok: bool
    detail: str  # what was found
    fix: str = ""  # what to do, in one line; "" if there is nothing to do


def diagnose(settings: Settings, jobs: Collection[str] = JOBS) -> list[Finding]:
    """Check everything that these jobs need, in the order in which they would fail.

    Nothing is downloaded and no file remains; it takes some seconds, more if no broker responds.
    """
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _java,
        _spark,
        _python,
        _versions,
        _jars,
        _ports,
        partial(_kafka, jobs=jobs),
        _model,
        _disk,
    )
    return [finding for check in checks for finding in check(settings)]


def main(settings: Settings, as_json: bool = False, jobs: Collection[str] = JOBS) -> int:
    """Print the findings as a table or a line of JSON; return the exit code: 0 if all are ok, else 1."""
    findings = diagnose(settings, jobs)
    ok = all(finding.ok for finding in findings)
    if as_json:
        print(json.dumps({"ok": ok, "findings": [finding._asdict() for finding in findings]}), flush=True)
    else:
        _show(findings)
    return 0 if ok else 1


def _show(findings: list[Finding]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for finding in findings:
        state = "[green]ok[/]" if finding.ok else "[red]missing[/]"
        table.add_row(state, _escape(finding.name), _escape(finding.detail))
        if finding.fix:
            table.add_row("", "", f"[bold]{_escape(finding.fix)}[/]")
    console = Console()
    Console(width=None if console.is_terminal else WIDTH).print(table)


def _escape(text: str) -> str:
    """Return the text with brackets escaped, as in local[4]: rich would read them as markup."""
    return text.replace("[", r"\[")


def _java(settings: Settings) -> Iterator[Finding]:
    try:
        program = java.find()
    except RuntimeError as error:
        yield Finding("java", False, str(error).removesuffix(f": {java.INSTALL}"), java.INSTALL)
        return
    yield Finding("java", True, f"Java {java.version(program)}, {program}")


def _spark(settings: Settings) -> Iterator[Finding]:
    """Check that the variables of the environment lead to the Spark that is started."""
    found = list(installation.problems(settings.spark))
    for problem in found:
        yield Finding("spark", False, *problem)
    if not found:
        yield Finding("spark", True, f"Spark {installation.required()}, {installation.home()}")


def _python(settings: Settings) -> Iterator[Finding]:
    """Start the workers' Python, which is this one, as Spark does: in a new process."""
    code = "import platform, streaming_nn.spark.tasks; print(platform.python_version())"
    fix = "install into one environment and run from it: pip install streaming_nn, without PYTHONPATH"
    try:
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("worker python", False, f"{sys.executable} does not run: {error}", fix)
        return
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        yield Finding("worker python", False, f"{sys.executable} fails: {last}", fix)
        return
    yield Finding("worker python", True, f"Python {ran.stdout.strip()}, {sys.executable}")


def _versions(settings: Settings) -> Iterator[Finding]:
    for name, (oldest, too_new) in VERSIONS.items():
        required = f">={oldest},<{too_new}" if too_new else f">={oldest}"
        fix = f"{sys.executable} -m pip install '{name}{required}'"
        try:
            installed = version(name)
        except PackageNotFoundError:
            yield Finding(name, False, "is not installed", fix)
            continue
        numbers = _numbers(installed)
        fits = _numbers(oldest) <= numbers and not (too_new and numbers >= _numbers(too_new))
        detail = installed if fits else f"must be {required}; got {installed}"
        yield Finding(name, fits, detail, "" if fits else fix)


def _numbers(text: str) -> tuple[int, ...]:
    """Return 4.2.0 as (4, 2), without trailing zeros; stop at what is not a number, as in 2.0rc1."""
    numbers: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _jars(settings: Settings) -> Iterator[Finding]:
    """Hash the connector's jars; a run would download missing ones, a check must not."""
    name, home, required = "connector jars", jars._home("connector"), jars.sums("connector")
    copy = f"without a network, copy {cache.folder() / 'jars'} from another machine"
    missing = [path for path in required if not (home / path).is_file()]
    if missing:
        detail = f"{len(missing)} of {len(required)} are not in {home} yet"
        yield Finding(name, False, detail, f"the first run downloads them (10 MB), or now: {FETCH}; {copy}")
        return
    try:
        wrong = [path for path, digest in required.items() if jars._sha256(home / path) != digest]
    except OSError as error:
        yield Finding(name, False, f"cannot be read: {error}", f"let this user read {home}")
        return
    if wrong:
        detail = f"{home / wrong[0]} is not the recorded file"
        yield Finding(name, False, detail, f"the next run downloads them again, or now: {FETCH}; {copy}")
        return
    yield Finding(name, True, f"{len(required)} verified in {home}")


def _ports(settings: Settings) -> Iterator[Finding]:
    """Check that Spark's driver gets a port on this machine, and the ones that the settings name."""
    try:
        _bind(0)
    except OSError as error:
        fix = "let this user listen on 127.0.0.1, and find what uses all ports (ss -s)"
        yield Finding("ports", False, f"no free port on 127.0.0.1: {error}", fix)
        return
    fixed = [(name, settings.spark[name]) for name in PORTS if name in settings.spark]
    if settings.spark.get("spark.ui.enabled") == "true":
        fixed.append(("spark.ui.port", settings.spark.get("spark.ui.port", "4040")))
    for name, port in fixed:
        try:
            _bind(int(port))
        except (OSError, OverflowError, ValueError) as error:
            fix = f"set {name} to a free port, or stop what listens there (ss -ltnp)"
            yield Finding(f"port {port}", False, f"{name} = {port} is not available: {error}", fix)
        else:
            yield Finding(f"port {port}", True, f"free for {name}")
    yield Finding("ports", True, "free ports on 127.0.0.1")


def _bind(port: int) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java: TIME_WAIT is free
        listener.bind(("127.0.0.1", port))


def _kafka(settings: Settings, jobs: Collection[str] = JOBS) -> Iterator[Finding]:
    servers = settings.kafka.get("bootstrap.servers", "")
    if not servers and settings.source.format and "score" not in jobs:
        yield Finding("broker", True, f"none is set, and source {settings.source.format} needs none")
        return
    if not servers:
        fix = f'set --bootstrap, or "bootstrap.servers" under [kafka] in streaming-nn.toml; {START}'
        yield Finding("broker", False, "no broker is set", fix)
        return
    try:
        with KafkaAdmin(settings.kafka, patience=TIMEOUT) as admin:
            yield Finding("broker", True, f"responds at {servers}")
            for topic, rights in _required_rights(settings, jobs).items():
                yield _topic(admin, topic, rights, settings)
    except (ValueError, OSError, RuntimeError) as error:  # ConnectionError and PermissionError are OSErrors
        yield Finding("broker", False, str(error), _broker_fix(error, servers))


def _required_rights(settings: Settings, jobs: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the operations on each topic that must be allowed, and what needs them; see docs/deploy.md."""
    train, score = settings.train, settings.score
    topics = [] if settings.source.format else train.topics
    required: list[tuple[str, str, str]] = []
    if "train" in jobs:
        required += [(topic, "READ", "train") for topic in topics]
        required += [(train.dead_letters, "WRITE", "train's dead letters")]
        required += [(settings.metrics.topic, "WRITE", "the metrics")] if settings.metrics.topic else []
    if "score" in jobs:
        required += [(score.topic, "READ", "score"), (score.predictions, "WRITE", "score")]
        required += [(topic, "DESCRIBE", "score") for topic in topics]
    by_topic: dict[str, dict[str, str]] = {}
    for topic, right, user in required:
        by_topic.setdefault(topic, {})[right] = user
    return by_topic


def _topic(admin: KafkaAdmin, topic: str, rights: dict[str, str], settings: Settings) -> Finding:
    name = f"topic {topic}"
    users = ", ".join(dict.fromkeys(rights.values()))
    try:
        partitions = admin.partitions([topic])[topic]
        allowed = admin.rights([topic])[topic]
        beginnings, ends = admin.beginnings([topic])[topic], admin.ends([topic])[topic]
    except LookupError:
        if topic == settings.train.dead_letters:
            return Finding(name, True, f"does not exist yet; a run that may CREATE it does, for {users}")
        return Finding(
            name, False, f"does not exist; needed by {users}", _create_fix(settings, topic, rights)
        )
    except PermissionError:
        detail = f"does not exist, or this user may not DESCRIBE it; {_and(rights)} needed by {users}"
        return Finding(name, False, detail, _grant_fix(settings, topic, list(rights)))
    if missing := [right for right in rights if right not in allowed]:
        detail = (
            f"this user may not {_and(missing)}, needed by {rights[missing[0]]}; "
            f"it may {_and(sorted(allowed))}"
        )
        return Finding(name, False, detail, _grant_fix(settings, topic, missing))
    offsets = sum(ends[p] - beginnings[p] for p in partitions)
    count = f"{len(partitions)} partition" + ("s" if len(partitions) != 1 else "")
    return Finding(name, True, f"{count}, {offsets:,} offsets, for {users}; this user may {_and(rights)}")


def _and(words: Collection[str]) -> str:
    return " and ".join(words)


def _create_fix(settings: Settings, topic: str, rights: Collection[str]) -> str:
    """Return how to create a topic: whoever runs the embedded broker has no kafka-topics.sh."""
    servers = settings.kafka["bootstrap.servers"]
    command = f"kafka-topics.sh --bootstrap-server {servers} --create --topic {topic}"
    if is_embedded(servers):
        command = f"streaming-nn broker topics {topic}"
    return command + (", or let the producers create it: --create-topics" if "READ" in rights else "")


def _grant_fix(settings: Settings, topic: str, rights: list[str]) -> str:
    """Return the command by which an administrator grants the missing rights."""
    user = settings.kafka.get("sasl.username", "NAME")
    operations = " ".join(f"--operation {right.capitalize()}" for right in rights)
    return (
        f"kafka-acls.sh --bootstrap-server {settings.kafka['bootstrap.servers']} --add "
        f"--allow-principal User:{user} {operations} --topic {topic}"
    )


def _broker_fix(error: Exception, servers: str) -> str:
    if isinstance(error, PermissionError):
        return "set sasl.username, sasl.password and security.protocol under [kafka] as the broker requires"
    if isinstance(error, ConnectionError):
        return (
            f"is a broker listening at {servers}, and is its advertised address reachable from here? {START}"
        )
    return "correct the [kafka] table of the settings"


def _model(settings: Settings) -> Iterator[Finding]:
    """Do in the model directory what a commit does: write, fsync, and link to a name that must be new."""
    folder = _nearest(settings.model / "versions")
    probe = (
        folder / f".doctor.{uuid4().hex}{atomic_files.TEMPORARY}"
    )  # `clean` deletes what a crash leaves of it
    new = "" if folder.is_relative_to(settings.model.absolute()) else f"; {settings.model} will be created"
    try:
        atomic_files.create(probe, b"doctor")
        _check_exclusive(probe)
    except OSError as error:
        fix = (
            f"let this user write to {folder}, on a file system with hard links (local, NFS), or set --model"
        )
        yield Finding("model", False, f"{folder} cannot contain versions: {error}", fix)
        return
    finally:
        with suppress(OSError):
            probe.unlink()
    yield Finding("model", True, f"{folder} is writable, and hard links work{new}")


def _check_exclusive(path: Path) -> None:
    """Raise OSError if an existing name can be created again: two trainers would both commit."""
    try:
        atomic_files.create(path, b"again")
    except FileExistsError:
        return
    raise OSError(f"{path.parent} does not support atomic exclusive creation")


def _nearest(path: Path) -> Path:
    """Return the path, or its nearest parent that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _disk(settings: Settings) -> Iterator[Finding]:
    keep = "free some space, set train.keep_bytes (older versions are pruned), or set --model to another disk"
    yield _free("disk", _nearest(settings.model), keep)
    temporary = "free some space, or set TMPDIR to a directory on another disk: Spark spills there"
    yield _free("temporary files", Path(tempfile.gettempdir()), temporary)


def _free(name: str, folder: Path, fix: str) -> Finding:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(name, False, f"{folder}: {error}", fix)
    detail = f"{free / (1 << 30):,.1f} GiB free at {folder}"
    if free < MIN_FREE:
        return Finding(name, False, f"{detail}; at least {MIN_FREE >> 30} GiB is needed", fix)
    return Finding(name, True, detail)
