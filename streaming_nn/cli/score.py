"""`streaming-nn score`: predict an unlabeled topic with the newest version."""

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_nn.cli import options
from streaming_nn.cli.live import Behind, live
from streaming_nn.cli.progress import draws_table, progress
from streaming_nn.cli.serving import follow, serving, traces
from streaming_nn.cli.tables import Scored, ScoreTable

if TYPE_CHECKING:
    from streaming_nn.settings import Settings
    from streaming_nn.sinks.prometheus import Scored as Exported
    from streaming_nn.sinks.prometheus import Server


def score(
    config: options.Config = None,
    model: options.Model = None,
    bootstrap: options.Bootstrap = None,
    topic: Annotated[str | None, typer.Option(help="Unlabeled topic.")] = None,
    predictions: Annotated[str | None, typer.Option(help="Topic of the predictions.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="batch, or realtime: a prediction in milliseconds, of the formats that Java reads."
        ),
    ] = None,
    trigger: Annotated[
        str | None, typer.Option(help="Interval between micro-batches (default: none).")
    ] = None,
    once: Annotated[
        bool | None, typer.Option("--once", help="Predict the available records, then stop.")
    ] = None,
    max_age: Annotated[
        float | None, typer.Option(help="Seconds after which a version's predictions are marked stale.")
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Where the scorer keeps its offsets.")] = None,
    accept_data_loss: Annotated[
        bool | None, typer.Option("--accept-data-loss", help="Continue despite expired records.")
    ] = None,
    as_json: options.Json = False,
    master: options.Master = None,
    set_: options.Sets = None,
) -> None:
    """Predict an unlabeled topic, each micro-batch with the newest version; Ctrl-C stops cleanly."""
    flags = {
        "engine": engine,
        "topic": topic,
        "predictions": predictions,
        "trigger": trigger,
        "once": once,
        "max_age": max_age,
        "checkpoint": checkpoint,
        "accept_data_loss": accept_data_loss,
    }
    settings = options.require_kafka(
        options.load_settings(
            config, set_, bootstrap, model=model, score=flags, spark={"spark.master": master}
        )
    )
    with serving(settings) as server:
        scorer = _score(settings, server, as_json)
    if as_json:
        print(json.dumps(_summary(scorer)), flush=True)


def _score(settings: "Settings", server: "Server | None", as_json: bool) -> Any:
    from streaming_nn.spark.checks import before_score

    before_score(settings)
    from streaming_nn.spark.score.realtime.scorer import RealTimeScorer
    from streaming_nn.spark.score.scorer import Scorer
    from streaming_nn.spark.score.scorer import score as run
    from streaming_nn.spark.session import running

    with ExitStack() as stack:
        with progress() as show:
            spark = stack.enter_context(running(settings.spark, show))
        kind = RealTimeScorer if settings.score.engine == "realtime" else Scorer
        return run(spark, settings, kind, lambda scorer: _show(server, scorer, stack, as_json))


def _show(server: "Server | None", scorer: Any, stack: ExitStack, as_json: bool) -> None:
    """Show a scorer on stderr and to the platform's tools from now on; with `as_json` count for the end."""
    settings, as_table = scorer.settings, draws_table(as_json)
    # the real-time engine has no steps: Spark reads, predicts and writes all the time
    if settings.score.engine == "batch" and (exported := traces(settings, stack)):
        scorer.traced = exported.record_scored
    shown = as_table or as_json
    scorer.counts_latencies = scorer.counts_latencies or shown
    if server is None and not (shown or settings.metrics.group):
        return
    lag = follow(settings, scorer.position, stack)
    if as_table:
        title = f"{settings.model} predicts {settings.score.topic}"
        table = ScoreTable(title, scorer.log, lambda: _scored(scorer), Behind(lag))
        stack.enter_context(live(table.shown))
    if server is None:
        return
    from streaming_nn.settings import seconds
    from streaming_nn.sinks.prometheus import ScorerMetrics

    most = seconds(settings.metrics.max_lag)
    if settings.score.engine == "realtime":  # its offsets are known when a real-time batch ends
        most += seconds(settings.score.realtime_batch)
    server.show(ScorerMetrics(settings.model, lambda: _for_prometheus(scorer), lag, most))


def _scored(scorer: Any) -> Scored:
    """Return what a scorer has done in this process."""
    from streaming_nn.spark.score.predictions import FILTERED_RECORD, LATENCIES, PREDICTED_RECORD, SUM

    reasons, latencies = dict(scorer.outcomes), dict(scorer.latencies)
    predicted, filtered = reasons.pop(PREDICTED_RECORD, 0), reasons.pop(FILTERED_RECORD, 0)
    by_bound = {bound: latencies.get(str(bound), 0) for bound in LATENCIES}
    return Scored(predicted, filtered, reasons, by_bound, latencies.get(SUM, 0) / 1000)


def _for_prometheus(scorer: Any) -> "Exported":
    """Return what a scorer has done; the real-time engine does not know by which version."""
    from streaming_nn.sinks.prometheus import Scored as Exported

    predicted, filtered, reasons, latencies, seconds = _scored(scorer)
    records = {"predicted": predicted, "filtered": filtered, "rejected": sum(reasons.values())}
    served = scorer.version.manifest if scorer.versions is not None else None
    return Exported(served, records, reasons, latencies, seconds)


def _summary(scorer: Any) -> dict[str, Any]:
    """Return what a scorer has done as JSON-able values.

    `mean_latency` is in seconds; `versions` are the first and the last that were used, null if unknown.
    """
    scored, versions = _scored(scorer), scorer.versions
    return {
        "predicted": scored.predicted,
        "filtered": scored.filtered,
        "rejected": sum(scored.reasons.values()),
        "rejected_by_reason": scored.reasons,
        "mean_latency": scored.seconds / max(sum(scored.latencies.values()), 1),
        "versions": None if versions is None else list(versions),
    }
