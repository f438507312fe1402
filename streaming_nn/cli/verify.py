"""`streaming-nn verify`: replay recorded versions and compare the bits."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streaming_nn.cli import options

if TYPE_CHECKING:
    from streaming_nn.settings import Settings
    from streaming_nn.spark.replay.verify import Verified

logger = logging.getLogger(__name__)


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
    _report(settings.model, result)
    if as_json:
        verdict = "identical" if result.identical else "different"
        print(json.dumps({"verify": verdict, **asdict(result)}), flush=True)
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

    with running(settings.spark) as spark:
        return run(
            spark,
            settings.kafka,
            log,
            first,
            last,
            progress=lambda number: logger.info("identical up to version %d", number),
        )


def _report(model: Path, result: "Verified") -> None:
    if result.last < result.first:
        logger.info("identical: %s has not learned anything yet", model)
    elif result.identical:
        logger.info(
            "identical: versions %d to %d, %s records replayed to the same bits",
            result.first,
            result.last,
            f"{result.rows:,}",
        )
    else:
        logger.info("version %d differs: %s", result.different, result.reason)
        for difference in result.machine:
            logger.info("  on this machine: %s", difference)
