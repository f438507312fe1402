"""What the demos show: each a small description of topics' contents, settings and figures, on one stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from producers.machine import FASTEST, LABEL, NAMES, SLOWEST
from streaming_nn.versions.version import Manifest

ENOUGH = 300  # labeled records: the last version at least so many before the drift is the one before it


@dataclass(frozen=True)
class Scenario:
    """One demo. A figure is a path into a version's metrics, `a.b.c`."""

    stream: str  # of the producers; the topics are called after it
    title: str
    worlds: tuple[str, ...]  # what the world is like; a second one begins with a drift halfway
    rate: float  # rows a second, unless asked otherwise
    rates: tuple[float, float]  # least and most
    unlabeled: float  # share of the rows that the scorer is asked about
    settings: Mapping[str, Any]  # records and learner
    watched: Mapping[str, str]  # figures of the table, while the stream runs
    told: Mapping[str, str]  # figures of the summary, of the last version
    before_drift: Mapping[str, str]  # figures of the summary, of the last version before the drift
    at_end: Mapping[str, str]  # of the last version too, told last

    def paced(self, rate: float | None) -> float:
        """Return the rate, or the scenario's own; raises ValueError where the stream has no such rate."""
        low, high = self.rates
        if rate is not None and not low <= rate <= high:
            allowed = f"{low:g} or more" if high == float("inf") else f"{low:g} to {high:g}"
            raise ValueError(f"--rate of {self.stream} must be {allowed}; got {rate:g}")
        return self.rate if rate is None else rate

    def drift(self, begun: int, rate: float, seconds: float) -> int | None:
        """Return how many labeled records come before the drift, `begun` of them being there; None: all."""
        if len(self.worlds) == 1:
            return None
        return begun + round(rate * seconds / 2 * (1 - self.unlabeled))

    def world(self, produced: int, drift: int | None) -> str:
        """Say what the world is like after so many labeled records."""
        return self.worlds[drift is not None and produced >= drift]

    def look(self, record: Manifest) -> dict[str, Any]:
        """Return the table's figures of a version."""
        return figures(self.watched, record)

    def outcome(self, records: list[Manifest], drift: int | None) -> dict[str, Any]:
        """Return the summary's figures of a whole run."""
        before = None if drift is None else before_of(records, drift - ENOUGH)
        head = records[-1]
        return figures(self.told, head) | figures(self.before_drift, before) | figures(self.at_end, head)


def figures(paths: Mapping[str, str], record: Manifest | None) -> dict[str, Any]:
    """Return the values at these paths of a version's metrics; None where there is no version."""
    return {name: None if record is None else _at(record.metrics, path) for name, path in paths.items()}


def _at(metrics: Any, path: str) -> Any:
    for name in path.split("."):
        metrics = metrics[name]
    return metrics


def before_of(records: list[Manifest], labeled: int) -> Manifest | None:
    """Return the last version that had received no more than `labeled` records."""
    received, found = 0, None
    for record in records[1:]:
        received += record.counts["received"]
        if received > labeled:
            break
        found = record
    return found


DIGITS = Scenario(
    stream="digits",
    title="handwritten digits",
    worlds=("as it was", "changed: digits are mirrored, labels traded"),
    rate=1000,
    rates=(10, float("inf")),
    unlabeled=0.1,  # the images that come without their label
    settings={"records": {"inputs": 64, "classes": list(range(10))}},
    watched={
        "loss": "prequential.window.log_loss",
        "accuracy": "prequential.window.accuracy",
        "macro F1": "prequential.window.f1_macro",
        "as served": "served.window.accuracy",
        "majority": "baselines.majority.window.accuracy",
        "last class": "baselines.last.window.accuracy",
    },
    told={
        "accuracy": "prequential.total.accuracy",
        "f1_macro": "prequential.total.f1_macro",
        "accuracy_served": "served.total.accuracy",
        "baseline_majority": "baselines.majority.total.accuracy",
        "baseline_last_class": "baselines.last.total.accuracy",
    },
    before_drift={"accuracy_before_drift": "prequential.window.accuracy"},
    at_end={"accuracy_after_recovery": "prequential.window.accuracy"},
)

ERRORS = {"MAE": "mae", "RMSE": "rmse", "R2": "r2"}
# The last value is the label of the row before. It is measured almost a second after the row it stands in
# for came: a baseline that knows more than any scorer can.
ANSWERS = {
    "": "prequential",
    "served": "served",
    "mean": "baselines.mean",
    "last value": "baselines.last",
}

MACHINE = Scenario(
    stream="machine",
    title="this machine's CPU use, in percent, one second ahead",
    worlds=("this machine; most of its load is this demo itself",),
    rate=20,
    rates=(SLOWEST, FASTEST),
    unlabeled=1.0,  # every row is asked about as it is measured; its label comes a second later
    settings={
        "records": {"features": list(NAMES), "label": LABEL, "inputs": len(NAMES), "regression": True},
        "learner": {"window": 400},
    },
    watched={
        f"{error} {whose}".strip(): f"{answer}.window.{name}"
        for error, name in ERRORS.items()
        for whose, answer in ANSWERS.items()
    },
    told={
        "mae": "prequential.total.mae",
        "rmse": "prequential.total.rmse",
        "r2": "prequential.total.r2",
        "mae_served": "served.total.mae",
        "rmse_served": "served.total.rmse",
        "r2_served": "served.total.r2",
        "baseline_mean_mae": "baselines.mean.total.mae",
        "baseline_mean_rmse": "baselines.mean.total.rmse",
        "baseline_mean_r2": "baselines.mean.total.r2",
        "baseline_last_value_mae": "baselines.last.total.mae",
        "baseline_last_value_rmse": "baselines.last.total.rmse",
        "baseline_last_value_r2": "baselines.last.total.r2",
    },
    before_drift={},
    at_end={  # the first answers, of a network that has seen nothing, weigh much in the others
        "mae_at_end": "prequential.window.mae",
        "r2_at_end": "prequential.window.r2",
        "baseline_mean_mae_at_end": "baselines.mean.window.mae",
        "baseline_last_value_mae_at_end": "baselines.last.window.mae",
    },
)

SCENARIOS = {scenario.stream: scenario for scenario in (DIGITS, MACHINE)}


def scenario_of(stream: str) -> Scenario:
    """Return the demo of this stream; raises ValueError where there is none."""
    if stream not in SCENARIOS:
        raise ValueError(f"--stream must be one of {', '.join(SCENARIOS)}; got {stream!r}")
    return SCENARIOS[stream]
