from pathlib import Path

import pytest
from running import short_line

from benchmarks import datasets, ours, reactions
from benchmarks.marks import marks
from streaming_nn.nn import drift, ensemble


@pytest.mark.slow
def test_the_short_form_prints_its_line_alone(tmp_path: Path) -> None:
    line = short_line("reactions", "--jobs", "1", "--data", str(tmp_path))
    assert (line["benchmark"], line["seeds"], line["mini_batch"]) == ("reactions", 1, 1)
    assert list(line["streams"]) == ["sea-short"]
    assert list(line["streams"]["sea-short"]) == list(ensemble.REACTIONS)
    assert all(each["accuracy"] > 0.75 for each in line["streams"]["sea-short"].values())


def test_who_only_reports_learns_as_if_nothing_was_found(tmp_path: Path) -> None:
    stream = datasets.dataset("sea-short", tmp_path)
    expected = marks(stream.y, ours.run(ours.learner_of(stream, ours.DEFAULT, 8, 0), stream).prequential, 2)
    figures = reactions.score(tmp_path, "sea-short", "report", 0, 8, 96)
    assert figures["accuracy"] == expected.mean()
    assert figures["after"] == [expected[500:].mean()]


@pytest.mark.parametrize("how", ["raise", "restart"])  # "fresh" changes a member that has next to no say
def test_the_others_do_something_about_what_was_found(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(drift.WATCHING, "page_hinkley", drift.PageHinkley(threshold=0.2))
    told, done = (reactions.score(tmp_path, "sea-short", each, 0, 8, 96) for each in ("report", how))
    assert told["found"] > 0
    assert done["accuracy"] != told["accuracy"]


def test_means_are_those_of_each_drift() -> None:
    runs = [
        {"accuracy": 0.8, "after": [0.5, 0.7], "recovery": [10, 300], "found": 3},
        {"accuracy": 0.9, "after": [0.6, 0.7], "recovery": [30, 100], "found": 4},
    ]
    assert reactions.means(runs) == {
        "accuracy": 0.85,
        "spread": 0.0707,
        "after": [0.55, 0.7],
        "recovery": [20, 200],
        "found": 3.5,
    }


def test_streams_without_known_drifts_are_left_out(tmp_path: Path) -> None:
    for name in ("elec2", "sea50k"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stream.npz").touch()
    assert reactions.drifting(tmp_path) == ["sea50k", *datasets.DRIFTING]
