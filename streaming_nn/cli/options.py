"""The options that several commands share, and the settings that they result in."""

import inspect
import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from streaming_nn.kafka import EMBEDDED

if TYPE_CHECKING:  # imported where it is needed: each command starts 0.9 s sooner without NumPy and Pydantic
    from streaming_nn.settings import Settings

T = TypeVar("T")

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="Settings file (default: ./streaming-nn.toml).")
]
Model = Annotated[Path | None, typer.Option(help="Model directory: the log of the model's versions.")]
Models = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[MODEL]...", help="Model directories (default: that of the settings)."),
]
Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap", help="Kafka's host:port; the settings' kafka table has the rest.")
]


def _complete_setting(incomplete: str) -> list[str]:
    from streaming_nn.settings import setting_names

    return [f"{name}=" for name in setting_names() if name.startswith(incomplete)]


Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        help="Any setting: section.key=value; may be repeated.",
        autocompletion=_complete_setting,
    ),
]
Master = Annotated[str | None, typer.Option(help="Spark's master, such as local[4].")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON: the last line of stdout.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print each version's metrics as a line of JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results, warnings and errors only.")]
First = Annotated[int | None, typer.Option("--from", help="First version (default: 1).")]
Last = Annotated[int | None, typer.Option("--to", help="Last version (default: the newest).")]


def add_quiet(app: typer.Typer) -> None:
    """Add --quiet to all commands of an app and of its groups."""
    for command in app.registered_commands:
        assert command.callback is not None
        command.callback = _with_quiet(command.callback)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        add_quiet(group.typer_instance)


def _with_quiet(command: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(command)
    def run(*arguments: Any, quiet: bool = False, **flags: Any) -> Any:
        if quiet:  # then there is no progress bar and no live table either
            logging.getLogger("streaming_nn").setLevel(logging.WARNING)
        return command(*arguments, **flags)

    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "quiet": Quiet}
    return run


def load_settings(
    config: Path | None, sets: list[str] | None, bootstrap: str | None = None, **flags: Any
) -> "Settings":
    """Return the settings; flags, nested as the settings file is, override the file, and `sets` the flags."""
    from streaming_nn.settings import load

    kafka = {"bootstrap.servers": bootstrap} if bootstrap else {}
    return load(config, {"kafka": kafka, **flags}, sets or ())


def model_directories(models: list[Path] | None, config: Path | None) -> list[Path]:
    """Return the model directories that a command shows; raise LookupError if one does not exist."""
    directories = models or [load_settings(config, None).model]
    for directory in directories:
        if not directory.is_dir():
            raise LookupError(f"model {directory}: there is no such directory")
    return directories


def require_kafka(settings: "Settings") -> "Settings":
    """Return the settings; raise ValueError if they name no broker."""
    if "bootstrap.servers" not in settings.kafka:
        raise ValueError(
            'kafka must have "bootstrap.servers"; give --bootstrap host:port or set it under [kafka]'
            + _running_broker()
        )
    from streaming_nn.kafka.options import check  # imports the client, so only if needed

    check(settings.kafka)
    return settings


def _running_broker() -> str:
    from streaming_nn.kafka.broker import Broker

    running = Broker.find(EMBEDDED)
    return f" (the broker in ./{EMBEDDED} listens on {running.bootstrap})" if running else ""


def require_topics(model: Path) -> None:
    """Raise ValueError if the model has learned something, but nothing from a topic."""
    from streaming_nn.versions.version_log import VersionLog

    log = VersionLog(model)
    first, head = log.initial_number() + 1, log.head_number() or 0
    if head >= first and all(log.manifest(number).kind != "learned" for number in range(first, head + 1)):
        raise ValueError(
            f"model {model}: its versions were not learned from a topic (kind saved), so their rows cannot "
            "be read again; for a topic's records: streaming-nn backtest --topic TOPIC --into DIR"
        )


def split(text: str | None, convert: Callable[[str], T]) -> list[T] | None:
    """Return the comma-separated items of an option, or None if it is not set; quotes protect a comma."""
    return None if text is None else [convert(item.strip()) for item in _items(text)]


def _items(text: str) -> list[str]:
    items, quoted = [""], False
    for character in text:
        quoted ^= character == '"'
        if character == "," and not quoted:
            items.append("")
        else:
            items[-1] += character
    return items


def features(text: str | None) -> str | list[str] | None:
    """Return an array field, or fields: "a,b", and "a," for one field."""
    names = split(text, str)
    if names is None or len(names) == 1:
        return text
    return names[:-1] if len(names) == 2 and not names[1] else names


def label(text: str) -> int | str | bool:
    """Return a label: an integer, true or false, or a string, which may be quoted."""
    if text in ("true", "false"):
        return text == "true"
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if quoted else integer_or_string(text)


def integer_or_string(text: str) -> int | str:
    """Return a label, or another value, as an integer if it is one."""
    return int(text) if text.lstrip("-").isdigit() else text
