"""The jars that pip does not bring, Spark's Kafka connector and a whole broker: fetched once, checked, kept.

Each set is written down jar by jar in `<set>.sha256`, in the form of sha256sum and with the paths of a Maven
repository, so that nothing is left to resolve on a user's machine: the Ivy that PySpark ships only downloads.
`python -m streaming_nn.kafka.jars` (for the project's own developers) resolves anew and writes these lists.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from streaming_nn.kafka import java

ROOTS = {
    "connector": ["org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"],
    "broker": ["org.apache.kafka:kafka_2.13:4.1.0", "org.slf4j:slf4j-simple:1.7.36"],
}
TITLES = {"connector": "Spark's Kafka connector", "broker": "the embedded Kafka broker"}
LAYOUT = "[orgPath]/[module]/[revision]/[artifact]-[revision].jar"


class Coordinates(NamedTuple):
    """What a Maven repository calls one jar."""

    organisation: str
    module: str
    revision: str

    def __str__(self) -> str:
        return ":".join(self)


def connector() -> list[Path]:
    """Spark's Kafka connector and what it needs beyond the jars that PySpark ships; for `spark.jars`.

    The first call on a machine downloads 10 MB and shows it on stderr, later ones ask the network for
    nothing. Raises RuntimeError without Java or when what came is not the recorded jar, ConnectionError
    without a network.
    """
    return _jars("connector")


def broker() -> list[Path]:
    """A whole Apache Kafka broker, as a class path (43 MB the first time); raises as `connector` does."""
    return _jars("broker")


def cache() -> Path:
    """Where downloads are kept: STREAMING_NN_CACHE, else streaming_nn in XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("STREAMING_NN_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "streaming_nn"


def sums(name: str) -> dict[str, str]:
    """The sha256 of every jar of a set, by its path in a Maven repository."""
    lines = _list_of(name).read_text().splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def coordinates(path: str) -> Coordinates:
    """What the jar at `path` in a Maven repository is called."""
    *organisation, module, revision, _ = path.split("/")
    return Coordinates(".".join(organisation), module, revision)


def _list_of(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.sha256")


def _jars(name: str) -> list[Path]:
    wanted = sums(name)
    home = _home(name)
    if not _intact(home, wanted):
        with _alone(home.with_suffix(".lock")):
            if not _intact(home, wanted):  # another process may have brought them while we waited
                _install(name, home, wanted)
    return [home / path for path in wanted]


def _home(name: str) -> Path:
    """The set's folder, named by its list: another release of this package has another folder."""
    return cache() / "jars" / f"{name}-{_sha256(_list_of(name))[:12]}"


def _intact(home: Path, wanted: dict[str, str]) -> bool:
    """Whether all jars are there and right. A jar is hashed again only when its size or time has changed."""
    record = home / "checked.json"
    try:
        checked = json.loads(record.read_text())
        stamps = {path: _stamp(home / path) for path in wanted}
    except (OSError, ValueError):
        return False
    changed = [path for path in wanted if checked.get(path) != stamps[path]]
    wrong = [path for path in changed if _sha256(home / path) != wanted[path]]
    if wrong:
        _say(f"{home / wrong[0]} is no longer the recorded file: fetching the set again")
    elif changed:
        _write_record(record, stamps)
    return not wrong


def _stamp(jar: Path) -> list[int]:
    status = jar.stat()
    return [status.st_size, status.st_mtime_ns]


def _write_record(record: Path, stamps: dict[str, list[int]]) -> None:
    aside = record.with_name(f"{record.name}.{os.getpid()}")
    with suppress(OSError):  # a cache that may only be read is as good, only hashed at each start
        aside.write_text(json.dumps(stamps))
        aside.replace(record)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time. Where the file system knows no locks the rename alone keeps us right."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        with suppress(OSError):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _say(f"waiting for another process that fetches {lock.stem}")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(name: str, home: Path, wanted: dict[str, str]) -> None:
    """Download aside, verify, and only then move into place."""
    for left in home.parent.glob(f".{name}-*"):
        if left.stat().st_mtime < time.time() - 3600:  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=home.parent) as folder:
        fetched = Path(folder, "jars")
        _download(name, [coordinates(path) for path in wanted], Path(folder))
        for path, digest in wanted.items():
            _verify(fetched / path, digest)
        _write_record(fetched / "checked.json", {path: _stamp(fetched / path) for path in wanted})
        if home.exists():
            home.rename(Path(folder, "damaged"))
        try:
            fetched.rename(home)
        except OSError:  # a process that could not wait for us may have been first, with the same files
            if not _intact(home, wanted):
                raise


def _verify(jar: Path, digest: str) -> None:
    got = _sha256(jar)
    if got != digest:
        raise RuntimeError(f"{jar.name} must have the sha256 {digest}; what was downloaded has {got}")


def _download(name: str, wanted: list[Coordinates], folder: Path) -> None:
    began = time.monotonic()
    with _progress(TITLES[name], len(wanted)) as advance:
        ivy(folder, wanted, advance, resolve=False)
    missing = [str(jar) for jar in wanted if not (folder / "jars" / _path(jar)).exists()]
    if missing:
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ConnectionError(
            f"{TITLES[name]} needs {missing[0]}{others}, which could not be downloaded ({_reason(folder)}): "
            "is there a network? Behind a proxy set https_proxy, for a mirror of Maven Central set "
            f"STREAMING_NN_MAVEN to its address, or copy {cache() / 'jars'} from a machine that has it"
        )
    seconds = time.monotonic() - began
    _say(f"{TITLES[name]}: {len(wanted)} jars in {seconds:.0f} s, kept in {cache() / 'jars'}")


def _path(jar: Coordinates) -> str:
    organisation = jar.organisation.replace(".", "/")
    return f"{organisation}/{jar.module}/{jar.revision}/{jar.module}-{jar.revision}.jar"


def ivy(folder: Path, wanted: list[Coordinates], advance: Callable[[str], None], resolve: bool) -> None:
    """Let Ivy fetch `wanted` into `folder`/jars, with all that they depend on when `resolve` is set.

    `advance` is called with each jar's name as it comes. What Ivy says is in `folder`/ivy.log; it never looks
    into ~/.m2 or ~/.ivy2. What could not be had is simply not there.
    """
    (folder / "settings.xml").write_text(_settings(resolve))
    (folder / "ivy.xml").write_text(_module(wanted, resolve))
    command = [str(java.find()), *_proxy_flags(), f"-Divy.default.ivy.user.dir={folder}", "-jar"]
    command += [str(_ivy_jar()), "-settings", f"{folder}/settings.xml", "-cache", f"{folder}/cache"]
    command += [
        "-ivy",
        f"{folder}/ivy.xml",
        "-types",
        "jar",
        "bundle",
        "-retrieve",
        f"{folder}/jars/{LAYOUT}",
    ]
    with (
        (folder / "ivy.log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                log.write(line)
                if came := re.search(r"\[SUCCESSFUL ] .*!(\S+)\.jar", line):
                    advance(came[1])
        except BaseException:
            process.kill()
            raise


def _settings(resolve: bool) -> str:
    """Ivy's ibiblio resolver knows the address of Maven Central; the sums that count are our own."""
    mirror = os.environ.get("STREAMING_NN_MAVEN")
    root = f" root={quoteattr(mirror.rstrip('/') + '/')}" if mirror else ""
    return (
        '<ivysettings><settings defaultResolver="maven"/>'
        '<timeout-constraints><timeout-constraint name="bounded" connectionTimeout="15000" '
        'readTimeout="60000"/></timeout-constraints><resolvers>'
        f'<ibiblio name="maven" m2compatible="true"{root} checksums="" usepoms="{str(resolve).lower()}" '
        'timeoutConstraint="bounded"/></resolvers></ivysettings>'
    )


def _module(wanted: list[Coordinates], resolve: bool) -> str:
    dependencies = "".join(
        f'<dependency org="{jar.organisation}" name="{jar.module}" rev="{jar.revision}" '
        f'conf="default->default" transitive="{str(resolve).lower()}"/>'
        for jar in wanted
    )
    return (
        '<ivy-module version="2.0"><info organisation="streaming_nn" module="jars"/><configurations>'
        f'<conf name="default"/></configurations><dependencies>{dependencies}</dependencies></ivy-module>'
    )


def _proxy_flags() -> list[str]:
    """Java reads no https_proxy of its own."""
    proxy = urllib.parse.urlsplit(urllib.request.getproxies().get("https", ""))
    if not proxy.hostname:
        return []
    return [f"-Dhttps.proxyHost={proxy.hostname}", f"-Dhttps.proxyPort={proxy.port or 80}"]


def _pyspark_jars() -> Path:
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise RuntimeError("pyspark must be installed: it ships the Ivy that fetches jars")
    return Path(spec.origin).with_name("jars")


def _ivy_jar() -> Path:
    return next(_pyspark_jars().glob("ivy-*.jar"))


def _reason(folder: Path) -> str:
    """The line of Ivy's log that says most."""
    lines = (folder / "ivy.log").read_text().splitlines()
    telling = [line.strip() for line in lines if re.search(r"(?i)exception|error|not found|timed out", line)]
    return telling[0] if telling else "Ivy gave no reason"


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yields a function that counts one jar more: a bar on a terminal, else a line at every tenth."""
    console = Console(stderr=True)
    if not console.is_terminal:
        _say(f"fetching {title}: {total} jars, this once")
        yield _counter(title, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[jar]}"), console=console, transient=True) as bars:
        task = bars.add_task(f"fetching {title}, this once", total=total, jar="")
        yield lambda jar: bars.update(task, advance=1, jar=jar)


def _counter(title: str, total: int) -> Callable[[str], None]:
    done = 0

    def advance(jar: str) -> None:
        nonlocal done
        done += 1
        if done % 10 == 0:
            _say(f"fetching {title}: {done} of {total} jars")

    return advance


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def write_lists() -> None:
    """Resolve both sets from ROOTS and write their lists anew; for developers, after a change of version."""
    shipped = {re.sub(r"-\d.*", "", jar.name) for jar in _pyspark_jars().glob("*.jar")}
    for name, roots in ROOTS.items():
        with tempfile.TemporaryDirectory() as folder:
            ivy(Path(folder), [Coordinates(*root.split(":")) for root in roots], _say, resolve=True)
            home = Path(folder, "jars")
            jars = {str(jar.relative_to(home)): _sha256(jar) for jar in sorted(home.rglob("*.jar"))}
        if name == "connector":  # these land beside the jars that PySpark ships, which must not come twice
            jars = {path: digest for path, digest in jars.items() if coordinates(path).module not in shipped}
        _list_of(name).write_text("".join(f"{digest}  {path}\n" for path, digest in jars.items()))


if __name__ == "__main__":
    write_lists()
