"""How fast we learn on one thread, beside scikit-learn, River and the machine's matrix product.

All cases alternate in one run, every other round in the opposite order; a figure is the median of the rounds'
ratios. Times are CPU seconds of the process, so that other load on the machine affects them less.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from benchmarks import datasets, learners, other_peers, peers
from benchmarks.datasets import Dataset, plain_rows
from benchmarks.output import Json, print_results
from benchmarks.quality import DATA
from benchmarks.threads import one_thread
from streaming_nn.core import build_backend, library
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch, Learner, initial, test_then_train
from streaming_nn.nn.mlp import MLP
from streaming_nn.versions.environment import describe

Array = NDArray[Any]
Figures = dict[str, list[float]]
Turns = Mapping[str, Callable[[], float]]  # name: units of work per second, measured once
TUNED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # unset: measure the machine without them
RATE = 0.01
LINEAR = "river linear"
SOLVERS = ("adam", "sgd")  # the first is the default of both
WIDE = (784, 512, 10)
PRODUCTS = (512, 1024, 2048)  # sizes of the square matrices whose product is the peak
ROUNDED = "rounded apart"  # the peak of products and sums without fused additions
PEAK = Path(__file__).with_name("peak.c")
NARROW = 8  # columns
FIRST_STEP = """
import numpy as np, time
started = time.perf_counter()
from streaming_nn.nn.learner import Batch
from streaming_nn.nn.mlp import MLP
learner = MLP(54, tuple(range(7)), (64,))
learner.learn(learner.init(), Batch(np.ones((1, 54)), np.zeros(1, np.int32)))
print(time.perf_counter() - started)
"""
FOREST_CELLS = 1_000_000  # values that the forest gets: of wide streams, fewer rows


def measure(
    data: Annotated[Path, typer.Option(help="Directory of NAME/stream.npz.")] = DATA,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    rows: Annotated[int, typer.Option(min=100, help="First rows of a stream, learned one by one.")] = 5_000,
    short: Annotated[bool, typer.Option("--short", help="Few rows, one round: does it work?")] = False,
    json_: Json = False,
) -> None:
    """Measure in turns, print tables and one JSON line. Exit code 2: a missing package, an invalid option."""
    try:
        peers.required(forest=True)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    one_thread()
    for variable in TUNED:
        os.environ.pop(variable, None)
    arguments = (1, 150, True) if short else (rounds, rows, False)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        measured = process.submit(_measure_all, data, *arguments).result()
    shapes, peak, streams, sizes, environment = measured
    line = _line(shapes, peak, streams) | _sizes_line(sizes) | {"first_step_ms": _first_step(arguments[0])}
    line |= {"rounds": arguments[0], "environment": environment}
    print_results(line, json_, _shapes(shapes), _peak(peak), _streams(streams), _sizes_table(sizes))


def _measure_all(data: Path, rounds: int, rows: int, short: bool) -> tuple[Any, ...]:
    shapes = {
        (size, solver): _in_turns(_by_sklearn(size, solver, size * (5 if short else 80)), rounds)
        for size in (32, 256)
        for solver in SOLVERS
    }
    with TemporaryDirectory() as folder:
        turns: Turns = {
            **_products(256 * (1 if short else 40), PRODUCTS[: 1 if short else None]),
            ROUNDED: _rounded_apart(Path(folder)),
        }
        peak = _in_turns(turns, rounds)
    streams = {
        "54-7": _in_turns(_by_river(_shape(rows)), rounds),
        "8-2": _in_turns(_by_river(_shape(rows, NARROW, 2)), rounds),
    }
    for name in datasets.SHORT if short else datasets.names(data):
        stream = datasets.dataset(name, data)
        streams[name] = _in_turns(_by_river(_first(stream, rows), forest=True), rounds)
    sizes = {
        size: _in_turns(_by_size(size, size * 10 if short else 2_000 + size * 60), rounds)
        for size in (1, 8, 32, 256)
    }
    return shapes, peak, streams, sizes, describe()


def _in_turns(turns: Turns, rounds: int) -> Figures:
    """Measure each case once per round; every other round in the opposite order."""
    figures: Figures = {name: [] for name in turns}
    for number in range(rounds):
        for name in reversed(list(turns)) if number % 2 else turns:
            figures[name].append(turns[name]())
    return figures


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _shape(count: int, columns: int = 54, classes: int = 7) -> Dataset:
    """Return rows of normal numbers, and classes that are nearly linearly separable."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, columns)).astype(np.float32)
    noise = rng.normal(size=(count, classes))
    y = (x @ rng.normal(size=(columns, classes)) + noise).argmax(axis=1).astype(np.int32)
    return Dataset(f"{columns}-{classes}", x, y, classes)


