"""What the live tables of `train` and `score` show."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from streaming_nn.cli.live import SPAN, Behind, Figures, History, Rate, Row, Shown, reasons, version
from streaming_nn.cli.progress import duration
from streaming_nn.errors import DamagedVersionError

if TYPE_CHECKING:
    from streaming_nn.versions.version import Manifest
    from streaming_nn.versions.version_log import VersionLog


class Scored(NamedTuple):
    """What a scorer has done in this process."""

    predicted: int
    filtered: int
    reasons: dict[str, int]  # of bad records
    latencies: dict[float, int]  # predictions by the upper bound of their latency in seconds
    seconds: float  # the sum of the latencies


QUANTILES = {"median": 0.5, "99 %": 0.99}


class TrainTable:
    """The sink that shows the newest version, and what was learned since `head`."""

    name = "table"

    def __init__(
        self,
        title: str,
        head: "Manifest",
        behind: Behind | None,
        log: Callable[["Manifest"], None] = lambda manifest: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take `log` for each version's manifest: it logs what is news beside a table."""
        self._title, self._newest, self._behind, self._clock = title, head, behind, clock
        self._log = log
        self._first, self._began = head.number, clock()
        self._counts, self._reasons = Counter[str](), Counter[str]()
        self._figures, self._rate, self._event = Figures(), Rate(clock), ""
        self._figures.add(head.metrics)

    def position(self) -> int:
        """Return the number of the newest version that is shown."""
        return self._newest.number

    def write(self, manifest: "Manifest") -> None:
        """Show a version from now on."""
        self._counts.update(manifest.counts)
        self._reasons.update(manifest.rejected_by_reason)
        self._figures.add(manifest.metrics)
        for name in manifest.news:
            self._event = f"{name} in version {manifest.number:,}"
        self._newest = manifest
        self._log(manifest)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def shown(self) -> Shown:
        """Return the table as it is now."""
        window = self._newest.learner.get("window")
        over = f", last {window:,} rows" if window else ""
        title = f"{self._title}, {duration(self._clock() - self._began)}{over}"
        return Shown(title, [*self._rows(self._newest)])

    def _rows(self, newest: "Manifest") -> Iterator[Row]:
        received = self._counts["received"]
        rate = self._rate.update(received)
        yield Row("records/s", f"{rate:,.0f}")
        if self._behind is not None:
            yield from self._behind.rows(rate)
        yield from self._figures.rows(newest.metrics)
        yield version(newest)
        versions = newest.number - self._first
        yield Row("trained", f"{self._counts['trained']:,} rows, {versions:,} versions")
        yield Row("rejected", reasons([*self._reasons.items()], received))
        yield Row("last event", self._event or "–")


class ScoreTable:
    """Shows what a scorer has done, and the newest version of its log."""

    def __init__(
        self,
        title: str,
        log: "VersionLog",
        scored: Callable[[], Scored],
        behind: Behind | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._log, self._scored, self._behind = title, log, scored, behind
        self._clock, self._began = clock, clock()
        self._rate, self._rates = Rate(clock), History()
        self._latencies = deque[tuple[float, Counter[float]]]()
        self._newest: Manifest | None = None

    def shown(self) -> Shown:
        """Return the table as it is now."""
        return Shown(f"{self._title}, {duration(self._clock() - self._began)}", [*self._rows()])

    def _rows(self) -> Iterator[Row]:
        scored = self._scored()
        rate = self._rate.update(scored.predicted)
        self._rates.add(rate)
        yield Row("predictions/s", f"{rate:,.0f}", self._rates.values)
        yield Row("predicted", f"{scored.predicted:,}")
        yield Row("latency", self._describe_latency(Counter(scored.latencies)))
        if self._behind is not None:
            yield from self._behind.rows(rate)
        newest = self._find_newest()
        yield Row("version", "none yet") if newest is None else version(newest)
        records = scored.predicted + scored.filtered + sum(scored.reasons.values())
        yield Row("bad records", reasons(scored.reasons.items(), records))

    def _describe_latency(self, latencies: Counter[float]) -> str:
        """Return upper bounds of the latencies of the last predictions."""
        now = self._clock()
        self._latencies.append((now, latencies))
        while now - self._latencies[0][0] >= SPAN and len(self._latencies) > 1:
            self._latencies.popleft()
        recent = latencies - self._latencies[0][1] or latencies
        found = [f"{name} < {_bound(recent, share)}" for name, share in QUANTILES.items()]
        return ", ".join(found) if recent else "–"

    def _find_newest(self) -> "Manifest | None":
        with suppress(DamagedVersionError, LookupError, OSError):  # which the scorer reports
            number = self._log.head_number()
            if number is not None and (self._newest is None or number != self._newest.number):
                self._newest = self._log.manifest(number)
        return self._newest


def _bound(latencies: Mapping[float, int], share: float) -> str:
    """Return the upper bound of a share of the latencies, which are counted by upper bound."""
    total, count, bound = sum(latencies.values()), 0, 0.0
    for bound in sorted(latencies):
        count += latencies[bound]
        if count >= share * total:
            break
    return "∞" if bound == float("inf") else f"{bound:g} s" if bound >= 1 else f"{bound * 1000:g} ms"
