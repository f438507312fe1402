"""How a log and a version look in a notebook: HTML with a chart of the leading metric, an inline SVG.

Text and axes have the notebook's colour; lines have colours for light and dark, and dashes for those who
cannot distinguish colours. What comes from outside, such as names of classes, is escaped.
"""

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from streaming_nn.versions.version import Manifest

if TYPE_CHECKING:  # version_log and version import this module where they need it
    from streaming_nn.versions.version import Version
    from streaming_nn.versions.version_log import VersionLog

LEADING = ("accuracy", "subset_accuracy", "mae")  # the first that a version has
POINTS, PLOTTED = 100, 500  # of a chart and of a plot, at most: a manifest is read for each
WIDTH, HEIGHT, MARGIN = 480, 120, 8  # units of the chart
BAR = 120  # pixels of a weight of 1
LINES = {  # by what is measured: the line's colour and dashes
    "prequential": ("#2b8cdb", ""),
    "as_served": ("#e07b00", "6 3"),
    "majority_class": ("#888888", "2 3"),
    "mean": ("#888888", "2 3"),
    "no_change": ("#888888", "8 3 2 3"),
}

Values = Sequence[float | None]


def log_html(log: "VersionLog") -> str:
    """Return the newest version's metrics, and a chart of the leading one over the versions that are kept."""
    manifests = _kept(log, POINTS)
    rows = [("directory", str(log.directory)), ("versions", f"{log.last() + 1:,}, {len(log.files()):,} kept")]
    if not manifests:
        return _table(rows)
    newest = manifests[-1]
    rows += [("newest", f"{newest.number:,}, {newest.kind}"), ("written", newest.written_at)]
    metric = _leading(newest)
    if metric is None:
        return _table(rows)
    return _table(rows) + _chart(metric, [each.number for each in manifests], _series(manifests, metric))


def plot(log: "VersionLog", metric: str | None = None, ax: Any = None) -> Any:
    """Draw as `VersionLog.plot` describes."""
    import matplotlib.pyplot as plt  # of the extra "plot"

    manifests = _kept(log, PLOTTED)
    metric = metric or (_leading(manifests[-1]) if manifests else None)
    if metric is None:
        raise ValueError(f"model {log.directory}: no version has a metric to plot yet")
    series = _series(manifests, metric)
    if not any(value is not None for values in series.values() for value in values):
        known = sorted({name for window in _windows(manifests[-1].metrics).values() for name in window})
        raise ValueError(f"metric must be one of the window's, {', '.join(known)}; got {metric!r}")
    axes = plt.subplots()[1] if ax is None else ax
    numbers = [manifest.number for manifest in manifests]
    for name, values in series.items():
        color, dashes = LINES[name]
        pattern = (0, tuple(map(float, dashes.split()))) if dashes else "-"
        points = [float("nan") if value is None else value for value in values]
        axes.plot(numbers, points, color=color, linestyle=pattern, label=name.replace("_", " "))
    for manifest in manifests:
        if manifest.news:
            axes.axvline(manifest.number, color="#b3421a", linestyle=":", linewidth=1)
    axes.set_xlabel("version")
    axes.set_ylabel(f"{metric.replace('_', ' ')}, window")
    axes.legend()
    return axes


