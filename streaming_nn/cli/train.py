"""`streaming-nn train`: learn topics, or another Spark source, into a model directory."""

import logging
import os
import sys
from collections.abc import Container
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming_nn.cli import options
from streaming_nn.cli.live import Behind, live
from streaming_nn.cli.progress import Lines, draws_table, progress
from streaming_nn.cli.serving import follow, serving, traces
from streaming_nn.cli.tables import TrainTable
from streaming_nn.nn.figures import describe, leading

if TYPE_CHECKING:
    from streaming_nn.settings import Settings
    from streaming_nn.sinks.prometheus import Server
    from streaming_nn.versions.version import Manifest

logger = logging.getLogger(__name__)

SOURCE: Any = {"rich_help_panel": "A source other than Kafka"}
NEW, END = "\033[1;33m", "\033[0m"  # bold yellow, for a reason that was not logged before
REASONS = 3  # why records were rejected that a line names
DRAIN = 10  # seconds that the sinks get at the end to write the last versions


def train(
    config: options.Config = None,
    model: options.Model = None,
    bootstrap: options.Bootstrap = None,
    topic: Annotated[list[str] | None, typer.Option(help="Labeled topic; may be repeated.")] = None,
    source: Annotated[
        str | None,
        typer.Option(help="A Spark source in place of topics: text, parquet, rate, delta …", **SOURCE),
    ] = None,
    source_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the source: path=DIR; may be repeated.", **SOURCE),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(metavar="SQL", help="Column to read: 'value % 10 AS x'; may be repeated.", **SOURCE),
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Array field, or fields a,b,c.d; one field is 'a,'.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Field of the label; a,b: of several targets or labels.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Labels a,b,c; true,false are booleans (default: inferred); grow: new labels too."),
    ] = None,
    regression: Annotated[
        bool | None, typer.Option("--regression", help="Treat the label as a regression target.")
    ] = None,
    multilabel: Annotated[
        bool | None, typer.Option("--multilabel", help="The label is an array, or several boolean fields.")
    ] = None,
    hidden: Annotated[str | None, typer.Option(help="Widths of the hidden layers: 64,32.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="Train one network with this optimizer, not the ensemble.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate of --optimizer.")] = None,
    mini_batch: Annotated[
        str | None, typer.Option(help="Rows per step; auto: the fewest that keep up with the stream.")
    ] = None,
    update: Annotated[
        str | None, typer.Option(help="sequential: one task trains; averaged: one per partition.")
    ] = None,
    trigger: Annotated[str | None, typer.Option(help="Interval between micro-batches: '1 second'.")] = None,
    max_offsets: Annotated[int | None, typer.Option(help="Maximum offsets per micro-batch.")] = None,
    once: Annotated[
        bool | None, typer.Option("--once", help="Train on the available records, then stop.")
    ] = None,
    accept_data_loss: Annotated[
        bool | None,
        typer.Option("--accept-data-loss", help="Continue despite expired records or a recreated topic."),
    ] = None,
    as_json: options.JsonLines = False,
    master: options.Master = None,
    set_: options.Sets = None,
) -> None:
    """Train on topics, resuming after the model's newest version; Ctrl-C stops cleanly."""
    settings = options.load_settings(
        config,
        set_,
        bootstrap,
        model=model,
        records={
            "features": options.features(features),
            "label": options.features(label),
            "classes": classes if classes == "grow" else options.split(classes, options.label),
            "regression": regression,
            "multilabel": multilabel,
        },
        learner={
            "hidden": _parse_widths(hidden),
            "optimizer": optimizer,
            "learning_rate": learning_rate,
            "mini_batch": None if mini_batch is None else options.integer_or_string(mini_batch),
        },
        source={"format": source, "options": _parse_pairs(source_option), "select": select},
        train={
            "topics": topic,
            "update": update,
            "trigger": trigger,
            "max_offsets_per_trigger": max_offsets,
            "once": once,
            "accept_data_loss": accept_data_loss,
        },
        spark={"spark.master": master},
    )
    if settings.source.format:
        _reject({"--topic": topic, "--max-offsets": max_offsets, "--accept-data-loss": accept_data_loss})
    else:
        options.require_kafka(settings)
    _run(settings, as_json)


def _parse_widths(text: str | None) -> list[int] | None:
    if text is not None and not all(width.strip().isdecimal() for width in text.split(",")):
        raise ValueError(f"--hidden must be comma-separated integers, such as 64,32; got {text!r}")
    return options.split(text, int)


def _parse_pairs(texts: list[str] | None) -> dict[str, str] | None:
    for text in texts or ():
        if "=" not in text.strip("="):
            raise ValueError(f"--source-option must be KEY=VALUE, such as path=DIR; got {text!r}")
    return None if texts is None else {key: value for key, _, value in (t.partition("=") for t in texts)}


def _reject(flags: dict[str, Any]) -> None:
    """Raise ValueError if a flag is set that another source than Kafka doesn't have."""
    for name, value in flags.items():
        if value:
            raise ValueError(f"{name} applies to Kafka only; use --source-option KEY=VALUE")


def _run(settings: "Settings", as_json: bool) -> None:
    with serving(settings) as server:
        _learn(settings, server, as_json)


def _learn(settings: "Settings", server: "Server | None", as_json: bool) -> None:
    from streaming_nn.spark.checks import before_train

    before_train(settings)
    from streaming_nn.sinks.sink import Sinks
    from streaming_nn.spark.session import running
    from streaming_nn.spark.train.trainer import train as run

    with ExitStack() as stack:
        with progress() as show:
            spark = stack.enter_context(running(settings.spark, show))

        def start_sinks(trainer: Any) -> None:
            head = trainer.head.number
            if trainer.new:
                logger.info("%s: new model", settings.model)
            else:
                logger.info("%s: resuming after version %d", settings.model, head)
            own = [JsonSink(head)] if as_json else []
            shown = _show(server, trainer, stack, draws_table(as_json))
            sinks = Sinks(trainer.log, [*own, *_metrics_sinks(settings), *shown])
            stack.callback(sinks.stop, drain=DRAIN)
            if exported := traces(settings, stack):
                trainer.traced = exported.record

        run(spark, settings, start_sinks)


def _show(server: "Server | None", trainer: Any, stack: ExitStack, as_table: bool) -> list[Any]:
    """Show the trainer on stderr and to the platform's tools from now on; return the sinks for it."""
    settings, lag = trainer.settings, None
    if not settings.source.format:
        lag = follow(settings, lambda: trainer.head.manifest.offsets, stack)
        trainer.find_lag = lambda position: lag.behind(position["offsets"])
    log = LogSink(trainer.head.number, only_news=as_table)
    sinks: list[Any] = [log]
    if as_table:
        job = settings.train
        what = settings.source.format or job.topics_pattern or ", ".join(job.topics)
        title = f"{settings.model} learns {what}"
        behind = Behind(lag, lambda: trainer.head.manifest.offsets) if lag else None
        table = TrainTable(title, trainer.head.manifest, behind, log.write)
        sinks = [table]  # one thread for both reads each version once
        stack.enter_context(live(table.shown))
    else:
        trainer.progress = Lines().show
    if server is None:
        return sinks
    from streaming_nn.settings import seconds
    from streaming_nn.sinks.prometheus import TrainerMetrics

    most, with_dead_letters = seconds(settings.metrics.max_lag), trainer.dead_letters is not None
    sink = TrainerMetrics(trainer.head.manifest, lag, with_dead_letters, most)
    server.show(sink)
    return [*sinks, sink]


def _metrics_sinks(settings: "Settings") -> list[Any]:
    from streaming_nn.sinks.json_lines import JsonLinesSink
    from streaming_nn.sinks.kafka_topic import KafkaTopicSink

    sinks: list[Any] = []
    if settings.metrics.file:
        sinks.append(JsonLinesSink(settings.metrics.file))
    if settings.metrics.topic:
        sinks.append(KafkaTopicSink(settings.kafka, settings.metrics.topic, settings.model))
    if settings.metrics.mlflow:
        from streaming_nn.sinks.mlflow import MLflowSink

        sinks.append(MLflowSink(settings.metrics.mlflow, settings.metrics.experiment, settings.model))
    return sinks


class JsonSink:
    """The sink that prints the metrics event of each version after `last` as a line of JSON."""

    name = "stdout"

    def __init__(self, last: int) -> None:
        self._last = last

    def position(self) -> int:
        """Return the last version that was printed."""
        return self._last

    def write(self, manifest: "Manifest") -> None:
        """Print a version's event."""
        from streaming_nn.sinks.metrics_event import encode_event

        print(encode_event(manifest).decode(), flush=True)
        self._last = manifest.number

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class LogSink:
    """The sink that logs one line per version, from the version after `last` on.

    With `only_news`, beside a live table, only a version with an event or a new reason of rejection.
    """

    name = "log"

    def __init__(self, last: int, only_news: bool = False) -> None:
        self._last, self._only_news = last, only_news
        self._known: set[str] = set()  # reasons of rejected records that were logged

    def position(self) -> int:
        """Return the last version that was logged."""
        return self._last

    def write(self, manifest: "Manifest") -> None:
        """Log what the version has learned and how well it predicts."""
        new = manifest.rejected_by_reason.keys() - self._known
        if new or manifest.news or not self._only_news:
            logger.info("%s", summarize(manifest, new if _colored() else ()))
        if not any(map(_label_of, self._known)) and (labels := [*filter(None, map(_label_of, new))]):
            logger.info("  %s; use a new model directory", _suggest(min(labels), manifest))
        self._known |= new
        self._last = manifest.number

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _colored() -> bool:
    """Return whether stderr is a terminal that may show colours (no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _label_of(reason: str) -> str:
    """Return the label that is in no class, as it is shown, if that is the reason; else an empty string."""
    from streaming_nn.records.reasons import LABEL_NOT_IN_CLASSES  # imports NumPy

    found, _, label = reason.partition(": ")
    return label if found == LABEL_NOT_IN_CLASSES else ""


def _suggest(label: str, manifest: "Manifest") -> str:
    from streaming_nn.records.labels import suggest_setting

    return suggest_setting(label, manifest.schema.get("classes") or ())


def summarize(manifest: "Manifest", marked: Container[str] = ()) -> str:
    """Return one line about a version: its counts, and its metrics over the last rows.

    `marked` reasons of rejected records are in colour.
    """
    window = manifest.metrics.get("prequential", {}).get("window", {})
    as_served = manifest.metrics.get("as_served", {}).get("window", {})
    first = next(iter(leading(window)))
    parts = [
        f"version {manifest.number}",
        f"{manifest.counts['trained']:,} rows",
        _rejected(manifest, marked),
        *([f"{filtered:,} filtered"] if (filtered := manifest.counts["filtered"]) else []),
        *describe(window),
    ]
    if as_served.get(first) is not None:
        parts.append(f"as served {as_served[first]:.3f}")
    return "  ".join([*parts, *manifest.news])


def _rejected(manifest: "Manifest", marked: Container[str]) -> str:
    """Return how many records were rejected, and why: the most frequent reasons."""
    counts = sorted(manifest.rejected_by_reason.items(), key=lambda item: -item[1])
    text = f"{manifest.counts['rejected']:,} rejected"
    if not counts:
        return text
    reasons = [reason if len(counts) == 1 else f"{n:,} {reason}" for reason, n in counts]
    shown = [
        f"{NEW}{reason}{END}" if key in marked else reason
        for reason, (key, _) in zip(reasons, counts, strict=True)
    ]
    more = [f"{len(counts) - REASONS:,} more reasons"] if len(counts) > REASONS else []
    return f"{text} ({', '.join(shown[:REASONS] + more)})"
