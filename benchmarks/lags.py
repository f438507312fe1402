"""What lagged values gain while every row has a version of its own, and lose where versions are older.

The rows are one series, an hour apart, and the default learner learns them row by row. A version is committed
after so many rows; as served, a row has the lagged values of the version before it.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks.datasets import Dataset, dataset
from benchmarks.output import Json, print_results
from benchmarks.threads import one_thread
from streaming_nn.nn.ensemble import Ensemble
from streaming_nn.nn.learner import Batch, ServedBatch, State, combine, initial, learn_part, report
from streaming_nn.nn.series import ALL, Histories, Lags, empty
from streaming_nn.records.schema import AS_OF, AS_OF_ROW
from streaming_nn.versions.environment import describe

HOUR = 3_600_000  # ms
ROWS = 12_000  # at most
VERSIONS = (1, 10, 100)  # rows of each
NO_LAGS = "none"
SHORT_ROWS = 200


def measure(
    data: Annotated[Path, typer.Option(help="Streams as NAME/stream.npz.")] = Path("../shared/data"),
    stream: Annotated[list[str] | None, typer.Option(help="A regression [bike_hour, water_flow].")] = None,
    lag: Annotated[list[int] | None, typer.Option(help="Of the target [1, 24].")] = None,
    rows: Annotated[int, typer.Option(min=1, help="That are learned, at most.")] = ROWS,
    short: Annotated[bool, typer.Option("--short", help="200 generated rows: does it work?")] = False,
    json_: Json = False,
) -> None:
    """Print the mean absolute errors, prequential and as served, without lags and with either kind."""
    one_thread()
    names, lags = stream or ["bike_hour", "water_flow"], tuple(sorted(set(lag or (1, 24))))
    streams = [waves()] if short else [dataset(name, data) for name in names]
    cases = [
        {"stream": each.name, "rows": min(rows, len(each.y)), "version_rows": size, "as_of": as_of}
        | errors(each, rows, size, lags, as_of)
        for each in streams
        for size in VERSIONS
        for as_of in (NO_LAGS, *AS_OF)
    ]
    line = {"benchmark": "lags", "lags": lags, "cases": cases, "environment": describe()}
    print_results(line, json_, table(cases))


def waves() -> Dataset:
    """Return a generated series of a day's wave and noise that lasts."""
    rng, hours = np.random.default_rng(0), np.arange(SHORT_ROWS)
    noise = np.convolve(rng.normal(size=SHORT_ROWS), 0.8 ** np.arange(20))[:SHORT_ROWS]
    y = np.sin(hours * np.pi / 12) + noise
    return Dataset("waves", (hours % 24)[:, None].astype(np.float32), y.astype(np.float32), None)


def errors(data: Dataset, rows: int, size: int, lags: tuple[int, ...], as_of: str) -> dict[str, float]:
    """Return the mean absolute errors over all rows, in micro-batches of `size` rows."""
    x, y = np.asarray(data.x[:rows], np.float64), np.asarray(data.y[:rows], np.float64)
    times, options = np.arange(len(y)) * HOUR, Lags(tuple((0, lag) for lag in lags), 1, 1)
    inputs = x.shape[1] + (0 if as_of == NO_LAGS else len(lags) + 1)
    learner = Ensemble(inputs, None, mini_batch=1, missing="refuse" if as_of == NO_LAGS else "impute")
    state: State[Any] = initial(learner)
    series = empty(options)
    for start in range(0, len(y), size):
        part = slice(start, start + size)
        batch: Batch | ServedBatch = Batch(x[part], y[part])
        if as_of != NO_LAGS:
            histories, keys = Histories(options, series), [ALL] * len(y[part])
            x_served = np.column_stack([x[part], histories.serve(keys, times[part])])
            lagged = np.column_stack([x[part], histories.learn(keys, times[part], y[part, None])])
            series = histories.state()
            batch = Batch(x_served, y[part])
            if as_of == AS_OF_ROW:
                batch = ServedBatch(Batch(lagged, y[part]), x_served)
        state = combine(learner, state, [learn_part(learner, state, [batch])])
    found = report(learner, state)
    return {name: found[name]["cumulative"]["mae"] for name in ("prequential", "as_served")}


def table(cases: list[dict[str, Any]]) -> Table:
    """Return the errors, a row for each stream, size of versions, and kind of lags."""
    found = Table("stream", "rows per version", "lags as of", "prequential", "as served")
    for case in cases:
        figures = f"{case['prequential']:.2f}", f"{case['as_served']:.2f}"
        found.add_row(case["stream"], str(case["version_rows"]), case["as_of"], *figures)
    return found


if __name__ == "__main__":
    typer.run(measure)
