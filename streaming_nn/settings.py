"""The settings: read from `streaming-nn.toml`, then from `STREAMING_NN_…` variables, then from flags.

docs/settings.md lists them for users.
"""

import codecs
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
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

from streaming_nn.kafka import TOPIC

FILE = "streaming-nn.toml"
PREFIX = "STREAMING_NN_"
OTHER_VARIABLES = {  # not settings: read elsewhere
    "STREAMING_NN_CACHE",
    "STREAMING_NN_MAVEN",
    "STREAMING_NN_FAILPOINT",
    "STREAMING_NN_REGISTRY_USER",
    "STREAMING_NN_REGISTRY_PASSWORD",
}
FORWARDED_HEADERS = [  # copied from a record to its prediction: what distributed tracing uses
    *("traceparent", "tracestate", "baggage", "b3", "uber-trace-id"),
    *("x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"),
    "content-type",
]


# The part of Spark's interval strings that its triggers accept: integers with units, and fractions of seconds
_UNIT = r"(\d{1,8}\s+(millisecond|second|minute|hour|day|week)s?|\d{1,8}\.\d{1,9}\s+seconds?)"
INTERVAL = re.compile(rf"\s*(interval\s+)?{_UNIT}(\s+{_UNIT})*\s*", re.ASCII | re.IGNORECASE)


def _interval(value: Any) -> Any:
    if not isinstance(value, str) or not INTERVAL.fullmatch(value):
        raise PydanticCustomError("interval", "must be an interval such as '1 second' or '500 milliseconds'")
    return value


Interval = Annotated[str, BeforeValidator(_interval)]
UNITS = {"millisecond": 0.001, "second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}


def seconds(interval: Interval) -> float:
    """Return the length of an interval."""
    parts = re.findall(rf"([\d.]+)\s+({'|'.join(UNITS)})", interval, re.ASCII | re.IGNORECASE)
    return sum(float(number) * UNITS[unit.lower()] for number, unit in parts)


SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B", re.ASCII | re.IGNORECASE)
FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def _size(value: Any) -> Any:
    """Return the bytes of a size; None for "all"."""
    if value == "all":
        return None
    found = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    size = int(float(found[1]) * FACTORS[found[2].lower()]) if found else value
    if type(size) is not int or size < 1:
        raise PydanticCustomError("size", "must be a size such as '10 GB' or '500 MB', or 'all'")
    return size


Size = Annotated[int | None, BeforeValidator(_size)]


def _topic(value: str) -> str:
    if not re.fullmatch(TOPIC, value):  # Kafka's own error would not name it
        raise PydanticCustomError("topic", "must be 1 to 249 letters, digits, '.', '_' or '-'")
    return value


Topic = Annotated[str, AfterValidator(_topic)]


def _address(value: Any) -> Any:
    host, _, port = str(value).rpartition(":")
    named = re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:]+\]", host, re.ASCII)
    if value and not (named and re.fullmatch(r"\d{1,5}", port, re.ASCII) and int(port) < 1 << 16):
        raise PydanticCustomError("address", "must be host:port, such as '127.0.0.1:9464', or '' for none")
    return value


Address = Annotated[str, BeforeValidator(_address)]


def _url(value: Any) -> Any:
    if value and not re.fullmatch(r"https?://[^\s@]+", str(value)):
        message = "must be a URL without a user, such as 'http://127.0.0.1:5000', or '' for none"
        raise PydanticCustomError("url", message)
    return value


Url = Annotated[str, BeforeValidator(_url)]


