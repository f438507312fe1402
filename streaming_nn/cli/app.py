"""The command `streaming-nn`: its subcommands, what it logs, and how an error ends it."""

import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from streaming_nn import __version__
from streaming_nn.cli import (
    backtest,
    broker,
    dead_letters,
    demo,
    doctor,
    export,
    init,
    options,
    page,
    report,
    score,
    train,
    verify,
    versions,
)
from streaming_nn.errors import exit_code
from streaming_nn.records.lines import NEXT

# Any other error is a bug, or Spark's
EXPECTED = (ValueError, LookupError, RuntimeError, OSError, AssertionError)
IN_LOGS = " | "  # between the lines of a message that has several, where each line is an event of its own
MISUSED = 2  # exit code of a wrong option, as of a ValueError

app = typer.Typer(
    name="streaming-nn",
    help="Neural networks that learn online on Apache Spark, exactly once, from Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (
    demo.demo,
    init.init,
    train.train,
    score.score,
    verify.verify,
    backtest.backtest,
    page.page,
    report.report,
    export.export,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(broker.app, name="broker")
app.add_typer(versions.app, name="versions")
app.add_typer(dead_letters.app, name="dead-letters")
options.add_quiet(app)


@app.callback(invoke_without_command=True)
def _print_version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command of this process; SIGTERM stops it as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, _interrupt)
    sys.exit(run(sys.argv[1:]))


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def run(words: Sequence[str]) -> int:
    """Run a command and return its exit code; an error ends in lines on stderr, in a log in one."""
    try:
        with _logging():
            code = app(list(words), prog_name="streaming-nn", standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        misused = getattr(error, "format_message", None)  # of an error of click, which Typer may bundle
        message = misused() if misused else _one_line(error)
        if message:  # a command without arguments has printed its help
            _print(f"streaming-nn: {message}")
        return MISUSED if misused else exit_code(error)
    return code or 0


@contextmanager
def _logging() -> Iterator[None]:
    """Print what the package logs to stderr: stdout is for results."""
    logger, handler = logging.getLogger("streaming_nn"), _StderrHandler()
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False  # py4j gives the root logger a handler when the JVM ends: lines came twice
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _StderrHandler(logging.Handler):
    """Prints messages to the current stderr, which is another one while the demo shows a live table."""

    def emit(self, record: logging.LogRecord) -> None:
        _print(record.getMessage())


def _print(message: str) -> None:
    """Print a message to stderr: its lines on a terminal, one line in a log."""
    print(message if sys.stderr.isatty() else message.replace(NEXT, IN_LOGS), file=sys.stderr, flush=True)


def _one_line(error: Exception) -> str:
    """Return the error's message; raise it again if it is a bug, where a traceback helps more."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return _escape(f"{error.filename}: {error.strerror}")
    if isinstance(error, EXPECTED):
        return _escape(str(error))
    if not type(error).__module__.startswith(("pyspark.", "py4j.")):
        raise error
    from streaming_nn.spark import jvm, temporary

    full = jvm.not_written(str(error), temporary.directory())
    return f"Spark: {full or jvm.in_one_line(error)}"


def _escape(message: str) -> str:
    """Return a message in its own lines, whatever is in a path or a name that it has."""
    lines = message.split(NEXT)
    return NEXT.join(line.replace("\n", "\\n").replace("\r", "\\r") for line in lines)


if __name__ == "__main__":
    main()
