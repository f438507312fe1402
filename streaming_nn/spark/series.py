"""Lagged values of records: what `nn.series` computes, for the rows of record batches."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn.nn.learner import Batch, Learner, ServedBatch, State, initial
from streaming_nn.nn.series import ALL, UNKNOWN, Histories, Lags, empty
from streaming_nn.records.schema import AS_OF_VERSION, Schema, schema_from

if TYPE_CHECKING:  # checks before Spark need no PyArrow
    import pyarrow as pa

    from streaming_nn.records.decode import Decoded

LATEST = 1 << 53  # ms: a later time, which no clock has, is taken as this


def initial_state(learner: Learner[Any], options: Mapping[str, Any]) -> State[Any]:
    """Return the state before the first record; `options` are the schema's."""
    series = empty(lags_of(schema_from(options))) if options.get("lags") else ()
    return initial(learner)._replace(series=series)


def lags_of(schema: Schema) -> Lags:
    """Return the schema's lags; a field's index is that among the values of `_values`."""
    lags = tuple((i, lag) for i, each in enumerate(schema.lagged.values()) for lag in each)
    expiry = round(schema.series_expiry * 1000) or None
    return Lags(lags, len(schema.lagged), 1 if schema.series is None else schema.max_series, expiry)


class RecordSeries:
    """Adds lagged values to the rows of a micro-batch's records, in their order."""

    def __init__(self, schema: Schema, state: State[Any]) -> None:
        """Start with a version's state; ValueError: it has no series, although the schema has lags."""
        if not state.series:
            raise ValueError("the version must have series, because its schema has lags; it has none")
        self.histories = Histories(lags_of(schema), state.series)
        names, columns = [*schema.lagged], schema.columns
        self._as_served = schema.lags_as_of == AS_OF_VERSION
        self._columns = [-1 if name == schema.label else columns.index(name) for name in names]

    def learn(self, batch: "pa.RecordBatch", rows: "Decoded") -> Batch | ServedBatch:
        """Return labeled rows as they are learned and as they are served; their values join the series."""
        assert rows.y is not None
        keys, times = _keys(rows), record_times(batch)[rows.kept]
        values = np.column_stack([rows.y if i < 0 else rows.x[:, i] for i in self._columns])
        served = np.column_stack([rows.x, self.histories.serve(keys, times)])
        x = np.column_stack([rows.x, self.histories.learn(keys, times, values)])
        if self._as_served:
            return Batch(served, rows.y, rows.w)
        return ServedBatch(Batch(x, rows.y, rows.w), served)

    def serve(self, batch: "pa.RecordBatch", rows: "Decoded") -> NDArray[np.float64]:
        """Return rows (rows, inputs) with the lagged values of the version."""
        times = record_times(batch)[rows.kept]
        return np.column_stack([rows.x, self.histories.serve(_keys(rows), times)])


def series_of(schema: Schema, state: State[Any]) -> RecordSeries | None:
    """Return what adds lagged values to a micro-batch's rows; None: the schema has no lags."""
    return RecordSeries(schema, state) if schema.lags else None


def _keys(rows: "Decoded") -> Any:
    return [ALL] * len(rows.kept) if rows.keys is None else rows.keys


def record_times(batch: "pa.RecordBatch") -> NDArray[np.int64]:
    """Return the records' times in ms since 1970, UNKNOWN of one without a time.

    Our reader has milliseconds, Spark has timestamps.
    """
    import pyarrow as pa

    if "timestamp" not in batch.schema.names:
        return np.full(batch.num_rows, UNKNOWN, np.int64)
    times = batch.column("timestamp")
    if not pa.types.is_integer(times.type):
        times = times.cast(pa.timestamp("ms", times.type.tz), safe=False).cast(pa.int64())
    found: NDArray[np.int64] = times.fill_null(UNKNOWN).to_numpy(zero_copy_only=False)
    return np.clip(found, UNKNOWN, LATEST)
