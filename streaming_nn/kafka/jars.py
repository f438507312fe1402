"""The jars that pip does not install, Spark's Kafka connector and a broker: downloaded once, verified.

Each set is listed jar by jar in `<set>.sha256`, in the format of sha256sum and with the paths of a Maven
repository, so that nothing is resolved on a user's machine: the Ivy that PySpark ships only downloads.
`python -m streaming_nn.kafka.jars` (for the project's developers) resolves and writes these lists.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

from streaming_nn import cache
from streaming_nn.kafka import java
from streaming_nn.progress import Progress, no_progress

logger = logging.getLogger(__name__)

ROOTS = {
    "connector": ["org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"],
    "broker": ["org.apache.kafka:kafka_2.13:4.1.0", "org.slf4j:slf4j-simple:1.7.36"],
}
TITLES = {"connector": "Spark's Kafka connector", "broker": "the embedded Kafka broker"}
LAYOUT = "[orgPath]/[module]/[revision]/[artifact]-[revision].jar"


class Coordinates(NamedTuple):
    """A jar's name in a Maven repository."""

    organisation: str
    module: str
    revision: str

    def __str__(self) -> str:
        return ":".join(self)


def connector(progress: Progress = no_progress) -> list[Path]:
    """Return Spark's Kafka connector and what it needs beyond the jars that PySpark ships, for `spark.jars`.

    The first call on a machine downloads 10 MB; later ones do not use the network.
    RuntimeError: no Java, or a download is not the listed jar; ConnectionError: no network.
    """
    return _jars("connector", progress)


def broker(progress: Progress = no_progress) -> list[Path]:
    """Return an Apache Kafka broker as a class path (43 MB the first time); raise as `connector` does."""
    return _jars("broker", progress)


def sums(name: str) -> dict[str, str]:
    """Return the sha256 of every jar of a set, by its path in a Maven repository."""
    lines = _list_of(name).read_text().splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def coordinates(path: str) -> Coordinates:
    """Return the name of the jar at `path` in a Maven repository."""
    *organisation, module, revision, _ = path.split("/")
    return Coordinates(".".join(organisation), module, revision)


