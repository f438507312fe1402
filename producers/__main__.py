"""`python -m producers STREAM --topic …`: send a dataset, a file or a generated stream to a topic."""

import json
import signal
import sys
import threading
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from producers import known
from producers.hint import train_command
from producers.messages import Message, Plan, messages, schema_of, topics_of
from producers.send import NOTHING, Sent, producer, send
from producers.streams import Stream, limited
from producers.topics import create_topics, kafka_options, python_options, require_topics
from streaming_nn.records.schema import Schema

FAILED, MISUSED = 1, 2  # exit codes
REDRAW = 0.1  # seconds between two updates of the progress bar

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


# options that only some streams have
NOT_LIVE = ("label_delay",)
OF_GENERATED = ("drift_at", "option")
OF_FILES = ("file", "label", "features", "regression", "loop", "time", "speed")
OF_CSV = ("delimiter", "decimal", "thousands", "units", "encoding", "quote", "na_values", "header")


@app.command(no_args_is_help=True)
def produce(
    ctx: typer.Context,
    stream: Annotated[str, typer.Argument(help=f"One of {', '.join(known.STREAMS)}.")],
    file: Annotated[Path | None, typer.Argument(help="The file to read (csv, npz, parquet, jsonl).")] = None,
    topic: Annotated[str, typer.Option(help="Topic for labeled records.")] = "labeled",
    unlabeled_topic: Annotated[str | None, typer.Option(help="Topic for unlabeled records.")] = None,
    unlabeled: Annotated[
        float, typer.Option(help="Share of rows sent without their label, to the unlabeled topic: 0 to 1.")
    ] = 0.0,
    label_delay: Annotated[
        str | None, typer.Option(help="Send unlabeled rows again with their label after 500 rows, or 5s.")
    ] = None,
    malformed: Annotated[float, typer.Option(help="Share of rows corrupted on purpose: 0 to 1.")] = 0.0,
    drift_at: Annotated[
        list[str] | None, typer.Option(help="Row, or time like 30s, of a concept drift; may be repeated.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Rows per second (default: no limit).")] = None,
    records: Annotated[int | None, typer.Option(help="Stop after this many rows.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after this many seconds.")] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed: the same seed gives the same records; ignored by machine.")
    ] = 0,
    first_id: Annotated[int, typer.Option(help="ID of the first row.")] = 0,
    format: Annotated[str, typer.Option(help="Format of the records: json, packed, csv or avro.")] = "json",
    avro_schema: Annotated[
        Path | None, typer.Option(help="Write the schema of Avro records to this file.")
    ] = None,
    named: Annotated[bool, typer.Option(help="Write a field for each feature instead of one array.")] = False,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="Option of the stream: noise=0.2; may be repeated.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Label column of the file (default: the last one).")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Feature columns of the file: a,b,c (default: all).")
    ] = None,
    regression: Annotated[bool, typer.Option(help="Treat the label as a regression target.")] = False,
    loop: Annotated[bool, typer.Option(help="Start again at the end of the file.")] = False,
    time: Annotated[
        str | None, typer.Option(help="Column of recorded times: send rows at their recorded pace.")
    ] = None,
    speed: Annotated[float, typer.Option(help="Multiple of the recorded pace.")] = 1.0,
    delimiter: Annotated[
        str | None, typer.Option(help="Delimiter of a CSV file: a character, or tab (default: detected).")
    ] = None,
    decimal: Annotated[str | None, typer.Option(help="Its decimal mark (default: detected).")] = None,
    thousands: Annotated[
        str | None, typer.Option(help="Its mark of thousands, or none (default: detected).")
    ] = None,
    units: Annotated[
        str | None,
        typer.Option(help="Signs before or after its numbers: %,k=1000, or none (default: detected)."),
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Its encoding (default: detected).")] = None,
    quote: Annotated[
        str | None, typer.Option(help="What its fields are quoted with, or none (default: detected).")
    ] = None,
    na_values: Annotated[
        str | None, typer.Option(help="Words for a missing value: ?,NA,-200 (default: detected).")
    ] = None,
    header: Annotated[
        bool | None, typer.Option(help="Whether its first line names the columns (default: detected).")
    ] = None,
    timestamp: Annotated[
        str | None,
        typer.Option(
            help="One timestamp for all records: now, or milliseconds since 1970 (default: when sent)."
        ),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create-topics", help="Create the topics that do not exist.")
    ] = False,
    partitions: Annotated[int, typer.Option(help="Partitions of a topic that is created.")] = 1,
    kafka: Annotated[list[str] | None, typer.Option(help="Kafka option: key=value; may be repeated.")] = None,
    config: Annotated[Path, typer.Option(help="Settings file: its kafka table is used.")] = Path(
        "streaming-nn.toml"
    ),
    compression: Annotated[str | None, typer.Option(help="Compression of the records: gzip.")] = None,
    describe: Annotated[
        bool,
        typer.Option("--describe", help="Send nothing: only open the stream and print its schema as JSON."),
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON: the last line of stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result and errors only.")] = False,
) -> None:
    """Send labeled records to a topic, and unlabeled ones to another, at a steady pace.

    A record's key is its row's ID, so the default partitioner spreads the rows over all partitions.
    """
    stop = _stop_on_signals()
    try:
        _check_options(ctx, known.checked(stream))
        _check_ends(records, seconds)
        _check_pace(rate, time, speed)
        _check_partitions(ctx, create, partitions)
        moment = _parse_timestamp(timestamp)
        plan = Plan(
            topic=topic,
            unlabeled_topic=unlabeled_topic,
            unlabeled=unlabeled,
            malformed=malformed,
            label_delay=None if label_delay is None else _parse_rows("label-delay", label_delay, rate),
            format=format,
            seed=seed,
            first_id=first_id,
            rate=rate,
            speed=speed,
            named=named,
        )
        drifts = tuple(_parse_rows("drift-at", text, rate) for text in drift_at or ())
        if stream in known.FILES:
            given: dict[str, Any] = {"label": label, "features": _split(features), "time": time}
            given |= {"regression": regression, "loop": loop}
            if stream == "csv":
                given["dialect"] = _dialect({name: ctx.params[name] for name in OF_CSV})
            rows = _open_file(stream, file, given)
        elif stream in known.LIVE:
            rows = known.LIVE[stream](**({} if rate is None else {"rate": rate}))
        else:
            rows = known.generator(stream, seed, drifts, _parse_pairs("--set", option or []))
        schema = schema_of(rows, plan)  # an error before anything is sent
        if rows.note and not quiet:
            print(rows.note, file=sys.stderr)
        if avro_schema is not None:
            _write_avro_schema(schema, avro_schema)
        if describe:
            print(_to_json(NOTHING, stream, schema))
            return
        options = kafka_options(config, _parse_pairs("--kafka", kafka or []))
        if rows.note and not quiet:
            learn = train_command(schema, topic, options["bootstrap.servers"], avro_schema)
            print(f"learn it with: {learn}", file=sys.stderr)
        client = producer(python_options(options), compression)
        if create:
            create_topics(options, topics_of(rows, plan), partitions)
        else:
            require_topics(options, topics_of(rows, plan))
    except ValueError as error:
        raise _end(error, MISUSED) from None
    except (LookupError, OSError, RuntimeError) as error:  # of Kafka
        raise _end(error, FAILED) from None
    ready = messages(limited(rows, records), plan)
    total = round(rate * seconds) if rate and seconds and not records else records
    with _progress(Console(stderr=True, quiet=quiet), total, drifts) as progress:
        sent = send(ready, client, stop.is_set, seconds, progress, moment)
    print(_to_json(sent, stream, schema) if json_ else _to_line(sent, stream))
    _exit_on_failure(sent)


def _write_avro_schema(schema: Schema, file: Path) -> None:
    if schema.avro_schema is None:
        raise ValueError(f"--avro-schema needs --format avro; got {schema.format}")
    try:
        file.write_text(schema.avro_schema + "\n", "utf-8")
    except OSError as error:
        raise ValueError(f"cannot write --avro-schema {file}: {error.strerror}") from None


def _parse_rows(what: str, text: str, rate: float | None) -> int:
    """Return a number of rows; seconds, such as `30s`, are converted at the rate."""
    try:
        if not text.endswith("s"):
            return int(text)
        seconds = float(text[:-1])
    except ValueError:
        raise ValueError(f"--{what} must be rows, like 5000, or seconds, like 30s; got {text!r}") from None
    if rate is None:
        raise ValueError(f"--{what} in seconds needs --rate; got {text!r} without --rate")
    return round(seconds * rate)


def _check_options(ctx: typer.Context, stream: str) -> None:
    """Raise ValueError for an option that this stream does not have: it would have no effect."""
    owners = [
        (OF_GENERATED, known.GENERATORS),
        (OF_FILES, known.FILES),
        (OF_CSV, {"csv": known.FILES["csv"]}),
    ]
    owners += [(NOT_LIVE, {**known.GENERATORS, **known.FILES})]
    flags = {param.name: param.opts[0] if "-" in param.opts[0] else "FILE" for param in ctx.command.params}
    for options, streams in owners:
        given = [name for name in options if _given(ctx, name)]
        if given and stream not in streams:
            raise ValueError(f"{flags[given[0]]} applies to {', '.join(streams)} only; got stream {stream}")


def _check_ends(records: int | None, seconds: float | None) -> None:
    if records is not None and records < 1:
        raise ValueError(f"--records must be 1 or more; got {records}")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"--seconds must be more than 0; got {seconds:g}")


