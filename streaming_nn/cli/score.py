"""`streaming-nn score`: predict an unlabeled topic with the newest version."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_nn.cli import options
from streaming_nn.cli.progress import progress
from streaming_nn.cli.serving import follow, serving

if TYPE_CHECKING:
    from streaming_nn.settings import Settings
    from streaming_nn.sinks.prometheus import Scored, Server


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
        _score(settings, server)


def _score(settings: "Settings", server: "Server | None") -> None:
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
        run(spark, settings, kind, lambda scorer: _show(server, scorer, stack))


def _show(server: "Server | None", scorer: Any, stack: ExitStack) -> None:
    """Show a scorer to the platform's tools from now on."""
    settings = scorer.settings
    if server is None and not settings.metrics.group:
        return
    lag = follow(settings, scorer.position, stack)
    if server is None:
        return
    from streaming_nn.settings import seconds
    from streaming_nn.sinks.prometheus import ScorerMetrics

    most = seconds(settings.metrics.max_lag)
    if settings.score.engine == "realtime":  # its offsets are known when a real-time batch ends
        most += seconds(settings.score.realtime_batch)
    server.show(ScorerMetrics(settings.model, lambda: _scored(scorer), lag, most))


def _scored(scorer: Any) -> "Scored":
    """Return what a scorer has done; the real-time engine does not know by which version."""
    from streaming_nn.sinks.prometheus import Scored
    from streaming_nn.spark.score.predictions import FILTERED_RECORD, LATENCIES, PREDICTED_RECORD, SUM

    reasons, latencies = dict(scorer.outcomes), dict(scorer.latencies)
    predicted, filtered = reasons.pop(PREDICTED_RECORD, 0), reasons.pop(FILTERED_RECORD, 0)
    records = {"predicted": predicted, "filtered": filtered, "rejected": sum(reasons.values())}
    served = scorer.version.manifest if scorer.versions is not None else None
    by_bound = {bound: latencies.get(str(bound), 0) for bound in LATENCIES}
    return Scored(served, records, reasons, by_bound, latencies.get(SUM, 0) / 1000)
