"""`streaming-nn backtest`: learn the past with other options, and compare the trials."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_nn.cli import options
from streaming_nn.cli.progress import progress
from streaming_nn.progress import Progress

if TYPE_CHECKING:
    from streaming_nn.settings import Settings
    from streaming_nn.spark.replay.trials import Outcome

PAST: Any = {"rich_help_panel": "What is learned: versions, or a topic"}
FILE: Any = {"rich_help_panel": "What is learned: a file"}


def backtest(
    config: options.Config = None,
    model: options.Model = None,
    bootstrap: options.Bootstrap = None,
    trial: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE[,…]",
            help="Options of the learner, as one trial: optimizer=sgd,learning_rate=0.01; may be repeated. "
            "Other options stay as they are.",
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory of the trials' models: one trial's model is DIR itself, several are below it. "
            "The same command resumes there. Required, except with --file.",
        ),
    ] = None,
    first: Annotated[int | None, typer.Option("--from", help="First version (default: 1).", **PAST)] = None,
    last: Annotated[
        int | None, typer.Option("--to", help="Last version (default: the newest).", **PAST)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only versions written at this time or later, such as 2026-01-31T14:00 (UTC, or with a "
            "zone); with --topic, only such records.",
            **PAST,
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what is before this time.", **PAST)
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(help="Learn this topic's records, with the settings and with each trial.", **PAST),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Learn a .csv, .npz, .parquet or .jsonl through Kafka, with the settings and each trial; "
            "starts a broker if the settings name none.",
            **FILE,
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Label column (default: the last one).", **FILE)] = None,
    features: Annotated[
        str | None, typer.Option(help="Feature columns a,b,c (default: all others).", **FILE)
    ] = None,
    regression: Annotated[
        bool, typer.Option("--regression", help="Treat the label as a regression target.", **FILE)
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Records per micro-batch.", **FILE)] = 1000,
    as_json: options.Json = False,
    master: options.Master = None,
    set_: options.Sets = None,
) -> None:
    """Learn recorded versions, a topic or a file with other options, and compare the trials.

    The trials are shown beside the model as it was, over the same rows in the same micro-batches.
    """
    past = {"first": first, "last": last, "since": since, "until": until, "topic": topic}
    columns = {"label": label, "features": features, "regression": regression}
    if file is None:
        _check_past(columns, into)
    elif any(value is not None for value in past.values()):
        raise ValueError("--file cannot be combined with --topic, --from, --to, --since or --until")
    settings = options.load_settings(config, set_, bootstrap, model=model, spark={"spark.master": master})
    trials = trial or []
    with progress() as show_progress:
        if file is not None:
            outcomes = _learn_file(settings, file, columns, into, trials, batch, show_progress)
        else:
            assert into is not None  # checked
            outcomes = _learn_past(settings, past, into, trials, show_progress)
    from streaming_nn.cli.outcomes import show

    show(outcomes, as_json)


def _check_past(columns: dict[str, Any], into: Path | None) -> None:
    if any(columns.values()):
        raise ValueError("--label, --features and --regression apply to --file only")
    if into is None:
        raise ValueError("--into DIR is required: the trials' versions are written there")


def _learn_past(
    settings: "Settings", past: dict[str, Any], into: Path, trials: list[str], show: Progress
) -> "list[Outcome]":
    if not past["topic"]:
        options.require_topics(settings.model)
    options.require_kafka(settings)
    from streaming_nn.spark.replay.backtest import Selection
    from streaming_nn.spark.replay.backtest import backtest as run

    return run(settings, into, trials, Selection(**past), show)


def _learn_file(
    settings: "Settings",
    path: Path,
    columns: dict[str, Any],
    into: Path | None,
    trials: list[str],
    batch: int,
    show: Progress,
) -> "list[Outcome]":
    from streaming_nn.spark.replay.file_backtest import StreamFile, backtest_file

    columns["features"] = tuple(options.split(columns["features"], str) or ())
    return backtest_file(settings, StreamFile(path, **columns), into, trials, batch, show)