def _check_pace(rate: float | None, time: str | None, speed: float) -> None:
    if time is not None and rate is not None:
        raise ValueError("--time and --rate both set the pace; give only one of them")
    if time is None and speed != 1:
        raise ValueError(f"--speed needs --time; got --speed {speed:g} without --time")


def _check_partitions(ctx: typer.Context, create: bool, partitions: int) -> None:
    if partitions < 1:
        raise ValueError(f"--partitions must be 1 or more; got {partitions}")
    if not create and _given(ctx, "partitions"):
        raise ValueError("--partitions needs --create-topics; got --partitions without --create-topics")


def _parse_timestamp(text: str | None) -> int | None:
    """Return a timestamp in milliseconds since 1970; None: each record has the time when it is sent."""
    if text is None:
        return None
    if text == "now":
        return int(clock.time() * 1000)
    if not (text.isdecimal() and text.isascii()):
        raise ValueError(f"--timestamp must be now or milliseconds since 1970; got {text!r}")
    return int(text)


def _given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"  # by its name: typer may bundle click


def _open_file(name: str, path: Path | None, given: dict[str, Any]) -> Stream:
    if path is None:
        raise ValueError(f"{name} needs a file: python -m producers {name} FILE")
    return known.file(name, path, **given)


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _dialect(flags: dict[str, Any]) -> dict[str, Any]:
    """Return what the flags set of a CSV file's dialect."""
    words = {"tab": "\t", "\\t": "\t", "space": " ", "none": ""}
    given = {name: value for name, value in flags.items() if value is not None}
    for name in ("delimiter", "thousands", "quote"):
        if name in given:
            given[name] = words.get(given[name], given[name])
    lists = {name: _split(given[name]) for name in ("units", "na_values") if name in given}
    return given | lists | ({"units": ()} if given.get("units") == "none" else {})