class Section(BaseModel):
    """A table of the settings file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Records(Section):
    """How a Kafka record becomes a row; `inputs` and `classes` are inferred from the topic if absent."""

    format: str = "json"  # json, packed, csv or avro; see docs/records.md
    features: str | list[str] = "features"
    label: str | list[str] = "label"  # several fields: targets of a regression, or labels
    inputs: int | None = None
    classes: list[str | int | bool] | Literal["grow"] | None = None  # "grow": new labels become classes
    regression: bool = False
    multilabel: bool = False  # the label is an array of the classes that apply, or several boolean fields
    max_bytes: int = 1 << 20
    numbers_as_strings: bool = False  # true: " 1.5 " is a number; in CSV it always is
    na_values: list[str] = []  # words for a gap, such as ["NA", "?"]
    decimal: str = "."  # or ",": the mark of numbers that are strings
    thousands: str = ""  # the mark between their groups of three digits
    units: list[str] = []  # what may be before or after them: ["%", "$"] is left out, "k=1000" multiplies
    missing: bool = False  # true: a null, a NaN or an absent field is a missing value
    sparse: list[str] = []  # number fields that are 0 in a record that lacks them
    categories: dict[str, dict[str, int]] = {}  # field of features: {hash = columns} or {one_hot = columns}
    datetimes: dict[str, dict[str, Any]] = {}  # field of features: {format, parts, origin}
    csv_columns: list[str] = []  # the fields of a line; empty: the features, then the label
    delimiter: str = ","  # of the fields of a line of CSV, such as ";" or "\t"
    quote: str = '"'  # around a field of CSV that contains the delimiter; "": fields are not quoted
    avro_schema: str | None = None  # a file; versions contain its text, so only the first run reads it
    registry: str | None = None  # a schema registry's URL; its user and password are variables
    framing: Literal["none", "confluent", "gzip", "json_string"] = "none"  # what is around each record
    encoding: str = "utf-8"  # of the text of JSON and CSV, by a name that Python knows
    where: str | None = None  # a filter such as "payload.op in ('c', 'r', 'u')"
    explode: str | None = None  # "items[]", "[]" or "lines": a record has several rows
    weight: str | None = None  # the field of a record's weight in learning, a number >= 0
    lags: list[int] | dict[str, list[int]] = []  # earlier targets that a row has: [1, 24]; or by field
    lags_as_of: Literal["row", "version"] = "row"  # a row is learned with all before it, or as it is served
    series: str | None = None  # the field whose values are series of their own; None: all records are one
    max_series: int = Field(default=10_000, ge=1)  # that are kept; those with the oldest records are dropped
    series_expiry: float = Field(default=0, ge=0)  # seconds of record time after its newest record; 0: never

    @field_validator("classes", mode="before")
    @classmethod
    def _labels(cls, value: Any) -> Any:
        labels = isinstance(value, list) and all(isinstance(label, (str, int, bool)) for label in value)
        if value is not None and value != "grow" and not labels:
            raise PydanticCustomError("classes", "must be strings, integers or booleans, or 'grow'")
        if labels and len(value) < 2:
            raise PydanticCustomError("classes", "must be at least two, or 'grow'")
        return value

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str) -> str:
        from streaming_nn.records.framing import is_encoding

        if not is_encoding(value):
            raise PydanticCustomError("encoding", "must be an encoding that Python knows, such as 'utf-16'")
        return value

    @field_validator("where")
    @classmethod
    def _check_where(cls, value: str | None) -> str | None:
        from streaming_nn.records.where import parse  # imports NumPy, so only if needed

        try:
            if value is not None:
                parse(value)
        except ValueError as error:
            raise PydanticCustomError("where", "{why}", {"why": str(error)}) from None
        return value

    @field_validator("categories", mode="before")
    @classmethod
    def _check_encodings(cls, value: Any) -> Any:
        for how in value.values() if isinstance(value, dict) else [value]:
            if not isinstance(how, dict) or len(how) != 1 or not how.keys() <= {"hash", "one_hot"}:
                raise PydanticCustomError("categories", "must be {hash = n} or {one_hot = n} for each field")
        return value

    @field_validator("lags", mode="before")
    @classmethod
    def _check_lags(cls, value: Any) -> Any:
        lists = value.values() if isinstance(value, dict) else [value]
        if not all(isinstance(lags, list) and all(type(lag) is int for lag in lags) for lags in lists):
            raise PydanticCustomError("lags", "must be a list of integers, or a table of such lists by field")
        return value

    @field_validator("datetimes")
    @classmethod
    def _all_options(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Return each field's options with the defaults of the others, as versions have them."""
        if not value:
            return value
        from streaming_nn.records.datetimes import check_options  # imports NumPy, so only if needed

        try:
            found = {name: check_options(name, options) for name, options in value.items()}
        except ValueError as error:
            raise PydanticCustomError("datetimes", "{why}", {"why": str(error)}) from None
        return {name: {**options, "parts": list(options["parts"])} for name, options in found.items()}

    @field_validator("categories", "datetimes")
    @classmethod
    def _check_fields(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        features = info.data.get("features")
        if features is None or features == cls.model_fields["features"].default:  # a model may have others
            return value
        names = [features] if isinstance(features, str) else features
        for name in value:
            if name not in names:
                allowed = ", ".join(map(repr, names))
                raise PydanticCustomError("fields", "must name features ({names})", {"names": allowed})
        return value

    @model_validator(mode="after")
    def _check_classes(self) -> "Records":
        if self.regression and self.classes == "grow":
            raise PydanticCustomError("classes", "regression and classes = 'grow' cannot be combined")
        if self.regression and self.classes is not None:
            raise PydanticCustomError("classes", "regression and classes cannot be combined")
        if self.regression and self.multilabel:
            raise PydanticCustomError("multilabel", "regression and multilabel cannot be combined")
        if self.lags and not (self.regression and isinstance(self.label, str)):
            raise PydanticCustomError("lags", "lags need regression = true and one label field")
        if isinstance(self.label, list) and not (self.regression or self.multilabel):
            raise PydanticCustomError("label", "several fields need regression or multilabel")
        if isinstance(self.label, list) and self.classes is not None:
            raise PydanticCustomError("classes", "classes and several label fields cannot be combined")
        return self


class Source(Section):
    """Another streaming source of Spark that `train` reads in place of topics; docs/records.md."""

    format: str = ""  # its name in Spark: text, json, csv, parquet, orc, rate, delta …; "": Kafka
    options: dict[str, str] = {}  # the source's options, passed on unchanged: path, maxFilesPerTrigger …
    select: list[str] = []  # SQL expressions, such as "value % 10 AS x"; empty: all columns
    checkpoint: str = ""  # "": <model>/sources/<format>; contains the source's position, so it must last

    @field_validator("options", mode="before")
    @classmethod
    def _to_strings(cls, value: Any) -> Any:
        plain = isinstance(value, dict) and all(isinstance(v, str | int | float) for v in value.values())
        if not plain:
            raise PydanticCustomError("options", "must be a table of strings, numbers and booleans")
        return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in value.items()}

    @field_validator("format")
    @classmethod
    def _not_kafka(cls, value: str) -> str:
        if value.lower() == "kafka":
            raise PydanticCustomError("format", "must not be Kafka: omit it and set train.topics")
        return value


