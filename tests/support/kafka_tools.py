"""Kafka's own tools for the command line: a jar beside those of the broker, downloaded once for the tests."""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from streaming_nn import cache
from streaming_nn.kafka import jars, java

VERSION = "4.1.0"  # the broker's
SHA256 = "1c2836cee57a947d2db461410ac5008ca80facbd19b7ed9d284ca883782ea741"
CONSUMER_GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"


def jar() -> Path:
    """Return the jar, from the cache folder or from Maven (0.6 MB)."""
    kept = cache.folder() / f"kafka-tools-{VERSION}.jar"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=kept.parent) as directory:
            wanted = [jars.Coordinates("org.apache.kafka", "kafka-tools", VERSION)]
            jars.ivy(Path(directory), wanted, lambda name: None, resolve=False)
            (found,) = Path(directory, "jars").rglob("*.jar")
            found.replace(kept)
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == SHA256
    return kept


def describe_group(bootstrap: str, group: str) -> list[dict[str, str]]:
    """Return what `kafka-consumer-groups.sh --describe` prints of a group, a row for each partition."""
    classes = os.pathsep.join(map(str, [jar(), *jars.broker()]))
    flags = ["--bootstrap-server", bootstrap, "--describe", "--group", group]
    command = [
        str(java.find()),
        "-Xmx128m",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        classes,
        CONSUMER_GROUPS,
        *flags,
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    titles, *rows = [line.split() for line in ran.stdout.splitlines() if line.strip()]
    return [dict(zip(titles, row, strict=False)) for row in rows]
