"""What Spark's workers have to know of these tests."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def oracles(spark: SparkSession) -> None:
    """Let the workers import the learners of the tests."""
    spark.sparkContext.addPyFile(str(Path(__file__).with_name("oracles.py")))
