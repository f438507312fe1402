"""The page in a real headless Chromium: it draws, follows the log, and shows any version."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from shown_models import GrowingModel, PictureModel

from streaming_nn.cli.app import run
from streaming_nn.explain import explain
from streaming_nn.importance import importance
from streaming_nn.page.run import address, listen, serving
from streaming_nn.versions import version_log

pytestmark = [pytest.mark.merge, pytest.mark.timeout(120)]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECOND = 1000  # milliseconds, Playwright's unit
REJECTED = {
    "reason": "not a number",
    "field": "<b>price</b>",
    "found": "'<i>7</i>'",
    "topic": "labeled",
    "partition": 0,
    "offset": 7,
    "value": '{"price": "<script>alert(1)</script>"}',
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None and not os.environ.get("TOOLS_REQUIRED"):
        pytest.skip("no Chromium: Debian's package is chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Shown:
    """A page in the browser; what it writes to the console is an error."""

    def __init__(self, browser: Any, url: str, ready: str = ".tile", **options: Any) -> None:
        self.page = browser.new_page(locale="en-GB", timezone_id="Europe/Berlin", **options)
        self.faults: list[str] = []
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector(ready, timeout=10 * SECOND)

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def wait_for(self, selector: str, text: str, seconds: float = 10) -> None:
        pattern = re.compile(re.escape(text))
        self.page.locator(selector, has_text=pattern).first.wait_for(timeout=seconds * SECOND)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> GrowingModel:
    names = ["low", "high", "<img src=x onerror=alert(1)>"]
    grown = GrowingModel(tmp_path_factory.mktemp("page") / "model", classes=names)
    grown.learn(5)
    reasons = {"not a number: <b>price</b>": 2}
    drift = {"event": "drift", "detected": 1}
    grown.learn(1, rejected_by_reason=reasons, events=[drift], rejected=[REJECTED])
    grown.learn(20)
    return grown


@pytest.fixture
def shown(browser: Any, model: GrowingModel) -> Iterator[Shown]:
    with shown_page(browser, model) as page:
        yield page


@contextmanager
def shown_page(browser: Any, model: GrowingModel, ready: str = ".tile", **options: Any) -> Iterator[Shown]:
    listening = listen(port=0)
    with serving([model.log.directory], listening):
        page = Shown(browser, address(listening), ready, **options)
        yield page
        assert page.faults == []
        page.page.close()


def figures(model: GrowingModel, number: int) -> tuple[str, str]:
    """Return a version's accuracies as the page writes them."""
    metrics = model.log.manifest(number).metrics
    return tuple(f"{metrics[what]['window']['accuracy']:.1%}" for what in ("prequential", "as_served"))  # type: ignore[return-value]


def test_it_draws_the_charts_and_whether_the_model_learns(shown: Shown, model: GrowingModel) -> None:
    prequential, served = figures(model, model.head.number)
    assert f"It learns: accuracy {prequential} over the last 100 rows, {served} as served" in shown.text(
        "#verdict"
    )
    titles = [text.split(" of ")[0] for text in shown.page.locator("figcaption").all_inner_texts()]
    assert titles[:3] == ["Accuracy", "Log loss", "Macro F1"]
    drawn = """() => [...document.querySelectorAll("canvas")].map((canvas) => {
        const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(image.data).size;
    })"""
    assert all(colors > 20 for colors in shown.page.evaluate(drawn))
    lines = shown.page.locator("figure").first.locator(".u-marker")
    borders = lines.evaluate_all("all => all.map((each) => each.style.borderStyle)")
    assert borders[1:] == ["solid", "solid", "dashed", "dotted"]


LANES = """(figure) => {
    const canvas = figure.querySelector("canvas");
    const over = figure.querySelector(".u-over").getBoundingClientRect();
    const { left, top } = canvas.getBoundingClientRect(), style = getComputedStyle(document.documentElement);
    const scale = canvas.width / canvas.clientWidth, x = Math.round((over.right - left - 2) * scale);
    const pixels = canvas.getContext("2d").getImageData(x, 0, 1, canvas.height).data;
    const at = (lane) => 4 * Math.round((over.top - top + (lane + 1) * over.height / %(lanes)d - 4) * scale);
    const digits = (name) => style.getPropertyValue(name).match(/[0-9a-f]{2}/g);
    const hex = (name) => digits(name).map((two) => parseInt(two, 16));
    const found = [...Array(%(lanes)d).keys()].map((lane) => [...pixels.slice(at(lane), at(lane) + 3)]);
    return { leads: hex("--s1"), other: hex("--dim"), found };
}"""


