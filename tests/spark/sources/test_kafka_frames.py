"""A session of the user's own, without the Kafka connector or with another one."""

import subprocess
import sys
from typing import Any

import pytest
from kafka_topics import fill, labeled
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from streaming_nn.spark import java_compiler
from streaming_nn.spark.sources.kafka_frames import require_connector

pytestmark = pytest.mark.commit

LACKS = (
    "this Spark session lacks the Kafka connector of its version, 4.2.0{}: start it with "
    "streaming_nn.session(), or with spark.jars.packages = "
    "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"
)


class Session:
    version = "4.2.0"


class Loader:
    """Replaces Java's: its classes are in one jar."""

    def __init__(self, jar: str | None) -> None:
        self.jar = jar

    def loadClass(self, name: str) -> Any:  # noqa: N802 (Java's name)
        if self.jar is None:
            raise Py4JError(f"java.lang.ClassNotFoundException: {name}")
        return self

    def getProtectionDomain(self) -> Any:  # noqa: N802
        return self

    def getCodeSource(self) -> Any:  # noqa: N802
        return self

    def getLocation(self) -> Any:  # noqa: N802
        return self.jar


# the Databricks community's threads on foreachBatch
@pytest.mark.parametrize(
    ("jar", "other"),
    [
        (None, ""),
        ("file:/jars/spark-sql-kafka-0-10_2.13-4.1.0.jar", "; it has 4.1.0"),
        ("file:/jars/org.apache.spark_spark-sql-kafka-0-10_2.12-3.5.1.jar", "; it has 3.5.1"),
    ],
)
def test_the_error_has_the_package_and_the_call(
    jar: str | None, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java_compiler, "loader", lambda spark: Loader(jar))
    spark: Any = Session()
    with pytest.raises(RuntimeError) as error:
        require_connector(spark)
    assert str(error.value) == LACKS.format(other)


@pytest.mark.parametrize("jar", ["file:/a%20b/spark-sql-kafka-0-10_2.13-4.2.0.jar", "file:/all-in-one.jar"])
def test_the_connector_of_the_session_s_version(jar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java_compiler, "loader", lambda spark: Loader(jar))
    spark: Any = Session()
    require_connector(spark)


@pytest.mark.merge
def test_our_session_has_it(spark: SparkSession) -> None:
    require_connector(spark)


@pytest.mark.nightly
def test_a_trainer_in_a_session_without_it_ends_in_one_line(broker: Any) -> None:
    topic = broker.topic("plain")
    fill(broker.options, topic, labeled(300))
    code = (
        "from pyspark.sql import SparkSession\nimport streaming_nn as snn\n"
        "spark = SparkSession.builder.master('local[1]').getOrCreate()\n"
        f"settings = snn.Settings(model='none', kafka={broker.options!r}, train={{'topics': {topic!r}}})\n"
        "once = settings.train.model_copy(update={'once': True})\n"
        "try:\n    snn.Trainer.open(spark, settings.model_copy(update={'train': once}))\n"
        "except RuntimeError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.stdout == LACKS.format("") + "\n", ran.stderr
