"""One place for what a user sets: `streaming-nn.toml`, then `STREAMING_NN_…` variables, then flags."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

FILE = "streaming-nn.toml"
PREFIX = "STREAMING_NN_"
OTHER_VARIABLES = {  # read elsewhere
    "STREAMING_NN_CACHE",
    "STREAMING_NN_MAVEN",
    "STREAMING_NN_FAULT",
    "STREAMING_NN_REGISTRY_USER",
    "STREAMING_NN_REGISTRY_PASSWORD",
}
TAKEN_ALONG = [  # headers of a record that its answer has too: what traces go by
    *("traceparent", "tracestate", "baggage", "b3", "uber-trace-id"),
    *("x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"),
    "content-type",
]


# What Spark's triggers take of its interval strings: whole numbers and units, seconds in parts too
_UNIT = r"(\d{1,8}\s+(millisecond|second|minute|hour|day|week)s?|\d{1,8}\.\d{1,9}\s+seconds?)"
INTERVAL = re.compile(rf"\s*(interval\s+)?{_UNIT}(\s+{_UNIT})*\s*", re.ASCII | re.IGNORECASE)


def _interval(value: Any) -> Any:
    if not isinstance(value, str) or not INTERVAL.fullmatch(value):
        raise PydanticCustomError("interval", "must be a time such as '1 second' or '500 milliseconds'")
    return value


Interval = Annotated[str, BeforeValidator(_interval)]


Topic = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]  # else Kafka refuses it and names none


class Section(BaseModel):
    """A table of the settings file; a key that it doesn't know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Records(Section):
    """How a Kafka record becomes a row; absent `inputs` and `classes` are seen in the topic."""

    format: str = "json"  # json, packed, csv or avro; see docs/records.md
    features: str | list[str] = "features"
    label: str = "label"
    inputs: int | None = None
    classes: list[str | int | bool] | Literal["grow"] | None = None  # "grow": new labels become classes
    regression: bool = False
    max_bytes: int = 1 << 20
    numbers_as_strings: bool = False
    missing: bool = False  # true: what is null, NaN or not there is a missing value
    categories: dict[str, dict[str, int]] = {}  # field of features: {hash = columns} or {one_hot = columns}
    csv_columns: list[str] = []  # the fields of a line; without it the features, then the label
    avro_schema: str | None = None  # a file; it is written into the versions, so only a first run reads it
    registry: str | None = None  # a schema registry's URL; user and password are variables

    @field_validator("classes", mode="before")
    @classmethod
    def _labels(cls, value: Any) -> Any:
        labels = isinstance(value, list) and all(isinstance(label, (str, int, bool)) for label in value)
        if value is not None and value != "grow" and not labels:
            raise PydanticCustomError("classes", "must be strings, whole numbers or booleans, or 'grow'")
        if labels and len(value) < 2:
            raise PydanticCustomError("classes", "must be two or more, or 'grow'")
        return value

    @field_validator("categories", mode="before")
    @classmethod
    def _encoded(cls, value: Any) -> Any:
        for how in value.values() if isinstance(value, dict) else [value]:
            if not isinstance(how, dict) or len(how) != 1 or not how.keys() <= {"hash", "one_hot"}:
                raise PydanticCustomError("categories", "each field's must be {hash = n} or {one_hot = n}")
        return value

    @field_validator("categories")
    @classmethod
    def _of_features(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        features = info.data.get("features")
        if features is None or features == cls.model_fields["features"].default:  # a model's own may hold
            return value
        names = [features] if isinstance(features, str) else features
        for name in value:
            if name not in names:
                said = f"must be among the features, {', '.join(map(repr, names))}, and {name!r} is not"
                raise PydanticCustomError("categories", "{said}", {"said": said})
        return value

    @model_validator(mode="after")
    def _agreeing(self) -> "Records":
        if self.regression and self.classes == "grow":
            raise PydanticCustomError("classes", "classes can't grow in a regression")
        if self.regression and self.classes is not None:
            raise PydanticCustomError("classes", "classes and regression can't both be")
        return self


class Source(Section):
    """Another streaming source of Spark's that `train` learns in place of topics; docs/records.md."""

    format: str = ""  # its name in Spark: text, json, csv, parquet, orc, rate, delta …; "": Kafka
    options: dict[str, str] = {}  # its own, as they are: path, maxFilesPerTrigger …
    select: list[str] = []  # SQL of the columns, such as "value % 10 AS x"; without it all, as they are
    checkpoint: str = ""  # "": <model>/sources/<format>; holds the source's place, so it must last

    @field_validator("options", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        plain = isinstance(value, dict) and all(isinstance(v, str | int | float) for v in value.values())
        if not plain:
            raise PydanticCustomError("options", "must be a table of texts, numbers and booleans")
        return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in value.items()}

    @field_validator("format")
    @classmethod
    def _another(cls, value: str) -> str:
        if value.lower() == "kafka":
            raise PydanticCustomError("format", "must be another source than Kafka: leave it out for topics")
        return value


class Train(Section):
    """The job that learns."""

    topics: list[Topic] = ["labeled"]
    dead_letters: Topic = "dead-letters"
    starting: str = Field(default="earliest", pattern="^(earliest|latest)$")  # without a version
    trigger: Interval = "1 second"
    once: bool = False  # learn what is there, then end
    max_offsets_per_trigger: int = Field(default=100_000, ge=1)
    max_rejected: float = Field(default=0.5, ge=0, le=1)  # a larger share of rejected records stops the run
    max_rejected_bytes: int = Field(default=8 << 20, ge=0)  # that one batch may carry
    max_skipped_batches: int = Field(default=10, ge=1)  # micro-batches in a row without a finite step
    update: Literal["sequential", "averaged"] = "sequential"  # one task learns; or one a partition, averaged
    mini_batch_cap: int = Field(default=32, ge=1)  # the largest that learner.mini_batch = "auto" takes
    keep_versions: int = Field(default=0, ge=0)  # older ones become stubs, tagged ones stay; 0: all are kept
    accept_loss: bool = False  # go on where records were lost to retention or with the topic

    @field_validator("topics", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class Score(Section):
    """The job that answers."""

    topic: Topic = "unlabeled"
    predictions: Topic = "predictions"
    engine: Literal["batch", "realtime"] = "batch"  # realtime: each record as it comes; see docs/realtime.md
    realtime_batch: Interval = "60 seconds"  # after which places are noted; a crash repeats up to so much
    checkpoint: str = ""  # "": <model>/scorers/<topic>; holds the scorer's place, so it must last
    trigger: Interval = "0 seconds"
    once: bool = False
    max_offsets_per_trigger: int = Field(default=100_000, ge=1)
    headers: list[str] = TAKEN_ALONG  # content-type only where the records are JSON, as the answers are
    max_age: float = Field(default=0, ge=0)  # seconds; older versions' answers are marked stale; 0: never

    @field_validator("trigger", "once", "max_offsets_per_trigger")
    @classmethod
    def _of_batches(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("engine") == "realtime":
            raise PydanticCustomError("engine", "is for engine batch: realtime answers records as they come")
        return value


class MetricsOut(Section):
    """Where the metrics of every version are carried to, besides the version itself."""

    topic: str = ""
    file: str = ""


class Settings(BaseSettings):
    """Everything that can be set. `load` reads it and turns mistakes into one line each."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    model: Path = Path("model")
    kafka: dict[str, str] = {}  # a Kafka client's options by their Java names, for every client of ours
    records: Records = Records()
    learner: dict[str, Any] = {}  # options of the learner; see nn/learners.py
    source: Source = Source()
    train: Train = Train()
    score: Score = Score()
    metrics: MetricsOut = MetricsOut()
    spark: dict[str, str] = {}  # Spark's own options, as they are

    @field_validator("model")
    @classmethod
    def _directory(cls, value: Path) -> Path:
        if value.exists() and not value.is_dir():
            raise PydanticCustomError("model", "must be a directory, or not there yet, and is a file")
        return value

    @field_validator("learner")
    @classmethod
    def _mini_batch(cls, value: dict[str, Any]) -> dict[str, Any]:
        size = value.get("mini_batch", "auto")
        if size != "auto" and (type(size) is not int or size < 1):
            raise PydanticCustomError("mini_batch", "mini_batch must be 'auto' or a whole number, 1 or more")
        return value

    @classmethod
    def settings_customise_sources(  # noqa: D102 (pydantic's own contract)
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings)


def load(
    file: str | Path | None = None, flags: Mapping[str, Any] | None = None, sets: Iterable[str] = ()
) -> Settings:
    """Read the settings: `file` (or ./streaming-nn.toml if there is one), variables, then `flags` and `sets`.

    `flags` is nested as the file is, None means not given; `sets` are "section.key=value" in TOML's values.
    Raises ValueError in one line: an unknown key with the nearest known one, a value with what is allowed.
    """
    values = _file(file)
    _merge(values, _variables())
    _merge(values, flags or {})
    for text in sets:
        _merge(values, _assignment(text))
    try:
        return _Merged(**values)
    except ValidationError as error:
        raise ValueError(_one_line(error)) from None


class _Merged(Settings):
    """Settings from merged values alone: the variables are merged in already, below the flags."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _file(file: str | Path | None) -> dict[str, Any]:
    path = Path(file or FILE)
    if file is None and not path.exists():
        return {}
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"settings file {path}: there is no such file") from None
    except OSError as error:
        raise ValueError(f"settings file {path}: it can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"settings file {path}: it must be UTF-8, and is not") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"settings file {path}: {error}") from None
    return _clients(values)


def _clients(values: dict[str, Any]) -> dict[str, Any]:
    """Take the clients' options, which have dots in their names, unquoted too, and their numbers as text."""
    for name in ("kafka", "spark"):
        if isinstance(values.get(name), Mapping):
            from streaming_nn.kafka.options import flat  # which brings the client: only where it is named

            values[name] = flat(values[name])
    return values


def _variables() -> dict[str, Any]:
    """Take every variable with our prefix: an unknown one is then refused as an unknown key is."""
    values: dict[str, Any] = {}
    for name, text in os.environ.items():
        if name.startswith(PREFIX) and name not in OTHER_VARIABLES:
            path = name.removeprefix(PREFIX).lower().split("__")
            if path[0] in ("kafka", "spark") and len(path) > 1:  # a variable's name can't hold a dot
                _merge(values, {path[0]: {".".join(path[1:]).replace("_", "."): text}})
            else:
                _merge(values, _nested(path, toml_value(text)))
    return _clients(values)


def _assignment(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    section, dot, rest = key.strip().partition(".")
    if not equals or not key.strip():
        raise ValueError(f"--set must be section.key=value; got {text!r}")
    if section in ("kafka", "spark") and dot:
        return {section: {rest: value.strip()}}
    return _nested(key.strip().split("."), toml_value(value.strip()))


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def toml_value(text: str) -> Any:
    """Read a value as TOML has it; what is none is the text itself, so that a string needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(values: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        elif isinstance(value, Mapping):
            values[key] = {}
            _merge(values[key], value)
        elif value is not None:
            values[key] = value


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    name = ".".join(where)
    if where[0] == "kafka":  # what came may be a password: it is not told
        return f"setting {name}: {first['msg'][0].lower()}{first['msg'][1:]}"
    if first["type"] != "extra_forbidden":
        got = str(first["input"]) if isinstance(first["input"], Path) else first["input"]
        return f"setting {name}: {first['msg'][0].lower()}{first['msg'][1:]}; got {got!r}"
    fields: Any = Settings.model_fields
    if len(where) > 1:
        fields = fields[where[0]].annotation.model_fields
    near = get_close_matches(where[-1], fields, 1, 0.0)
    return f"setting {name} is not known; the nearest known one is {'.'.join([*where[:-1], *near])}"
