"""What a run needs, looked at before it is started, each with what mends it."""

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

from streaming_nn.kafka import jars, java
from streaming_nn.kafka.admin import KafkaAdmin
from streaming_nn.settings import Settings
from streaming_nn.versions import atomic_files

# Package -> (oldest, the first that is too new); as in pyproject.toml, which pip checks only when it installs
VERSIONS: dict[str, tuple[str, str | None]] = {
    "pyspark": ("4.2.0", "4.2.1"),
    "numpy": ("2.0", None),
    "pandas": ("2.2.3", "3"),
    "pyarrow": ("18", None),
    "kafka-python": ("3.0", "4"),
    "safetensors": ("0.5", None),
}
JOBS = ("train", "score")
WIDE = 160  # columns where no terminal says how many: a command that is cut can't be copied from a file
PATIENCE = 4.0  # seconds for a broker to answer
LEAST = 1 << 30  # bytes free: Spark spills, and a version of a wide network is some MB a micro-batch
PORTS = ("spark.driver.port", "spark.blockManager.port")  # others of Spark's are any that are free
FETCH = f"`{sys.executable} -c 'from streaming_nn.kafka import jars; jars.connector()'`"


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    ok: bool
    said: str  # what was seen
    mend: str = ""  # what to do, in one line; "" where all is well


def diagnose(settings: Settings, jobs: Collection[str] = JOBS) -> list[Finding]:
    """Look at everything that these jobs need, in the order in which they would miss it.

    Nothing is downloaded and nothing stays behind; it takes some seconds, more where no broker answers.
    """
    looks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _java,
        _python,
        _versions,
        _jars,
        _ports,
        partial(_kafka, jobs=jobs),
        _model,
        _disk,
    )
    return [finding for look in looks for finding in look(settings)]


def main(settings: Settings, as_json: bool = False, jobs: Collection[str] = JOBS) -> int:
    """Print what `diagnose` finds, as a table or one line of JSON on stdout; 0 where all is well, else 1."""
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
        table.add_row(state, _plain(finding.name), _plain(finding.said))
        if finding.mend:
            table.add_row("", "", f"[bold]{_plain(finding.mend)}[/]")
    console = Console()
    Console(width=None if console.is_terminal else WIDE).print(table)


def _plain(text: str) -> str:
    """Text in which rich sees no markup, such as in local[4]."""
    return text.replace("[", r"\[")


def _java(settings: Settings) -> Iterator[Finding]:
    try:
        program = java.find()
    except RuntimeError as error:
        yield Finding("java", False, str(error).removesuffix(f": {java.INSTALL}"), java.INSTALL)
        return
    yield Finding("java", True, f"Java {java.version(program)}, {program}")


def _python(settings: Settings) -> Iterator[Finding]:
    """Start the worker's Python, which is this one, as Spark does: in a process of its own."""
    code = "import platform, streaming_nn.spark.tasks; print(platform.python_version())"
    mend = "install into one environment and run from it: pip install streaming_nn, without PYTHONPATH"
    try:
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("worker python", False, f"{sys.executable} does not run: {error}", mend)
        return
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        yield Finding("worker python", False, f"{sys.executable} can't work: {last}", mend)
        return
    yield Finding("worker python", True, f"Python {ran.stdout.strip()}, {sys.executable}")


def _versions(settings: Settings) -> Iterator[Finding]:
    for name, (oldest, too_new) in VERSIONS.items():
        wanted = f">={oldest},<{too_new}" if too_new else f">={oldest}"
        mend = f"{sys.executable} -m pip install '{name}{wanted}'"
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Finding(name, False, "is not installed", mend)
            continue
        fits = _numbers(oldest) <= _numbers(found) and not (too_new and _numbers(found) >= _numbers(too_new))
        yield Finding(name, fits, found if fits else f"{found}; it must be {wanted}", "" if fits else mend)


