"""How well the default learner answers, beside its own members, no model at all, River and scikit-learn.

Every stream is learned once, row after row; accuracy, or the mean absolute error, is that of answers given
before learning (prequential) and by the version that a scorer would have had (as served).
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

from benchmarks import datasets, ours, peers, targets, tasks
from benchmarks.targets import Target
from benchmarks.tell import Json, tell
from streaming_nn.versions.environment import THREADS, describe

DATA = Path(__file__).parents[2] / "shared" / "data"


def measure(
    data: Annotated[Path, typer.Option(help="Folder of NAME/stream.npz.")] = DATA,
    streams: Annotated[str, typer.Option(help="Names, with commas; all where none is said.")] = "",
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    mini_batches: Annotated[str, typer.Option(help="Rows of a step, with commas.")] = "1,8,32",
    peers_: Annotated[bool, typer.Option("--peers/--no-peers", help="River and scikit-learn too.")] = True,
    arf: Annotated[bool, typer.Option("--arf", help="An adaptive random forest too: minutes.")] = False,
    members: Annotated[bool, typer.Option(help="Each member of the ensemble alone, too.")] = True,
    jobs: Annotated[int, typer.Option(help="Processes; 0: one a core.")] = 0,
    short: Annotated[bool, typer.Option("--short", help="Two short generated streams, one seed.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw accuracy over time into this file.")] = None,
    json_: Json = False,
) -> None:
    """Measure, print tables and one JSON line. Exit code 1: a pass failed; 2: options that don't fit."""
    try:
        if short:
            seeds, mini_batches = 1, "8,32"
        names = _listed(streams) or (list(datasets.SHORT) if short else datasets.names(data))
        datasets.check(names, data)
        sizes = [_whole("mini-batches", text) for text in _listed(mini_batches)]
        others = peers.needed(arf and not short) if peers_ else []
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    for variable in THREADS:  # before a process of ours has loaded NumPy
        os.environ[variable] = "1"
    plan, about = [], {}
    for name in names:
        stream = datasets.dataset(name, data)
        plan += tasks.planned(stream, sizes, seeds, others, members)
        about[name] = {"rows": len(stream.y), "inputs": stream.x.shape[1], "classes": stream.classes}
        about[name]["drift_at"] = stream.drift_at
    results = _run(plan, data, jobs or os.cpu_count() or 1)
    found, failed = [r for r in results if "error" not in r], [r for r in results if "error" in r]
    for each in failed:
        typer.echo(f"{each['who']} on {each['stream']}: {each['error']}", err=True)
    figures = {name: summary(found, name, about[name]) for name in names}
    figures = {name: each for name, each in figures.items() if ours.DEFAULT in each["who"]}
    judged = [target for name, each in figures.items() for target in _judged(name, each)]
    tables = [_scores(figures), _targets(judged), _recoveries(figures)]
    tell(line(figures, judged, failed, seeds), json_, *(table for table in tables if table.row_count))
    if picture is not None:
        from benchmarks.picture import draw  # matplotlib only where it is asked for

        draw(found, figures, picture)
    raise typer.Exit(1 if failed else 0)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole(what: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{what} must be whole numbers >= 1 with commas between; got {text!r}")
    return int(text)


def _run(plan: list[tasks.Task], data: Path, jobs: int) -> list[dict[str, Any]]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("passes", total=len(plan))
        results = list(tasks.results(plan, data, jobs, lambda task: progress.advance(bar)))
    places = {task: place for place, task in enumerate(plan)}
    return sorted(results, key=lambda result: places[tasks.task_of(result)])


def summary(found: list[dict[str, Any]], stream: str, about: dict[str, Any]) -> dict[str, Any]:
    """Give a stream's figures: means over the seeds with their standard deviation."""
    here = [result for result in found if result["stream"] == stream]
    alone = [result for result in here if ours.is_member(result["who"])]
    best = targets.best_member(alone, about["classes"] is None)
    whos = list(dict.fromkeys(result["who"] for result in here))
    return {
        **about,
        "who": {who: _of(here, who) for who in whos},
        "best_member": {size: {"who": who, "mean": mean} for size, (who, mean) in best.items()},
    }


def _of(here: list[dict[str, Any]], who: str) -> dict[int, dict[str, Any]]:
    """Give one learner's figures by mini-batch; 0 for a peer."""
    sizes = sorted({result["mini_batch"] for result in here if result["who"] == who})
    return {size: _means([r for r in here if (r["who"], r["mini_batch"]) == (who, size)]) for size in sizes}


def _means(runs: list[dict[str, Any]]) -> dict[str, Any]:
    scores = [run["score"] for run in runs]
    rates = [run["rows_per_second"] for run in runs if run["rows_per_second"]]
    drifts = zip(*(run["recovery"] for run in runs), strict=True)
    return {
        "mean": fmean(scores),
        "spread": stdev(scores) if len(scores) > 1 else 0.0,
        "seeds": len(scores),
        "served": {size: fmean(run["served"][size] for run in runs) for size in runs[0]["served"]},
        "head": fmean(run["head"] for run in runs),
        "rows": runs[0]["rows"],
        "rows_per_second": fmean(rates) if rates else None,
        "recovery": [fmean(rows) for rows in drifts],
    }


def _judged(name: str, figures: dict[str, Any]) -> list[Target]:
    mine = figures["who"][ours.DEFAULT]
    forest: dict[str, float] = {}
    if peers.FOREST in figures["who"]:
        its, own = figures["who"][peers.FOREST][0], mine[min(mine)]
        forest = {"forest": its["mean"], "forest_rate": its["rows_per_second"]}
        forest |= {"ours": own["head"], "our_rate": own["rows_per_second"]}
    return targets.judged(
        name,
        figures["rows"],
        figures["classes"] is None,
        {size: each["mean"] for size, each in mine.items()},
        {size: each["mean"] for size, each in figures["best_member"].items()},
        forest,
    )


def line(
    figures: dict[str, Any], judged: list[Target], failed: list[dict[str, Any]], seeds: int
) -> dict[str, Any]:
    """Give what the JSON line holds."""
    return {
        "benchmark": "quality",
        "seeds": seeds,
        "streams": figures,
        "targets": [target._asdict() for target in judged],
        "met": sum(target.met for target in judged),
        "missed": sum(not target.met for target in judged),
        "failed": failed,
        "environment": describe(),
    }


def _scores(figures: dict[str, Any]) -> Table:
    table = Table(title="accuracy, or mean absolute error (MAE): mean over the seeds ± standard deviation")
    sizes = sorted({size for each in figures.values() for size in each["who"][ours.DEFAULT]})
    others = [who for who in peers.NAMES if any(who in each["who"] for each in figures.values())]
    heads = ["stream", "rows", *(f"at {size}" for size in sizes), "as served 100 / 1,000 / 10,000"]
    for head in [*heads, "best member alone", "one network", *others]:
        table.add_column(head, justify="left" if head == "stream" else "right")
    for name, each in figures.items():
        table.add_row(*_row(name, each, sizes, others))
    return table


def _row(name: str, figures: dict[str, Any], sizes: Iterable[int], others: Iterable[str]) -> list[str]:
    who, regression = figures["who"], figures["classes"] is None
    mine = who[ours.DEFAULT]
    first = min(mine)
    best = figures["best_member"].get(first)
    served = " / ".join(_number(value) for value in mine[first]["served"].values())
    return [
        f"{name} (MAE)" if regression else name,
        f"{figures['rows']:,}",
        *(_with_spread(mine.get(size)) for size in sizes),
        f"{served} (at {first})",
        f"{_number(best['mean'])} {best['who']}" if best else "",
        _with_spread(who[ours.PLAIN].get(first)),
        *(_with_spread(who.get(other, {}).get(0)) for other in others),
    ]


def _with_spread(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return ""
    return _number(figures["mean"]) + (f" ± {_number(figures['spread'])}" if figures["seeds"] > 1 else "")


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}" if abs(value) < 1e6 else f"{value:.1e}"


def _targets(judged: list[Target]) -> Table:
    table = Table("stream", "what", "is", "should be", "", title="targets")
    for target in judged:
        mark = "[green]met[/]" if target.met else "[red]missed[/]"
        table.add_row(target.stream, target.what, _number(target.value), _number(target.limit), mark)
    return table


def _recoveries(figures: dict[str, Any]) -> Table:
    title = "rows after each known drift until accuracy over 500 rows is within 0.01 of what it was"
    table = Table("stream", "who", "at", "rows", title=title)
    for name, each in figures.items():
        for who, by_size in each["who"].items():
            if ours.is_member(who) or who in peers.BASELINES:
                continue
            for size, one in by_size.items():
                if one["recovery"]:
                    rows = ", ".join(f"{rows:,.0f}" for rows in one["recovery"])
                    table.add_row(name, who, str(size or ""), rows)
    return table


if __name__ == "__main__":
    typer.run(measure)
