"""Three tiers of tests, each with a budget: `pytest --tier commit|merge|nightly` runs a tier and those before it.

- commit: needs no JVM; seconds. Run it before each commit.
- merge: needs the session's broker and Spark; what holds the promises on crash, order, exactly-once, replay.
- nightly: whole commands, soaks, second ways through, short forms of the benchmarks.

Each test names its tier with a marker: in its module (`pytestmark = pytest.mark.commit`), or its own, which wins.
"""

import time

import pytest

TIERS = ("commit", "merge", "nightly")


def tier_of(item: pytest.Item) -> str | None:
    """Return the test's tier, by the marker that is nearest to it; None: it names none."""
    return next((mark.name for mark in item.iter_markers() if mark.name in TIERS), None)


class Tiers:
    """The plugin."""

    def __init__(self, tier: str, only: bool, budget: float | None) -> None:
        self.wanted = (tier,) if only else TIERS[: TIERS.index(tier) + 1]
        self.budget, self.started = budget, time.monotonic()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        without = [item.nodeid for item in items if tier_of(item) is None]
        if without:
            raise pytest.UsageError(f"each test must name its tier, one of {', '.join(TIERS)}: {without[:5]}")
        config.hook.pytest_deselected(items=[item for item in items if tier_of(item) not in self.wanted])
        items[:] = [item for item in items if tier_of(item) in self.wanted]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.seconds = time.monotonic() - self.started
        if self.budget is not None and self.seconds > self.budget and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.budget is not None and self.seconds > self.budget:
            terminalreporter.write_line(
                f"tier {self.wanted[-1]} took {self.seconds:.0f} s; its budget is {self.budget:.0f} s",
                red=True,
            )


def add_options(parser: pytest.Parser) -> None:
    """Add the options of the tiers."""
    group = parser.getgroup("tiers")
    group.addoption("--tier", choices=TIERS, default="merge", help="run this tier and those before it")
    group.addoption("--only-tier", action="store_true", help="run this tier without those before it")
    group.addoption("--budget", type=float, metavar="SECONDS", help="fail when the run takes longer")


def configure(config: pytest.Config) -> None:
    """Register markers and plugin."""
    for tier in TIERS:
        config.addinivalue_line("markers", f"{tier}: the tier of a test; see tests/support/tiers.py")
    plugin = Tiers(config.getoption("tier"), config.getoption("only_tier"), config.getoption("budget"))
    config.pluginmanager.register(plugin, "tiers")
