"""`streaming-nn score`: predict an unlabeled topic with the newest version."""

from typing import Annotated

import typer

from streaming_nn.cli import options


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
    from streaming_nn.spark.checks import before_score

    before_score(settings)
    from streaming_nn.spark.score.realtime.scorer import RealTimeScorer
    from streaming_nn.spark.score.scorer import Scorer
    from streaming_nn.spark.score.scorer import score as run
    from streaming_nn.spark.session import running

    with running(settings.spark) as spark:
        run(spark, settings, RealTimeScorer if settings.score.engine == "realtime" else Scorer)
