"""How well the default learner predicts, beside its members, no model, River and scikit-learn.

Every stream is learned once, row by row. Accuracy, or mean absolute error, is measured on predictions before
learning (prequential) and on those of the version that a scorer would have (as served).
"""

import os
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import datasets, learners, peers, targets, tasks
from benchmarks.output import Json, print_results
from benchmarks.targets import Target
from benchmarks.threads import one_thread
from streaming_nn.versions.environment import describe

DATA = Path(__file__).parents[2] / "shared" / "data"


def measure(
    data: Annotated[Path, typer.Option(help="Directory of NAME/stream.npz.")] = DATA,
    streams: Annotated[str, typer.Option(help="Comma-separated names [all].")] = "",
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    mini_batches: Annotated[str, typer.Option(help="Rows per step, comma-separated.")] = "1,8,32",
    peers_: Annotated[
        bool, typer.Option("--peers/--no-peers", help="Also run River and scikit-learn.")
    ] = True,
    arf: Annotated[bool, typer.Option("--arf", help="Also run an adaptive random forest: minutes.")] = False,
    trees: Annotated[
        bool, typer.Option("--trees", help="Also run CapyMOA's tree ensembles, and Vowpal Wabbit: hours.")
    ] = False,
    members: Annotated[bool, typer.Option(help="Also run each member of the ensemble alone.")] = True,
    jobs: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
    short: Annotated[bool, typer.Option("--short", help="Two short generated streams, one seed.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Plot accuracy over time to this file.")] = None,
    json_: Json = False,
) -> None:
    """Measure, print tables and one JSON line. Exit code 1: a pass failed; 2: an invalid option."""
    try:
        if short:
            seeds, mini_batches = 1, "8,32"
        names = _listed(streams) or (list(datasets.SHORT) if short else datasets.names(data))
        datasets.check(names, data)
        sizes = [_positive("mini-batches", text) for text in _listed(mini_batches)]
        others = peers.required(arf and not short, trees) if peers_ else []
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    one_thread()
    passes: list[tasks.Task] = []
    about: dict[str, Any] = {}
    for name in names:
        stream = datasets.dataset(name, data)
        passes += tasks.plan(stream, sizes, seeds, others, members)
        about[name] = {"rows": len(stream.y), "inputs": stream.x.shape[1], "classes": stream.classes}
        about[name]["drift_at"] = stream.drift_at
    results = _run(passes, data, jobs or os.cpu_count() or 1)
    measured, failed = [r for r in results if "error" not in r], [r for r in results if "error" in r]
    for each in failed:
        typer.echo(f"{each['learner']} on {each['stream']}: {each['error']}", err=True)
    figures = {name: summary(measured, name, about[name]) for name in names}
    figures = {name: each for name, each in figures.items() if learners.DEFAULT in each["learners"]}
    checked = [target for name, each in figures.items() for target in _check(name, each)]
    tables = [_scores(figures), _leaders(figures), _beside_trees(figures)]
    tables += [_targets(checked), _recoveries(figures)]
    print_results(
        line(figures, checked, failed, seeds), json_, *(table for table in tables if table.row_count)
    )
    if picture is not None:
        from benchmarks.plot import plot  # imports matplotlib, so only if needed

        plot(measured, figures, picture)
    raise typer.Exit(1 if failed else 0)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _positive(what: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{what} must be comma-separated integers >= 1; got {text!r}")
    return int(text)


def _run(plan: list[tasks.Task], data: Path, jobs: int) -> list[dict[str, Any]]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("passes", total=len(plan))
        results = list(tasks.results(plan, data, jobs, lambda task: progress.advance(bar)))
    order = {task: number for number, task in enumerate(plan)}
    return sorted(results, key=lambda result: order[tasks.task_of(result)])


def summary(results: list[dict[str, Any]], stream: str, about: dict[str, Any]) -> dict[str, Any]:
    """Return a stream's figures: means over the seeds with their standard deviation."""
    here = [result for result in results if result["stream"] == stream]
    alone = [result for result in here if learners.is_member(result["learner"])]
    best = targets.best_member(alone, about["classes"] is None)
    names = list(dict.fromkeys(result["learner"] for result in here))
    return {
        **about,
        "learners": {name: _of(here, name) for name in names},
        "best_member": {size: {"learner": name, "mean": mean} for size, (name, mean) in best.items()},
    }


def _of(here: list[dict[str, Any]], name: str) -> dict[int, dict[str, Any]]:
    """Return one learner's figures by mini-batch; 0 for a peer."""
    sizes = sorted({result["mini_batch"] for result in here if result["learner"] == name})
    return {
        size: _means([r for r in here if (r["learner"], r["mini_batch"]) == (name, size)]) for size in sizes
    }


def _means(runs: list[dict[str, Any]]) -> dict[str, Any]:
    scores = [run["score"] for run in runs]
    rates = [run["rows_per_second"] for run in runs if run["rows_per_second"]]
    drifts = zip(*(run["recovery"] for run in runs), strict=True)
    led = {name: fmean(run["led"].get(name, 0.0) for run in runs) for each in runs for name in each["led"]}
    return {
        "mean": fmean(scores),
        "spread": stdev(scores) if len(scores) > 1 else 0.0,
        "seeds": len(scores),
        "as_served": {size: fmean(run["as_served"][size] for run in runs) for size in runs[0]["as_served"]},
        "head": fmean(run["head"] for run in runs),
        "rows": runs[0]["rows"],
        "rows_per_second": fmean(rates) if rates else None,
        "recovery": [fmean(rows) for rows in drifts],
        "led": dict(sorted(led.items(), key=lambda each: -each[1])),
    }


def _check(name: str, figures: dict[str, Any]) -> list[Target]:
    ours = figures["learners"][learners.DEFAULT]
    forest: dict[str, float] = {}
    if peers.FOREST in figures["learners"]:
        theirs, first = figures["learners"][peers.FOREST][0], ours[min(ours)]
        forest = {"forest": theirs["mean"], "forest_rate": theirs["rows_per_second"]}
        forest |= {"ours": first["head"], "our_rate": first["rows_per_second"]}
    trees = {other: figures["learners"][other][0] for other in _found(peers.ENSEMBLES, {name: figures})}
    beside = targets.beside_trees(name, figures["classes"] is None, ours[min(ours)], trees)
    return beside + targets.check(
        name,
        figures["rows"],
        figures["classes"] is None,
        {size: each["mean"] for size, each in ours.items()},
        {size: each["mean"] for size, each in figures["best_member"].items()},
        forest,
    )


def line(
    figures: dict[str, Any], checked: list[Target], failed: list[dict[str, Any]], seeds: int
) -> dict[str, Any]:
    """Return the JSON line."""
    return {
        "benchmark": "quality",
        "seeds": seeds,
        "streams": figures,
        "targets": [target._asdict() for target in checked],
        "met": sum(target.met for target in checked),
        "missed": sum(not target.met for target in checked),
        "failed": failed,
        "environment": describe(),
    }


def _scores(figures: dict[str, Any]) -> Table:
    table = Table(title="accuracy, or mean absolute error (MAE): mean over the seeds ± standard deviation")
    sizes = sorted({size for each in figures.values() for size in each["learners"][learners.DEFAULT]})
    others = _found(peers.NAMES, figures)
    heads = ["stream", "rows", *(f"at {size}" for size in sizes), "as served 100 / 1,000 / 10,000"]
    for head in [*heads, "best member alone", "one network", *others]:
        table.add_column(head, justify="left" if head == "stream" else "right")
    for name, each in figures.items():
        table.add_row(*_row(name, each, sizes, others))
    return table


def _leaders(figures: dict[str, Any]) -> Table:
    title = "which member had the largest weight, on how many of the rows, at the smallest mini-batch"
    table = Table("stream", "members", title=title)
    for name, each in figures.items():
        ours = each["learners"][learners.DEFAULT]
        shown = [f"{member} {share:.0%}" for member, share in ours[min(ours)]["led"].items() if share >= 0.05]
        table.add_row(name, "; ".join(shown))
    return table


def _found(names: Iterable[str], figures: dict[str, Any]) -> list[str]:
    return [name for name in names if any(name in each["learners"] for each in figures.values())]


def _beside_trees(figures: dict[str, Any]) -> Table:
    """Tabulate CapyMOA's ensembles and Vowpal Wabbit, beside ours on the rows that they learned."""
    title = f"on the first {peers.FOREST_ROWS:,} rows, at mini-batch 1: score, thousand rows per CPU second"
    others = _found(peers.OTHERS, figures)
    table = Table("stream", "ours", *others, title=title)
    for name, each in figures.items():
        ours = each["learners"][learners.DEFAULT]
        found = [each["learners"].get(other, {}).get(0) for other in others]
        shown = [_with_rate(one and one["head"], one) for one in (ours[min(ours)], *found)]
        table.add_row(f"{name} (MAE)" if each["classes"] is None else name, *shown)
    return table


def _with_rate(score: float | None, figures: dict[str, Any] | None) -> str:
    if figures is None or score is None:
        return ""
    return f"{_number(score)}, {figures['rows_per_second'] / 1000:.1f}"


def _row(name: str, figures: dict[str, Any], sizes: Iterable[int], others: Iterable[str]) -> list[str]:
    by_name, regression = figures["learners"], figures["classes"] is None
    ours = by_name[learners.DEFAULT]
    first = min(ours)
    best = figures["best_member"].get(first)
    as_served = " / ".join(_number(value) for value in ours[first]["as_served"].values())
    return [
        f"{name} (MAE)" if regression else name,
        f"{figures['rows']:,}",
        *(_with_spread(ours.get(size)) for size in sizes),
        f"{as_served} (at {first})",
        f"{_number(best['mean'])} {best['learner']}" if best else "",
        _with_spread(by_name[learners.PLAIN].get(first)),
        *(_with_spread(by_name.get(other, {}).get(0)) for other in others),
    ]


def _with_spread(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return ""
    return _number(figures["mean"]) + (f" ± {_number(figures['spread'])}" if figures["seeds"] > 1 else "")


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}" if abs(value) < 1e6 else f"{value:.1e}"


def _targets(checked: list[Target]) -> Table:
    table = Table("stream", "target", "measured", "limit", "", title="targets")
    for target in checked:
        mark = "[green]met[/]" if target.met else "[red]missed[/]"
        table.add_row(target.stream, target.what, _number(target.value), _number(target.limit), mark)
    return table


def _recoveries(figures: dict[str, Any]) -> Table:
    title = "rows after each known drift until accuracy over 500 rows is within 0.01 of its value before"
    table = Table("stream", "learner", "at", "rows", title=title)
    for name, each in figures.items():
        for learner, by_size in each["learners"].items():
            if learners.is_member(learner) or learner in peers.BASELINES:
                continue
            for size, one in by_size.items():
                if one["recovery"]:
                    rows = ", ".join(f"{rows:,.0f}" for rows in one["recovery"])
                    table.add_row(name, learner, str(size or ""), rows)
    return table


if __name__ == "__main__":
    typer.run(measure)
