"""The commands: `streaming-nn demo`, and beneath it `train`, `score`, `replay` and `broker`."""

import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from streaming_nn import __version__
from streaming_nn.cli.versions import app as versions_app
from streaming_nn.nn import validation
from streaming_nn.settings import Settings, load

app = typer.Typer(
    name="streaming-nn",
    help="Neural networks that learn online on Apache Spark, exactly once, from Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
broker_app = typer.Typer(
    help="A real single-node Kafka on this machine, for tests and trials.", no_args_is_help=True
)
app.add_typer(broker_app, name="broker")
app.add_typer(versions_app, name="versions")

# A supervisor must not start a run again that ended for one of these; docs/guarantees.md has them too
CODES = {"VersionConflictError": 3, "DataLossError": 4, "TooManyRejectedError": 5, "DamagedVersionError": 6}

OTHER: Any = {"rich_help_panel": "Another source than Kafka"}
LONG_ENOUGH = (5, 86_400)  # seconds of a demo: a few versions, a day

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings; ./streaming-nn.toml without.")]
Model = Annotated[Path | None, typer.Option(help="The model directory: a log of versions.")]
Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap", help="Kafka's host:port; the settings' kafka table has the rest.")
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="Any setting: section.key=value; may be repeated.")
]
Master = Annotated[str | None, typer.Option(help="Spark's master, such as local[4].")]


def say(line: str) -> None:
    """Tell the user something, on stderr: stdout is for results."""
    print(line, file=sys.stderr, flush=True)


def _loaded(config: Path | None, sets: list[str] | None, bootstrap: str | None, **flags: Any) -> Settings:
    kafka = {"bootstrap.servers": bootstrap} if bootstrap else {}
    return load(config, {"kafka": kafka, **flags}, sets or ())


def _settings(config: Path | None, sets: list[str] | None, bootstrap: str | None, **flags: Any) -> Settings:
    return _with_kafka(_loaded(config, sets, bootstrap, **flags))


def _with_kafka(settings: Settings) -> Settings:
    if "bootstrap.servers" not in settings.kafka:
        raise ValueError(
            'kafka must have "bootstrap.servers"; give --bootstrap host:port or set it under [kafka]'
        )
    return settings


def _no_offsets(flags: dict[str, Any]) -> None:
    for name, given in flags.items():
        if given:
            raise ValueError(
                f"{name} is Kafka's: what another source has is its own, --source-option KEY=VALUE"
            )


def _pairs(texts: list[str] | None) -> dict[str, str] | None:
    for text in texts or ():
        if "=" not in text.strip("="):
            raise ValueError(f"--source-option must be KEY=VALUE, such as path=DIR; got {text!r}")
    return None if texts is None else {key: value for key, _, value in (t.partition("=") for t in texts)}


def _list(text: str | None, kind: Any = str) -> list[Any] | None:
    return None if text is None else [kind(item.strip()) for item in text.split(",")]


def _widths(text: str | None) -> list[int] | None:
    widths = _list(text)
    if widths is not None and not all(width.isdecimal() for width in widths):
        raise ValueError(f"--hidden must be whole numbers with commas between, such as 64,32; got {text!r}")
    return None if widths is None else [int(width) for width in widths]


def _label(text: str) -> Any:
    return int(text) if text.lstrip("-").isdigit() else text


