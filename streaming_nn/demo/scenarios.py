"""The demos: each a description of a stream, its settings and the metrics that are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streaming_nn.versions.version import Manifest

BEFORE_DRIFT = 300  # labeled records from the last version that counts as before the drift to the drift


@dataclass(frozen=True)
class Scenario:
    """One demo. A metric is given by its path in a version's metrics, `a.b.c`."""

    stream: str  # of the producers; the topics are named after it
    title: str
    concepts: tuple[str, ...]  # descriptions; the second one begins with a drift halfway
    rate: float  # default rows per second
    rates: tuple[float, float]  # minimum and maximum
    unlabeled: float  # share of the rows that are sent without their label, for the scorer
    settings: Mapping[str, Any]  # records and learner
    live: Mapping[str, str]  # metrics of the table, while the stream runs
    summary: Mapping[str, str]  # metrics of the summary, of the last version
    before_drift: Mapping[str, str]  # metrics of the summary, of the last version before the drift
    at_end: Mapping[str, str]  # more metrics of the last version, at the end of the summary

    def check_rate(self, rate: float | None) -> float:
        """Return the rate, by default the scenario's; raise ValueError if the stream has no such rate."""
        low, high = self.rates
        if rate is not None and not low <= rate <= high:
            allowed = f"at least {low:g}" if high == float("inf") else f"{low:g} to {high:g}"
            raise ValueError(f"--rate of {self.stream} must be {allowed}; got {rate:g}")
        return self.rate if rate is None else rate

    def drift(self, before: int, rate: float, seconds: float) -> int | None:
        """Return the number of labeled records before the drift, `before` included; None: no drift."""
        if len(self.concepts) == 1:
            return None
        return before + round(rate * seconds / 2 * (1 - self.unlabeled))

    def concept(self, produced: int, drift: int | None) -> str:
        """Return the description of the concept after so many labeled records."""
        return self.concepts[drift is not None and produced >= drift]

    def live_metrics(self, manifest: Manifest) -> dict[str, Any]:
        """Return the table's metrics of a version."""
        return metrics_at(self.live, manifest)

    def outcome(self, manifests: list[Manifest], drift: int | None) -> dict[str, Any]:
        """Return the summary's metrics of a whole run."""
        before = None if drift is None else last_before(manifests, drift - BEFORE_DRIFT)
        head = manifests[-1]
        return (
            metrics_at(self.summary, head)
            | metrics_at(self.before_drift, before)
            | metrics_at(self.at_end, head)
        )


def metrics_at(paths: Mapping[str, str], manifest: Manifest | None) -> dict[str, Any]:
    """Return the values at these paths of a version's metrics; None if there is no version."""
    return {name: None if manifest is None else _at(manifest.metrics, path) for name, path in paths.items()}


def _at(metrics: Any, path: str) -> Any:
    for name in path.split("."):
        metrics = metrics[name]
    return metrics


def last_before(manifests: list[Manifest], labeled: int) -> Manifest | None:
    """Return the last version that had received at most `labeled` records."""
    received, last = 0, None
    for manifest in manifests[1:]:
        received += manifest.counts["received"]
        if received > labeled:
            break
        last = manifest
    return last


DIGITS = Scenario(
    stream="digits",
    title="handwritten digits",
    concepts=("original", "changed: digits are mirrored, labels swapped"),
    rate=1000,
    rates=(10, float("inf")),
    unlabeled=0.1,
    settings={"records": {"inputs": 64, "classes": list(range(10))}},
    live={
        "loss": "prequential.window.log_loss",
        "accuracy": "prequential.window.accuracy",
        "macro F1": "prequential.window.f1_macro",
        "as served": "as_served.window.accuracy",
        "majority class": "baselines.majority_class.window.accuracy",
        "no change": "baselines.no_change.window.accuracy",
    },
    summary={
        "accuracy": "prequential.cumulative.accuracy",
        "f1_macro": "prequential.cumulative.f1_macro",
        "accuracy_as_served": "as_served.cumulative.accuracy",
        "baseline_majority_class": "baselines.majority_class.cumulative.accuracy",
        "baseline_no_change": "baselines.no_change.cumulative.accuracy",
    },
    before_drift={"accuracy_before_drift": "prequential.window.accuracy"},
    at_end={"accuracy_after_recovery": "prequential.window.accuracy"},
)

ERRORS = {"MAE": "mae", "RMSE": "rmse", "R2": "r2"}
# The no-change baseline predicts the label of the row before. That label is measured almost a second after
# the row that it is a prediction for: the baseline knows more than any scorer can.
PREDICTIONS = {
    "": "prequential",
    "as served": "as_served",
    "mean": "baselines.mean",
    "no change": "baselines.no_change",
}
# The fields of the producers' stream `machine`
FEATURES = [
    *("cpu.now", "cpu.user", "cpu.system", "cpu.iowait", "disk.read", "disk.written"),
    *("net.received", "net.sent", "switches", "interrupts", "load.1m", "load.5m", "load.15m"),
    *("memory.used", "memory.available", "swap.used", "cpu.second"),
]

MACHINE = Scenario(
    stream="machine",
    title="this machine's CPU use, in percent, one second ahead",
    concepts=("this machine; most of its load is this demo itself",),
    rate=20,
    rates=(1.0, 100.0),
    unlabeled=1.0,  # each row is sent without its label, and again with it a second later
    settings={
        "records": {"features": FEATURES, "label": "ahead", "inputs": len(FEATURES), "regression": True},
        "learner": {"window": 400},
    },
    live={
        f"{error} {of}".strip(): f"{path}.window.{name}"
        for error, name in ERRORS.items()
        for of, path in PREDICTIONS.items()
    },
    summary={
        "mae": "prequential.cumulative.mae",
        "rmse": "prequential.cumulative.rmse",
        "r2": "prequential.cumulative.r2",
        "mae_as_served": "as_served.cumulative.mae",
        "rmse_as_served": "as_served.cumulative.rmse",
        "r2_as_served": "as_served.cumulative.r2",
        "baseline_mean_mae": "baselines.mean.cumulative.mae",
        "baseline_mean_rmse": "baselines.mean.cumulative.rmse",
        "baseline_mean_r2": "baselines.mean.cumulative.r2",
        "baseline_no_change_mae": "baselines.no_change.cumulative.mae",
        "baseline_no_change_rmse": "baselines.no_change.cumulative.rmse",
        "baseline_no_change_r2": "baselines.no_change.cumulative.r2",
    },
    before_drift={},
    at_end={  # the first predictions, of an untrained network, weigh much in the cumulative ones
        "mae_at_end": "prequential.window.mae",
        "r2_at_end": "prequential.window.r2",
        "baseline_mean_mae_at_end": "baselines.mean.window.mae",
        "baseline_no_change_mae_at_end": "baselines.no_change.window.mae",
    },
)

SCENARIOS = {scenario.stream: scenario for scenario in (DIGITS, MACHINE)}


def find_scenario(stream: str) -> Scenario:
    """Return the demo of this stream; raise ValueError if there is none."""
    if stream not in SCENARIOS:
        raise ValueError(f"--stream must be one of {', '.join(SCENARIOS)}; got {stream!r}")
    return SCENARIOS[stream]
