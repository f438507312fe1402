"""A record's weight: it is decoded as one column more than the schema has, and then split off."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records.labels import parse_shown
from streaming_nn.records.reasons import (
    FIELD_MISSING,
    NOT_A_NUMBER,
    NOT_FINITE,
    WEIGHT_MISSING,
    WEIGHT_NEGATIVE,
    BadRecord,
)
from streaming_nn.records.schema import Schema
from streaming_nn.records.types import Rejection
from streaming_nn.records.values import LARGEST, is_gap, to_number


@lru_cache(8)
def widen(schema: Schema) -> Schema:
    """Return the schema with the weight as its last column; to an array the decoder appends it."""
    if isinstance(schema.features, str):
        return replace(schema, inputs=schema.inputs + 1)
    assert schema.weight is not None
    return replace(schema, inputs=schema.inputs + 1, features=(*schema.features, schema.weight), weight=None)


def split(
    schema: Schema, x: NDArray[Any], kept: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.float32], list[Rejection]]:
    """Return the features, the weights, and the rejections of rows whose weight is missing or negative."""
    w = x[:, -1].astype(np.float32)
    rejected = [
        Rejection(
            int(kept[j]),
            WEIGHT_NEGATIVE if w[j] < 0 else WEIGHT_MISSING,
            schema.weight or "",
            str(w[j]),
        )
        for j in np.flatnonzero(~(w >= 0))
    ]
    return np.ascontiguousarray(x[:, :-1]), w, rejected


def name_field(schema: Schema, rejected: Sequence[Rejection]) -> list[Rejection]:
    """Return the rejections with the weight's name, and one reason for a weight that is missing.

    It was decoded as a field of its own, or as an array's last element.
    """
    weight, last = schema.weight or "", f"{schema.features}[{schema.inputs}]"
    return [
        each._replace(field=weight, reason=WEIGHT_MISSING if _is_missing(schema, each) else each.reason)
        if each.field in (weight, last)
        else each
        for each in rejected
    ]


def _is_missing(schema: Schema, rejection: Rejection) -> bool:
    """Return whether a field was rejected since it is absent, null, NaN or a word for a gap."""
    if rejection.reason != NOT_A_NUMBER:
        return rejection.reason == FIELD_MISSING
    return rejection.value in ("", "nan") or is_gap(parse_shown(rejection.value), schema.rules)


def check(schema: Schema, value: Any) -> None:
    """Raise BadRecord, as `decode` would reject its record, unless a value is a weight."""
    if is_gap(value, schema.rules):
        raise BadRecord(WEIGHT_MISSING, schema.weight or "", value)
    w = to_number(value, schema.rules, schema.weight or "")
    if not 0 <= w <= LARGEST:
        reason = WEIGHT_MISSING if w != w else NOT_FINITE if abs(w) > LARGEST else WEIGHT_NEGATIVE
        raise BadRecord(reason, schema.weight or "", value)
