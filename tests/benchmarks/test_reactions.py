from pathlib import Path

import pytest
from running import short_line

from benchmarks import datasets, learners, reactions
from benchmarks.scores import score_rows
from streaming_nn.nn import drift, ensemble

pytestmark = pytest.mark.commit


@pytest.mark.nightly
def test_the_short_form_prints_only_its_line(tmp_path: Path) -> None:
    line = short_line("reactions", "--jobs", "1", "--data", str(tmp_path))
    assert (line["benchmark"], line["seeds"], line["mini_batch"]) == ("reactions", 1, 1)
    assert list(line["streams"]) == ["sea-short"]
    assert list(line["streams"]["sea-short"]) == list(ensemble.REACTIONS)
    assert all(each["accuracy"] > 0.75 for each in line["streams"]["sea-short"].values())


def test_report_does_not_change_what_is_learned(tmp_path: Path) -> None:
    stream = datasets.dataset("sea-short", tmp_path)
    learner = learners.learner_for(stream, learners.DEFAULT, 8, 0)
    expected = score_rows(stream.y, learners.run(learner, stream).prequential, 2)
    figures = reactions.score(tmp_path, "sea-short", "report", 0, 8, 96)
    assert figures["accuracy"] == expected.mean()
    assert figures["after"] == [expected[500:].mean()]


@pytest.mark.parametrize("how", ["raise", "restart"])  # "fresh" changes a member whose weight is almost 0
def test_a_reaction_changes_what_is_learned(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        drift.DEFAULT_DETECTORS, "page_hinkley", drift.PageHinkley(min_instances=10, threshold=0.1)
    )
    reported, reacted = (reactions.score(tmp_path, "sea-short", each, 0, 8, 96) for each in ("report", how))
    assert reported["detected"] > 0
    assert reacted != reported


def test_means_are_those_of_each_drift() -> None:
    runs = [
        {"accuracy": 0.8, "after": [0.5, 0.7], "recovery": [10, 300], "detected": 3},
        {"accuracy": 0.9, "after": [0.6, 0.7], "recovery": [30, 100], "detected": 4},
    ]
    assert reactions.means(runs) == {
        "accuracy": 0.85,
        "spread": 0.0707,
        "after": [0.55, 0.7],
        "recovery": [20, 200],
        "detected": 3.5,
    }


def test_streams_without_known_drifts_are_omitted(tmp_path: Path) -> None:
    for name in ("elec2", "sea50k"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stream.npz").touch()
    assert reactions.drifting(tmp_path) == ["sea50k", *datasets.DRIFTING]
