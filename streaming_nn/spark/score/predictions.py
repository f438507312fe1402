"""Predictions as JSON: the Spark task that predicts unlabeled records with a version of the model."""

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic_core import to_json
from pyspark.accumulators import AccumulatorParam

from streaming_nn.nn.learner import Learner, State, point_prediction
from streaming_nn.records import reasons
from streaming_nn.records.chosen import field_reader
from streaming_nn.records.decode import Decoded
from streaming_nn.records.explode import ROW, explode_batch
from streaming_nn.records.labels import Label
from streaming_nn.records.schema import Schema
from streaming_nn.records.types import Rejection
from streaming_nn.spark.rejected import count_reason
from streaming_nn.spark.series import series_of
from streaming_nn.spark.tasks import decode_batch, freeze_imports, unpack

PREDICT_ROWS = 1024  # rows that are predicted at once: many more would need much memory

PREDICTED = "key binary, value binary, headers array<struct<key: string, value: binary>>"
HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))

PREDICTED_RECORD = ""  # outcome of a record that was predicted; a bad record's outcome is the reason
FILTERED_RECORD = "filtered"  # outcome of a record that has no prediction, by rule
CONTENT_TYPE = "content-type"
JSON_TYPE, EVENT_TYPE = "application/json", "application/cloudevents+json; charset=UTF-8"
CUT = "streaming_nn.cut"  # header that names what was too long to be copied: key or headers
OBJECT, ARRAY, NONE = ("object", "array", "none")  # how a prediction has its probabilities


# Upper bounds of counted latencies, in seconds; the last one has no bound
LATENCIES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, float("inf"))
SUM = "sum"  # of latencies, in milliseconds


@dataclass
class Outcomes:
    """The outcomes, or latencies, of records that are predicted here; in tasks it is an accumulator."""

    value: Counter[str]

    def add(self, counts: Counter[str]) -> None:
        """Add counts."""
        self.value.update(counts)


class OutcomeParam(AccumulatorParam[Counter[str]]):
    """How Spark adds up the tasks' counts of outcomes."""

    def zero(self, value: Counter[str]) -> Counter[str]:
        """Return no counts."""
        return Counter()

    def addInPlace(self, value1: Counter[str], value2: Counter[str]) -> Counter[str]:  # noqa: N802 (Spark's)
        """Add the second counts to the first."""
        value1.update(value2)
        return value1


def _decoded(header: Mapping[str, str]) -> dict[str, Any]:
    value = base64.b64decode(header["value"]) if "value" in header else None  # Spark's JSON has no null
    return {"key": header["key"], "value": value}


