"""The position of a Spark source, without Spark."""

from pathlib import Path
from typing import Any

import pytest

from streaming_nn.settings import Settings
from streaming_nn.spark.sources.spark_source import SparkSource
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit


@pytest.mark.parametrize("checkpoint", ["", "kept"])
def test_a_run_that_has_learned_nothing_leaves_no_checkpoint_but_a_named_one(
    checkpoint: str, tmp_path: Path
) -> None:
    """Its planned rows would be the next run's first ones, also if that reads another path."""
    settings = Settings(model=tmp_path, source={"format": "text", "checkpoint": checkpoint})
    spark: Any = None
    source = SparkSource(spark, settings, VersionLog(tmp_path))
    for directory in (source.checkpoint, tmp_path / "sources" / "csv"):
        (directory / "offsets").mkdir(parents=True)
    source.forget()
    assert source.checkpoint.exists() is bool(checkpoint)
    assert (tmp_path / "sources" / "csv").exists()
    source.forget()
