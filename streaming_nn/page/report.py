"""The page as one file: its style, its code and its data inside, so that it opens without a server."""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streaming_nn.page.models import Followed, series_json, shown_models
from streaming_nn.page.moment import moment
from streaming_nn.page.samples import samples

STATIC = Path(__file__).parent / "static"
INTERVALS = 300  # of the whole history: more are not seen on a screen
MOMENTS = 40  # versions with all of their figures; one of 10 classes is 8 kB
SAMPLES = 32  # rows
MOST_BYTES = 1_000_000  # of the file: mail servers refuse large ones


def report(directories: Sequence[Path]) -> str:
    """Return the page of some model directories as HTML, at most 1 MB. LookupError: one has no version."""
    models = shown_models(directories)
    for model in models:
        model.timeline.follow()
        if model.timeline.newest() is None:
            raise LookupError(f"model {model.directory}: there is no version yet")
    moments, intervals = MOMENTS, INTERVALS
    while True:
        text = _html([_described(model, intervals, moments) for model in models])
        if len(text.encode()) <= MOST_BYTES or moments == 1:
            return text
        moments, intervals = max(moments // 2, 1), max(intervals // 2, 20)


def _described(model: Followed, intervals: int, moments: int) -> dict[str, Any]:
    timeline = model.timeline
    series = timeline.select(timeline.names(), None, None, intervals)
    rows = np.unique(np.linspace(0, len(series.numbers) - 1, moments).astype(int))
    versions = {int(series.numbers[row]): moment(timeline, int(series.numbers[row])) for row in rows}
    return {
        "name": model.name,
        "directory": model.directory.name,
        "head": timeline.newest(),
        "timeline": series_json(timeline, series),
        "versions": versions,
        "samples": samples(timeline.log, None, SAMPLES),
    }


def _html(models: Iterable[dict[str, Any]]) -> str:
    text = (STATIC / "page.html").read_text()
    head, _, rest = text.partition('<link rel="icon"')
    _, _, body = rest.partition("</head>")
    styles = [(STATIC / name).read_text() for name in ("vendor/uPlot.min.css", "page.css")]
    code = [(STATIC / name).read_text() for name in ("vendor/uPlot.iife.min.js", "page.js")]
    data = json.dumps({"models": list(models)}, allow_nan=False, default=str, separators=(",", ":"))
    # in a script element only these would end it, or begin a comment
    data = data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    icon = "data:image/svg+xml;base64," + base64.b64encode((STATIC / "icon.svg").read_bytes()).decode()
    scripts, looks = (" ".join(map(_hash, texts)) for texts in (code, styles))
    policy = f"default-src 'none'; script-src {scripts}; style-src {looks}; img-src data:; form-action 'none'"
    return "".join(
        [
            head,
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            *(f"<style>{style}</style>\n" for style in styles),
            "</head>",
            body.replace("static/icon.svg", icon).partition("</body>")[0],
            f'<script type="application/json" id="data">{data}</script>\n',
            f'<script>{code[0]}</script>\n<script type="module">{code[1]}</script>\n</body>\n</html>\n',
        ]
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
