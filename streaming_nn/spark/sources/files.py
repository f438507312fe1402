"""Files as a source: what can be wrong with their options, and needs no Spark to find out."""

import re
from pathlib import Path

from streaming_nn.settings import Settings, Source

FILES = {"text", "json", "csv", "libsvm", "xml", "parquet", "orc", "avro"}  # sources of Spark that read them
_ELSEWHERE = re.compile(r"[a-zA-Z][\w+.-]*:|.*[*?\[{]", re.DOTALL)  # an address, or a pattern of paths


def check(settings: Settings) -> None:
    """Raise ValueError if a local path does not exist, or a width is not known."""
    source = settings.source
    if source.format.lower() == "libsvm":
        libsvm_width(source, settings.records.inputs)
        libsvm_first(source)
    path = _option(source, "path")
    local = settings.spark.get("spark.master", "local").startswith("local")
    if source.format.lower() not in FILES or not path or not local or _ELSEWHERE.match(path):
        return
    if "spark.hadoop.fs.defaultFS" not in settings.spark and not Path(path).exists():
        raise ValueError(f"source {source.format!r}: its path must exist; got {path!r}")


def libsvm_width(source: Source, inputs: int | None) -> int:
    """Return the number of features of LIBSVM's files; ValueError: it is not set."""
    given = _option(source, "numFeatures") or inputs
    if given is None or not str(given).isdecimal() or not int(given):
        shown = "none" if given is None else repr(given)
        raise ValueError(f"source 'libsvm' must have the option numFeatures, an integer; got {shown}")
    return int(given)


def libsvm_first(source: Source) -> int:
    """Return the index of the first feature of LIBSVM's files, 1 or 0; ValueError: it is neither."""
    given = _option(source, "zeroBased") or "false"
    if given.lower() not in ("true", "false"):
        raise ValueError(f"option zeroBased of source 'libsvm' must be true or false; got {given!r}")
    return int(given.lower() == "false")


def _option(source: Source, name: str) -> str | None:
    """Return an option of a source, whose names Spark reads in any case."""
    return {key.lower(): value for key, value in source.options.items()}.get(name.lower())