def _first(stream: Dataset, rows: int) -> Dataset:
    rows = min(rows, FOREST_CELLS // stream.x.shape[1])
    return stream._replace(x=stream.x[:rows], y=stream.y[:rows])


def _by_sklearn(size: int, solver: str, rows: int) -> Turns:
    """54-64-7: both only learn; and both predict, then learn, with inputs standardized as they arrive."""
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
        "ours": _learn_rate(learner, data),
        "scikit-learn": sklearn(tested=False),
        "ours, tested": _test_then_train_rate(learner, data),
        "scikit-learn, tested": sklearn(tested=True),
    }


def _learn_rate(learner: Learner[Any], data: Dataset) -> Callable[[], float]:
    """Return rows per second of the loop alone: predict each mini-batch, then learn it, from scratch."""
    model = learner.init()

    def once() -> None:
        learner.learn(learner.copy(model), Batch(data.x, data.y))

    return lambda: len(data.y) / _seconds(once)


def _test_then_train_rate(learner: Learner[Any], data: Dataset) -> Callable[[], float]:
    """Return rows per second of a whole micro-batch: also predicted as served, and with all metrics."""
    state = initial(learner)
    return lambda: len(data.y) / _seconds(lambda: test_then_train(learner, state, [Batch(data.x, data.y)]))