def _kept(log: "VersionLog", most: int) -> list[Manifest]:
    """Return the manifests of so many versions at most, evenly chosen among those with files."""
    numbers = log.files()
    step = -(-len(numbers) // most) or 1
    return [*log.readable(numbers[::-1][::step][::-1])]


def _leading(manifest: Manifest) -> str | None:
    return next((name for name in LEADING if name in _windows(manifest.metrics).get("prequential", {})), None)


def _series(manifests: Sequence[Manifest], metric: str) -> dict[str, Values]:
    return {
        name: [_windows(manifest.metrics).get(name, {}).get(metric) for manifest in manifests]
        for name in _windows(manifests[-1].metrics)
        if name in LINES
    }


def version_html(version: "Version") -> str:
    """Return what `versions show` prints first: what it learned, and its metrics in the window."""
    manifest = version.manifest
    size = sum(tensor.nbytes for tensor in version.tensors.values())
    rows = [
        ("version", f"{manifest.number:,}, {manifest.kind}"),
        ("written", manifest.written_at),
        ("learner", str(manifest.learner.get("learner", ""))),
        ("tensors", f"{len(version.tensors)}, {size / 1e6:,.2f} MB"),
        *_pairs("records", manifest.counts),
        *_pairs("rejected", manifest.rejected_by_reason),
    ]
    rows += [*_figures(manifest.metrics), *(("event", str(event.get("event"))) for event in manifest.events)]
    return _table(rows)


def model_html(name: str, metrics: dict[str, Any]) -> str:
    """Return a model's metrics in the window, and the weights of its members as bars."""
    rows = [("model", name), ("rows", f"{metrics.get('rows', 0):,.0f}"), *_figures(metrics)]
    weights = [(each["member"], _bar(each["weight"])) for each in metrics.get("members", ())]
    return _table(rows) + (_html_table(weights) if weights else "")


def _bar(weight: float) -> str:
    """Return a bar of a weight between 0 and 1."""
    rectangle = f'<rect width="{BAR * weight:.1f}" height="8" fill="{LINES["prequential"][0]}"/>'
    image = f'<svg role="img" aria-label="{weight:.1%}" width="{BAR}" height="8">{rectangle}</svg>'
    return f"{image} {weight:.1%}"


def _figures(metrics: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, window in _windows(metrics).items():
        yield from ((f"{name}, {metric}", _number(window[metric])) for metric in LEADING if metric in window)


def _windows(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the metrics of the window: prequential, as served, and those of the baselines."""
    found = {name: metrics.get(name, {}) for name in ("prequential", "as_served")}
    found |= metrics.get("baselines", {})
    return {name: spans["window"] for name, spans in found.items() if "window" in spans}


def _pairs(title: str, counts: dict[str, int]) -> Iterator[tuple[str, str]]:
    if any(counts.values()):
        yield title, ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _table(rows: list[tuple[str, str]]) -> str:
    return _html_table([(title, escape(text)) for title, text in rows])


def _html_table(rows: list[tuple[str, str]]) -> str:
    """Return a table; the second cells of its rows are HTML."""
    cells = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(title)}</th>'
        f'<td style="text-align:left">{html}</td></tr>'
        for title, html in rows
    )
    return f'<table style="color:inherit">{cells}</table>'


def _chart(metric: str, numbers: list[int], series: dict[str, Values]) -> str:
    """Return a line for each series (name: a value for each number), and a legend with the last values."""
    known = [value for values in series.values() for value in values if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    lines = "".join(
        f'<polyline points="{points}" fill="none" stroke="{LINES[name][0]}" stroke-width="2" '
        f'stroke-dasharray="{LINES[name][1]}"/>'
        for name, values in series.items()
        for points in _polylines(numbers, values, low, high)
    )
    latest = ", ".join(f"{name} {_number(values[-1])}" for name, values in series.items())
    label = escape(f"{metric} in the window, versions {numbers[0]:,} to {numbers[-1]:,}: {latest}")
    legend = " ".join(
        f'<span style="white-space:nowrap"><svg width="28" height="8" aria-hidden="true"><path d="M0 4H28" '
        f'stroke="{LINES[name][0]}" stroke-width="2" stroke-dasharray="{LINES[name][1]}"/></svg> '
        f"{escape(name)} {_number(values[-1])}</span>"
        for name, values in series.items()
    )
    frame = f'<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="currentColor" opacity="0.4"/>'
    return (
        f"<div>{escape(metric)} in the window, {_number(low)} to {_number(high)}</div>"
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'style="width:100%;max-width:{WIDTH}px">{frame}{lines}</svg><div>{legend}</div>'
    )


def _polylines(numbers: list[int], values: Values, low: float, high: float) -> Iterator[str]:
    """Yield the points of each stretch without a gap."""
    first, across, up = numbers[0], max(numbers[-1] - numbers[0], 1), (high - low) or 1.0
    stretch = list[str]()
    for number, value in zip(numbers, values, strict=True):
        if value is None:
            if stretch:
                yield " ".join(stretch)
            stretch = []
            continue
        x = (number - first) / across * WIDTH
        y = HEIGHT - MARGIN - (value - low) / up * (HEIGHT - 2 * MARGIN)
        stretch.append(f"{x:.1f},{y:.1f}")
    if stretch:
        yield " ".join(stretch)
