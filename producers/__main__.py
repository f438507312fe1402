"""`python -m producers STREAM --topic …`: feed a topic with a dataset, a file or a generated stream."""

import json
import signal
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from producers import known
from producers.messages import Message, Plan, messages, schema_of, topics_of
from producers.send import Sent, producer, send
from producers.streams import Stream, limited
from streaming_nn.records.schema import Schema

FAILED, MISUSED = 1, 2  # exit codes
REDRAW = 0.1  # seconds between two looks of the progress bar

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


# options that only some streams have
NOT_LIVE = ("label_delay",)
OF_GENERATED = ("drift_at", "option")
OF_FILES = ("file", "label", "features", "regression", "loop", "time", "speed")


@app.command(no_args_is_help=True)
def produce(
    ctx: typer.Context,
    stream: Annotated[str, typer.Argument(help=f"One of {', '.join(known.STREAMS)}.")],
    file: Annotated[Path | None, typer.Argument(help="The file of csv, npz and parquet.")] = None,
    topic: Annotated[str, typer.Option(help="Where labeled records go.")] = "labeled",
    unlabeled_topic: Annotated[str | None, typer.Option(help="Where unlabeled records go.")] = None,
    unlabeled: Annotated[float, typer.Option(help="Share of rows that go there.")] = 0.0,
    label_delay: Annotated[
        str | None, typer.Option(help="Unlabeled rows come again with their label: after 500 rows, or 5s.")
    ] = None,
    malformed: Annotated[float, typer.Option(help="Share of rows that are spoilt on purpose.")] = 0.0,
    drift_at: Annotated[
        list[str] | None, typer.Option(help="The world changes at this row, or 30s; may be repeated.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Rows a second; as fast as can be without.")] = None,
    records: Annotated[int | None, typer.Option(help="Rows after which it ends.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Seconds after which it ends.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same records; machine has none.")] = 0,
    first_id: Annotated[int, typer.Option(help="Id of the first row.")] = 0,
    format: Annotated[str, typer.Option(help="json, packed, csv or avro.")] = "json",
    avro_schema: Annotated[
        Path | None, typer.Option(help="File to write the schema of Avro records to.")
    ] = None,
    named: Annotated[bool, typer.Option(help="A field for each feature, not one array.")] = False,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the stream itself: noise=0.2.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Label column of a file; the last one without.")] = None,
    features: Annotated[str | None, typer.Option(help="Feature columns of a file: a,b,c.")] = None,
    regression: Annotated[bool, typer.Option(help="The file's label is a number to be told.")] = False,
    loop: Annotated[bool, typer.Option(help="Begin the file again at its end.")] = False,
    time: Annotated[str | None, typer.Option(help="Column of recorded times: the file's own pace.")] = None,
    speed: Annotated[float, typer.Option(help="How many times the recorded pace.")] = 1.0,
    kafka: Annotated[
        list[str] | None, typer.Option(help="A Kafka option: key=value; may be repeated.")
    ] = None,
    config: Annotated[
        Path, typer.Option(help="Settings whose kafka table is used, where the file exists.")
    ] = Path("streaming-nn.toml"),
    compression: Annotated[str | None, typer.Option(help="gzip, for one.")] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="The last line of stdout is one JSON object.")
    ] = False,
) -> None:
    """Feed a topic with labeled records, and another with unlabeled ones, at a steady pace.

    The record's key is its row's id, so that the default partitioner spreads rows over all partitions.
    """
    stop = _stop_on_signals()
    try:
        _check_options(ctx, known.checked(stream))
        _check_ends(records, seconds)
        _check_pace(rate, time, speed)
        plan = Plan(
            topic=topic,
            unlabeled_topic=unlabeled_topic,
            unlabeled=unlabeled,
            malformed=malformed,
            label_delay=None if label_delay is None else _rows("label-delay", label_delay, rate),
            format=format,
            seed=seed,
            first_id=first_id,
            rate=rate,
            speed=speed,
            named=named,
        )
        drifts = tuple(_rows("drift-at", text, rate) for text in drift_at or ())
        if stream in known.FILES:
            columns = tuple(name.strip() for name in features.split(",")) if features else ()
            given = {
                "label": label,
                "features": columns,
                "time": time,
                "regression": regression,
                "loop": loop,
            }
            rows = _file(stream, file, given)
        elif stream in known.LIVE:
            rows = known.LIVE[stream](**({} if rate is None else {"rate": rate}))
        else:
            rows = known.generator(stream, seed, drifts, _pairs("--set", option or []))
        schema = schema_of(rows, plan)  # an error before anything is sent
        if avro_schema is not None:
            _keep(schema, avro_schema)
        options = _kafka(kafka or [], config)
        client = producer(_for_producer(options), compression)
        _check_topics(options, topics_of(rows, plan))
    except ValueError as error:
        raise _misused(error) from None
    sent = _run(messages(limited(rows, records), plan), client, stop, drifts, seconds, records)
    _tell(sent, stream, topic, json_)


def _keep(schema: Schema, file: Path) -> None:
    if schema.avro_schema is None:
        raise ValueError(f"avro-schema is for format avro; got {schema.format}")
    try:
        file.write_text(schema.avro_schema + "\n", "utf-8")
    except OSError as error:
        raise ValueError(f"avro-schema can't be written to {file}: {error.strerror}") from None