@app.command()
def train(
    config: Config = None,
    model: Model = None,
    bootstrap: Bootstrap = None,
    topic: Annotated[list[str] | None, typer.Option(help="Labeled topic; may be repeated.")] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Another Spark source in place of topics: text, parquet, rate, delta …", **OTHER),
    ] = None,
    source_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Of that source: path=DIR; may be repeated.", **OTHER),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(metavar="SQL", help="A column of it: 'value % 10 AS x'; may be repeated.", **OTHER),
    ] = None,
    features: Annotated[str | None, typer.Option(help="Array field, or fields a,b,c.d.")] = None,
    label: Annotated[str | None, typer.Option(help="Field of the label.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Labels a,b,c; seen in the topic without; grow: new ones join.")
    ] = None,
    regression: Annotated[
        bool | None, typer.Option("--regression", help="The label is a number to be told.")
    ] = None,
    hidden: Annotated[str | None, typer.Option(help="Widths of the hidden layers: 64,32.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="One network with this optimizer, in place of the ensemble.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of that one optimizer.")] = None,
    mini_batch: Annotated[
        str | None, typer.Option(help="Rows a step learns from; auto: the fewest that keep up.")
    ] = None,
    update: Annotated[
        str | None, typer.Option(help="sequential: one task learns; averaged: one a partition.")
    ] = None,
    trigger: Annotated[str | None, typer.Option(help="Time between micro-batches: '1 second'.")] = None,
    max_offsets: Annotated[int | None, typer.Option(help="Most offsets of a micro-batch.")] = None,
    once: Annotated[bool | None, typer.Option("--once", help="Learn what is there, then end.")] = None,
    accept_loss: Annotated[
        bool | None, typer.Option("--accept-loss", help="Go on where records are gone.")
    ] = None,
    master: Master = None,
    set_: Sets = None,
) -> None:
    """Learn topics, from where the model directory's newest version ends; Ctrl-C stops it cleanly."""
    settings = _loaded(
        config,
        set_,
        bootstrap,
        model=model,
        records={
            "features": _list(features) if features and "," in features else features,
            "label": label,
            "classes": "grow" if classes == "grow" else _list(classes, _label),
            "regression": regression,
        },
        learner={
            "hidden": _widths(hidden),
            "optimizer": optimizer,
            "learning_rate": learning_rate,
            "mini_batch": None if mini_batch is None else _label(mini_batch),
        },
        source={"format": source, "options": _pairs(source_option), "select": select},
        train={
            "topics": topic,
            "update": update,
            "trigger": trigger,
            "max_offsets_per_trigger": max_offsets,
            "once": once,
            "accept_loss": accept_loss,
        },
        spark={"spark.master": master},
    )
    if settings.source.format:
        _no_offsets({"--topic": topic, "--max-offsets": max_offsets, "--accept-loss": accept_loss})
    else:
        _with_kafka(settings)
    from streaming_nn.sinks.sink import Sinks
    from streaming_nn.spark.session import running
    from streaming_nn.spark.train.resume import check_learner
    from streaming_nn.spark.train.trainer import train as run
    from streaming_nn.versions.version_log import VersionLog

    check_learner(settings, VersionLog(settings.model))
    with running(settings.spark) as spark, ExitStack() as stack:

        def begun(trainer: Any) -> None:
            head = trainer.head.number
            new = "a new model" if trainer.new else f"going on after version {head}"
            say(f"{settings.model}: {new}")
            followers = Sinks(trainer.log, [_Told(head), *_followers(settings)], say)
            stack.callback(followers.stop, drain=10)

        run(spark, settings, say, begun)


def _followers(settings: Settings) -> list[Any]:
    from streaming_nn.sinks.json_lines import JsonLinesSink
    from streaming_nn.sinks.kafka_topic import KafkaTopicSink

    wanted: list[Any] = []
    if settings.metrics.file:
        wanted.append(JsonLinesSink(settings.metrics.file))
    if settings.metrics.topic:
        wanted.append(KafkaTopicSink(settings.kafka, settings.metrics.topic, settings.model))
    return wanted


class _Told:
    """The follower that says each new version in a line."""

    name = "stderr"

    def __init__(self, after: int) -> None:
        self._last = after

    def position(self) -> int:
        return self._last

    def write(self, record: Any) -> None:
        say(line(record))
        self._last = record.number

    def close(self) -> None:
        pass


def line(record: Any) -> str:
    """Say in one line what a version has learned and how well it answered."""
    rows, window = record.rows, record.metrics.get("prequential", {}).get("window", {})
    served = record.metrics.get("served", {}).get("window", {})
    names = ("accuracy", "f1_macro", "log_loss") if "accuracy" in window else ("mae", "rmse", "r2")
    values = "  ".join(f"{n} {window[n]:.3f}" for n in names if window.get(n) is not None)
    first = names[0]
    as_served = f"  as served {served[first]:.3f}" if served.get(first) is not None else ""
    counts = f"{rows['trained']:,} rows  {rows['rejected']:,} rejected"
    return f"version {record.number}  {counts}  {values}{as_served}"


@app.command()
def score(
    config: Config = None,
    model: Model = None,
    bootstrap: Bootstrap = None,
    topic: Annotated[str | None, typer.Option(help="Unlabeled topic.")] = None,
    predictions: Annotated[str | None, typer.Option(help="Topic of the answers.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="batch, or realtime: a millisecond, for networks that Java can answer.")
    ] = None,
    trigger: Annotated[str | None, typer.Option(help="Time between micro-batches; none by default.")] = None,
    once: Annotated[bool | None, typer.Option("--once", help="Answer what is there, then end.")] = None,
    max_age: Annotated[
        float | None, typer.Option(help="Seconds after which a version's answers are stale.")
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="The scorer's durable place.")] = None,
    master: Master = None,
    set_: Sets = None,
) -> None:
    """Answer an unlabeled topic, each micro-batch with the newest version; Ctrl-C stops it."""
    given = {
        "engine": engine,
        "topic": topic,
        "predictions": predictions,
        "trigger": trigger,
        "once": once,
        "max_age": max_age,
        "checkpoint": checkpoint,
    }
    settings = _settings(config, set_, bootstrap, model=model, score=given, spark={"spark.master": master})
    from streaming_nn.spark.score.realtime.scorer import RealTimeScorer
    from streaming_nn.spark.score.scorer import Scorer, answer
    from streaming_nn.spark.session import running

    with running(settings.spark) as spark:
        answer(spark, settings, say, RealTimeScorer if settings.score.engine == "realtime" else Scorer)


WHAT_IF, A_FILE = "What if: other options", "What if: on a test stream"


@app.command()
def replay(
    config: Config = None,
    model: Model = None,
    bootstrap: Bootstrap = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare every version's digest; the default without --into, --file."),
    ] = False,
    first: Annotated[int | None, typer.Option("--from", help="First version; 1 without.")] = None,
    last: Annotated[int | None, typer.Option("--to", help="Last version; the newest without.")] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            help="Learn again into this directory: one try is its model, several are models in it. "
            "The same command again goes on where it was ended.",
            rich_help_panel=WHAT_IF,
        ),
    ] = None,
    tries: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            metavar="KEY=VALUE[,…]",
            help="Other options of the learner, as one try: optimizer=sgd,learning_rate=0.01. May be "
            "repeated: tries are learned side by side. What it doesn't name stays as it was.",
            rich_help_panel=WHAT_IF,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="From the first version that was written at this time or later, such as "
            "2026-01-31T14:00 (UTC, or with a zone); with --topic, from the first such record.",
            rich_help_panel=WHAT_IF,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what is before this time.", rich_help_panel=WHAT_IF),
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(
            help="Learn what this topic holds, with the settings and each try, where no model has.",
            rich_help_panel=WHAT_IF,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Send a .csv, .npz or .parquet through Kafka and the job that learns, once with the "
            "settings and once with each --try; without a Kafka in the settings, one is started for it.",
            rich_help_panel=A_FILE,
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Its label column; the last one without.", rich_help_panel=A_FILE)
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Its feature columns a,b,c; all others.", rich_help_panel=A_FILE)
    ] = None,
    regression: Annotated[
        bool, typer.Option("--regression", help="Its label is a number to be told.", rich_help_panel=A_FILE)
    ] = False,
    batch: Annotated[
        int, typer.Option(min=1, help="Records of a micro-batch.", rich_help_panel=A_FILE)
    ] = 1000,
    as_json: Annotated[
        bool, typer.Option("--json", help="The last line of stdout is one JSON object.")
    ] = False,
    master: Master = None,
    set_: Sets = None,
) -> None:
    """Learn the past again: to prove it (--verify), or with other options (--into, --file).

    Tries are shown beside what the model came to, over the same rows, in the same micro-batches.
    """
    flags = {"model": model, "spark": {"spark.master": master}}
    if verify and (into or file):
        raise ValueError("--verify learns again as it was, into nothing: it goes without --into and --file")
    if file is None and (label or features or regression):
        raise ValueError("--label, --features and --regression are for --file FILE")
    if file is not None:
        if topic or since or until or first is not None or last is not None:
            raise ValueError("--file is learned whole: it goes without a range and without --topic")
        from streaming_nn.spark.replay.file_backtest import File, of_file
        from streaming_nn.spark.replay.report import show

        stream = File(file, label, tuple(_list(features) or ()), regression)
        settings = _loaded(config, set_, bootstrap, **flags)
        show(of_file(settings, stream, into, tries or [], batch, say), as_json)
        return
    settings = _loaded(config, set_, bootstrap, **flags)
    if not topic:
        _of_topics(settings.model)
    _with_kafka(settings)
    if into is not None:
        from streaming_nn.spark.replay.file_backtest import Past, of_past
        from streaming_nn.spark.replay.report import show

        past = Past(first, last, since, until, topic)
        show(of_past(settings, into, tries or [], past, say), as_json)
        return
    if tries or since or until or topic:
        raise ValueError("--try, --since, --until and --topic need --into DIR, where the tries are kept")
    from streaming_nn.spark.replay.verify import verify as run
    from streaming_nn.spark.session import running
    from streaming_nn.versions.version_log import VersionLog

    log = VersionLog(settings.model)
    if log.head_number() is None:
        raise ValueError(f"model {settings.model}: there is no version yet, so there is nothing to replay")
    with running(settings.spark) as spark:
        result = run(
            spark, settings.kafka, log, first, last, progress=lambda n: say(f"identical up to version {n}")
        )
    if as_json:
        verdict = "identical" if result.identical else "different"
        print(
            json.dumps(
                {
                    "replay": verdict,
                    "first": result.first,
                    "last": result.last,
                    "rows": result.rows,
                    "different": result.different,
                    "reason": result.reason,
                    "machine": result.machine,
                }
            )
        )
    if result.last < result.first:
        say(f"identical: {settings.model} has learned nothing yet, so there was nothing to learn again")
        return
    if result.identical:
        say(
            f"identical: versions {result.first} to {result.last}, "
            f"{result.rows:,} records learned again to the same bits"
        )
        return
    say(f"version {result.different} differs: {result.reason}")
    for difference in result.machine:
        say(f"  this machine has {difference}")
    raise typer.Exit(1)