@dataclass(frozen=True)
class Predict:
    """Predict unlabeled records with the version that was broadcast; yield a row (PREDICTED) for each.

    Records that are filtered have none.
    """

    learner: Learner[Any]
    schema: Schema
    state: Any  # Broadcast[bytes]
    version_fields: dict[str, Any]  # fields of each prediction about its version
    headers: frozenset[str] = frozenset()  # lower-case names of the headers that are copied
    probabilities: str = OBJECT  # or ARRAY, NONE
    outcomes: Any = None  # Accumulator[Counter[str]] of the records by outcome; None: they are not counted
    latencies: Any = None  # the same, by latency
    cloudevents: bool = False  # each prediction is the data of an event
    longest: int = 256 << 10  # bytes of a key, headers or fields that are copied: a quarter of a message
    fields: tuple[str, ...] = ()  # of the record, that are in its prediction

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Predict the task's record batches; a bad record's prediction is null, with an error."""
        freeze_imports()
        yield from self.predict(unpack(self.learner, self.state.value), batches)

    def predict(self, state: State[Any], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Predict record batches by the version's state."""
        series = series_of(self.schema, state)
        read_fields = field_reader(self.schema, self.fields) if self.fields else None
        for records in batches:
            batch = explode_batch(self.schema, records)
            rows = decode_batch(batch, self.schema, labeled=False)
            if self.outcomes is not None:
                self.outcomes.add(_count_outcomes(rows))
            x = rows.x if series is None else series.serve(batch, rows)
            texts = pa.concat_arrays(
                [self._predictions(self._outputs(state.model, x)), _errors(rows.rejected)]
            )
            bad = np.array([each.position for each in rows.rejected], np.int64)
            positions = np.concatenate([rows.kept, bad])
            order = positions.argsort()
            if len(rows.filtered):  # nothing is predicted for them
                batch = batch.take(pa.array(positions[order]))
            texts = texts.take(pa.array(order))
            if read_fields is not None:
                texts = _join(texts, ',"fields":', self._fields(batch, read_fields))
            values = self._complete(texts, batch)
            if self.latencies is not None:
                self.latencies.add(count_latencies(batch.column("timestamp"), time.time()))
            key, headers = self._copied(batch)
            yield pa.record_batch({"key": key, "value": values.cast(pa.binary()), "headers": headers})

    def _copied(self, batch: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
        """Return the predictions' keys and headers. A long key is left out: it might fit into no message."""
        key, headers = batch.column("key"), self._headers(batch)
        long = pc.fill_null(pc.greater(pc.binary_length(key), self.longest), False)
        if not pc.any(long).as_py():
            return key, headers
        cut = {"key": CUT, "value": b"key"}
        rows = zip(headers.to_pylist(), long.to_pylist(), strict=True)
        headers = pa.array([[*(row or ()), cut] if too_long else row for row, too_long in rows], HEADERS)
        return pc.if_else(long, pa.scalar(None, key.type), key), headers

    def _fields(self, batch: pa.RecordBatch, read: Callable[[bytes], str]) -> pa.Array:
        texts = map(read, batch.column("value").to_pylist())
        return pa.array([text if len(text) <= self.longest else "null" for text in texts], pa.string())

    def _headers(self, batch: pa.RecordBatch) -> pa.Array:
        texts = batch.column("headers") if self.headers else pa.nulls(batch.num_rows, pa.string())
        if texts.null_count == len(texts) and not self.cloudevents:
            return pa.nulls(batch.num_rows, HEADERS)
        return pa.array([self._forwarded(text) for text in texts.to_pylist()], HEADERS)

    def _forwarded(self, text: str | None) -> list[dict[str, Any]] | None:
        """Return a prediction's headers: its own content type, and the others that are copied."""
        copied = [_decoded(h) for h in json.loads(text or "[]") if h["key"].lower() in self.headers]
        typed = [h for h in copied if h["key"].lower() == CONTENT_TYPE]
        others = [h for h in copied if h not in typed]
        if sum(len(h["key"]) + len(h["value"] or b"") for h in others) > self.longest:
            others = [{"key": CUT, "value": b"headers"}]
        if self.cloudevents:
            return [{"key": CONTENT_TYPE, "value": EVENT_TYPE.encode()}, *others]
        return [*({**h, "value": JSON_TYPE.encode()} for h in typed[:1]), *others] or None

    def _outputs(self, model: Any, x: NDArray[np.float64]) -> NDArray[Any]:
        starts = range(0, max(len(x), 1), PREDICT_ROWS)
        return np.concatenate([self.learner.predict(model, x[i : i + PREDICT_ROWS]) for i in starts])

    def _predictions(self, output: NDArray[Any]) -> pa.Array:
        """Return predictions as JSON without an end: by columns, since row by row costs most."""
        if self.learner.targets is not None:
            return _join('{"prediction":{', *_named_numbers(self.learner.targets, output), "}")
        if self.learner.classes is None:
            return _join('{"prediction":', _numbers(point_prediction(self.learner, output)[:, 0]))
        known = output[:, : len(self.learner.classes)]  # classes that grow may be fewer than the outputs
        choose = _that_apply if self.learner.multilabel else _most_probable
        parts: list[pa.Array | str] = ['{"prediction":', choose(known, self.learner.classes)]
        if self.probabilities == OBJECT:
            keys = [to_json(key) + b":" for key in label_keys(self.learner.classes)]
            parts += [',"probabilities":{', _probabilities(known, keys), "}"]
        elif self.probabilities == ARRAY:
            parts += [',"probabilities":[', _probabilities(known, [b""] * known.shape[1]), "]"]
        return _join(*parts)

    def _complete(self, texts: pa.Array, batch: pa.RecordBatch) -> pa.Array:
        """End each prediction with the fields of version and record; a topic's name needs no escape."""
        version = "," + to_json(self.version_fields).decode()[1:-1]
        partition, offset = (batch.column(name).cast(pa.string()) for name in ("partition", "offset"))
        topic = batch.column("topic")
        position: list[pa.Array | str] = [
            ',"topic":"',
            topic,
            '","partition":',
            partition,
            ',"offset":',
            offset,
        ]
        identity: list[pa.Array | str] = [partition, "-", offset]
        if ROW in batch.schema.names:
            row = batch.column(ROW).cast(pa.string())
            position, identity = [*position, ',"row":', row], [*identity, "-", row]
        values = _join(texts, version, *position, "}")
        return _events(values, topic, identity) if self.cloudevents else values


def _events(values: pa.Array, topic: pa.Array, identity: list[pa.Array | str]) -> pa.Array:
    """Return predictions as the data of CloudEvents; one that is sent twice has the same source and id."""
    source = _join('{"specversion":"1.0","type":"streaming-nn.prediction","source":"streaming-nn:', topic)
    identified = _join(source, '","id":"', *identity)
    return _join(identified, '","datacontenttype":"application/json","data":', values, "}")


def _join(*parts: pa.Array | str) -> pa.Array:
    """Join columns of strings, and strings that are the same in each row."""
    return pc.binary_join_element_wise(*parts, "")


def _most_probable(p: NDArray[np.float32], labels: Sequence[Label]) -> pa.Array:
    """Return each row's most probable label in JSON; null while there are no classes."""
    if not labels:
        return pa.array(["null"] * len(p), pa.string())
    return pa.array([to_json(label).decode() for label in labels]).take(pa.array(p.argmax(axis=1)))


def _that_apply(p: NDArray[np.float32], labels: Sequence[Label]) -> pa.Array:
    """Return the list of each row's labels that apply, in JSON."""
    texts = [to_json(label).decode() for label in labels]
    rows = (np.flatnonzero(row).tolist() for row in p > 0.5)
    return pa.array(["[" + ",".join(texts[i] for i in row) + "]" for row in rows], pa.string())


def _named_numbers(names: Sequence[str], output: NDArray[np.float32]) -> list[pa.Array | str]:
    """Return each row's targets after their names, as parts to be joined."""
    parts = list[pa.Array | str]()
    for name, column in zip(names, output.T, strict=True):
        parts += [("," if parts else "") + to_json(name).decode() + ":", _numbers(column)]
    return parts


def label_keys(labels: Sequence[Label]) -> list[str]:
    """Return the labels' keys in a JSON object, which are strings: "a" for "a", "1" for 1, "true" for true.

    If two labels would have the same key, such as 1 and "1", every key is its label in JSON: then "1" is the
    key of 1, and "\\"1\\"" that of "1". Predictor.java does the same.
    """
    in_json = [to_json(label).decode() for label in labels]
    keys = [label if isinstance(label, str) else text for label, text in zip(labels, in_json, strict=True)]
    return keys if len(set(keys)) == len(keys) else in_json


def _probabilities(p: NDArray[np.float32], keys: Sequence[bytes]) -> pa.Array:
    """Return each row's probabilities with six digits, after their keys: all rows have the same length."""
    if not np.isfinite(p).all() or not keys:
        return pa.array([_probabilities_of_row(row, keys) for row in p.tolist()], pa.string())
    text = np.tile(np.frombuffer(b",".join(key + b"0.000000" for key in keys), np.uint8), (len(p), 1))
    starts = np.cumsum([len(key) + 9 for key in keys]) - 9
    for start, digits in zip(starts, _six_digits(p).swapaxes(0, 1), strict=True):
        text[:, start : start + 8] = digits
    ends = np.arange(len(p) + 1, dtype=np.int32) * text.shape[1]
    return pa.StringArray.from_buffers(len(p), pa.py_buffer(ends), pa.py_buffer(text))


def _six_digits(p: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return each probability's eight characters (rows, classes, 8), such as 0.123456."""
    millionths = np.rint(p * np.float64(1e6)).astype(np.int32)
    text = np.full((*p.shape, 8), ord("."), np.uint8)
    for digit, unit in zip(
        (0, 2, 3, 4, 5, 6, 7), (1_000_000, 100_000, 10_000, 1000, 100, 10, 1), strict=True
    ):
        text[:, :, digit] = millionths // unit % 10 + ord("0")
    return text


def _probabilities_of_row(row: list[float], keys: Sequence[bytes]) -> str:
    return b",".join(key + to_json(round(p, 6)) for key, p in zip(keys, row, strict=True)).decode()


def _numbers(values: NDArray[Any]) -> pa.Array:
    """Return numbers as JSON; Arrow is faster, but writes what is not finite in another way."""
    wide = values.astype(np.float64)
    if np.isfinite(wide).all():
        return pa.array(wide).cast(pa.string())
    return pa.array([to_json(value).decode() for value in wide.tolist()])


def _errors(rejected: list[Rejection]) -> pa.Array:
    texts = ['{"prediction":null,"error":' + to_json(reasons.key(each)).decode() for each in rejected]
    return pa.array(texts, pa.string())


def count_latencies(timestamps: pa.Array, now: float) -> Counter[str]:
    """Count records by the time from their timestamp to `now`, in seconds since 1970, by its upper bound.

    One from the future, by another clock, has 0; one without a timestamp is not counted.
    """
    milliseconds = timestamps.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    times = milliseconds.to_numpy(zero_copy_only=False).astype(np.float64)
    seconds = np.maximum(now - times[times >= 0] / 1000, 0)
    counts = np.bincount(np.searchsorted(LATENCIES, seconds), minlength=len(LATENCIES)).tolist()
    by_bound = Counter({str(bound): n for bound, n in zip(LATENCIES, counts, strict=True)})
    by_bound[SUM] = round(float(seconds.sum()) * 1000)
    return +by_bound  # without zeros


def _count_outcomes(rows: Decoded) -> Counter[str]:
    counts = Counter({PREDICTED_RECORD: len(rows.kept), FILTERED_RECORD: len(rows.filtered)})
    for rejection in rows.rejected:
        count_reason(counts, reasons.key(rejection))
    return +counts  # without zeros
