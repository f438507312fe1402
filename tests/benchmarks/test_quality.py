"""The short form starts, finishes and prints its line; the figures in it are counted elsewhere."""

import json
from pathlib import Path

import pytest
from running import run


@pytest.mark.slow
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
    sea = line["streams"]["sea-short"]["who"]
    assert {"ensemble", "mlp", "last", "majority", "river linear", "scikit-learn"} <= set(sea)
    for size in ("8", "32"):
        assert sea["ensemble"][size]["mean"] > max(sea["last"]["0"]["mean"], sea["majority"]["0"]["mean"])
        assert list(sea["ensemble"][size]["served"]) == ["100", "1000", "10000"]


def test_json_is_all_that_is_printed_where_it_is_asked_for(tmp_path: Path) -> None:
    asked = (
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
    done = run("quality", *asked, "--json", "--data", str(tmp_path), "--picture", str(picture))
    assert done.returncode == 0, done.stderr
    who = json.loads(done.stdout)["streams"]["friedman-short"]["who"]
    assert list(who) == ["ensemble", "mlp", "last", "majority"]
    assert who["ensemble"]["32"]["seeds"] == 2
    assert who["ensemble"]["32"]["spread"] > 0
    assert picture.stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--streams", "elec3"], "streams must be of sea-drift"),
        (["--mini-batches", "0"], "mini-batches must be whole numbers >= 1 with commas between; got '0'"),
    ],
)
def test_what_can_t_be_measured_is_told_in_a_line(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = run("quality", *arguments, "--data", str(tmp_path))
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