def _parse_pairs(what: str, texts: list[str]) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            raise ValueError(f"{what} must be key=value; got {text!r}")
    return dict(text.split("=", 1) for text in texts)


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
    console: Console, total: int | None, drifts: tuple[int, ...]
) -> Iterator[Callable[[Message], None]]:
    """Show a bar on a terminal, and print each drift everywhere."""
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
    ahead = list(drifts)
    disable = console.quiet or not sys.stderr.isatty()
    with Progress(*columns, console=console, disable=disable, redirect_stdout=False) as bar:
        task = bar.add_task("rows sent", total=total)
        rows, shown = 0, 0.0

        def update(message: Message) -> None:
            nonlocal rows, shown
            rows = message.row + 1
            if ahead and message.row >= ahead[0]:
                console.print(f"row {ahead.pop(0):,}: concept drift")
            if (now := monotonic()) - shown >= REDRAW:
                shown = now
                bar.update(task, completed=rows)

        yield update
        bar.update(task, completed=rows)


def _to_json(sent: Sent, stream: str, schema: Schema) -> str:
    """Return what was sent, and the settings by which the records can be decoded, as one JSON object."""
    counts = sent.acknowledged
    return json.dumps(
        {"stream": stream, "records": sum(counts.values())}
        | counts
        | {"failed": sent.failed, "seconds": round(sent.seconds, 3), "error": sent.error}
        | {name: getattr(schema, name) for name in ("format", "inputs", "classes", "features", "label")}
        | {name: getattr(schema, name) for name in ("missing", "categories", "csv_columns")}
    )


def _to_line(sent: Sent, stream: str) -> str:
    counts = ", ".join(f"{n:,} {kind}" for kind, n in sent.acknowledged.items() if n)
    return f"{stream}: {counts or 'nothing'} acknowledged in {sent.seconds:.1f} s"


def _exit_on_failure(sent: Sent) -> None:
    if sent.error or sent.failed:
        failed = f"{sent.failed:,} records failed: " if sent.failed else ""
        print(f"producers: {failed}{sent.error or 'no response from the broker'}", file=sys.stderr)
        raise typer.Exit(FAILED)


def _end(error: Exception, code: int) -> typer.Exit:
    print(f"producers: {error}", file=sys.stderr)
    return typer.Exit(code)


def main() -> int:
    """Run the command; print a wrong argument as one line on stderr."""
    try:
        code: int | None = app(prog_name="python -m producers", standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):  # an error of click, which typer may bundle
            raise
        if message := error.format_message():  # without arguments, the help was printed
            print(f"producers: {message}", file=sys.stderr)
        return MISUSED
    return code or 0


if __name__ == "__main__":
    sys.exit(main())
