import re

import pytest

from streaming_nn.spark.query import INTERRUPTIONS, shortened

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
