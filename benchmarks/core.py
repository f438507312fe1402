"""How fast the core learns, on one thread: beside scikit-learn, River and the machine's own matrix product.

All who are compared take turns in one run, each other round in the opposite order; a figure is the median of
the rounds' ratios. Times are of the process's own core, so that a busy machine disturbs them less.
"""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from benchmarks import datasets, ours, peers
from benchmarks.datasets import Dataset, plain_rows
from benchmarks.quality import DATA
from benchmarks.tell import Json, tell
from streaming_nn.nn.learner import Batch, Learner, initial, learn, test_then_train
from streaming_nn.nn.mlp import MLP
from streaming_nn.versions.environment import THREADS, describe

Array = NDArray[Any]
Figures = dict[str, list[float]]
Turns = Mapping[str, Callable[[], float]]  # who: units of work a second, measured once
TUNED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # the machine is measured as it is
RATE = 0.01
SOLVERS = ("adam", "sgd")  # the first is the default of both
WIDE = (784, 512, 10)
PRODUCTS = (512, 1024, 2048)  # sizes of the square matrices whose product is the peak
FOREST_CELLS = 1_000_000  # values that a forest is given: of wide streams, fewer rows


def measure(
    data: Annotated[Path, typer.Option(help="Folder of NAME/stream.npz.")] = DATA,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    rows: Annotated[int, typer.Option(min=100, help="First rows of a stream, learned one by one.")] = 5_000,
    short: Annotated[bool, typer.Option("--short", help="Few rows, one round: does it run?")] = False,
    json_: Json = False,
) -> None:
    """Measure in turns, print tables and one JSON line. Exit code 2: a package or an option doesn't fit."""
    try:
        peers.needed(forest=True)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    for variable in THREADS:  # before the process that measures has loaded NumPy
        os.environ[variable] = "1"
    for variable in TUNED:
        os.environ.pop(variable, None)
    asked = (1, 150, True) if short else (rounds, rows, False)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        shapes, peak, streams, environment = process.submit(_measured, data, *asked).result()
    line = _line(shapes, peak, streams) | {"rounds": asked[0], "environment": environment}
    tell(line, json_, _shapes(shapes), _peak(peak), _streams(streams))


def _measured(data: Path, rounds: int, rows: int, short: bool) -> tuple[Any, ...]:
    shapes = {
        (size, solver): _in_turns(_by_sklearn(size, solver, size * (5 if short else 80)), rounds)
        for size in (32, 256)
        for solver in SOLVERS
    }
    peak = _in_turns(_products(256 * (1 if short else 40), PRODUCTS[: 1 if short else None]), rounds)
    found = {name: datasets.dataset(name, data) for name in (datasets.SHORT if short else [])}
    streams = {"54-7": _in_turns(_by_river(_shape(rows)), rounds)}
    for name in found or datasets.names(data):
        stream = datasets.dataset(name, data)
        streams[name] = _in_turns(_by_river(_first(stream, rows), forest=True), rounds)
    return shapes, peak, streams, describe()


def _in_turns(turns: Turns, rounds: int) -> Figures:
    """Measure each of them once a round; every other round in the opposite order."""
    figures: Figures = {who: [] for who in turns}
    for number in range(rounds):
        for who in reversed(list(turns)) if number % 2 else turns:
            figures[who].append(turns[who]())
    return figures


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _shape(count: int, columns: int = 54, classes: int = 7) -> Dataset:
    """Make rows of normal numbers, and classes that a linear model gets right by and large."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, columns)).astype(np.float32)
    noise = rng.normal(size=(count, classes))
    y = (x @ rng.normal(size=(columns, classes)) + noise).argmax(axis=1).astype(np.int32)
    return Dataset(f"{columns}-{classes}", x, y, classes)


def _first(stream: Dataset, rows: int) -> Dataset:
    rows = min(rows, FOREST_CELLS // stream.x.shape[1])
    return stream._replace(x=stream.x[:rows], y=stream.y[:rows])


def _by_sklearn(size: int, solver: str, rows: int) -> Turns:
    """54-64-7: learn only, on both sides; and answer, then learn, inputs standardised as they come."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    data = _shape(rows)
    blocks = [(data.x[at : at + size], data.y[at : at + size]) for at in range(0, rows, size)]
    learner = MLP(54, tuple(range(7)), (64,), optimizer=solver, learning_rate=RATE, mini_batch=size)

    def sklearn(tested: bool) -> Callable[[], float]:
        options = {"solver": solver, "learning_rate_init": RATE, "momentum": 0.0}
        model = MLPClassifier((64,), batch_size=size, shuffle=False, **options)
        model.partial_fit(*blocks[0], classes=np.arange(7))
        scaler = StandardScaler().partial_fit(blocks[0][0])

        def once() -> None:
            for x, y in blocks:
                if tested:
                    model.predict_proba(scaler.transform(x))
                    x = scaler.partial_fit(x).transform(x)
                model.partial_fit(x, y)

        return lambda: rows / _seconds(once)

    return {
        "ours": _learning(learner, data),
        "scikit-learn": sklearn(tested=False),
        "ours, tested": _testing(learner, data),
        "scikit-learn, tested": sklearn(tested=True),
    }


def _learning(learner: Learner[Any], data: Dataset) -> Callable[[], float]:
    """Rows a second of the loop alone: each mini-batch answered, then learned, from nothing."""
    model = learner.init()

    def once() -> None:
        with np.errstate(all="ignore"):
            learn(learner, model, Batch(data.x, data.y))

    return lambda: len(data.y) / _seconds(once)