def _numbers(text: str) -> tuple[int, ...]:
    """4.2.0 as (4, 2): zeros at the end say nothing; it stops at what is no number, as in 2.0rc1."""
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
    """Hash the connector's jars; a run would fetch what is missing, and this must not."""
    name, home, wanted = "connector jars", jars._home("connector"), jars.sums("connector")
    copy = f"without a network copy {jars.cache() / 'jars'} from a machine that has it"
    missing = [path for path in wanted if not (home / path).is_file()]
    if missing:
        said = f"{len(missing)} of {len(wanted)} are not in {home} yet"
        yield Finding(name, False, said, f"the first run fetches them (10 MB), or now: {FETCH}; {copy}")
        return
    try:
        wrong = [path for path, digest in wanted.items() if jars._sha256(home / path) != digest]
    except OSError as error:
        yield Finding(name, False, f"can't be read: {error}", f"let this user read {home}")
        return
    if wrong:
        said = f"{home / wrong[0]} is not the recorded file"
        yield Finding(name, False, said, f"the next run fetches them again, or now: {FETCH}; {copy}")
        return
    yield Finding(name, True, f"{len(wanted)} verified in {home}")


def _ports(settings: Settings) -> Iterator[Finding]:
    """Any port of this machine for Spark's driver, and those that the settings fix."""
    try:
        _bind(0)
    except OSError as error:
        mend = "let this user listen on 127.0.0.1, and look for what has used up the ports (ss -s)"
        yield Finding("ports", False, f"no port is to be had on 127.0.0.1: {error}", mend)
        return
    fixed = [(name, settings.spark[name]) for name in PORTS if name in settings.spark]
    if settings.spark.get("spark.ui.enabled") == "true":
        fixed.append(("spark.ui.port", settings.spark.get("spark.ui.port", "4040")))
    for name, port in fixed:
        try:
            _bind(int(port))
        except (OSError, OverflowError, ValueError) as error:
            mend = f"set {name} to a free port, or end what listens there (ss -ltnp)"
            yield Finding(f"port {port}", False, f"{name} = {port} can't be had: {error}", mend)
        else:
            yield Finding(f"port {port}", True, f"free for {name}")
    yield Finding("ports", True, "there are free ones on 127.0.0.1")


def _bind(port: int) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: TIME_WAIT is free
        taken.bind(("127.0.0.1", port))


def _kafka(settings: Settings, jobs: Collection[str] = JOBS) -> Iterator[Finding]:
    servers = settings.kafka.get("bootstrap.servers", "")
    if not servers and settings.source.format and "score" not in jobs:
        yield Finding("broker", True, f"none is named, and none is needed to learn {settings.source.format}")
        return
    if not servers:
        mend = 'give --bootstrap host:port, or "bootstrap.servers" under [kafka] in streaming-nn.toml'
        yield Finding("broker", False, "no broker is named", mend)
        return
    try:
        with KafkaAdmin(settings.kafka, patience=PATIENCE) as connection:
            yield Finding("broker", True, f"answers at {servers}")
            for topic, needs in _wanted(settings, jobs).items():
                yield _topic(connection, topic, needs, settings)
    except (ValueError, OSError, RuntimeError) as error:  # ConnectionError and PermissionError are OSErrors
        yield Finding("broker", False, str(error), _mend(error, servers))


def _wanted(settings: Settings, jobs: Collection[str]) -> dict[str, dict[str, str]]:
    """The topics that are needed: what has to be allowed there, and for whom, as docs/deploy.md has it."""
    train, score = settings.train, settings.score
    topics = [] if settings.source.format else train.topics
    needs: list[tuple[str, str, str]] = []
    if "train" in jobs:
        needs += [(topic, "READ", "train") for topic in topics]
        needs += [(train.dead_letters, "WRITE", "train's dead letters")]
        needs += [(settings.metrics.topic, "WRITE", "the metrics")] if settings.metrics.topic else []
    if "score" in jobs:
        needs += [(score.topic, "READ", "score"), (score.predictions, "WRITE", "score")]
        needs += [(topic, "DESCRIBE", "score") for topic in topics]
    wanted: dict[str, dict[str, str]] = {}
    for topic, right, whose in needs:
        wanted.setdefault(topic, {})[right] = whose
    return wanted


