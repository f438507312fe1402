"""Three tiers of tests with budgets: `pytest --tier commit|merge|nightly` runs a tier and those before it.

- commit: needs no JVM, 3 minutes. Run it before each commit.
- merge: needs the session's broker and Spark, or more time; holds the promises on crash, order, exactly-once
  and replay. With the commit tier 16 minutes.
- nightly: whole commands, soaks, second ways through, short forms of the benchmarks. All tiers 90 minutes.

Without `--tier` the commit tier runs, and of the merge tier the smoke tests: one way through everything.

Each test names its tier by a marker of its module (`pytestmark = pytest.mark.commit`) or its own, which wins.
"""

import os
import time

import pytest

TIERS = ("commit", "merge", "nightly")
SMOKE = "smoke"
JVM = {"spark", "broker"}  # fixtures that start one


def tier_of(item: pytest.Item) -> str | None:
    """Return the test's tier, by the marker that is nearest to it; None: it names none."""
    return next((mark.name for mark in item.iter_markers() if mark.name in TIERS), None)


def misplaced(item: pytest.Item) -> str | None:
    """Return what the test must change, so that its tier can run it; None: nothing."""
    tier = tier_of(item)
    if tier is None:
        return f"each test must name its tier, one of {', '.join(TIERS)}"
    if tier == "nightly" and item.get_closest_marker(SMOKE) is not None:
        return "a smoke test must be of the commit or merge tier, which .ci/run has; got nightly"
    if tier == "commit" and (fixtures := JVM.intersection(getattr(item, "fixturenames", ()))):
        return f"the commit tier needs no JVM; these take {', '.join(sorted(fixtures))}"
    return None


class Tiers:
    """The plugin."""

    def __init__(self, tier: str | None, only: bool, budget: float | None) -> None:
        last = tier or "commit"
        self.wanted = (last,) if only else TIERS[: TIERS.index(last) + 1]
        self.smoke = tier is None
        self.budget, self.started, self.seconds = budget, time.monotonic(), 0.0

    def _is_wanted(self, item: pytest.Item) -> bool:
        smoke = self.smoke and item.get_closest_marker(SMOKE) is not None
        return smoke or tier_of(item) in self.wanted

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        wrong = [(reason, item.nodeid) for item in items if (reason := misplaced(item))]
        if wrong:
            reason = wrong[0][0]
            raise pytest.UsageError(f"{reason}: {[name for why, name in wrong if why == reason][:5]}")
        config.hook.pytest_deselected(items=[item for item in items if not self._is_wanted(item)])
        items[:] = [item for item in items if self._is_wanted(item)]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.seconds = time.monotonic() - self.started
        if self.budget is not None and self.seconds > self.budget and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.budget is not None and self.seconds > self.budget:
            message = f"the tests took {self.seconds:.0f} s; their budget is {self.budget:.0f} s"
            terminalreporter.write_line(message, red=True)


def use_cores(config: pytest.Config) -> None:
    """Without a path or a tier, run the tests in two processes, each file in one of them.

    On two cores, the second command of README takes half of the time. The processes call this too.
    """
    given = config.args_source is not pytest.Config.ArgsSource.TESTPATHS or config.getoption("--tier")
    if given or hasattr(config, "workerinput") or config.option.numprocesses is not None:
        return
    if (os.cpu_count() or 1) > 1:
        config.option.numprocesses, config.option.dist = 2, "loadfile"


def add_options(parser: pytest.Parser) -> None:
    """Add the options of the tiers."""
    group = parser.getgroup("tiers")
    group.addoption(
        "--tier", choices=TIERS, help="run this tier and those before it (default: commit and smoke)"
    )
    group.addoption("--only-tier", action="store_true", help="run this tier without those before it")
    group.addoption("--budget", type=float, metavar="SECONDS", help="fail if the run takes longer")


def configure(config: pytest.Config) -> None:
    """Register markers and plugin."""
    for tier in TIERS:
        config.addinivalue_line("markers", f"{tier}: the tier of a test; see tests/support/tiers.py")
    config.addinivalue_line("markers", f"{SMOKE}: runs without --tier, too")
    plugin = Tiers(config.getoption("tier"), config.getoption("only_tier"), config.getoption("budget"))
    config.pluginmanager.register(plugin, "tiers")