def _testing(learner: Learner[Any], data: Dataset) -> Callable[[], float]:
    """Rows a second of a whole micro-batch: answered as a scorer would have done, too, and all counted."""
    state = initial(learner)
    return lambda: len(data.y) / _seconds(lambda: test_then_train(learner, state, [Batch(data.x, data.y)]))


def _products(rows: int, sizes: tuple[int, ...]) -> Turns:
    """784-512-10 at 256 by SGD, and square products of several sizes; both in operations a second."""
    inputs, hidden, outputs = WIDE
    products = 3 * (inputs * hidden + hidden * outputs) - inputs * hidden  # no gradient by the inputs
    data = _shape(rows, inputs, outputs)
    options: dict[str, Any] = {"optimizer": "sgd", "learning_rate": RATE, "mini_batch": 256}
    learned = _learning(MLP(inputs, tuple(range(outputs)), (hidden,), **options), data)

    def product(size: int) -> Callable[[], float]:
        a = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
        out = np.empty_like(a)
        times = max(1, 4 * (1024 // size) ** 3)

        def once() -> None:
            for _ in range(times):
                np.matmul(a, a, out=out)

        return lambda: 2 * size**3 * times / _seconds(once)

    return {"ours": lambda: 2 * products * learned()} | {str(size): product(size) for size in sizes}


def _by_river(data: Dataset, forest: bool = False) -> Turns:
    """Row by row, answered, then learned: our two learners, and River's, whose dicts are made beforehand."""
    dicts = list(plain_rows(data))

    def river(who: str) -> float:
        model = peers.model(who, data, 0)

        def once() -> None:
            for x, y in dicts:
                model.predict_one(x)
                model.learn_one(x, y)

        return len(dicts) / _seconds(once)

    return {
        ours.PLAIN: _learning(ours.learner_of(data, ours.PLAIN, 1, 0), data),
        "river linear": lambda: river("river linear"),
    } | (
        {
            ours.DEFAULT: _learning(ours.learner_of(data, ours.DEFAULT, 1, 0), data),
            peers.FOREST: lambda: river(peers.FOREST),
        }
        if forest
        else {}
    )


def _ratio(figures: Figures, who: str, other: str) -> float:
    return median(a / b for a, b in zip(figures[who], figures[other], strict=True))


def _peak_of(peak: Figures) -> list[float]:
    """Give the rates of the size of product that is the fastest by its median."""
    return max((rates for who, rates in peak.items() if who != "ours"), key=median)


def _share(peak: Figures) -> float:
    return median(own / best for own, best in zip(peak["ours"], _peak_of(peak), strict=True))


def _line(shapes: dict[Any, Figures], peak: Figures, streams: dict[str, Figures]) -> dict[str, Any]:
    """Give what the JSON line holds; the first solver is the one that is judged."""
    sklearn = {
        f"{size}_{solver}{'_tested' if more else ''}": _ratio(figures, f"ours{more}", f"scikit-learn{more}")
        for (size, solver), figures in shapes.items()
        for more in ("", ", tested")
    }
    river = {name: _ratio(figures, ours.PLAIN, "river linear") for name, figures in streams.items()}
    forests = {name: figures for name, figures in streams.items() if peers.FOREST in figures}
    arf = {name: _ratio(figures, ours.DEFAULT, peers.FOREST) for name, figures in forests.items()}
    return {
        "benchmark": "core",
        "times_sklearn_32": sklearn[f"32_{SOLVERS[0]}"],
        "times_sklearn_256": sklearn[f"256_{SOLVERS[0]}"],
        "gemm_share": _share(peak),
        "times_river_1": river["54-7"],
        "times_arf_min": min(arf.values()),
        "times_sklearn": sklearn,
        "times_river": river,
        "times_arf": arf,
    }


def _row(table: Table, name: str, figures: Figures, pairs: list[tuple[str, str]]) -> None:
    cells = []
    for who, other in pairs:
        known = other in figures
        cells += [f"{median(figures[each]):,.0f}" if known else "" for each in (who, other)]
        cells.append(f"{_ratio(figures, who, other):.2f}" if known else "")
    table.add_row(name, *cells)


def _table(title: str, first: str, pairs: list[tuple[str, str]]) -> Table:
    table = Table(first, title=title, title_justify="left")
    for who, other in pairs:
        for head in (who, other, "times"):
            table.add_column(head, justify="right")
    return table


def _shapes(shapes: dict[Any, Figures]) -> Table:
    pairs = [("ours", "scikit-learn"), ("ours, tested", "scikit-learn, tested")]
    table = _table("54-64-7, rows a second", "mini-batch, solver", pairs)
    for (size, solver), figures in shapes.items():
        _row(table, f"{size}, {solver}", figures, pairs)
    return table


def _peak(peak: Figures) -> Table:
    table = Table("784-512-10 at 256, sgd", "peak", "share", title="GFLOP/s", title_justify="left")
    best = median(_peak_of(peak))
    table.add_row(f"{median(peak['ours']) / 1e9:.1f}", f"{best / 1e9:.1f}", f"{_share(peak):.3f}")
    return table


def _streams(streams: dict[str, Figures]) -> Table:
    pairs = [(ours.PLAIN, "river linear"), (ours.DEFAULT, peers.FOREST)]
    table = _table("mini-batch 1, rows a second", "stream", pairs)
    for name, figures in streams.items():
        _row(table, name, figures, pairs)
    return table


if __name__ == "__main__":
    typer.run(measure)