def _of_topics(model: Path) -> None:
    """Raise ValueError for a model that has learned, and nothing of it from a topic."""
    from streaming_nn.versions.version_log import VersionLog

    log = VersionLog(model)
    head = log.head_number()
    if head and all(log.manifest(number).kind != "learned" for number in range(1, head + 1)):
        raise ValueError(
            f"model {model}: its versions were learned from no topic (kind saved), so nothing gives their "
            f"rows again; to try options on a topic's records: --topic TOPIC --into DIR"
        )


@app.command()
def export(
    to: Annotated[Path, typer.Option(metavar="FILE", help="The .onnx file; one that is there is replaced.")],
    version: Annotated[str, typer.Option(help="A number, a tag, or head.")] = "head",
    config: Config = None,
    model: Model = None,
    set_: Sets = None,
) -> None:
    """Write a version as an ONNX file: the whole mixture with its scaler; see docs/export.md."""
    settings = _loaded(config, set_, None, model=model)
    from streaming_nn.estimators.model import loaded
    from streaming_nn.versions.atomic_files import put
    from streaming_nn.versions.tags import find
    from streaming_nn.versions.version_log import VersionLog

    try:
        from streaming_nn.export.onnx import to_onnx
    except ImportError as error:
        raise RuntimeError(error) from None
    log = VersionLog(settings.model)
    if not log.numbers():
        raise LookupError(f"model {settings.model}: there is no version yet, so there is nothing to export")
    number = find(log, version)
    learned, schema = loaded(settings.model, number)
    put(to, to_onnx(learned, schema).SerializeToString(deterministic=True))
    say(f"{to}: version {number} of {settings.model}, {schema.inputs} inputs")


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(help="How long the stream runs, 5 to 86400.")] = 60,
    rate: Annotated[
        float | None, typer.Option(help="Rows a second; 1,000 digits without, 20 looks at the machine.")
    ] = None,
    stream: Annotated[str, typer.Option(help="digits, or machine: its CPU use a second ahead.")] = "digits",
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Run here, or go on from what is here.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The last line of stdout is one JSON object.")
    ] = False,
) -> None:
    """Watch a network learn a stream through a real Kafka and Spark, and prove its past."""
    validation.between("--seconds", seconds, *LONG_ENOUGH, low_in=True, high_in=True)
    from streaming_nn.demo.run import run

    summary = run(directory, seconds, rate, say, stream)
    if summary is None:
        raise typer.Exit(130)
    if as_json:
        print(json.dumps(summary), flush=True)
    if not (summary["accounted"] and summary["replay"] == "identical"):
        raise typer.Exit(1)


