"""Records of several series, and a model of them that was learned without Spark."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Learner, report
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema
from streaming_nn.spark.series import initial_state
from streaming_nn.spark.tasks import learn_records
from streaming_nn.spark.train.micro_batch import Work, combine_results
from streaming_nn.versions.version_log import VersionLog

SCHEMA = Schema(2, None, ("hour", "heat"), "load", lags={"load": (1, 3), "heat": (1,)}, series="meter")
START = 1_700_000_000_000  # ms
COLUMNS = ("hour", "heat", "load@lag_1", "load@lag_3", "heat@lag_1", "load@age")


def readings(count: int, seed: int = 0) -> pd.DataFrame:
    """Return readings of five meters, of which some follow each other quickly and some pause."""
    rng = np.random.default_rng(seed)
    level, rows = rng.normal(size=5), []
    for at in np.cumsum(rng.choice([0, 250, 1_000, 60_000], count, p=[0.1, 0.5, 0.38, 0.02])).tolist():
        meter = int(rng.choice(5, p=[0.4, 0.3, 0.2, 0.08, 0.02]))
        level[meter] = 0.9 * level[meter] + rng.normal()
        hour, heat = at / 3_600_000, float(rng.normal())
        rows.append((START + at, f"m{meter}", hour, heat, float(level[meter] + heat)))
    return pd.DataFrame(rows, columns=["at", "meter", "hour", "heat", "load"])


def encoded(frame: pd.DataFrame) -> list[bytes]:
    """Return the readings as records, without their times."""
    return [json.dumps(row).encode() for row in frame.drop(columns="at").to_dict("records")]


def inputs(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Return what a learner learns of them (rows, COLUMNS), by pandas."""
    by = frame.groupby("meter")
    lagged = [by.load.shift(1), by.load.shift(3), by.heat.shift(1), by["at"].diff() / 1000]
    return np.column_stack([frame.hour, frame.heat, *lagged])


def record_batch(values: Sequence[bytes | None], at: Sequence[int], first: int = 0) -> pa.RecordBatch:
    """Return records as our reader does."""
    n = len(values)
    return pa.record_batch(
        {
            "timestamp": pa.array(at, pa.int64()),
            "topic": ["t"] * n,
            "partition": pa.array([0] * n, pa.int32()),
            "offset": pa.array(range(first, first + n), pa.int64()),
            "key": pa.nulls(n, pa.binary()),
            "value": pa.array(values, pa.binary()),
            "headers": pa.nulls(n, pa.string()),
        }
    )


def learner_of(schema: Schema = SCHEMA, **options: Any) -> Learner[Any]:
    """Return a small learner of the records."""
    return learner_from({"hidden": [4], "mini_batch": 4, **schema.learner_options, **options})


def commit_model(directory: Path, count: int = 120, size: int = 40, **options: Any) -> VersionLog:
    """Learn readings in micro-batches of this size, each of which becomes a version."""
    log, frame, learner = VersionLog(directory), readings(count), learner_of(**options)
    state, values = initial_state(learner, SCHEMA.options()), encoded(frame)
    described: dict[str, Any] = {"learner": learner.options(), "schema": SCHEMA.options()}
    head = log.commit(None, flatten(state), **described)
    for start in range(0, count, size):
        work, rows = Work(learner, SCHEMA, state, samples=5), slice(start, start + size)
        batch = record_batch(values[rows], frame["at"][rows].tolist(), start)
        learned = combine_results(work, [learn_records(learner, SCHEMA, state, [batch], None, samples=5)])
        state, counts = learned.state, learned.counts._asdict()
        more = {"metrics": report(learner, state), "samples": dict(learned.samples)}
        head = log.commit(head, flatten(state), counts=counts, **described, **more)
    return log