class Train(Section):
    """The training job."""

    topics: list[Topic] = ["labeled"]
    topics_pattern: str = ""  # a regular expression for whole names, in place of topics
    dead_letters: Topic = "dead-letters"
    starting_offsets: Literal["earliest", "latest"] = "earliest"  # of a new model
    trigger: Interval = "1 second"
    once: bool = False  # train on the available records, then stop
    max_offsets_per_trigger: int = Field(default=100_000, ge=1)
    max_rejected: float = Field(default=0.5, ge=0, le=1)  # a larger share of rejected records stops the run
    max_rejected_bytes: int = Field(default=8 << 20, ge=0)  # kept of a task's dead letters: more is cut
    max_skipped_batches: int = Field(default=10, ge=1)  # consecutive micro-batches without a finite step
    update: Literal["sequential", "averaged"] = "sequential"  # one task; or one per partition, averaged
    mini_batch_cap: int = Field(default=32, ge=1)  # the largest for learner.mini_batch = "auto"
    keep_bytes: Size = 10 * 10**9  # of all versions; older ones are pruned; "all": none is; docs/versions.md
    accept_data_loss: bool = False  # continue despite expired records or a recreated topic

    @field_validator("topics", mode="before")
    @classmethod
    def _to_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("topics_pattern")
    @classmethod
    def _check_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            message = "must be a regular expression: {why}"
            raise PydanticCustomError("topics_pattern", message, {"why": str(error)}) from None
        if named := re.search(r"\(\?P|\(\?\(|\(\?#|&&", value):  # Java reads these differently, or not at all
            message = "must be an expression that Java and Python read alike, without {part}"
            raise PydanticCustomError("topics_pattern", message, {"part": named.group()})
        return value

    @model_validator(mode="after")
    def _check_topics(self) -> "Train":
        if self.topics_pattern and "topics" in self.model_fields_set:
            raise PydanticCustomError("topics", "topics and topics_pattern cannot be combined")
        if not self.topics_pattern and self.dead_letters in self.topics:
            raise PydanticCustomError("topics", "dead_letters must not be one of topics")
        return self


