"""Whether a learner still learns after millions of rows: beside one that began shortly before.

Dohare et al. (2024) found that networks trained by backprop lose their plasticity over many tasks. Here each
change of a recurring concept is a task. Both learners predict the same rows before they learn them.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import Progress
from rich.table import Table

from benchmarks.output import Json, print_results
from benchmarks.threads import one_thread
from producers.generators import agrawal, hyperplane, sea, sine
from producers.streams import Stream
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch
from streaming_nn.versions.environment import describe

STREAMS: dict[str, Callable[..., Stream]] = {
    "sea": sea,
    "sine": sine,
    "agrawal": agrawal,
    "hyperplane": hyperplane,
}


class Marks(NamedTuple):
    """At which rows the learners are compared, and how often the concept changes."""

    at: tuple[int, ...]
    every: int  # rows of a concept
    head_start: int  # rows that the fresh learner has learned when both are measured
    measured: int  # rows


# All are multiples of the 256 rows of the generators' blocks.
WHOLE = Marks((1_000_192, 2_999_808, 9_999_872), 51_200, 102_400, 102_400)
SHORT = Marks((1_024, 3_072), 512, 512, 512)


def measure(
    stream: Annotated[list[str] | None, typer.Option(help="sea, sine, agrawal, hyperplane [all].")] = None,
    mini_batch: Annotated[int, typer.Option(min=1)] = 1,
    short: Annotated[bool, typer.Option("--short", help="Thousands of rows: does it work?")] = False,
    json_: Json = False,
) -> None:
    """Print the accuracy after each number of rows, and a fresh learner's on the same rows."""
    one_thread()
    names, marks = stream or list(STREAMS), SHORT if short else WHOLE
    if unknown := [name for name in names if name not in STREAMS]:
        raise typer.BadParameter(f"stream must be one of {', '.join(STREAMS)}; got {unknown[0]!r}")
    cases = [case for name in names for case in compare(name, marks, mini_batch)]
    line = {"benchmark": "plasticity", "mini_batch": mini_batch, "every": marks.every, "cases": cases}
    print_results({**line, "environment": describe()}, json_, table(cases))


class Run:
    """A learner and its model; it counts right predictions of the rows before it learns them."""

    def __init__(self, inputs: int, classes: tuple[Any, ...], mini_batch: int) -> None:
        self.learner = Ensemble(inputs, classes, mini_batch=mini_batch, drift="none")
        self.state = self.learner.copy(self.learner.init())

    def learn(self, x: NDArray[np.float64], y: NDArray[np.int32]) -> int:
        """Learn rows x (rows, inputs) of classes y (rows,); return how many were predicted right."""
        self.state, output, _ = self.learner.learn(self.state, Batch(x, y))
        return int((output.argmax(axis=1) == y).sum())


def compare(name: str, marks: Marks, mini_batch: int) -> Iterator[dict[str, Any]]:
    """Yield the accuracies of both learners at each mark."""
    drifts = tuple(range(marks.every, marks.at[-1], marks.every))
    stream = STREAMS[name](1, drifts)
    old, fresh = (Run(stream.inputs, stream.classes or (), mini_batch) for _ in range(2))
    rows, right = 0, np.zeros(2, int)
    with Progress(transient=True) as progress:
        bar = progress.add_task(name, total=marks.at[-1])
        for block in stream.blocks:
            following = next((mark for mark in marks.at if mark > rows), None)
            if following is None:
                return
            x, y = np.asarray(block.x, np.float64), np.asarray(block.y, np.int32)
            found = old.learn(x, y)
            if rows < following - marks.measured - marks.head_start:
                fresh = Run(stream.inputs, stream.classes or (), mini_batch)
            else:
                both = np.array([found, fresh.learn(x, y)])
                right = right + both if rows >= following - marks.measured else np.zeros(2, int)
            rows += len(y)
            progress.advance(bar, len(y))
            if rows >= following:
                accuracy, of_fresh = (float(each) / marks.measured for each in right)
                yield {"stream": name, "rows": following, "accuracy": accuracy, "fresh": of_fresh}


def table(cases: list[dict[str, Any]]) -> Table:
    """Return the accuracies, a row for each stream and number of rows."""
    found = Table("stream", "rows", "accuracy", "of a fresh learner", "difference")
    for case in cases:
        difference = case["accuracy"] - case["fresh"]
        figures = f"{case['accuracy']:.4f}", f"{case['fresh']:.4f}", f"{difference:+.4f}"
        found.add_row(case["stream"], f"{case['rows']:,}", *figures)
    return found


if __name__ == "__main__":
    typer.run(measure)