def _list_of(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.sha256")


def _jars(name: str, progress: Progress) -> list[Path]:
    listed = sums(name)
    home = _home(name)
    if not _intact(home, listed):
        with _lock(home.with_suffix(".lock")):
            if not _intact(home, listed):  # another process may have installed it meanwhile
                _install(name, home, listed, progress)
    return [home / path for path in listed]


def _home(name: str) -> Path:
    """Return the set's directory, named by its list: another release of this package has another."""
    return cache.folder() / "jars" / f"{name}-{_sha256(_list_of(name))[:12]}"


def _intact(home: Path, listed: dict[str, str]) -> bool:
    """Return whether all jars are as listed; a jar is hashed only if its size or time has changed."""
    cache_file = home / "checked.json"
    try:
        checked = json.loads(cache_file.read_text())
        stamps = {path: _stamp(home / path) for path in listed}
    except (OSError, ValueError):
        return False
    changed = [path for path in listed if checked.get(path) != stamps[path]]
    wrong = [path for path in changed if _sha256(home / path) != listed[path]]
    if wrong:
        logger.warning("%s is not the listed file any more; downloading the set again", home / wrong[0])
    elif changed:
        _write_stamps(cache_file, stamps)
    return not wrong


def _stamp(jar: Path) -> list[int]:
    status = jar.stat()
    return [status.st_size, status.st_mtime_ns]


def _write_stamps(path: Path, stamps: dict[str, list[int]]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):  # a read-only cache works too, but is hashed at each start
        temporary.write_text(json.dumps(stamps))
        temporary.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _lock(lock: Path) -> Iterator[None]:
    """Allow one process at a time. On a file system without locks the rename alone is safe too."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        with suppress(OSError):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("waiting for another process that downloads %s", lock.stem)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(name: str, home: Path, listed: dict[str, str], progress: Progress) -> None:
    """Download into a temporary directory, verify, and only then rename it."""
    for left in home.parent.glob(f".{name}-*"):
        if left.stat().st_mtime < time.time() - 3600:  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=home.parent) as directory:
        downloaded = Path(directory, "jars")
        _download(name, [coordinates(path) for path in listed], Path(directory), progress)
        for path, digest in listed.items():
            _verify(downloaded / path, digest)
        _write_stamps(downloaded / "checked.json", {path: _stamp(downloaded / path) for path in listed})
        if home.exists():
            home.rename(Path(directory, "damaged"))
        try:
            downloaded.rename(home)
        except OSError:  # a process that could not lock may have been first, with the same files
            if not _intact(home, listed):
                raise


def _verify(jar: Path, digest: str) -> None:
    actual = _sha256(jar)
    if actual != digest:
        raise RuntimeError(f"{jar.name} must have the sha256 {digest}; got {actual} from the download")


def _download(name: str, wanted: list[Coordinates], directory: Path, progress: Progress) -> None:
    began, number, what = time.monotonic(), count(1), f"downloading {TITLES[name]}"
    logger.info("%s: %d jars, only this once", what, len(wanted))
    progress(what, 0, len(wanted))
    ivy(directory, wanted, lambda jar: progress(what, next(number), len(wanted)), resolve=False)
    missing = [str(jar) for jar in wanted if not (directory / "jars" / _path(jar)).exists()]
    if missing:
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ConnectionError(
            f"cannot download {missing[0]}{others} for {TITLES[name]} ({_find_reason(directory)}): "
            "check the network; behind a proxy set https_proxy, for a mirror of Maven Central set "
            f"STREAMING_NN_MAVEN to its address, or copy {cache.folder() / 'jars'} from a machine that has it"
        )
    seconds = time.monotonic() - began
    logger.info(
        "%s: %d jars in %.0f s, cached in %s", TITLES[name], len(wanted), seconds, cache.folder() / "jars"
    )


def _path(jar: Coordinates) -> str:
    organisation = jar.organisation.replace(".", "/")
    return f"{organisation}/{jar.module}/{jar.revision}/{jar.module}-{jar.revision}.jar"


def ivy(directory: Path, wanted: list[Coordinates], advance: Callable[[str], None], resolve: bool) -> None:
    """Download `wanted` into `directory`/jars with Ivy, with all their dependencies if `resolve` is set.

    `advance` is called with each jar's name. Ivy's output is in `directory`/ivy.log; it never reads ~/.m2 or
    ~/.ivy2. Jars that cannot be downloaded are missing afterwards.
    """
    (directory / "settings.xml").write_text(_settings(resolve))
    (directory / "ivy.xml").write_text(_module(wanted, resolve))
    command = [str(java.find()), *_proxy_flags(), f"-Divy.default.ivy.user.dir={directory}", "-jar"]
    command += [str(_ivy_jar()), "-settings", f"{directory}/settings.xml", "-cache", f"{directory}/cache"]
    command += [
        "-ivy",
        f"{directory}/ivy.xml",
        "-types",
        "jar",
        "bundle",
        "-retrieve",
        f"{directory}/jars/{LAYOUT}",
    ]
    with (
        (directory / "ivy.log").open("w") as log,
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
    """Return Ivy's settings; its ibiblio resolver has Maven Central's address, our lists have the sums."""
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
    """Return the flags for the proxy of https_proxy, which Java does not read."""
    proxy = urllib.parse.urlsplit(urllib.request.getproxies().get("https", ""))
    if not proxy.hostname:
        return []
    return [f"-Dhttps.proxyHost={proxy.hostname}", f"-Dhttps.proxyPort={proxy.port or 80}"]


def _pyspark_jars() -> Path:
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise RuntimeError("pyspark must be installed: it ships the Ivy that downloads jars")
    return Path(spec.origin).with_name("jars")


def _ivy_jar() -> Path:
    return next(_pyspark_jars().glob("ivy-*.jar"))


def _find_reason(directory: Path) -> str:
    """Return the most informative line of Ivy's log."""
    lines = (directory / "ivy.log").read_text().splitlines()
    errors = [line.strip() for line in lines if re.search(r"(?i)exception|error|not found|timed out", line)]
    return errors[0] if errors else "Ivy gave no reason"


def write_lists() -> None:
    """Resolve both sets from ROOTS and write their lists; for developers, after a change of version."""
    shipped = {re.sub(r"-\d.*", "", jar.name) for jar in _pyspark_jars().glob("*.jar")}
    for name, roots in ROOTS.items():
        with tempfile.TemporaryDirectory() as directory:
            ivy(Path(directory), [Coordinates(*root.split(":")) for root in roots], logger.info, resolve=True)
            home = Path(directory, "jars")
            jars = {str(jar.relative_to(home)): _sha256(jar) for jar in sorted(home.rglob("*.jar"))}
        if (
            name == "connector"
        ):  # these are added to the jars that PySpark ships, which must not be there twice
            jars = {path: digest for path, digest in jars.items() if coordinates(path).module not in shipped}
        _list_of(name).write_text("".join(f"{digest}  {path}\n" for path, digest in jars.items()))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_lists()