def _products(rows: int, sizes: tuple[int, ...]) -> Turns:
    """784-512-10 at 256 by SGD, and square products of several sizes; both in operations per second."""
    inputs, hidden, outputs = WIDE
    products = 3 * (inputs * hidden + hidden * outputs) - inputs * hidden  # no gradient of the inputs
    data = _shape(rows, inputs, outputs)
    options: dict[str, Any] = {"optimizer": "sgd", "learning_rate": RATE, "mini_batch": 256}
    learned = _learn_rate(MLP(inputs, tuple(range(outputs)), (hidden,), **options), data)

    def product(size: int) -> Callable[[], float]:
        a = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
        out = np.empty_like(a)
        times = max(1, 4 * (1024 // size) ** 3)

        def once() -> None:
            for _ in range(times):
                np.matmul(a, a, out=out)

        return lambda: 2 * size**3 * times / _seconds(once)

    return {"ours": lambda: 2 * products * learned()} | {str(size): product(size) for size in sizes}


def _rounded_apart(folder: Path) -> Callable[[], float]:
    """Compile `peak.c` with the flags of the core that is used; return what runs it."""
    flags = build_backend.variants()[library.runnable()[0]]
    compiler = [*(build_backend.compiler() or build_backend.ZIG_CC), "-std=c11", "-O3", "-Wno-psabi"]
    include = f"-I{build_backend.FOLDER}"
    program = folder / "peak"
    subprocess.run(
        [*compiler, "-ffp-contract=off", *flags, include, str(PEAK), "-o", str(program)], check=True
    )

    def once() -> float:
        return float(subprocess.run([program], stdout=subprocess.PIPE, check=True).stdout.split()[0])

    return once


def _first_step(times: int) -> float:
    """Return the milliseconds of importing the learner, loading the core and a step, after `import numpy`."""
    command = [sys.executable, "-c", FIRST_STEP]
    seconds = [
        float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        for _ in range(2 * times + 1)
    ]
    return 1000 * median(seconds)


def _by_size(size: int, rows: int) -> Turns:
    """54-64-7: the default ensemble, and one network by SGD."""
    data = _shape(rows)
    ensemble = Ensemble(54, tuple(range(7)), mini_batch=size, drift="none")
    network = MLP(54, tuple(range(7)), (64,), optimizer="sgd", learning_rate=RATE, mini_batch=size)
    return {"ensemble": _learn_rate(ensemble, data), "network": _learn_rate(network, data)}


def _by_river(data: Dataset, forest: bool = False) -> Turns:
    """Predict, then learn, row by row: our two learners, and River's, whose dicts are built in advance."""
    dicts = list(plain_rows(data))

    def river(name: str) -> float:
        model = peers.model(name, data, 0)

        def once() -> None:
            for x, y in dicts:
                model.predict_one(x)
                model.learn_one(x, y)

        return len(dicts) / _seconds(once)

    def ours(name: str) -> Callable[[], float]:
        return _learn_rate(learners.learner_for(data, name, 1, 0), data)

    turns = {learners.PLAIN: ours(learners.PLAIN), LINEAR: lambda: river(LINEAR), **other_peers.linear(data)}
    if forest:
        turns |= {learners.DEFAULT: ours(learners.DEFAULT), peers.FOREST: lambda: river(peers.FOREST)}
        turns |= other_peers.forests(data)
    return turns


def _ratio(figures: Figures, name: str, other: str) -> float:
    return median(a / b for a, b in zip(figures[name], figures[other], strict=True))


def _peak_of(peak: Figures) -> list[float]:
    """Return the rates of the size of product with the fastest median."""
    return max((rates for name, rates in peak.items() if name not in ("ours", ROUNDED)), key=median)


def _share(peak: Figures) -> float:
    return median(ours / best for ours, best in zip(peak["ours"], _peak_of(peak), strict=True))


def _line(shapes: dict[Any, Figures], peak: Figures, streams: dict[str, Figures]) -> dict[str, Any]:
    """Return the JSON line; its short names are of the first solver."""
    sklearn = {
        f"{size}_{solver}{'_tested' if more else ''}": _ratio(figures, f"ours{more}", f"scikit-learn{more}")
        for (size, solver), figures in shapes.items()
        for more in ("", ", tested")
    }
    arf = _times(streams, learners.DEFAULT, peers.FOREST)
    return {
        "benchmark": "core",
        "times_sklearn_32": sklearn[f"32_{SOLVERS[0]}"],
        "times_sklearn_256": sklearn[f"256_{SOLVERS[0]}"],
        "gemm_share": _share(peak),
        "gemm_share_rounded_apart": _ratio(peak, "ours", ROUNDED),
        "times_river_1": _times(streams, learners.PLAIN, LINEAR)["54-7"],
        "times_arf_min": min(arf.values()),
        "times_sklearn": sklearn,
        "times_river": _times(streams, learners.PLAIN, LINEAR),
        "times_vowpal_wabbit": _times(streams, learners.PLAIN, other_peers.VOWPAL_WABBIT),
        "times_arf": arf,
        "times_capymoa_arf": _times(streams, learners.DEFAULT, other_peers.CAPYMOA_FOREST),
    }


def _times(streams: dict[str, Figures], ours: str, other: str) -> dict[str, float]:
    """Return how many times the other's rate ours is, on each stream that has both."""
    return {name: _ratio(figures, ours, other) for name, figures in streams.items() if other in figures}


def _sizes_line(sizes: dict[int, Figures]) -> dict[str, Any]:
    return {
        "rows_per_second": {
            f"{name}_{size}": median(rates)
            for size, figures in sizes.items()
            for name, rates in figures.items()
        }
    }


def _sizes_table(sizes: dict[int, Figures]) -> Table:
    table = Table("mini-batch", title="54-64-7, rows per second", title_justify="left")
    for name in next(iter(sizes.values())):
        table.add_column(name, justify="right")
    for size, figures in sizes.items():
        table.add_row(str(size), *(f"{median(rates):,.0f}" for rates in figures.values()))
    return table


def _row(table: Table, name: str, figures: Figures, pairs: list[tuple[str, str]]) -> None:
    cells = []
    for ours, other in pairs:
        known = ours in figures and other in figures
        cells += [f"{median(figures[each]):,.0f}" if known else "" for each in (ours, other)]
        cells.append(f"{_ratio(figures, ours, other):.2f}" if known else "")
    table.add_row(name, *cells)


def _table(title: str, first: str, pairs: list[tuple[str, str]]) -> Table:
    table = Table(first, title=title, title_justify="left")
    for ours, other in pairs:
        for head in (ours, other, "times"):
            table.add_column(head, justify="right")
    return table


def _shapes(shapes: dict[Any, Figures]) -> Table:
    pairs = [("ours", "scikit-learn"), ("ours, tested", "scikit-learn, tested")]
    table = _table("54-64-7, rows per second", "mini-batch, solver", pairs)
    for (size, solver), figures in shapes.items():
        _row(table, f"{size}, {solver}", figures, pairs)
    return table


def _peak(peak: Figures) -> Table:
    table = Table(
        "784-512-10 at 256, sgd", "peak", "share", ROUNDED, "share", title="GFLOP/s", title_justify="left"
    )
    rates = [median(each) for each in (peak["ours"], _peak_of(peak), peak[ROUNDED])]
    ours, best, apart = (f"{each / 1e9:.1f}" for each in rates)
    table.add_row(ours, best, f"{_share(peak):.3f}", apart, f"{_ratio(peak, 'ours', ROUNDED):.3f}")
    return table


def _streams(streams: dict[str, Figures]) -> Table:
    pairs = [
        *((learners.PLAIN, other) for other in (LINEAR, other_peers.VOWPAL_WABBIT)),
        *((learners.DEFAULT, other) for other in (peers.FOREST, other_peers.CAPYMOA_FOREST)),
    ]
    table = _table("mini-batch 1, rows per second", "stream", pairs)
    for name, figures in streams.items():
        _row(table, name, figures, pairs)
    return table


if __name__ == "__main__":
    typer.run(measure)
