"""`streaming-nn doctor`: check what a run needs."""

from typing import Annotated

import typer

from streaming_nn.cli import options


def doctor(
    config: options.Config = None,
    model: options.Model = None,
    bootstrap: options.Bootstrap = None,
    job: Annotated[str | None, typer.Option(help="Check for train or score only (default: both).")] = None,
    as_json: options.Json = False,
    set_: options.Sets = None,
) -> None:
    """Check what a run needs, and print how to fix what is missing; exit code 1 if something is."""
    from streaming_nn.doctor import JOBS, main

    if job not in (None, *JOBS):
        raise ValueError(f"--job must be one of {', '.join(JOBS)}; got {job!r}")
    settings = options.load_settings(config, set_, bootstrap, model=model)
    raise typer.Exit(main(settings, as_json, JOBS if job is None else (job,)))
