"""Plot accuracy over time, one frame per stream."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import learners, peers

COLUMNS = 3
MOST = 6  # times our largest error that a frame shows: one of a peer can be a thousand times as large
PEERS = (*peers.RIVER, peers.FOREST, peers.SKLEARN)


def plot(results: list[dict[str, Any]], streams: dict[str, dict[str, Any]], file: Path) -> None:
    """Plot the mean over the last 500 rows, seed 0, of our learner at each mini-batch and of the peers."""
    columns = min(COLUMNS, len(streams))
    rows = -(-len(streams) // columns)
    figure = Figure(figsize=(6 * columns, 3.5 * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, (name, about) in zip(axes.flat, streams.items(), strict=False):
        curves = [each for each in results if each["stream"] == name and each["curve"]]
        for result in curves:
            _line(axis, result)
        for row in about["drift_at"]:
            axis.axvline(row, color="black", linewidth=0.5, linestyle=":")
        if about["classes"] is None:
            ours = [each["curve"] for each in curves if each["learner"] == learners.DEFAULT]
            most = MOST * max(mean for curve in ours for _, mean in curve)
            axis.set_ylim(0, min(most, axis.get_ylim()[1]))
        axis.set_title(f"{name} (MAE)" if about["classes"] is None else name)
        axis.legend(fontsize=6)
    for axis in axes.flat[len(streams) :]:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(file, dpi=80)


def _line(axis: Any, result: dict[str, Any]) -> None:
    at, means = zip(*result["curve"], strict=True)
    if result["learner"] == learners.DEFAULT:
        axis.plot(at, means, label=f"{learners.DEFAULT} at {result['mini_batch']}", linewidth=1.4)
    elif result["learner"] in PEERS:
        axis.plot(at, means, label=result["learner"], linewidth=0.8, alpha=0.7)
