"""`streaming-nn verify`: replay recorded versions and compare the bits."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streaming_nn.cli import options
from streaming_nn.cli.progress import progress

if TYPE_CHECKING:
    from streaming_nn.settings import Settings
    from streaming_nn.spark.replay.verify import Verified


def verify(
    config: options.Config = None,
    model: options.Model = None,
    bootstrap: options.Bootstrap = None,
    first: options.First = None,
    last: options.Last = None,
    as_json: options.Json = False,
    master: options.Master = None,
    set_: options.Sets = None,
) -> None:
    """Replay recorded versions and compare their bits; exit code 1 if one differs.

    A difference is reported with its first version, the tensor, and what differs about this machine.
    """
    settings = options.load_settings(config, set_, bootstrap, model=model, spark={"spark.master": master})
    options.require_topics(settings.model)
    result = _run(options.require_kafka(settings), first, last)
    if as_json:
        verdict = "identical" if result.identical else "different"
        print(json.dumps({"verify": verdict, **asdict(result)}), flush=True)
    else:
        for line in _describe(settings.model, result):
            print(line, flush=True)
    if not result.identical:
        raise typer.Exit(1)


def _run(settings: "Settings", first: int | None, last: int | None) -> "Verified":
    from streaming_nn.spark.checks import before_replay
    from streaming_nn.versions.version_log import VersionLog

    log = VersionLog(settings.model)
    first, last = log.span(first, last)
    before_replay(settings, log.manifest(last).offsets)
    from streaming_nn.spark.replay.verify import verify as run
    from streaming_nn.spark.session import running

    begin, count = first - 1, last - first + 1
    with progress() as show, running(settings.spark, show) as spark:

        def verified(number: int) -> None:  # the replay may start from an earlier one, which is kept
            show("verifying versions", max(number - begin, 0), count)

        verified(begin)
        return run(spark, settings.kafka, log, first, last, progress=verified)


def _describe(model: Path, result: "Verified") -> list[str]:
    if result.last < result.first:
        return [f"identical: {model} has not learned anything yet"]
    if result.identical:
        versions = f"versions {result.first} to {result.last}"
        return [f"identical: {versions}, {result.rows:,} records replayed to the same bits"]
    on_machine = [f"  on this machine: {difference}" for difference in result.machine]
    return [f"version {result.different} differs: {result.reason}", *on_machine]
