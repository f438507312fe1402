"""What the page shows of records: the newest rows with their predictions, and rejected records."""

from itertools import takewhile
from math import isqrt
from typing import Any

from streaming_nn.records.schema import Schema, schema_from
from streaming_nn.versions.version import Manifest
from streaming_nn.versions.version_log import VersionLog

VERSIONS = 20  # whose samples are shown together
ROWS = 160  # at most
REJECTED = 16
SMALLEST = 7  # pixels of a side: a smaller square is hardly a picture


def samples(log: VersionLog, number: int | None, most: int = ROWS) -> dict[str, Any]:
    """Return the samples of the newest versions up to a number as JSON-able values; None: of the newest ones.

    `rows` and `rejected` are as `spark.samples` made them, each with its `version`, the newest first.
    `columns` are the names of the inputs, `side` the pixels of a square picture, or null.
    """
    manifests = _manifests(log, number)
    rows = [
        {"version": manifest.number, **row}
        for manifest in manifests
        for row in reversed(manifest.samples.get("rows", ()))
    ][:most]
    rejected = [
        {"version": manifest.number, **record}
        for manifest in manifests
        for record in manifest.samples.get("rejected", ())
    ][:REJECTED]
    learner = manifests[0].learner if manifests else {}
    schema = schema_from(manifests[0].schema) if manifests and manifests[0].schema else None
    return {
        "rows": rows,
        "rejected": rejected,
        "classes": learner.get("classes"),
        "targets": learner.get("targets"),
        "multilabel": bool(learner.get("multilabel")),
        "columns": list(schema.input_columns) if schema and not _is_array(schema) else None,
        "side": _side(schema, rows),
    }


def _manifests(log: VersionLog, number: int | None) -> list[Manifest]:
    """Return the manifests of the newest kept versions, the newest first; a damaged one is left out."""
    head = log.head_number()
    newest = head if number is None else number
    if head is None or newest is None or not 0 <= newest <= head:
        return []
    found = log.readable(range(newest, max(newest - VERSIONS, -1), -1))
    return [*takewhile(lambda manifest: manifest.kept, found)]


def _is_array(schema: Schema) -> bool:
    return isinstance(schema.features, str)


def _side(schema: Schema | None, rows: list[dict[str, Any]]) -> int | None:
    """Return the side of a square picture if rows are arrays of as many numbers, none of them negative."""
    inputs = [row["inputs"] for row in rows if row["inputs"]]
    if schema is None or not _is_array(schema) or not inputs:
        return None
    side = isqrt(len(inputs[0]))
    is_square = side >= SMALLEST and side * side == len(inputs[0])
    return (
        side
        if is_square and all(value is not None and value >= 0 for row in inputs for value in row)
        else None
    )
