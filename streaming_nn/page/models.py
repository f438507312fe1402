"""The model directories that a page shows, and their timelines as JSON."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from streaming_nn import cache
from streaming_nn.errors import DamagedVersionError
from streaming_nn.importance import Importance, importance
from streaming_nn.page.timeline import Series, Timeline
from streaming_nn.versions.version_log import VersionLog

IMPORTANCES, WIDE = 8, 128  # versions over time; 2 for more columns than WIDE: one takes seconds
MOST_IMPORTANCES = 200  # that are remembered
MOST_MARKS = 1_000  # the newest ones: more are a solid bar on any chart


class Followed:
    """A model directory that the page shows."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name, self.directory = name, directory
        self.timeline = Timeline(VersionLog(directory))
        self.problem = ""  # why its log cannot be read now
        self._saved: int | None = None
        log = self.timeline.log
        self._importance = lru_cache(MOST_IMPORTANCES)(lambda number: importance(log.read(number)))

    @property
    def index(self) -> Path:
        """The file in the cache folder that keeps its timeline: the archives keep a hundredth of it."""
        name = hashlib.sha256(os.fsencode(self.directory.absolute())).hexdigest()[:16]
        return cache.folder() / "timelines" / f"{name}.npz"

    def load(self) -> None:
        """Take the rows that an earlier page has read."""
        self.timeline.load(self.index)
        self._saved = self.timeline.newest()

    def save(self) -> None:
        """Keep the rows for a later page."""
        if self.timeline.newest() != self._saved:
            self.timeline.save(self.index)
            self._saved = self.timeline.newest()

    def follow(self, most: int) -> int:
        """Read new rows, as the timeline does; 0 if the log cannot be read."""
        try:
            found = self.timeline.follow(most)
        except (OSError, ValueError) as error:
            self.problem = str(error)
            return 0
        self.problem = ""
        return found

    def importance(self, number: int | None, first: int) -> list[Importance]:
        """Return the importance of fields in up to 8 kept versions from `first` to `number`, the newest last.

        None: the newest one. Raise LookupError and ValueError as `importance` does, of the newest of them.
        """
        head = self.timeline.log.head_number()
        last = head if number is None else number
        if head is None or last is None or not 0 <= last <= head:
            raise LookupError(f"version must be 0 to {head}; got {number}")
        newest = self._importance(last)
        count = IMPORTANCES if len(newest.fields) <= WIDE else 2
        found = []
        for each in np.unique(np.linspace(min(max(first, 0), last), last, count).astype(int)).tolist()[:-1]:
            with suppress(LookupError, ValueError, DamagedVersionError):
                found.append(self._importance(each))
        return [*found, newest]


def shown_models(directories: Sequence[Path]) -> list[Followed]:
    """Return the models of the directories, by the shortest ends of the paths that are unique."""
    return [Followed(path, name) for path, name in zip(directories, _names(directories), strict=True)]


def _names(directories: Sequence[Path]) -> list[str]:
    paths = [path.absolute() for path in directories]
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def series_json(timeline: Timeline, series: Series) -> dict[str, Any]:
    """Return a part of a timeline as JSON-able values, with all marks and the names of all columns."""
    return {
        "numbers": series.numbers.tolist(),
        "times": series.times.tolist(),
        "columns": {name: nulls(column.tolist()) for name, column in series.columns.items()},
        "marks": [mark._asdict() for mark in timeline.marks[-MOST_MARKS:]],
        "names": timeline.names(),
    }


def importance_json(found: Sequence[Importance], most: int = 15) -> dict[str, Any]:
    """Return the most important fields of the newest version, each with its importance in the others, too."""
    newest, by_field = found[-1], [{each.field: each.loss for each in version.fields} for version in found]
    return {
        "versions": [version.version for version in found],
        "rows": newest.rows,
        "of": len(newest.fields),
        "fields": [
            {**each._asdict(), "before": [version.get(each.field) for version in by_field]}
            for each in newest.fields[:most]
        ],
    }


def nulls(column: Sequence[float]) -> list[float | None]:
    """Return the numbers with 7 digits, null for those that are not finite."""
    return [float(f"{value:.7g}") if value - value == 0 else None for value in column]
