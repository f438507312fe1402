"""A record's weight: it is decoded as one column more than the schema has, and then split off."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.records.reasons import WEIGHT_MISSING, WEIGHT_NEGATIVE
from streaming_nn.records.schema import Schema
from streaming_nn.records.types import Rejection


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
    """Return the rejections with the weight's name where it was decoded as an array's last element."""
    last = f"{schema.features}[{schema.inputs}]"
    return [each._replace(field=schema.weight or "") if each.field == last else each for each in rejected]
