"""What Spark's workers have to know of these tests."""

import pytest
from paths import ROOT
from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def oracles(spark: SparkSession) -> None:
    """Let the workers import the learners of the tests."""
    spark.sparkContext.addPyFile(str(ROOT / "tests" / "support" / "oracles.py"))
