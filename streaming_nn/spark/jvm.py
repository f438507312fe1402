"""Spark's JVM: start it, relay what it prints, and report in one line why it did not start."""

import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.java_gateway import launch_gateway

from streaming_nn.spark import temporary

# Spark starts every JVM with this module, of which the JVM warns; no option of either prevents that
NOISE = "WARNING: Using incubator modules: jdk.incubator.vector"
# A query's error reaches Python; what its thread throws beyond that is that a signal has ended the JVM too
QUERY_THREAD = 'Exception in thread "stream execution thread'
TRACE = ("\t", "Caused by: ")  # beginnings of the lines that follow
EXCEPTION = 'Exception in thread "main" '
LOGGED = re.compile(r"[\d:/ ]+ ERROR \S+: (.*)")
REMARKS = ("WARNING", "NOTE", "Picked up")  # beginnings of lines that come before the reason
VARIABLES = (  # that Spark's scripts and its JVM read
    *("SPARK_HOME", "SPARK_CONF_DIR", "PYSPARK_SUBMIT_ARGS", "SPARK_SUBMIT_OPTS", "SPARK_LOCAL_DIRS"),
    *("SPARK_LOCAL_IP", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"),
)
# What the system reports in a Java exception, which names no file
NOT_WRITTEN = ("No space left on device", "Disk quota exceeded", "Read-only file system", "File too large")
OURS = "127.0.0.1"  # of SPARK_LOCAL_IP, which `session` sets
LAST_LINES = 5.0  # seconds to read them after a JVM has ended


class Relay(threading.Thread):
    """Prints the lines of a JVM's stderr to this process's, which may be another one at any time."""

    def __init__(self, lines: IO[str]) -> None:
        super().__init__(name="stderr of Spark's JVM", daemon=True)
        self._lines, self._lock = lines, threading.Lock()
        self._held: list[str] | None = None

    def run(self) -> None:
        """Read until the JVM ends."""
        trace = False  # of a query's thread
        for line in self._lines:
            trace = line.startswith(QUERY_THREAD) or (trace and line.startswith(TRACE))
            if trace or line.rstrip() == NOISE:
                continue
            with self._lock:
                if self._held is not None:
                    self._held.append(line)
                    continue
            _print(line)

    def hold(self) -> None:
        """Keep what comes, until `take`."""
        with self._lock:
            self._held = []

    def take(self) -> list[str]:
        """Return what was kept; print what comes from now on."""
        with self._lock:
            held, self._held = self._held or [], None
        return held


def _print(line: str) -> None:
    with suppress(OSError, ValueError):  # stderr is closed
        print(line, end="", file=sys.stderr, flush=True)


_relay: Relay | None = None  # of this process's JVM: it has one in its life


@contextmanager
def started(options: Mapping[str, str]) -> Iterator[None]:
    """Start the JVM, unless this process has one; the block starts Spark's context in it.

    Raise RuntimeError in one line if either fails; the pages that the JVM prints then are dropped.
    """
    relay, variables = None, [name for name in VARIABLES if os.environ.get(name) not in (None, "", OURS)]
    try:
        relay = _hold(options)
        yield
    except (PySparkException, Py4JError, OSError) as error:
        read = f" (it read {', '.join(variables)})" if variables else ""
        reason = _reason(error)
        reason = not_written(reason, temporary.directory()) or reason
        raise RuntimeError(f"Spark did not start: {reason}{read}") from None
    finally:
        for line in relay.take() if relay else ():
            _print(line)


def _hold(options: Mapping[str, str]) -> Relay | None:
    """Return the relay, which keeps the JVM's lines; None: the JVM is not ours, as with spark-submit."""
    global _relay
    if SparkContext._gateway is not None:
        if _relay is not None:
            _relay.hold()
        return _relay
    ours, theirs = os.pipe()
    _relay = Relay(os.fdopen(ours, encoding="utf-8", errors="replace"))
    _relay.hold()
    _relay.start()
    conf = SparkConf(loadDefaults=False)
    for name, value in options.items():
        conf.set(name, value)
    try:
        gateway = launch_gateway(conf, {"stderr": theirs})  # type: ignore[no-untyped-call]
    finally:
        os.close(theirs)
    SparkContext._ensure_initialized(gateway=gateway)
    return _relay


def _reason(error: Exception) -> str:
    """Return why Spark did not start, in one line: from the error, or from what its JVM has printed."""
    lines: list[str] = []
    if _relay is not None:
        if not isinstance(error, Py4JJavaError):  # the JVM has ended
            _relay.join(LAST_LINES)
        lines = [line.strip() for line in _relay.take() if line.strip()]
    named = isinstance(error, Py4JJavaError) or getattr(error, "filename", None)
    return in_one_line(error) if named else _printed(lines) or in_one_line(error)


def _printed(lines: Sequence[str]) -> str:
    """Return the line that has the reason: an exception, an error that was logged, or the first one."""
    exceptions = [line.removeprefix(EXCEPTION) for line in lines if line.startswith(EXCEPTION)]
    logged = [found[1] for found in map(LOGGED.match, lines) if found]
    others = [line for line in lines if not line.startswith(REMARKS)]
    return next(iter([*exceptions, *logged, *others]), "")


def not_written(text: str, *directories: str | Path) -> str:
    """Return what the system reports if something could not be written, with the directories; else ""."""
    words = next((words for words in NOT_WRITTEN if words in text), None)
    return f"{words}; it writes to {' and '.join(map(_describe, directories))}" if words else ""


def _describe(directory: str | Path) -> str:
    path = Path(str(directory).removeprefix("file://"))
    try:
        free = shutil.disk_usage(path).free
    except OSError:  # it is elsewhere, or was deleted
        return str(path)
    return f"{path} ({free / 1e9:.2f} GB free)"


def in_one_line(error: BaseException) -> str:
    """Return what happened in one line: Spark's errors have pages of JVM frames."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = next((x for x in reversed(lines) if "Error: " in x and not x.startswith("at ")), lines[0])
    # py4j's first line has no information
    if ours.startswith("An error occurred while calling") and len(lines) > 1:
        ours = lines[1].removeprefix(": ")
    return ours[:500]