def _topic(connection: KafkaAdmin, topic: str, needs: dict[str, str], settings: Settings) -> Finding:
    name, servers = f"topic {topic}", settings.kafka["bootstrap.servers"]
    whose = ", ".join(dict.fromkeys(needs.values()))
    try:
        partitions = connection.partitions([topic])[topic]
        may = connection.rights([topic])[topic]
        begins, ends = connection.beginnings([topic])[topic], connection.ends([topic])[topic]
    except LookupError:
        if topic == settings.train.dead_letters:
            return Finding(name, True, f"does not exist yet; a run that may CREATE it does, for {whose}")
        mend = f"kafka-topics.sh --bootstrap-server {servers} --create --topic {topic}"
        return Finding(name, False, f"does not exist; {whose} needs it", mend)
    except PermissionError:
        said = f"is not there, or this user may not even DESCRIBE it; {whose} needs {_and(needs)}"
        return Finding(name, False, said, _grant(settings, topic, list(needs)))
    offsets = sum(ends[p] - begins[p] for p in partitions)
    said = f"{len(partitions)} partitions, {offsets:,} offsets, for {whose}"
    if lacking := [right for right in needs if right not in may]:
        said = (
            f"this user may not {_and(lacking)}, which {needs[lacking[0]]} needs; it may {_and(sorted(may))}"
        )
        return Finding(name, False, said, _grant(settings, topic, lacking))
    return Finding(name, True, f"{said}; this user may {_and(needs)}")


def _and(words: Collection[str]) -> str:
    return " and ".join(words)


def _grant(settings: Settings, topic: str, rights: list[str]) -> str:
    """The command by which an administrator lets this user do what it may not do yet."""
    user = settings.kafka.get("sasl.username", "NAME")
    operations = " ".join(f"--operation {right.capitalize()}" for right in rights)
    return (
        f"kafka-acls.sh --bootstrap-server {settings.kafka['bootstrap.servers']} --add "
        f"--allow-principal User:{user} {operations} --topic {topic}"
    )


def _mend(error: Exception, servers: str) -> str:
    if isinstance(error, PermissionError):
        return "set sasl.username, sasl.password and security.protocol under [kafka] to what the broker knows"
    if isinstance(error, ConnectionError):
        return (
            f"is a broker listening at {servers}, and is what it advertises reachable from here? "
            "`streaming-nn broker start` starts one on this machine"
        )
    return "mend the [kafka] table of the settings"


def _model(settings: Settings) -> Iterator[Finding]:
    """Do in the model directory what appending a version does: write, fsync, link to a name, once."""
    folder = _nearest(settings.model / "versions")
    probe = folder / f".doctor.{uuid4().hex}{atomic_files.ASIDE}"  # what is left of it, `clean` takes away
    made = (
        "" if folder.is_relative_to(settings.model.absolute()) else f"; {settings.model} will be made there"
    )
    try:
        atomic_files.create(probe, b"doctor")
        _taken(probe)
    except OSError as error:
        mend = f"let this user write {folder}, where hard links work (a local disk or NFS), or give --model"
        yield Finding("model", False, f"{folder} can't hold versions: {error}", mend)
        return
    finally:
        with suppress(OSError):
            probe.unlink()
    yield Finding("model", True, f"{folder} can be written, and hard links work{made}")


def _taken(path: Path) -> None:
    """Raise OSError where a name that is taken can be taken again: two trainers would both win."""
    try:
        atomic_files.create(path, b"again")
    except FileExistsError:
        return
    raise OSError(f"{path.parent} lets a name be taken twice")


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest above it that is there."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _disk(settings: Settings) -> Iterator[Finding]:
    keep = "free some, set train.keep_versions (older ones become stubs), or give --model another disk"
    yield _free("disk", _nearest(settings.model), keep)
    temporary = "free some, or set TMPDIR to a folder on another disk: Spark spills there"
    yield _free("temporary files", Path(tempfile.gettempdir()), temporary)


def _free(name: str, folder: Path, mend: str) -> Finding:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(name, False, f"{folder}: {error}", mend)
    said = f"{free / (1 << 30):,.1f} GiB free at {folder}"
    if free < LEAST:
        return Finding(name, False, f"{said}; {LEAST >> 30} GiB is the least", mend)
    return Finding(name, True, said)
