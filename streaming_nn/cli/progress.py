"""What a command shows on stderr while it works: a bar on a terminal, else a line every few seconds.

What is shown ends with the block, also by an error or Ctrl-C; with --quiet nothing is shown.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streaming_nn.progress import Progress, no_progress

if TYPE_CHECKING:  # 0.1 s, only on a terminal
    from rich.console import Console

INTERVAL = 5.0  # seconds between two lines
REDRAWS = 4  # per second, on a terminal
BAR, NUMBERS = 24, 30  # columns of a terminal, at most: of the bar; of what is beside it

logger = logging.getLogger(__name__)


def is_terminal() -> bool:
    """Return whether stderr is a terminal whose lines can be drawn again."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def console() -> "Console":
    """Return stderr for rich, which takes NO_COLOR into account (no-color.org)."""
    from rich.console import Console

    return Console(stderr=True)


def draws_table(as_json: bool) -> bool:
    """Return whether a live table is drawn on stderr; not in between lines of JSON on the same terminal."""
    return logger.isEnabledFor(logging.INFO) and is_terminal() and not (as_json and sys.stdout.isatty())


@contextmanager
def progress() -> Iterator[Progress]:
    """Show how far the work in this block is."""
    if not logger.isEnabledFor(logging.INFO):
        yield no_progress
    elif is_terminal():
        with _bars() as show:
            yield show
    else:
        yield Lines().show


@contextmanager
def _bars() -> Iterator[Progress]:
    """Show a bar for what is done now; it is deleted at its end."""
    from rich.progress import BarColumn, ProgressColumn, TextColumn
    from rich.progress import Progress as Bars
    from rich.table import Column
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.completed:,.0f}/{task.total:,.0f}" if task.total else "")

    class Left(ProgressColumn):
        max_refresh = 1.0  # seconds: a time that changes more often is hard to read

        def render(self, task: Any) -> Text:
            known = task.time_remaining is not None
            return Text(f"{duration(task.time_remaining)} left" if known else "", "cyan")

    screen = console()
    # without these a narrow terminal would break every word
    name = Column(no_wrap=True, overflow="ellipsis", max_width=max(screen.width - NUMBERS, 1))
    numbers = [kind(Column(no_wrap=True)) for kind in (Count, Left)]
    bar = [BarColumn(None, table_column=Column(ratio=1, max_width=BAR))] if screen.width > 2 * NUMBERS else []
    columns: Any = TextColumn("{task.description}", table_column=name), *bar, *numbers
    options: Any = {"refresh_per_second": REDRAWS, "redirect_stdout": False}  # stdout is for results
    bars = Bars(*columns, console=screen, transient=True, **options)
    current, drawn = "", 0.0

    def show(what: str, done: int, total: int) -> None:
        nonlocal current, drawn
        now, ends = time.monotonic(), bool(total) and done == total
        if what == current and now - drawn < 1 / REDRAWS and not ends:
            return
        if what != current:
            for task in bars.task_ids:
                bars.remove_task(task)
            bars.add_task(what, total=total or None)
            bars.start()
        current, drawn = what, now
        bars.update(bars.task_ids[0], completed=done, total=total or None)
        if ends:  # what the block does next may draw something else
            current = ""
            bars.stop()

    try:
        yield show
    finally:
        bars.stop()


class Lines:
    """Logs every few seconds how far the work is; what is soon done logs nothing."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval, self._what = interval, ""
        self._began = self._logged = 0.0
        self._first = 0  # that were done at the first call

    def show(self, what: str, done: int, total: int) -> None:
        """Log a line if it is time for one."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._first, self._began, self._logged = what, done, now, now
        elif now - self._logged >= self._interval and done != total:
            self._logged = now
            logger.info("%s", describe(what, done, total, (done - self._first) / (now - self._began)))


def describe(what: str, done: int, total: int, rate: float) -> str:
    """Return a line about work that is done at so many per second."""
    if not total:
        return f"{what}: {done:,}, {rate:,.0f}/s"
    left = duration((total - done) / rate) if rate else "unknown time"
    return f"{what}: {done:,} of {total:,}, {rate:,.0f}/s, {left} left"


def duration(seconds: float) -> str:
    """Return a time as "1 h 02 min", "3 min 20 s" or "45 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
