import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession

from streaming_nn.spark.jvm import NOT_WRITTEN
from streaming_nn.spark.query import INTERRUPTIONS, named, quick_checkpoint, reason, shortened, url

pytestmark = pytest.mark.commit

# what Spark 4.2 looks for in the message of a Python worker's error while it stops a query
PROXY_ERROR = r"py4j\.protocol\.Py4JJavaError: An error occurred while calling(.|\n)*(" + "|".join(
    INTERRUPTIONS
)
FRAMES = "\n".join(f"\tat org.apache.spark.Some.method(Some.scala:{i})" for i in range(2000))


@pytest.mark.parametrize("name", INTERRUPTIONS)
def test_an_interruption_is_still_recognized_and_short(name: str) -> None:
    short = str(shortened(ValueError(f"An error occurred while calling o1.save.\n: {name}\n{FRAMES}")))
    assert len(short) < 200
    assert re.search(PROXY_ERROR + ")", short)


def test_another_error_is_kept_in_one_line() -> None:
    short = str(shortened(ValueError(f"java.io.IOError: disk is full\n{FRAMES}")))
    assert short == "java.io.IOError: disk is full"


def test_a_query_is_named_unless_an_active_one_has_its_name() -> None:
    active = [SimpleNamespace(name=None), SimpleNamespace(name="train a")]
    spark: Any = SimpleNamespace(streams=SimpleNamespace(active=active))
    writer: Any = SimpleNamespace(queryName=lambda name: f"named {name}")
    assert named(writer, spark, "train b") == "named train b"
    assert named(writer, spark, "train a") is writer, "Spark refuses a second one"


# delta#91
@pytest.mark.parametrize("words", NOT_WRITTEN)
def test_what_could_not_write_names_its_directories(words: str, tmp_path: Path) -> None:
    error = ValueError(f"An error occurred while calling o1.save.\n: java.io.IOException: {words}\n{FRAMES}")
    found = reason(error, url(tmp_path), "/gone")
    assert re.fullmatch(rf"{words}; it writes to {tmp_path} \([\d.]+ GB free\) and /gone", found)


def test_another_reason_is_the_line_of_the_error() -> None:
    assert reason(ValueError("An error occurred while calling o1.\n: a.B: c\n\tat d"), "/tmp") == "a.B: c"


@pytest.mark.smoke
@pytest.mark.merge
def test_a_query_starts_in_any_thread(spark: SparkSession, tmp_path: Path) -> None:
    """A class of an added jar is at first found only in the thread that added it."""

    def start(number: int) -> None:
        checkpoint = (tmp_path / str(number)).as_uri()
        stream = spark.readStream.format("rate").load().writeStream.foreachBatch(lambda frame, batch_id: None)
        with quick_checkpoint(spark, checkpoint):
            stream.option("checkpointLocation", checkpoint).start().stop()

    start(0)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(start, 1).result()


@pytest.mark.merge
def test_a_checkpoint_has_no_checksums_and_either_manager_continues_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Spark's own manager checks a checksum if there is one: none of another content may be left."""
    folder, checkpoint, learned = tmp_path / "in", tmp_path / "checkpoint", list[tuple[int, str]]()
    folder.mkdir()

    def process(frame: Any, batch_id: int) -> None:
        learned.extend((batch_id, row.value) for row in frame.collect())

    for number, context in enumerate([quick_checkpoint, nullcontext, quick_checkpoint]):
        (folder / f"{number}").write_text(f"line {number}")
        with context(*(() if context is nullcontext else (spark, checkpoint.as_uri()))):
            stream = spark.readStream.format("text").load(str(folder)).writeStream.foreachBatch(process)
            query = stream.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start()
        query.awaitTermination()
    assert learned == [(number, f"line {number}") for number in range(3)]
    assert [(checkpoint / "offsets" / f".{number}.crc").exists() for number in range(3)] == [
        False,
        True,
        False,
    ]
