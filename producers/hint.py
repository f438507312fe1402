"""The command that learns what was sent."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streaming_nn.records import datetimes
from streaming_nn.records.explain import to_toml
from streaming_nn.records.schema import Schema


def train_command(schema: Schema, topic: str, bootstrap: str | None, avro_schema: Path | None) -> str:
    """Return the `streaming-nn train` command, quoted for a shell, for records of the schema on a topic."""
    words = ["streaming-nn", "train"]
    words += [] if bootstrap is None else ["--bootstrap", bootstrap]
    words += [] if topic == "labeled" else ["--topic", topic]
    words += ["--regression"] if schema.classes is None else []
    for name, value in records_settings(schema, avro_schema).items():
        words += ["--set", f"records.{name}={to_toml(value)}"]
    return shlex.join(words)


def records_settings(schema: Schema, avro_schema: Path | None = None) -> dict[str, Any]:
    """Return the settings of `[records]` that are not the default."""
    found: dict[str, Any] = {
        "format": schema.format,
        "features": schema.features,
        "label": schema.label,
        "missing": schema.missing,
        "categories": schema.categories,
        "datetimes": {name: _not_default(options) for name, options in schema.datetimes.items()},
        "csv_columns": schema.csv_columns,
        "avro_schema": None if avro_schema is None else str(avro_schema),
    }
    usual = Schema(1)
    return {name: value for name, value in found.items() if value != getattr(usual, name)}


def _not_default(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value != datetimes.DEFAULTS[name]}
