"""Verify: a range, a difference and its reason by the task alone; and on a real broker and a real Spark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from filling import rows, rows_of
from pyspark.sql import SparkSession

from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, Counts, Learner, initial
from streaming_nn.nn.state_dict import flatten, unflatten
from streaming_nn.settings import Settings
from streaming_nn.spark.replay import verify as module
from streaming_nn.spark.replay.tasks import Replayed
from streaming_nn.spark.replay.verify import verify
from streaming_nn.spark.train.runner import learn_tasks
from streaming_nn.versions.repair import check
from streaming_nn.versions.retention import prune
from streaming_nn.versions.rollback import rollback
from streaming_nn.versions.version import Manifest, Tensors, Version, state_digest
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

NO_SPARK: Any = None


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Learn chunks from `filling.rows` instead of a topic; return offsets that the topic shall not have."""
    x, y = rows(100)
    absent: set[int] = set()

    def learn_chunk(
        spark: object,
        kafka: object,
        chunk: Sequence[Manifest],
        learners: Mapping[int, tuple[Learner[Any], ...]],
        states: Sequence[Tensors],
        digests: Mapping[int, str],
    ) -> list[Replayed]:
        replayed = []
        state = unflatten(initial(learners[chunk[0].number][0]), states[0])
        for manifest in chunk:
            begin, end = manifest.ranges["t"][0]
            offsets = [offset for offset in range(begin, end) if offset not in absent]
            if not offsets:
                continue
            (learner,) = learners[manifest.number]
            state, counts = learn_tasks(learner, state, [[Batch(x[offsets], y[offsets])]])
            digest = state_digest(flatten(state))
            replayed.append(Replayed(manifest.number, 0, digest, counts, {}, flatten(state)))
            if digest != digests[manifest.number]:
                break
        return replayed

    monkeypatch.setattr(module, "learn_chunk", learn_chunk)
    monkeypatch.setattr(module, "check_available", lambda kafka, manifests: None)
    return absent
