"""A Spark session that can read Kafka, run our Python workers, and compute the same bits each time."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import safetensors.numpy
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import DataFrame, Row, SparkSession

from streaming_nn.kafka import jars, java
from streaming_nn.progress import Progress, no_progress
from streaming_nn.records import registry
from streaming_nn.spark import installation, jvm, temporary
from streaming_nn.spark.signals import uninterrupted
from streaming_nn.versions.atomic_files import naming
from streaming_nn.versions.version import Tensors

SPARK_ERRORS = (PySparkException, Py4JError)  # the second for errors that Spark has no class for
STOP_ERRORS = (*SPARK_ERRORS, OSError)  # what stopping raises if the JVM was stopped too
_REGISTRY = (registry.USER, registry.PASSWORD)  # variables of the schema registry, which the workers read
NOISE = ("KeyboardInterrupt while sending command.", "Exception while sending command.")
LOST = (
    "KAFKA_DATA_LOSS",
    "may have been lost",
    "data was lost",
    "OffsetOutOfRange",
)  # no single word


def session(
    options: Mapping[str, str] | None = None,
    name: str = "streaming_nn",
    progress: Progress = no_progress,
) -> SparkSession:
    """Start (or return) a session with the Kafka connector; `options` are Spark's, and override ours.

    `progress` is called while the connector is downloaded, once on a machine. Raise RuntimeError in one line
    without Java 17, or if Spark does not start, ConnectionError if the connector cannot be downloaded,
    ValueError for an invalid master, or for a variable of the environment that leads to another Spark.
    """
    installation.check(options or {})  # commands do it before they import pyspark, which may be another one
    java.find()
    master = (options or {}).get("spark.master", "local[*]")
    logging.getLogger("py4j").setLevel(logging.CRITICAL)  # it logs a page for a connection that Ctrl-C cut
    # these log a page for a missing column
    for logger in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        PySparkLogger.getLogger(logger).setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_no_noise)  # and another one through the root logger
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    if master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    local = {"spark.local.dir": str(temporary.directory())} if master.startswith("local") else {}
    with uninterrupted(), ThreadPoolExecutor(1) as pool:
        # on the main thread Spark installs its own handler of Ctrl-C, which calls the JVM
        return pool.submit(_start, {**_ours(progress), **local, **(options or {})}, name).result()


def _start(options: Mapping[str, str], name: str) -> SparkSession:
    builder = SparkSession.builder.appName(name)
    for key, value in options.items():
        builder = builder.config(key, value)
    with jvm.started(options):
        return builder.getOrCreate()


@contextmanager
def running(
    options: Mapping[str, str] | None = None, progress: Progress = no_progress
) -> Iterator[SparkSession]:
    """Start a session, and end it with the block."""
    spark = session(options, progress=progress)
    try:
        yield spark
    finally:
        with suppress(*STOP_ERRORS):
            spark.stop()


def _no_noise(record: logging.LogRecord) -> bool:
    """Drop what py4j logs, with tracebacks, about Ctrl-C and a JVM that ended: the command reports it."""
    return record.msg not in NOISE


def on_one_machine(spark: SparkSession) -> bool:
    """Return whether tasks run in the driver's own process tree: both then compute the same bits."""
    return str(spark.sparkContext.master).partition("[")[0] == "local"


@contextmanager
def shared(spark: SparkSession, tensors: Tensors) -> Iterator[Any]:
    """Broadcast a state to the tasks, and destroy it afterwards: a closure's file would never be deleted."""
    with naming(temporary.directory()):
        state = spark.sparkContext.broadcast(safetensors.numpy.save(tensors))
    try:
        yield state
    finally:
        state.destroy()


def rows_of(frame: DataFrame) -> list[Row]:
    """Run a frame's job, and return its rows, by Arrow: `collect` takes several times as long."""
    return [Row(**row) for row in frame.toArrow().to_pylist()]


def _ours(progress: Progress = no_progress) -> dict[str, str]:
    log4j = Path(__file__).with_name("log4j2.properties").as_uri()
    own = temporary.directory()
    return {
        "spark.master": "local[*]",
        "spark.jars": ",".join(str(jar) for jar in jars.connector(progress)),
        "spark.driver.extraJavaOptions": f'-Dlog4j2.configurationFile={log4j} "-Djava.io.tmpdir={own}"',
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.ui.retainedExecutions": "20",  # the default of 1000 fills the driver over days
        "spark.ui.retainedJobs": "50",
        "spark.ui.retainedStages": "50",
        "spark.sql.adaptive.enabled": "false",  # re-plans a one-stage job without benefit, and may reorder it
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.streaming.minBatchesToRetain": "2",
        # A file source's log is rewritten every so many batches, and each copy has every file ever read. By
        # default there are 60 copies at a batch per second: 10 minutes of one every 10 batches.
        "spark.sql.streaming.fileSource.log.compactInterval": "100",
        "spark.sql.streaming.fileSource.log.cleanupDelay": "10s",
        "spark.sql.streaming.schemaInference": "true",  # of existing files; see sources/dataframe_json.py
        "spark.sql.execution.arrow.maxRecordsPerBatch": "10000",
        "spark.sql.execution.arrow.maxBytesPerBatch": str(8 << 20),  # a row of prefetch/ has many records
        "spark.sql.shuffle.partitions": "2",
        # Spark's own patterns do not match sasl.jaas.config, which has a password
        "spark.redaction.regex": "(?i)secret|password|token|access[.]?key|jaas",
        "spark.sql.redaction.options.regex": "(?i)url|secret|password|token|jaas",
        **{f"spark.executorEnv.{name}": os.environ[name] for name in _REGISTRY if name in os.environ},
    }