def _rows(what: str, text: str, rate: float | None) -> int:
    """Return a position in rows; `30s` is a position in time, at the rate."""
    try:
        if not text.endswith("s"):
            return int(text)
        seconds = float(text[:-1])
    except ValueError:
        raise ValueError(f"{what} must be rows, like 5000, or seconds, like 30s; got {text!r}") from None
    if rate is None:
        raise ValueError(f"{what} in seconds needs --rate; got {text!r} without")
    return round(seconds * rate)


def _check_options(ctx: typer.Context, stream: str) -> None:
    """Raise ValueError for an option that this stream doesn't have: it would do nothing."""
    having = [(OF_GENERATED, known.GENERATORS), (OF_FILES, known.FILES)]
    having += [(NOT_LIVE, {**known.GENERATORS, **known.FILES})]
    flags = {param.name: param.opts[0] if "-" in param.opts[0] else "FILE" for param in ctx.command.params}
    for options, streams in having:
        given = [name for name in options if _given(ctx, name)]
        if given and stream not in streams:
            raise ValueError(f"{flags[given[0]]} is for {', '.join(streams)}; got it for {stream}")


def _check_ends(records: int | None, seconds: float | None) -> None:
    if records is not None and records < 1:
        raise ValueError(f"--records must be 1 or more; got {records}")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"--seconds must be more than 0; got {seconds:g}")


def _check_pace(rate: float | None, time: str | None, speed: float) -> None:
    if time is not None and rate is not None:
        raise ValueError("--time gives the file's own pace, --rate another; got both")
    if time is None and speed != 1:
        raise ValueError(f"--speed is of recorded times, and needs --time; got {speed:g} without")


def _given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"  # by its name: typer may bring its own click


def _file(name: str, path: Path | None, given: dict[str, Any]) -> Stream:
    if path is None:
        raise ValueError(f"{name} needs a file: python -m producers {name} FILE")
    return known.file(name, path, **given)


def _pairs(what: str, texts: list[str]) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            raise ValueError(f"{what} must be key=value; got {text!r}")
    return dict(text.split("=", 1) for text in texts)


def _kafka(texts: list[str], config: Path) -> dict[str, str]:
    """Return Kafka's options: the settings' [kafka] table, overridden by the flags."""
    from streaming_nn.kafka.options import flat

    table: dict[str, Any] = {}
    if config.is_file():
        try:
            table = tomllib.loads(config.read_text(encoding="utf-8")).get("kafka", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{config} is no TOML: {error}") from None
    return {"bootstrap.servers": "localhost:9092"} | flat(table) | _pairs("--kafka", texts)


def _for_producer(options: dict[str, str]) -> dict[str, Any]:
    from kafka import KafkaProducer

    from streaming_nn.kafka.options import for_python

    return for_python(options, KafkaProducer)


def _check_topics(options: dict[str, str], topics: list[str]) -> None:
    """Raise ValueError for a topic that isn't there: the producer would wait a minute for it."""
    from streaming_nn.kafka.admin import partitions

    try:
        partitions(options, topics)
    except (LookupError, OSError, RuntimeError) as error:
        raise ValueError(str(error)) from None


def _run(
    ready: Iterator[Message],
    client: Any,
    stop: threading.Event,
    drifts: tuple[int, ...],
    seconds: float | None,
    records: int | None,
) -> Sent:
    with _progress(Console(stderr=True), records, drifts) as progress:
        return send(ready, client, stop.is_set, seconds, progress)


def _stop_on_signals() -> threading.Event:
    """Return an event that the first SIGINT or SIGTERM sets; the second one ends at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return stop


@contextmanager
def _progress(
    console: Console, records: int | None, drifts: tuple[int, ...]
) -> Iterator[Callable[[Message], None]]:
    """Show a bar on a terminal, and announce the drift everywhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    ahead = list(drifts)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("rows sent", total=records)
        rows, shown = 0, 0.0

        def follow(message: Message) -> None:
            nonlocal rows, shown
            rows = message.row + 1
            if ahead and message.row >= ahead[0]:
                console.print(f"row {ahead.pop(0):,}: the world changes")
            if (now := monotonic()) - shown >= REDRAW:
                shown = now
                bar.update(task, completed=rows)

        yield follow
        bar.update(task, completed=rows)


def _tell(sent: Sent, stream: str, topic: str, as_json: bool) -> None:
    counts = sent.acknowledged
    if as_json:
        print(
            json.dumps(
                counts | {"failed": sent.failed, "seconds": round(sent.seconds, 3), "error": sent.error}
            )
        )
    else:
        what = ", ".join(f"{n:,} {kind}" for kind, n in counts.items() if n)
        print(f"{stream}: {what or 'nothing'} acknowledged in {sent.seconds:.1f} s")
    if sent.error or sent.failed:
        failed = f"{sent.failed:,} records failed: " if sent.failed else ""
        print(f"producers: {failed}{sent.error or 'no answer from the broker'}", file=sys.stderr)
        raise typer.Exit(FAILED)


def _misused(error: Exception) -> typer.Exit:
    print(f"producers: {error}", file=sys.stderr)
    return typer.Exit(MISUSED)


def main() -> int:
    """Run the command; what is wrong with its words is one line on stderr."""
    try:
        code: int | None = app(prog_name="python -m producers", standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's own, which typer may bring itself
            raise
        print(f"producers: {error.format_message()}", file=sys.stderr)
        return MISUSED
    return code or 0


if __name__ == "__main__":
    sys.exit(main())
