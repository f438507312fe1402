"""Find the Java that Spark and the embedded broker run on, or raise with the command that installs it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

OLDEST = 17  # Spark 4 and Kafka 4 need it
OPTIONS = ("JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS")  # variables that each JVM reads
INSTALL = (
    "install it with `sudo apt install openjdk-17-jre-headless` on Debian and Ubuntu "
    "(openjdk-21-jre-headless where 17 is not offered), `brew install --cask temurin@17` on macOS"
)


def find() -> Path:
    """Return the `java` program of JAVA_HOME, else of PATH, which Spark's launcher uses too.

    RuntimeError: there is none or it is too old; the message is one line with the command that fixes it.
    """
    home = os.environ.get("JAVA_HOME")
    program = str(Path(home, "bin", "java")) if home else shutil.which("java")
    origin = f"JAVA_HOME is {home}" if home else f"PATH has {program}"
    if program is None:
        raise RuntimeError(f"Java {OLDEST} or newer is needed and none is on PATH: {INSTALL}")
    major = version(Path(program))
    if major is None:
        options = [name for name in OPTIONS if os.environ.get(name)]  # a wrong one ends every JVM
        by = f" with {' and '.join(options)}" if options else ""
        raise RuntimeError(f"Java {OLDEST} or newer is needed; {origin}, which does not run{by}: {INSTALL}")
    if major < OLDEST:
        raise RuntimeError(f"Java {OLDEST} or newer is needed; {origin}, which is Java {major}: {INSTALL}")
    return Path(program)


def version(program: Path) -> int | None:
    """Return the major version that `program` reports (8, 11, 17 …), or None if it is not a working Java."""
    try:
        ran = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', ran.stderr + ran.stdout)
    return int(found[1]) if ran.returncode == 0 and found else None
