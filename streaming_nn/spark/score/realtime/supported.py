"""What real-time mode supports, as far as that is known before Spark starts."""

import os
import re
from typing import Any

from streaming_nn.settings import Settings
from streaming_nn.versions.version import Manifest

UNSET: dict[str, Any] = {  # settings of records that it does not have, with their defaults
    "datetimes": {},
    "encoding": "utf-8",
    "explode": None,
    "lags": [],
}


def check(manifest: Manifest) -> None:
    """Raise ValueError, which names the batch engine, for a version that the Java classes do not support."""
    schema = manifest.schema
    wrong = None
    if schema["format"] == "avro":
        wrong = "records must be json, csv or packed; got avro"
    elif changed := [name for name, default in UNSET.items() if schema.get(name, default) != default]:
        wrong = f"records.{changed[0]} must not be set; got {schema[changed[0]]!r}"
    if wrong:
        raise ValueError(f"score --engine realtime: {wrong}; use --engine batch")


def check_slots(settings: Settings, partitions: int) -> None:
    """Raise ValueError if a local master has fewer threads than the topic has partitions."""
    master = settings.spark.get("spark.master", "local[*]")
    local = re.fullmatch(r"local(?:\[(\*|\d+)(?:,\s*\d+)?\])?", master)
    if local is None:
        return
    slots = (os.cpu_count() or 1) if local[1] == "*" else int(local[1] or 1)
    if slots < partitions:
        raise ValueError(
            f"score --engine realtime: the master must have a thread for each of the {partitions} partitions "
            f"of {settings.score.topic!r}; got {slots} with {master}; use --master 'local[{partitions}]', or "
            "--engine batch"
        )
