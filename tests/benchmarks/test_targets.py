import pytest

from benchmarks import targets
from benchmarks.targets import best_member, check

pytestmark = pytest.mark.commit


def test_a_long_stream_is_compared_with_its_best_member() -> None:
    found = check("other", 6_000, False, {1: 0.90, 32: 0.80}, {1: 0.906, 32: 0.81}, {})
    assert [(t.what, t.met) for t in found] == [
        ("beside its best member at 1", False),
        ("beside its best member at 32", True),
    ]
    assert [t.limit for t in found] == pytest.approx([0.901, 0.80])
    assert check("other", 5_000, False, {1: 0.90}, {1: 0.99}, {}) == []


@pytest.mark.parametrize(("value", "met"), [(0.910, True), (0.9099, False)])
def test_an_accuracy_is_checked_at_the_smallest_mini_batch(value: float, met: bool) -> None:
    found = {t.what: t for t in check("elec2", 45_312, False, {8: value, 32: 0.5}, {}, {})}
    assert found["accuracy at mini-batch 8"].met is met
    assert found["above the forest as published, at 8"].met


@pytest.mark.parametrize(("value", "met"), [(1.10, False), (1.0999, True)])
def test_an_error_must_stay_below(value: float, met: bool) -> None:
    (target,) = check("fried", 40_768, True, {1: value}, {1: 0.1}, {})
    assert (target.what, target.met) == ("MAE at mini-batch 1", met)


def test_a_forest_of_the_same_run_sets_targets_for_accuracy_and_speed() -> None:
    forest = {"ours": 0.9, "forest": 0.8, "our_rate": 10.0, "forest_rate": 20.0}
    found = check("other", 100, False, {1: 0.9}, {}, forest)
    assert [t.met for t in found] == [True, False]


def test_the_best_member_has_the_best_mean_not_the_best_seed() -> None:
    runs = [("a", 0.9), ("a", 0.5), ("b", 0.8), ("b", 0.8)]
    results = [{"learner": name, "score": score, "mini_batch": 8} for name, score in runs]
    assert best_member(results, regression=False) == {8: ("b", 0.8)}
    assert best_member(results, regression=True) == {8: ("a", 0.7)}


def test_beside_trees_the_score_is_on_their_rows_and_the_rate_is_three_times_theirs() -> None:
    ours = {"head": 0.90, "rows_per_second": 3_000.0}
    few, many = ({"head": 0.91, "rows_per_second": 1_000.0, "rows": rows} for rows in (1_000, 20_000))
    found = targets.beside_trees("s", False, ours, {"a": few, "b": many})
    assert [target.met for target in found] == [False, True, False, True]
    assert found[0].limit == pytest.approx(0.91 - (0.91 * 0.09 / 1_000) ** 0.5)
    worse = targets.beside_trees("s", True, {"head": 2.0, "rows_per_second": 2_999.0}, {"a": few})
    assert [target.met for target in worse] == [False, False]
