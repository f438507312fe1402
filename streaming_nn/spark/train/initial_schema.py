"""The schema of a new model: what the settings name, and what its first records show of the rest."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from streaming_nn.records.labels import Label
from streaming_nn.records.schema import Schema, schema_from, width
from streaming_nn.settings import Settings
from streaming_nn.spark.signals import pause

if TYPE_CHECKING:  # imports PyArrow, which checks before Spark need not
    from streaming_nn.records.decode import Values
    from streaming_nn.records.infer_schema import InferredSchema

logger = logging.getLogger(__name__)

RECORDS = 1000  # from which width and classes are inferred
MIN_RECORDS = 100  # from fewer they never are
NOT_GIVEN = (  # options of a schema that inference finds, or needs not
    *("inputs", "classes", "max_bytes"),
    *("lags", "lags_as_of", "series", "max_series", "series_expiry"),
)
PATIENCE = 10  # seconds of waiting for RECORDS, after which MIN_RECORDS are enough


class FirstRecords(Protocol):
    """What has first records to look at: a source."""

    name: str

    def first_values(self, rows: int) -> list[bytes | None]:
        """Read the values of the first records, at most `rows`."""


def read_schema(source: FirstRecords, settings: Settings) -> Schema:
    """Return the settings' schema; width and classes that they don't name are inferred from the records.

    Raise ValueError if they cannot be.
    """
    inputs = _known_width(settings)
    if inputs is not None and not is_inferred(settings):
        return complete_schema(settings, inputs, None)
    inferred = infer(_wait_for_values(source, settings), settings)
    kind = "regression" if inferred.classes is None else f"classes {list(inferred.classes)}"
    logger.info("inferred from %s records: %d features, %s", f"{inferred.records:,}", inferred.inputs, kind)
    for remark in inferred.remarks:
        logger.info("  %s", remark)
    return complete_schema(settings, inferred.inputs, inferred.classes)


def is_inferred(settings: Settings) -> bool:
    """Return whether the width or the classes of a new model are inferred from records."""
    records = settings.records
    known = records.regression or isinstance(records.classes, list) or isinstance(records.label, list)
    return _known_width(settings) is None or not known


def _known_width(settings: Settings) -> int | None:
    records = settings.records
    return records.inputs or width(records.features, records.categories, records.datetimes)


def require_records(name: str, records: int, most: str = "") -> None:
    """Raise ValueError if a source has too few records to infer anything from; `most`: "at most " so many."""
    if records < MIN_RECORDS:
        raise ValueError(
            f"{name} has {most}{records} records, and width and classes are inferred from {MIN_RECORDS} or "
            "more: set records.inputs and records.classes"
        )


def complete_schema(settings: Settings, inputs: int, classes: tuple[Label, ...] | None) -> Schema:
    """Return the settings' schema; of inputs and classes those that the settings don't name are given."""
    records = settings.records
    inputs = _known_width(settings) or inputs
    if records.regression:
        classes = None
    elif isinstance(records.classes, list):
        classes = tuple(records.classes)
    grow = records.classes == "grow"
    return schema_from({**record_options(settings), "inputs": inputs, "classes": classes, "grow": grow})


def record_options(settings: Settings, only_set: bool = False) -> dict[str, Any]:
    """Return the settings of the records as a schema has them: of an Avro schema's file, the content."""
    options = settings.records.model_dump(
        exclude={"regression"}, exclude_unset=only_set, exclude_none=only_set
    )
    if options.get("avro_schema") is not None:
        options["avro_schema"] = _read_avro_schema(options["avro_schema"])
    return options


def _read_avro_schema(file: str) -> str:
    try:
        return json.dumps(json.loads(Path(file).read_text("utf-8")), separators=(",", ":"))
    except OSError as error:
        raise ValueError(f"setting records.avro_schema: cannot read {file!r}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"setting records.avro_schema: {file!r} is not JSON: {error}") from None


def infer(values: "Values", settings: Settings) -> "InferredSchema":
    """Infer width and classes from the first records, with the settings of the rest; ValueError as there."""
    from streaming_nn.records.infer_schema import infer_schema

    records, options = settings.records, record_options(settings)
    given = {name: value for name, value in options.items() if name not in NOT_GIVEN}
    grow = records.classes == "grow"
    return infer_schema(values, regression=records.regression, grow=grow, **given)


def _wait_for_values(source: FirstRecords, settings: Settings) -> list[bytes | None]:
    """Read the first records; wait for them unless `train.once` is set."""
    waited = 0
    while True:
        values = source.first_values(RECORDS)
        if len(values) >= (RECORDS if waited < PATIENCE and not settings.train.once else MIN_RECORDS):
            return values
        if settings.train.once:
            require_records(source.name, len(values))
        if waited == 0:
            logger.info(
                "waiting for records to infer width and classes from: %s has %s, %s or more are needed",
                *(source.name, f"{len(values):,}", f"{MIN_RECORDS:,}"),
            )
        waited += 1
        pause(1)