@app.command()
def doctor(
    config: Config = None,
    model: Model = None,
    bootstrap: Bootstrap = None,
    job: Annotated[str | None, typer.Option(help="train or score; both without.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The last line of stdout is one JSON object.")
    ] = False,
    set_: Sets = None,
) -> None:
    """Look at what a run needs, and say how to mend what is missing; exit code 1 where something is."""
    from streaming_nn.doctor import JOBS
    from streaming_nn.doctor import main as diagnosed

    if job not in (None, *JOBS):
        raise ValueError(f"--job must be one of {', '.join(JOBS)}; got {job!r}")
    settings = _loaded(config, set_, bootstrap, model=model)
    raise typer.Exit(diagnosed(settings, as_json, JOBS if job is None else (job,)))


Folder = Annotated[Path, typer.Option("--dir", help="The broker's folder.")]


@broker_app.command("start")
def broker_start(
    directory: Folder = Path("broker"),
    port: Annotated[int, typer.Option(help="0 to 65535; 0: a free one.")] = 9092,
) -> None:
    """Start a broker in the background; its data stay in its folder."""
    if not 0 <= port <= 65_535:
        raise ValueError(f"--port must be 0 to 65535; got {port}")
    from streaming_nn.kafka.broker import Broker

    running = Broker.start(directory, port=port, detached=True)
    print(running.bootstrap)


