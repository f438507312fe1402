"""What a row of few entries costs, and how well it is learned, by columns, learner and `scale`.

The rows are hashed words whose frequencies fall as Zipf's. All cases of a width alternate; a time is the
least of the rounds, in CPU seconds of the process.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.output import Json, print_results
from streaming_nn.core.sparse import SparseRows
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch
from streaming_nn.versions.environment import describe

Array = NDArray[Any]
WORDS = 20_000
ENTRIES = 10  # words of a row
CELLS = 2_000_000  # values of the rows learned, at most, by default
MOST_ROWS = 1_000
LEARNERS: dict[str, dict[str, Any]] = {
    "ensemble": {},
    "mlp, adam": {"learner": "mlp"},
    "mlp, sgd": {"learner": "mlp", "optimizer": "sgd", "learning_rate": 0.05},
    "mlp, adagrad": {"learner": "mlp", "optimizer": "adagrad", "learning_rate": 0.03},
}
SCALES = ("standard", "none", "sparse")


class Words(NamedTuple):
    """Rows with entries, as both kinds, and their class."""

    x: Array  # (rows, columns)
    entries: SparseRows
    y: NDArray[np.int32]  # (rows,)


def measure(
    columns: Annotated[list[int] | None, typer.Option(min=1)] = None,
    mini_batch: Annotated[list[int] | None, typer.Option(min=1)] = None,
    rows: Annotated[int, typer.Option(min=0, help="0: 1,000, of wide ones fewer.")] = 0,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    units: Annotated[
        bool, typer.Option("--units", help="Columns in other units, by factors e^-4 to e^4.")
    ] = False,
    short: Annotated[bool, typer.Option("--short", help="Few rows, one round: does it work?")] = False,
    json_: Json = False,
) -> None:
    """Print microseconds per row, and the log loss of the rows before they are learned."""
    widths, sizes = ([30], [8]) if short else (columns or [100, 1_000, 10_000], mini_batch or [1, 32])
    cases = [
        case
        for width in widths
        for case in measure_width(
            hashed_words(width, 60 if short else rows, units), sizes, 1 if short else rounds
        )
    ]
    print_results({"benchmark": "sparse", "cases": cases, "environment": describe()}, json_, table(cases))


def hashed_words(columns: int, rows: int = 0, units: bool = False, seed: int = 0) -> Words:
    """Return rows of ENTRIES words; the class depends on a third of the words."""
    rng = np.random.default_rng(seed)
    rows = rows or min(MOST_ROWS, max(100, CELLS // columns))
    frequency = 1 / np.arange(1, WORDS + 1) ** 1.05
    text = rng.choice(WORDS, (rows, ENTRIES), p=frequency / frequency.sum())
    effect = rng.normal(size=WORDS) * (rng.random(WORDS) < 1 / 3)
    hashes, x = rng.integers(0, columns, WORDS), np.zeros((rows, columns))
    np.add.at(x, (np.arange(rows)[:, None], hashes[text]), 1)
    if units:
        x *= np.exp(rng.uniform(-4, 4, columns))
    y = (effect[text].sum(axis=1) + 0.3 * rng.normal(size=rows) > 0).astype(np.int32)
    at, column = np.nonzero(x)
    return Words(x, SparseRows(np.searchsorted(at, range(rows + 1)), column, x[at, column], columns), y)


def measure_width(words: Words, sizes: list[int], rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a case for each mini-batch, learner and scale: its times and its log loss."""
    rows, columns = words.x.shape
    for size in sizes:
        cases: dict[tuple[str, str], Any] = {}
        for _ in range(rounds):
            for name, options in LEARNERS.items():
                for scale in SCALES:
                    given = {"inputs": columns, "classes": [0, 1], "mini_batch": size, "scale": scale}
                    found = run(words, given | options)
                    known = cases.setdefault((name, scale), found)
                    for key in ("learn", "predict"):
                        known[key] = min(known[key], found[key])
        for (name, scale), case in cases.items():
            yield {
                "columns": columns,
                "mini_batch": size,
                "learner": name,
                "scale": scale,
                "rows": rows,
            } | case


def run(words: Words, options: Mapping[str, Any]) -> dict[str, float]:
    """Return microseconds per row to learn and to predict, and the mean log loss."""
    learner: Any = learner_from(options)
    x, rows = words.entries if options["scale"] == "sparse" else words.x, len(words.y)
    state = learner.init()
    learner.predict(state, x)  # it gets the memory to work in
    start = time.process_time()
    state, output, _ = learner.learn(state, Batch(x, words.y))
    learned = time.process_time()
    learner.predict(state, x)
    predicted = time.process_time()
    right = np.maximum(output[np.arange(rows), words.y], 1e-7)
    times = {"learn": learned - start, "predict": predicted - learned}
    return {key: 1e6 * value / rows for key, value in times.items()} | {
        "log_loss": float(-np.log(right).mean())
    }


def table(cases: list[dict[str, Any]]) -> Table:
    """Return the cases, a line each."""
    lines = Table("columns", "mini-batch", "learner", "scale", "rows", "learn, µs", "predict, µs", "log loss")
    for case in cases:
        names = [str(case[key]) for key in ("columns", "mini_batch", "learner", "scale", "rows")]
        lines.add_row(
            *names, *(f"{case[key]:.1f}" for key in ("learn", "predict")), f"{case['log_loss']:.3f}"
        )
    return lines


if __name__ == "__main__":
    typer.run(measure)