def luminance(color: list[int]) -> float:
    """Return the relative luminance of WCAG 2, which is all that is seen without any hues."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_which_member_leads_is_seen_without_hues(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theme: str, width: int
) -> None:
    seconds = count()  # so that the last version has pixels of its own, however long each took
    monkeypatch.setattr(version_log, "now", lambda: f"2026-01-01T00:00:{next(seconds):02}.000+00:00")
    grown = GrowingModel(tmp_path / "model", classes=["low", "high", "none"])
    grown.learn(9)
    members = grown.head.manifest.metrics["members"]
    first, names = max(members, key=lambda each: each["weight"]), sorted(each["member"] for each in members)
    listening = listen(port=0)
    with serving([grown.log.directory], listening):
        shown = Shown(
            browser, address(listening), viewport={"width": width, "height": 900}, color_scheme=theme
        )
        figure = shown.page.locator("figure[data-kind=weights]")
        shown.wait_for("figure", f"{first['member']} leads with {first['weight']:.1%}")
        lanes = figure.evaluate(LANES % {"lanes": len(members)})
        leads = [name for name, found in zip(names, lanes["found"], strict=True) if found == lanes["leads"]]
        assert leads == [first["member"]]
        bright, dark = sorted((luminance(lanes["leads"]), luminance(lanes["other"])), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) > 1.9
        shown.page.locator("#scrubber").fill("2")
        second = max(grown.log.manifest(2).metrics["members"], key=lambda each: each["weight"])
        shown.wait_for("figure", f"{second['member']} leads with {second['weight']:.1%}")
        assert f"Weights of the members: {second['member']} leads" in str(figure.get_attribute("aria-label"))
        assert shown.faults == []
        shown.page.close()


def test_a_new_version_is_shown_within_a_second(shown: Shown, model: GrowingModel) -> None:
    number = model.learn(1).number
    shown.wait_for("#moment", f"version {number},", seconds=1)


def test_the_scrubber_changes_all_figures_to_the_versions_own(shown: Shown, model: GrowingModel) -> None:
    scrubber = shown.page.locator("#scrubber")
    for number in (3, 6, 1):
        scrubber.fill(str(number))
        shown.wait_for("#moment", f"version {number},")
        assert shown.page.evaluate("location.hash") == f"#version={number}"
        metrics = model.log.manifest(number).metrics
        prequential, served = figures(model, number)
        shown.wait_for(".tile", f"{metrics['rows']}rows learned")
        tiles = shown.text("#tiles").split("\n")
        assert (tiles[0], tiles[2]) == (prequential, served)
        recall = metrics["prequential"]["window"]["per_class"]["recall"]
        row = shown.text("#classes tbody tr:nth-child(2)").split()
        assert row[0] == "high"
        assert row[2] == ("–" if recall[1] is None else f"{recall[1]:.1%}")
        legend = shown.page.locator("figure").first.locator(".u-value").all_inner_texts()
        assert legend[1:3] == [prequential, served]
        assert shown.page.get_by_role("img", name=f"Accuracy: prequential {prequential}").count() == 1
        rejected = metrics and shown.page.locator("#rejected").is_visible()
        assert rejected == (number == 6)
    shown.page.click("#live")
    shown.wait_for("#moment", f"version {model.head.number},")
    assert shown.page.evaluate("location.hash") == ""


def test_a_drag_on_one_chart_zooms_all_of_them_and_the_link_has_it(browser: Any, tmp_path: Path) -> None:
    grown = GrowingModel(tmp_path / "model", classes=["low", "high", "none"])
    for _ in range(12):
        grown.learn(1)
        time.sleep(0.05)  # the versions are as far from each other
    written = [grown.log.manifest(number).time or 0.0 for number in range(13)]
    with shown_page(browser, grown) as shown:
        zoom(shown, written)


def zoom(shown: Shown, written: list[float]) -> None:
    page, plots = shown.page, shown.page.locator("figure:not([data-kind=weights]) .u-over")
    shown.wait_for("#moment", in_berlin(written[-1]))  # the reader's time zone
    x, y, width, height = (plots.first.bounding_box() or {}).values()
    page.mouse.move(x + width * 0.3, y + height / 2)
    page.mouse.down()
    page.mouse.move(x + width * 0.8, y + height / 2, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile("#from="))
    start, end = (float(each) for each in re.findall(r"=([\d.]+)", page.url))
    inside = [each for each in written if start <= each <= end]
    assert 2 < len(inside) < len(written)
    page.wait_for_selector(f"#scrubber[max='{len(inside) - 1}']")
    for plot in plots.all():
        plot.hover(position={"x": 1, "y": 50})
        figure = plot.locator("xpath=ancestor::figure")
        assert figure.locator(".u-value").first.inner_text() == in_berlin(inside[0])
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector(f"#scrubber[max='{len(inside) - 1}']")
    plots.first.dblclick()
    page.wait_for_selector(f"#scrubber[max='{len(written) - 1}']")
    assert "#" not in page.url


def test_of_a_long_log_the_charts_write_the_shown_versions_figures(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its points are the least and the largest values of each interval of time."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    grown = GrowingModel(tmp_path / "model", classes=["low", "high", "none"])
    grown.learn(620, rows=4)  # a page of 390 pixels has 600 points
    with shown_page(browser, grown, viewport={"width": 390, "height": 844}) as shown:
        for number in (620, 301, 77):
            shown.page.evaluate(f"location.hash = 'version={number}'")
            shown.wait_for("#moment", f"version {number},")
            legend = shown.page.locator("figure").first.locator(".u-value").all_inner_texts()
            assert legend[:3] == [in_berlin(grown.log.manifest(number).time or 0), *figures(grown, number)]
            first = max(grown.log.manifest(number).metrics["members"], key=lambda each: each["weight"])
            shown.wait_for("figure", f"{first['member']} leads with {first['weight']:.1%}")


def in_berlin(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, ZoneInfo('Europe/Berlin')):%d/%m/%Y, %H:%M:%S}"


def test_the_keyboard_is_enough(shown: Shown, model: GrowingModel) -> None:
    page, head = shown.page, model.head.number
    page.keyboard.press("Tab")
    seen = []
    for _ in range(8):
        seen.append(page.evaluate("document.activeElement.innerText || document.activeElement.id"))
        page.keyboard.press("Tab")
    assert seen[:7] == ["5 min", "1 h", "1 day", "all", "Live", "scrubber", "Why?"]
    page.focus("#scrubber")
    page.keyboard.press("ArrowLeft")
    shown.wait_for("#moment", f"version {head - 1},")
    page.keyboard.press("Home")
    shown.wait_for("#moment", "version 0,")
    page.focus("#live")
    page.keyboard.press("Enter")
    shown.wait_for("#moment", f"version {head},")
    page.focus("#events tbody tr:last-child")
    page.keyboard.press("Enter")
    shown.wait_for("#moment", "version 6,")


def test_text_from_a_topic_is_never_html(shown: Shown) -> None:
    shown.page.locator("#scrubber").fill("6")
    shown.wait_for("#rejected", "not a number: <b>price</b>")
    assert "<img src=x onerror=alert(1)>" in shown.text("#classes")
    assert list(REJECTED.values())[:3] == shown.text("#examples tbody tr").split("\t")[1:4]
    assert shown.text("#examples code") == REJECTED["value"]
    assert shown.page.locator("table img, table b, table i, table script").count() == 0


def test_the_newest_predictions_are_the_versions_own(shown: Shown, model: GrowingModel) -> None:
    for number in (model.head.number, 6):
        shown.page.locator("#scrubber").fill(str(number))
        shown.wait_for("#moment", f"version {number},")
        shown.wait_for("#predictions tbody tr:first-child th", str(number))
        row = model.log.manifest(number).samples["rows"][-1]
        classes = model.learner.options()["classes"]
        version, label, predicted, probability, *_ = shown.text("#predictions tbody tr").split("\t")
        assert (version, label, probability) == (
            str(number),
            classes[row["label"]],
            f"{row['probability']:.1%}",
        )
        assert predicted.split(" ✗")[0] == classes[row["predicted"]]
        assert ("✗" in predicted) == (row["label"] != row["predicted"])


def test_the_headline_states_that_it_fell_and_over_how_many_rows(browser: Any, tmp_path: Path) -> None:
    falling = GrowingModel(tmp_path / "model", classes=["low", "high", "none"])
    with shown_page(browser, falling, ready="#moment:has-text('version 0')") as shown:
        shown.wait_for("#verdict", "Version 0 has learned no rows yet.")
        falling.learn(1, rows=4)
        shown.wait_for("#verdict", f"accuracy {figures(falling, 1)[0]} over the last 4 rows,")
        falling.learn(40)
        falling.learn(2, changed=True, events=[{"event": "drift", "detected": 1}])
        windows = [falling.log.manifest(n).metrics["prequential"]["window"]["accuracy"] for n in range(3, 44)]
        now = f"{figures(falling, 43)[0]} over the last 100 rows, {figures(falling, 43)[1]} as served"
        best = f"{max(windows):.1%} at its best; drift detected in version 43"
        shown.wait_for("#verdict", f"Accuracy fell: {now}; {best}; the best baseline")


def test_a_directory_without_versions_is_waited_for(browser: Any, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    listening = listen(port=0)
    with serving([directory], listening):
        shown = Shown(browser, address(listening), ready="#state:has-text('connected')")
        shown.wait_for("#verdict", "Waiting for the first version.")
        shown.page.reload()
        shown.wait_for("#state", "connected")
        GrowingModel(directory, classes=["low", "high", "none"]).learn(2)
        shown.wait_for("#moment", "version 2,")
        assert shown.faults == []
        shown.page.close()


def test_a_damaged_version_is_named_and_others_are_shown(browser: Any, tmp_path: Path) -> None:
    damaged = GrowingModel(tmp_path / "model", classes=["low", "high", "none"])
    damaged.learn(4)
    damaged.log.path(2).write_bytes(b"damaged")
    with shown_page(browser, damaged) as shown:
        shown.wait_for("#moment", "version 4,")
        shown.page.evaluate("location.hash = 'version=2'")
        shown.wait_for("#verdict", f"Version 2 cannot be read: {damaged.log.path(2)} is damaged")
        shown.page.evaluate("location.hash = 'version=3'")
        shown.wait_for("#moment", "version 3,")
        damaged.log.path(4).write_bytes(b"damaged")
        shown.page.reload()
        shown.page.evaluate("location.hash = ''")
        shown.wait_for("#verdict", "Version 4 cannot be read:")


def test_the_page_states_that_its_server_has_ended(browser: Any, model: GrowingModel) -> None:
    listening = listen(port=0)
    with serving([model.log.directory], listening):
        shown = Shown(browser, address(listening))
        shown.wait_for("#state", "connected")
    shown.wait_for("#state", "The server has ended: this page no longer changes.")
    shown.page.locator("#scrubber").fill("3")
    time.sleep(0.3)
    again = f"If the directory is kept: streaming-nn page {model.log.directory}"
    assert shown.text("#state") == f"The server has ended: this page no longer changes. {again}"
    shown.page.close()


def test_lag_and_delay_are_shown(browser: Any, tmp_path: Path) -> None:
    behind = GrowingModel(tmp_path / "model", classes=["low", "high", "none"])
    behind.learn(3, lag=123, record_times=[1_767_225_600_000] * 2, written_at="2026-01-01T00:00:02+00:00")
    with shown_page(browser, behind) as shown:
        shown.wait_for(".tile", "123records waiting")
        shown.wait_for(".tile", "2 sfrom a record to its version")
        titles = shown.page.locator("figcaption").all_inner_texts()
        assert {"Lag", "Seconds from a record to its version"} <= {
            title.split("  ")[0].split(" of the oldest")[0].split(" records that")[0] for title in titles
        }


def test_pictures_are_drawn_wrong_ones_first(browser: Any, tmp_path: Path) -> None:
    pictures = PictureModel(tmp_path / "model")
    pictures.learn(2)
    with shown_page(browser, pictures) as shown:
        rows = [row for n in (2, 1) for row in reversed(pictures.log.manifest(n).samples["rows"])]
        wrong = [row for row in rows if row["label"] != row["predicted"]]
        assert wrong, "some of the first predictions are wrong"
        names = shown.page.locator(".pictures canvas").evaluate_all("all => all.map(each => each.ariaLabel)")
        expected = [*wrong, *(row for row in rows if row not in wrong)]
        sides = ["left", "right"]
        assert names == [f"{sides[r['label']]}, predicted {sides[r['predicted']]}" for r in expected]
        assert shown.page.locator(".pictures .wrong").count() == len(wrong)
        pixels = (
            "each => [...each.getContext('2d').getImageData(0, 0, 8, 8).data].filter((_, i) => i % 4 == 3)"
        )
        drawn = shown.page.locator(".pictures canvas").first.evaluate(pixels)
        inputs = wrong[0]["inputs"]
        assert drawn == [int(value / max(inputs) * 255 + 0.5) for value in inputs]


def test_a_regression_has_predictions_beside_true_values_and_residuals(browser: Any, tmp_path: Path) -> None:
    regression = GrowingModel(tmp_path / "model")
    regression.learn(3)
    with shown_page(browser, regression) as shown:
        rows = [row for n in (3, 2, 1) for row in regression.log.manifest(n).samples["rows"]]
        assert shown.page.locator("#residuals svg").count() == 2
        assert shown.page.locator("#residuals svg").first.locator("circle").count() == len(rows) == 48
        worst = max(abs(row["label"] - row["predicted"]) for row in rows)
        assert f"at most {worst:.3g}" in shown.text("#residuals .note")


def test_fields_are_ranked_by_importance_when_their_card_is_open(shown: Shown, model: GrowingModel) -> None:
    number = model.head.number
    expected = importance(model.log.read(number))
    assert shown.page.locator("#importance table tbody tr").count() == 0
    shown.page.click("#importance summary")
    shown.wait_for("#importance .note", f"of the replay buffer of version {number}")
    rows = shown.page.locator("#importance tbody tr").all_inner_texts()
    found = [(row.split("\t")[0], row.split("\t")[1].split(" ±")[0].strip()) for row in rows]
    assert found == [(each.field, f"{each.loss:.3g}") for each in expected.fields]
    assert shown.page.locator("#importance svg polyline").count() == len(rows)


def test_events_are_listed_and_a_click_shows_their_version(shown: Shown) -> None:
    row = shown.text("#events tbody tr:last-child").split("\t")
    assert (row[0], row[1], row[3]) == ("drift", "6", "detected: 1")
    shown.page.click("#events tbody tr:last-child")
    shown.wait_for("#moment", "version 6,")
    assert shown.page.locator("#scrubber").input_value() == "6"


def test_what_is_seen_has_a_name(shown: Shown) -> None:
    """Everything that is used has a name in the accessibility tree, and each chart its newest values."""
    for role in ("button", "slider", "img", "table"):
        for each in shown.page.get_by_role(role).all():
            name = each.get_attribute("aria-label") or each.inner_text()
            assert name.strip() or role == "slider"
    assert shown.page.get_by_role("slider", name="Version").count() == 1
    assert (
        shown.page.get_by_role("img", name=re.compile("Accuracy: prequential .*%, as served .*%")).count()
        == 1
    )


def test_a_click_on_a_chart_explains_what_changed(shown: Shown, model: GrowingModel) -> None:
    expected = explain(model.log, 20)
    assert shown.page.locator("#explanation").is_hidden()
    shown.page.goto(shown.page.url + "#version=20")
    shown.wait_for("#moment", "version 20,")
    shown.page.click("#why")
    shown.wait_for("#explanation h2", f"What changed from version {expected.versions[0]} to 20")
    before, now = (f"{value:.1%}" for value in expected.figures["prequential"])
    assert f"Accuracy {before} → {now}" in shown.text("#explanation")
    moved = [each.name for each in expected.columns if each.change > 0]
    assert shown.page.locator("[aria-label='Columns that moved most'] tbody th").all_inner_texts() == moved
    shown.page.click("#live")
    shown.page.wait_for_selector("#explanation", state="hidden")
    shown.page.locator("figure").first.locator(".u-over").click()
    shown.page.wait_for_selector("#explanation h2")
    assert "why=1" in shown.page.evaluate("location.hash")


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_is_wider_than_the_screen(browser: Any, model: GrowingModel, width: int) -> None:
    listening = listen(port=0)
    with serving([model.log.directory], listening):
        url = f"{address(listening)}#version=6&why=1"
        shown = Shown(browser, url, viewport={"width": width, "height": 700}, color_scheme="dark")
        shown.page.wait_for_selector("#explanation td")
        cut = "all => all.filter((each) => each.scrollWidth > each.clientWidth).length"
        assert shown.page.locator("#explanation .scroll, #events .scroll").evaluate_all(cut) == 0
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        shown.page.close()


SIDEWAYS = """() => [...document.querySelectorAll("body, body *")].filter((each) =>
    each.clientWidth && each.scrollWidth > each.clientWidth + 1 && !each.closest("svg, select, meter, script")
).map((each) => `${each.closest("[id]")?.id}, ${each.tagName}: ${each.scrollWidth} of ${each.clientWidth}`)"""
HEIGHTS = """() => [...document.querySelectorAll("#confusion td span")].map((each) => each.offsetHeight)"""
LONG = {**REJECTED, "field": "a_rather.long_path[3].of/fields", "topic": "labeled-records-of-a-long-name"}
LONG["value"] = '{"' + 60 * "long" + '": "<script>alert(1)</script>"}'


def test_nothing_scrolls_sideways_on_a_phone(browser: Any, tmp_path: Path) -> None:
    grown = {"event": "schema grown", "classes": [f"class{i}" for i in range(12)]}
    models = [
        GrowingModel(
            tmp_path / f"a_model_with_{n}_classes", classes=[f"the_class_of_number_{i}" for i in range(n)]
        )
        for n in (3, 10, 20)
    ]
    models += [GrowingModel(tmp_path / "regression"), PictureModel(tmp_path / "pictures")]
    for model in models:
        model.learn(5, rejected_by_reason={f"not a number: {LONG['field']}": 1})
        model.learn(2, changed=True, rejected=[LONG], events=[grown], lag=12_345_678)
    listening = listen(port=0)
    with serving([model.log.directory for model in models], listening):
        shown = Shown(browser, address(listening), viewport={"width": 390, "height": 844})
        for number, model in enumerate(models):
            shown.page.evaluate(f"location.hash = 'model={number}&version=7&why=1'")
            shown.wait_for("#moment", "version 7,")
            shown.page.wait_for_selector("#explanation td")
            shown.wait_for("#examples", LONG["field"])
            assert shown.page.evaluate(SIDEWAYS) == [], model.log.directory.name
            assert max(shown.page.evaluate(HEIGHTS), default=0) < 30, "a share is one line"
        assert shown.faults == []
        shown.page.close()


def test_a_phone_lists_the_mistakes_of_many_classes(browser: Any, tmp_path: Path) -> None:
    many = GrowingModel(tmp_path / "model", classes=[f"class {i}" for i in range(13)])
    many.learn(3)
    confusion = many.head.manifest.metrics["prequential"]["window"]["confusion"]
    shares = {
        f"class {i} class {j}": count / sum(row)
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if count and i != j
    }
    with shown_page(browser, many) as shown:
        assert shown.page.locator("#confusion tbody tr").count() == 13
        shown.page.set_viewport_size({"width": 390, "height": 844})
        shown.wait_for("#confusion .note", "What is predicted instead most often")
        rows = shown.page.locator("#confusion tbody tr").all_inner_texts()
        found = {" ".join(row.split("\t")[:2]): row.split("\t")[2].strip() for row in rows}
        assert found == {names: f"{share:.1%}" for names, share in shares.items()}
        assert [*found.values()] == [f"{share:.1%}" for share in sorted(shares.values(), reverse=True)]


@pytest.fixture
def opened(browser: Any, model: GrowingModel, tmp_path: Path) -> Iterator[Shown]:
    file = tmp_path / "report.html"
    assert run(["report", str(model.log.directory), "-o", str(file)]) == 0
    assert file.stat().st_size <= 1_000_000
    page = Shown(browser, file.as_uri())
    yield page
    assert page.faults == []
    page.page.close()


def test_a_report_opens_without_a_server_and_shows_earlier_versions(
    opened: Shown, model: GrowingModel
) -> None:
    head = model.head.number
    for number in (head, 3, 6):
        opened.page.locator("#scrubber").fill(str(number))
        opened.wait_for("#moment", f"version {number},")
        prequential, served = figures(model, number)
        opened.wait_for(".tile", f"{prequential}accuracy, prequential")
        opened.wait_for(".tile", f"{served}as served")
    opened.wait_for("#rejected", "not a number: <b>price</b>")
    assert opened.page.locator("table img, table b").count() == 0
    opened.page.click("#live")
    opened.wait_for("#moment", f"version {head},")


def test_several_models_are_compared_over_their_rows(
    browser: Any, model: GrowingModel, tmp_path: Path
) -> None:
    other = GrowingModel(tmp_path / "<b>other", seed=1, classes=["low", "high", "none"])
    other.learn(4, rows=30)
    listening = listen(port=0)
    with serving([model.log.directory, other.log.directory], listening):
        shown = Shown(browser, address(listening))
        shown.page.click("#compare")
        shown.wait_for("#verdict", "Accuracy of the last window:")
        for each, name in ((model, "model"), (other, "<b>other")):
            assert f"{name} {figures(each, each.head.number)[0]}" in shown.text("#verdict")
            assert name in shown.text(".u-legend")
        assert shown.page.locator("#tiles").is_hidden()
        shown.page.locator("#models").select_option("1")
        shown.page.click("#compare")
        shown.wait_for("#moment", "version 4,")
        assert shown.faults == []
        shown.page.close()