def _running(directory: Path) -> Any:
    from streaming_nn.kafka.broker import Broker

    running = Broker.find(directory)
    if running is None:
        raise LookupError(f"no broker is running in {directory}")
    return running


@broker_app.command("topics")
def broker_topics(
    names: Annotated[list[str], typer.Argument(metavar="NAME[:PARTITIONS]...")],
    directory: Folder = Path("broker"),
) -> None:
    """Create topics on the broker of this folder; one that exists already stays as it is."""
    from streaming_nn.kafka import admin

    running = _running(directory)
    for item in names:
        name, _, partitions = item.partition(":")
        if partitions and not (partitions.isdigit() and int(partitions) > 0):
            raise ValueError(f"a topic must be NAME or NAME:PARTITIONS, such as labeled:3; got {item!r}")
        admin.create({"bootstrap.servers": running.bootstrap}, name, int(partitions or 1), exist_ok=True)


@broker_app.command("stop")
def broker_stop(directory: Folder = Path("broker")) -> None:
    """Stop the broker of this folder."""
    running = _running(directory)
    running.stop()
    say(f"stopped {running.bootstrap}")


@broker_app.command("status")
def broker_status(directory: Folder = Path("broker")) -> None:
    """Say whether the broker of this folder runs, and where."""
    from streaming_nn.kafka.broker import Broker

    running = Broker.find(directory)
    print(running.bootstrap if running else "not running")
    if running is None:
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Say the version and end.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run a command; what goes wrong ends in one line on stderr and an exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, _interrupt)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, LookupError, RuntimeError, OSError, AssertionError) as error:
        say(f"streaming-nn: {error}")
        sys.exit(CODES.get(type(error).__name__, 2 if isinstance(error, ValueError) else 1))
    except Exception as error:
        if not type(error).__module__.startswith(("pyspark.", "py4j.")):  # ours: a traceback is what helps
            raise
        from streaming_nn.spark.session import in_one_line

        say(f"streaming-nn: Spark says: {in_one_line(error)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
