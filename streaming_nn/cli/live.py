"""The live table of `train`, `score` and `demo`: on a terminal, drawn in place, with sparklines."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from streaming_nn.cli.progress import console, duration
from streaming_nn.nn.figures import leading

if TYPE_CHECKING:
    from rich.table import Table

    from streaming_nn.kafka.admin import Offsets
    from streaming_nn.sinks.lag import Lag
    from streaming_nn.versions.version import Manifest

DRAWS = 2  # per second: each takes 3 ms
POINTS = 64  # of a history: as many as the widest sparkline has, or up to twice as many
SPAN = 20.0  # seconds of a rate
FEWEST, MOST = 4, 32  # columns of a sparkline
VALUE, FRAME = 8, 7  # columns of the value beside it, and of the table's lines and blanks
BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-=+*%#"  # the second for a terminal without UTF-8


class Row(NamedTuple):
    """A row of the table: a name, a value, and its history for a sparkline, the oldest first."""

    name: str
    value: str
    history: Sequence[float] = ()


class Shown(NamedTuple):
    """What the table shows at a moment."""

    title: str
    rows: Sequence[Row]


@contextmanager
def live(shown: Callable[[], Shown], keep: bool = True) -> Iterator[None]:
    """Show a table while the block runs, drawn twice per second by a thread; log lines are above it.

    `shown` is called by that thread. At the end the table stays as it is, or is deleted if `keep` is not set.
    """
    from rich.live import Live

    screen = console()
    options: Any = {"refresh_per_second": DRAWS, "redirect_stdout": False}  # stdout is for results
    with Live(
        console=screen,
        get_renderable=lambda: table(shown(), screen.width, screen.encoding),
        transient=not keep,
        **options,
    ):
        yield


def table(shown: Shown, width: int, encoding: str = "utf-8") -> "Table":
    """Return what is shown as a table for a terminal of so many columns."""
    from rich.table import Table
    from rich.text import Text

    levels = BLOCKS if encoding.lower().startswith("utf") else ASCII
    names = max((len(row.name) for row in shown.rows), default=0)
    columns = min(width - names - VALUE - FRAME, MOST)
    title = Text(shown.title, no_wrap=True, overflow="ellipsis")
    found = Table(title=title, title_justify="left", show_header=False)
    found.add_column(style="cyan", no_wrap=True)
    found.add_column(overflow="fold", min_width=max(VALUE + columns, 1))  # else as wide as its values are now
    for name, value, history in shown.rows:
        cell = Text(value)
        if history and columns >= FEWEST:
            cell.pad_right(max(VALUE - len(value), 1))
            cell.append(sparkline(history, columns, levels), "green")
        found.add_row(Text(name), cell)
    return found


def sparkline(values: Sequence[float], columns: int, levels: str = BLOCKS) -> str:
    """Draw values from the lowest to the highest level; of too many, each column has the mean of some."""
    if not values:
        return ""
    columns = min(columns, len(values))
    cuts = [i * len(values) // columns for i in range(columns + 1)]
    means = [sum(values[begin:end]) / (end - begin) for begin, end in pairwise(cuts)]
    low, high = min(means), max(means)
    if high == low:
        return levels[0] * columns
    return "".join(levels[int((mean - low) / (high - low) * (len(levels) - 1) + 0.5)] for mean in means)


class History:
    """A figure since the start: of more than 128 values every second one is kept, of more every fourth …"""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._seen, self._every = 0, 1

    def add(self, value: float | None) -> None:
        """Add a value, unless it is not defined."""
        if value is None:
            return
        if self._seen % self._every == 0:
            self.values = [*self.values, value]  # a new list, for the thread that draws the old one
            if len(self.values) > 2 * POINTS:
                self.values, self._every = self.values[::2], 2 * self._every
        self._seen += 1


class Rate:
    """How fast a total grows per second, over the last 20 seconds or since the first update."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples = deque[tuple[float, float]]()

    def update(self, total: float) -> float:
        """Return the rate, now that the total is this."""
        now = self._clock()
        self._samples.append((now, total))
        while now - self._samples[1 if len(self._samples) > 1 else 0][0] >= SPAN:
            self._samples.popleft()
        then, before = self._samples[0]
        return (total - before) / (now - then) if now > then else 0.0


class Figures:
    """The figures of the newest version's window, with their histories."""

    def __init__(self) -> None:
        self._histories: dict[str, History] = {}
        self._names: list[str] = []

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Add a version's."""
        window = metrics.get("prequential", {}).get("window", {})
        self._names = [*leading(window)]
        for name in self._names:
            self._histories.setdefault(name, History()).add(window.get(name))

    def rows(self, metrics: Mapping[str, Any]) -> Iterator[Row]:
        """Return the rows of these metrics, which were added last."""
        window = metrics.get("prequential", {}).get("window", {})
        for name in self._names:
            yield Row(name.replace("_", " "), number(window.get(name)), self._histories[name].values)
        if not self._names:
            return
        first = self._names[0]
        served = metrics.get("as_served", {}).get("window", {}).get(first)
        yield Row("as served", number(served))
        for baseline, spans in metrics.get("baselines", {}).items():
            yield Row(baseline.replace("_", " "), number(spans.get("window", {}).get(first)))


def number(value: Any) -> str:
    """Return a figure or a count as a string; "–" for None, a figure that is not defined yet."""
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
    return "–" if value is None else f"{value:,}" if type(value) is int else str(value)


def version(manifest: "Manifest") -> Row:
    """Return the row of a version and its age."""
    if (written := manifest.time) is None:  # of one that was lost
        return Row("version", f"{manifest.number:,}")
    age = time.time() - written
    old = duration(age) if age >= 60 else f"{max(age, 0.0):.1f} s"
    return Row("version", f"{manifest.number:,}, {old} old")


def reasons(counts: Iterable[tuple[str, int]], records: int, most: int = 2) -> str:
    """Return how many records were rejected, in which share, and the most frequent reasons."""
    listed = sorted(counts, key=lambda item: -item[1])
    rejected = sum(n for _, n in listed)
    if not rejected:
        return "0"
    share = f"{rejected:,} ({rejected / max(records, 1):.1%})"
    return ": ".join([share, ", ".join(reason for reason, _ in listed[:most])])


class Behind:
    """How far a job is behind its topics, and how long it will take to reach their ends."""

    def __init__(
        self,
        lag: "Lag",
        position: Callable[[], "Offsets"] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take `position` if it is known sooner than at the next look of the lag."""
        self._lag, self._position, self._growth = lag, position, Rate(clock)

    def rows(self, rate: float) -> Iterator[Row]:
        """Return the rows of a job that processes so many records per second."""
        if self._position is not None:
            records = self._lag.behind(self._position()) or 0
        else:
            records = sum(sum(partitions.values()) for partitions in self._lag.offsets().values())
        growth = self._growth.update(records)
        yield Row("lag", f"{records:,} records, {duration(self._lag.seconds())}")
        yield Row("time left", _left(records, growth, rate))


def _left(records: int, growth: float, rate: float) -> str:
    if records <= rate * SPAN / 4:  # of five seconds, and between two micro-batches
        return "none: it keeps up"
    return duration(records / -growth) if growth < 0 else "the lag grows" if growth > 0 else "–"
