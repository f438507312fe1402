"""How fast a topic is learned, beside how fast Spark reads it, and beside code written by hand."""

from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Annotated, Any

import typer
from pyspark.sql import SparkSession
from rich.table import Table

from benchmarks import by_hand, topics
from benchmarks.output import Json, print_results
from benchmarks.queries import bench, collect, delays, noop, rate, run_ours, run_plain

PARTITIONS = 4
ALONE = "alone"  # a topic of few records, each of which is a micro-batch
NETWORK = {"learner": "mlp", "optimizer": "sgd", "hidden": [64], "mini_batch": 256}
ENSEMBLE = {"mini_batch": 32}
OURS = {  # key in the line: records, update, learner
    "ratio_packed_averaged": ("packed", "averaged", NETWORK),
    "ratio_packed_sequential": ("packed", "sequential", NETWORK),
    "ratio_json_averaged": ("json", "averaged", NETWORK),
    "ratio_json_sequential": ("json", "sequential", NETWORK),
    "ratio_named_averaged": ("named", "averaged", NETWORK),
    "ratio_mixed_averaged": ("mixed", "averaged", NETWORK),
    "ratio_ensemble": ("packed", "averaged", ENSEMBLE),
    "ratio_ensemble_sequential": ("packed", "sequential", ENSEMBLE),
}
Figures = dict[str, list[float]]


def measure(
    records: Annotated[int, typer.Option(min=1, help="Records per topic.")] = 2_000_000,
    micro_batch: Annotated[int, typer.Option(min=1, help="Records per trigger.")] = 250_000,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    by_hand_records: Annotated[
        int, typer.Option(min=300, help="Records for the loops written by hand.")
    ] = 60_000,
    short: Annotated[bool, typer.Option("--short", help="Few records, one round: does it work?")] = False,
    json_: Json = False,
) -> None:
    """Start a broker and Spark, fill topics, measure in turns, and print a table and one JSON line."""
    if short:
        records, micro_batch, rounds, by_hand_records = 8_000, 2_000, 1, 1_000
    with bench() as (spark, kafka):
        for kind in topics.SCHEMAS:
            topics.fill(spark, kafka, kind, kind, records, PARTITIONS)
        topics.fill(spark, kafka, ALONE, "packed", 15 if short else 60, 1)
        rates: Figures = defaultdict(list)
        delayed: Figures = defaultdict(list)
        for number in range(rounds):
            _round(spark, kafka, micro_batch, rates, backwards=number % 2 == 1)
            _by_hand(spark, kafka, micro_batch, by_hand_records, rates)
            _alone(spark, kafka, delayed)
    line = _line(rates, delayed) | {"records": records, "micro_batch": micro_batch, "rounds": rounds}
    print_results(line, json_, _table(rates), _delays(delayed))


def _round(spark: SparkSession, kafka: dict[str, str], limit: int, rates: Figures, backwards: bool) -> None:
    """Measure each case once, in turns; every other round in the opposite order."""

    def ours(kind: str, update: str, learner: dict[str, Any]) -> float:
        how = {"update": update, "max_offsets_per_trigger": limit}
        settings = topics.settings_of(kafka, kind, topics.SCHEMAS[kind], learner, **how)
        return rate(run_ours(spark, settings)[0])

    def ceiling(kind: str) -> float:
        return rate(run_plain(spark, kafka, kind, limit, noop)[0])

    turns: list[tuple[str, Callable[..., float], tuple[Any, ...]]] = []
    for kind in topics.SCHEMAS:
        turns.append((f"ceiling_{kind}", ceiling, (kind,)))
        turns += [(name, ours, case) for name, case in OURS.items() if case[0] == kind]
    for name, run, case in reversed(turns) if backwards else turns:
        rates[name].append(run(*case))


def _by_hand(spark: SparkSession, kafka: dict[str, str], limit: int, count: int, rates: Figures) -> None:
    rates["sklearn_loop"].append(by_hand.sklearn_loop(kafka, "json", count))
    rates["river_loop"].append(by_hand.river_loop(kafka, "json", max(count // 10, 300)))
    rates["tutorial"].append(by_hand.tutorial(spark, kafka, "json", limit))


def _alone(spark: SparkSession, kafka: dict[str, str], delayed: Figures) -> None:
    """Measure a micro-batch of one record, from its trigger to its version."""
    delayed["collected"] += delays(*run_plain(spark, kafka, ALONE, 1, collect))
    delayed["collected_by_spark_defaults"] += delays(
        *run_plain(spark, kafka, ALONE, 1, collect, spark_defaults=True)
    )
    for update in ("sequential", "averaged"):
        how = {"update": update, "max_offsets_per_trigger": 1}
        settings = topics.settings_of(kafka, ALONE, topics.SCHEMAS["packed"], NETWORK, **how)
        delayed[update] += delays(*run_ours(spark, settings))


def _line(rates: Figures, delayed: Figures) -> dict[str, Any]:
    ratios = {
        name: median(a / b for a, b in zip(rates[name], rates[f"ceiling_{kind}"], strict=True))
        for name, (kind, _, _) in OURS.items()
    }
    fastest = [
        max(pair) for pair in zip(rates["ratio_json_averaged"], rates["ratio_json_sequential"], strict=True)
    ]
    times = {
        f"times_{name}": median(a / b for a, b in zip(fastest, rates[name], strict=True))
        for name in ("sklearn_loop", "river_loop", "tutorial")
    }
    fixed = {name: median(values) for name, values in delayed.items()}
    return {
        "benchmark": "train",
        "ceiling_per_s": median(rates["ceiling_packed"]),
        **ratios,
        **times,
        "fixed_cost_ratio": fixed["sequential"] / fixed["collected"],
        "fixed_cost_ms": {name: round(1000 * value, 1) for name, value in fixed.items()},
    }


def _table(rates: Figures) -> Table:
    table = Table(title="records per second, median of the rounds (minimum to maximum)", title_justify="left")
    for column in ("case", "records/s", "relative to noop on the same topic"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for name, values in rates.items():
        ratio = ""
        if name in OURS:
            ceiling = rates[f"ceiling_{OURS[name][0]}"]
            ratios = [a / b for a, b in zip(values, ceiling, strict=True)]
            ratio = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        table.add_row(name, f"{median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})", ratio)
    return table


def _delays(delayed: Figures) -> Table:
    table = Table(title="one record per micro-batch: from its trigger to its end", title_justify="left")
    for column in ("body", "median, ms"):
        table.add_column(column)
    for name, values in delayed.items():
        table.add_row(name, f"{1000 * median(values):.0f}")
    return table


if __name__ == "__main__":
    typer.run(measure)
