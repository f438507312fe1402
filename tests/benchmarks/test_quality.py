"""The short form starts, finishes and prints its line; its figures are tested elsewhere."""

import json
from pathlib import Path

import pytest
from running import run

pytestmark = pytest.mark.commit


@pytest.mark.nightly
def test_the_short_form_prints_tables_and_a_line(tmp_path: Path) -> None:
    pytest.importorskip("river")
    done = run("quality", "--short", "--data", str(tmp_path), "--jobs", "2")
    assert done.returncode == 0, done.stderr
    *tables, last = done.stdout.splitlines()
    assert any("best member alone" in line for line in tables)
    line = json.loads(last)
    assert line["benchmark"] == "quality"
    assert line["failed"] == []
    assert list(line["streams"]) == ["sea-short", "friedman-short"]
    sea = line["streams"]["sea-short"]["learners"]
    assert {"ensemble", "mlp", "no-change", "majority class", "river linear", "scikit-learn"} <= set(sea)
    for size in ("8", "32"):
        baselines = (sea["no-change"]["0"]["mean"], sea["majority class"]["0"]["mean"])
        assert sea["ensemble"][size]["mean"] > max(baselines)
        assert list(sea["ensemble"][size]["as_served"]) == ["100", "1000", "10000"]
    led = sea["ensemble"]["8"]["led"]
    assert sum(led.values()) == pytest.approx(1)
    assert any(f"{next(iter(led))} {next(iter(led.values())):.0%}" in line for line in tables)
    assert sea["mlp"]["8"]["led"] == {}


@pytest.mark.nightly
def test_json_prints_only_the_line(tmp_path: Path) -> None:
    options = (
        "--streams",
        "friedman-short",
        "--mini-batches",
        "32",
        "--seeds",
        "2",
        "--no-peers",
        "--no-members",
    )
    picture = tmp_path / "picture.png"
    done = run("quality", *options, "--json", "--data", str(tmp_path), "--picture", str(picture))
    assert done.returncode == 0, done.stderr
    learners = json.loads(done.stdout)["streams"]["friedman-short"]["learners"]
    assert list(learners) == ["ensemble", "mlp", "no-change", "majority class"]
    assert learners["ensemble"]["32"]["seeds"] == 2
    assert learners["ensemble"]["32"]["spread"] > 0
    assert picture.stat().st_size > 1000


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--streams", "elec3"], "streams must be among sea-drift"),
        (["--mini-batches", "0"], "mini-batches must be comma-separated integers >= 1; got '0'"),
    ],
)
def test_an_invalid_option_is_an_error_of_one_line(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = run("quality", *arguments, "--data", str(tmp_path))
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