class Score(Section):
    """The scoring job."""

    topic: Topic = "unlabeled"
    predictions: Topic = "predictions"
    engine: Literal["batch", "realtime"] = "batch"  # realtime: each record as it arrives; docs/realtime.md
    realtime_batch: Interval = "60 seconds"  # between checkpoints; a crash repeats up to that much
    checkpoint: str = ""  # "": <model>/scorers/<topic>; contains the scorer's offsets, so it must last
    trigger: Interval = "0 seconds"
    once: bool = False
    max_offsets_per_trigger: int = Field(default=100_000, ge=1)
    headers: list[str] = FORWARDED_HEADERS  # that are copied; a content-type becomes that of the prediction
    fields: list[str] = []  # of the record, that are in its prediction: ["id", "customer.name"]
    cloudevents: bool = False  # predictions are CloudEvents in structured mode
    accept_data_loss: bool = False  # continue despite expired records or a recreated topic
    max_age: float = Field(default=0, ge=0)  # seconds; older versions' predictions are stale; 0: never
    probabilities: Literal["object", "array", "none"] = "object"  # by label, in the order of classes, or none

    @field_validator("trigger", "once", "max_offsets_per_trigger")
    @classmethod
    def _only_of_micro_batches(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("engine") == "realtime":
            raise PydanticCustomError("engine", "applies to engine 'batch' only: realtime has no triggers")
        return value

    @model_validator(mode="after")
    def _check_topics(self) -> "Score":
        if self.topic == self.predictions:
            raise PydanticCustomError("topic", "topic and predictions must be different topics")
        return self


class Metrics(Section):
    """Where the metrics of every version are written to, besides its manifest, and where they are served."""

    topic: str = ""  # a Kafka topic
    file: str = ""  # JSON lines
    prometheus: Address = ""  # where train and score serve theirs: "127.0.0.1:9464"; docs/metrics.md
    max_lag: Interval = "60 seconds"  # with more, the job is not ready
    samples: int = Field(default=16, ge=0, le=16)  # rows that a version keeps for the page; 0: none
    mlflow: Url = ""  # an MLflow tracking server, on which the model is a run; docs/deploy.md
    experiment: str = Field(default="streaming-nn", min_length=1, max_length=250)  # the run's, in MLflow
    group: str = ""  # a consumer group to which the job's offsets are committed, for tools that show lags


class Settings(Section):
    """All settings; those that are not given are read from the variables.

    `load` also reads a file, and reports a mistake in one line.
    """

    model_config = ConfigDict(validate_default=True)

    model: Path = Path("model")
    kafka: dict[str, str] = {}  # a Kafka client's options by their Java names, for every client
    records: Records = Records()
    learner: dict[str, Any] = {}  # options of the learner; docs/learner.md
    source: Source = Source()
    train: Train = Train()
    score: Score = Score()
    metrics: Metrics = Metrics()
    spark: dict[str, str] = {}  # Spark's options; the prefix "spark." may be left out

    @field_validator("kafka", "spark")
    @classmethod
    def _check_table(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if elsewhere := _settings_named(name):
                raise PydanticCustomError("table", f"{name} must be {elsewhere}")
        return value

    @field_validator("spark")
    @classmethod
    def _with_prefix(cls, value: dict[str, str]) -> dict[str, str]:
        """Name options as Spark does: --set spark.jars.packages=... means `spark.jars.packages`."""
        return {name if name.startswith("spark.") else f"spark.{name}": each for name, each in value.items()}

    @field_validator("learner")
    @classmethod
    def _check_mini_batch(cls, value: dict[str, Any]) -> dict[str, Any]:
        size = value.get("mini_batch", "auto")
        if size != "auto" and (type(size) is not int or size < 1):
            raise PydanticCustomError("mini_batch", "mini_batch must be 'auto' or an integer of at least 1")
        return value

    @model_validator(mode="before")
    @classmethod
    def _read_variables(cls, given: Any) -> Any:
        values = _variables()
        _merge(values, given)
        return values


def setting_names() -> list[str]:
    """Return the names of settings, such as "train.once", without those of clients and learners."""
    tables = {name: field.annotation for name, field in Settings.model_fields.items()}
    return [
        f"{name}.{key}"
        for name, table in tables.items()
        if isinstance(table, type) and issubclass(table, Section)
        for key in table.model_fields
    ]


def _settings_named(key: str) -> str:
    """Return the settings with this key, in any table: "train.once or score.once"; "": none."""
    return " or ".join(name for name in setting_names() if name.partition(".")[2] == key)


def load(
    file: str | Path | None = None, flags: Mapping[str, Any] | None = None, sets: Iterable[str] = ()
) -> Settings:
    """Read the settings: `file` (or ./streaming-nn.toml if there is one), variables, then `flags` and `sets`.

    `flags` is nested as the file is, and None means not set; `sets` are "section.key=value" with TOML values.
    Raise ValueError in one line: an unknown key with the nearest known one, a value with what is allowed.
    """
    values = _read(file)
    _merge(values, _variables())
    _merge(values, _given(flags or {}))
    for text in sets:
        _merge(values, _assignment(text))
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ValueError(_one_line(error)) from None
    if settings.model.exists() and not settings.model.is_dir():
        raise ValueError(f"setting model: must be a directory; got {str(settings.model)!r}")
    return settings


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags that are set."""
    return {
        name: _given(value) if isinstance(value, Mapping) else value
        for name, value in flags.items()
        if value is not None
    }


def _read(file: str | Path | None) -> dict[str, Any]:
    path = Path(file or FILE)
    if file is None and not path.exists():
        return {}
    try:
        values = tomllib.loads(_decode(path.read_bytes()))
    except FileNotFoundError:
        raise ValueError(f"settings file {path}: there is no such file") from None
    except OSError as error:
        raise ValueError(f"settings file {path}: cannot read it: {error.strerror}") from None
    except ValueError as error:  # TOMLDecodeError is one
        raise ValueError(f"settings file {path}: {error}") from None
    return _flatten_clients(values)


def _decode(data: bytes) -> str:
    """Return the text of a file. ValueError: it is not UTF-8, and what it seems to be."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:  # UTF-32 as well
        raise ValueError("must be UTF-8; got UTF-16")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")  # Windows editors write a BOM
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"must be UTF-8; got byte {data[error.start]:#04x} in line {line}") from None


def _flatten_clients(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with the clients' options by their dotted names, quoted or not, and as strings."""
    for name in ("kafka", "spark"):
        if isinstance(values.get(name), Mapping):
            from streaming_nn.kafka.options import flat  # imports the client, so only if needed

            values[name] = flat(values[name])
    return values


def _variables() -> dict[str, Any]:
    """Return every variable with our prefix: an unknown one is an error, as an unknown key is."""
    values: dict[str, Any] = {}
    for name, text in os.environ.items():
        if name.startswith(PREFIX) and name not in OTHER_VARIABLES:
            path = name.removeprefix(PREFIX).lower().split("__")
            if path[0] in ("kafka", "spark") and len(path) > 1:  # a variable's name cannot contain a dot
                _merge(values, {path[0]: {".".join(path[1:]).replace("_", "."): text}})
            else:
                _merge(values, _nested(path, toml_value(text)))
    return _flatten_clients(values)


def _assignment(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    section, dot, rest = key.strip().partition(".")
    if not equals or not key.strip():
        raise ValueError(f"--set must be section.key=value; got {text!r}")
    if section in ("kafka", "spark") and dot:
        return {section: {rest.strip("\"'"): value.strip()}}
    return _nested(_split_key(key), toml_value(value.strip()))


def _split_key(key: str) -> list[str]:
    """Return the parts of a key in TOML's notation: `records.categories."a.b"` has three."""
    try:
        table: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        raise ValueError(f"--set must be section.key=value, with TOML's keys; got {key!r}") from None
    parts = []
    while isinstance(table, dict):
        ((part, table),) = table.items()
        parts.append(part)
    return parts


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def toml_value(text: str) -> Any:
    """Return a value read as TOML, or the string itself if it is not TOML: strings need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(values: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add settings to `values`, or replace those that it has."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            table = values[key] if isinstance(values.get(key), dict) else {}
            values[key] = table
            _merge(table, value)
        else:
            values[key] = value


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    name = ".".join(where)
    if where[0] in ("kafka", "spark"):  # the value may be a password: don't print it
        return f"setting {name}: {_requirement(first['msg'])}"
    if first["type"] != "extra_forbidden":
        return f"setting {name}: {_requirement(first['msg'])}; got {first['input']!r}"
    if elsewhere := _settings_named(where[-1]):
        return f"unknown setting {name}; did you mean {elsewhere}?"
    fields: Any = Settings.model_fields
    if len(where) > 1:
        fields = fields[where[0]].annotation.model_fields
    longer = [field for field in fields if field.startswith(where[-1])]  # of an abbreviation
    near = longer[:1] or get_close_matches(where[-1], fields, 1, 0.0)
    return f"unknown setting {name}; did you mean {'.'.join([*where[:-1], *near])}?"


def _requirement(message: str) -> str:
    """Return what Pydantic's message requires of a value, in the words of our messages."""
    message = re.sub(r", unable to .*", "", message.replace("Input should be", "must be"))
    return message[0].lower() + message[1:]
