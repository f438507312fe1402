import json
from decimal import Decimal
from typing import Any

import drift_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_nn.nn import drift, state_dict
from streaming_nn.nn.drift import ADWIN, DETECTORS, NoDrift, PageHinkley

pytestmark = pytest.mark.commit

MODES = st.sampled_from(drift.MODES)
PAGE_HINKLEYS = st.builds(
    PageHinkley,
    min_instances=st.integers(1, 60),
    delta=st.sampled_from([0.0, 0.005, 0.1]),
    threshold=st.sampled_from([0.5, 3.0, 50.0]),
    alpha=st.sampled_from([1.0, 0.9999, 0.99]),
    mode=MODES,
)
RIVERS_ADWIN: dict[str, Any] = {
    "delta": st.sampled_from([0.002, 0.05, 0.5]),
    "clock": st.integers(1, 40),
    "max_buckets": st.integers(2, 8),  # River panics at 1, where a level may be empty
    "min_window_length": st.integers(1, 12),
    "grace_period": st.integers(0, 40),
}
ADWINS = st.builds(ADWIN, **RIVERS_ADWIN | {"max_buckets": st.integers(1, 8)}, mode=MODES)
CUTS = st.lists(st.integers(0, 3000), max_size=6)


@st.composite
def losses(draw: Any) -> np.ndarray:
    """Draw a series of 0 to 3000 values whose mean and spread shift up to five times."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["gamma", "normal", "binary", "constant"]))
    lengths = draw(st.lists(st.integers(0, 500), max_size=6))
    parts = []
    for level, n in zip(rng.uniform(0, 2, 6), lengths, strict=False):
        if kind == "gamma":
            parts.append(rng.gamma(2, level / 2 + 1e-3, n))
        elif kind == "normal":
            parts.append(rng.normal(level, rng.choice([0.01, 0.3]), n))
        else:
            parts.append(np.full(n, level) if kind == "constant" else (rng.uniform(size=n) < level / 2) * 1.0)
    return np.concatenate([np.zeros(0), *parts])


def run(detector: Any, values: np.ndarray, cuts: tuple[int, ...] | list[int] = ()) -> tuple[Any, list[int]]:
    """Read values cut into parts; give the state and all detections."""
    state, found, start = detector.init(), [], 0
    for part in np.split(values, sorted(cuts)):
        state, at = detector.update(state, part)
        assert at.dtype == np.int64
        found += [start + i for i in at.tolist()]
        start += len(part)
    return state, found


def bits(state: Any) -> dict[str, Any]:
    return {
        name: (part.dtype, part.shape, part.tobytes()) for name, part in state_dict.flatten(state).items()
    }


def rivers(name: str, values: np.ndarray, **options: Any) -> tuple[Any, list[int]]:
    """River's detector after these values, and its detections."""
    river = pytest.importorskip("river.drift", reason="River is the oracle")
    detector, found = getattr(river, name)(**options), []
    for i, x in enumerate(values.tolist()):
        detector.update(x)
        if detector.drift_detected:
            found.append(i)
    return detector, found


@settings(max_examples=60, deadline=None)
@given(values=losses(), detector=PAGE_HINKLEYS)
def test_page_hinkley_decides_as_river_does(values: np.ndarray, detector: PageHinkley) -> None:
    options = drift.options(detector)
    del options["detector"]
    assert run(detector, values)[1] == rivers("PageHinkley", values, **options)[1]


@settings(max_examples=60, deadline=None)
@given(values=losses(), options=st.fixed_dictionaries(RIVERS_ADWIN))
def test_adwin_decides_as_river_does_and_keeps_the_same_window(
    values: np.ndarray, options: dict[str, Any]
) -> None:
    state, found = run(ADWIN(**options), values)
    river, expected = rivers("ADWIN", values, **options)
    assert found == expected
    assert state.width == river.width
    assert state.total == pytest.approx(river.total, rel=1e-9, abs=1e-9)
    assert state.variance == pytest.approx(river.variance, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("name", "ours"), [("PageHinkley", PageHinkley), ("ADWIN", ADWIN)])
@pytest.mark.parametrize("seed", range(3))
def test_rivers_defaults_are_ours(name: str, ours: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.gamma(2, 0.2, 20_000) + np.repeat(rng.uniform(0, 1, 10), 2000)
    found = run(ours(), values)[1]
    assert len(found) >= 5
    assert found == rivers(name, values)[1]


def spoil(values: np.ndarray) -> np.ndarray:
    """Return the values with some that are huge or not finite."""
    spoilt = values.copy()
    spoilt[::97], spoilt[5::101], spoilt[7::211] = np.nan, np.inf, 1e200
    return spoilt


@settings(max_examples=30, deadline=None)
@given(values=losses(), detector=PAGE_HINKLEYS, wild=st.booleans())
def test_page_hinkley_has_the_bits_of_the_reference(
    values: np.ndarray, detector: PageHinkley, wild: bool
) -> None:
    values = spoil(values) if wild else values
    state, found = run(detector, values)
    figures, expected = reference.page_hinkley(detector, values.tolist())
    assert found == expected
    assert np.array([float(each) for each in state]).tobytes() == np.array(figures).tobytes()


@settings(max_examples=30, deadline=None)
@given(values=losses(), detector=ADWINS, wild=st.booleans())
def test_adwin_has_the_bits_of_the_reference(values: np.ndarray, detector: ADWIN, wild: bool) -> None:
    values = spoil(values) if wild else values
    state, found = run(detector, values)
    window, expected = reference.adwin(detector, values.tolist())
    assert found == expected
    ours = [float(each) for each in state[:5]]
    theirs = [float(x) for x in (window.width, window.total, window.squares, window.since, window.fired)]
    assert np.array(ours).tobytes() == np.array(theirs).tobytes()
    for level, count in enumerate(state.buckets):
        buckets = [each[1:] for each in window.buckets if each[0] == 2**level]
        assert count == len(buckets)
        kept = np.stack([state.totals[level, :count], state.variances[level, :count]], axis=-1)
        assert kept.tobytes() == np.array(buckets, np.float64).tobytes()


@pytest.mark.parametrize("rows", [1, 30, 500, 4096, 10**6])
def test_raised_rates_decay_by_half_in_500_rows(rows: int) -> None:
    left = drift.decay_boost(np.array(0.75), rows)
    exact = Decimal("0.75") * Decimal("0.5") ** (Decimal(rows) / 500)
    assert float(left) == pytest.approx(float(exact) if exact > 1e-3 else 0.0, rel=1e-14, abs=0)


def test_page_hinkley_follows_the_formula() -> None:
    """Without fading, up to its first detection: m_T - M_T > threshold, all values at once."""
    rng = np.random.default_rng(0)
    x = rng.normal(0.5, 0.1, 600) + np.repeat([0, 0.4], 300)
    n = np.arange(1, len(x) + 1)
    m = np.cumsum(x - np.cumsum(x) / n - 0.01)
    over = m - np.minimum.accumulate(m) > 5
    first = int(np.flatnonzero(over & (n >= 30))[0])
    assert 300 < first < 330
    assert run(PageHinkley(delta=0.01, threshold=5, alpha=1, mode="up"), x)[1][0] == first


def cut_by_hand(values: np.ndarray, delta: float, least: int) -> tuple[np.ndarray, bool]:
    """ADWIN of the paper's figure 1, on single values: drop the oldest while means differ at a cut."""
    window, changed = values, False
    while True:
        n = len(window)
        n0 = np.arange(least, n - least + 1)
        if not len(n0):
            return window, changed
        n1, u0 = n - n0, np.cumsum(window)[n0 - 1]
        m = 1 / (1 / (n0 - least + 1) + 1 / (n1 - least + 1))
        log_delta = np.log(2 * np.log(n) / delta)
        epsilon = np.sqrt(2 / m * window.var() * log_delta) + 2 / (3 * m) * log_delta
        if not (np.abs(u0 / n0 - (window.sum() - u0) / n1) > epsilon).any():
            return window, changed
        window, changed = window[1:], True


@settings(max_examples=40, deadline=None)
@given(values=losses(), least=st.integers(1, 12), delta=st.sampled_from([0.002, 0.2]))
def test_adwin_with_a_bucket_a_value_follows_the_paper(values: np.ndarray, least: int, delta: float) -> None:
    values = values[:400]
    detector = ADWIN(delta, clock=1 << 30, max_buckets=400, min_window_length=least, grace_period=0)
    if len(values):
        detector = ADWIN(delta, len(values), 400, least, 0)
    state, found = run(detector, values)
    window, changed = cut_by_hand(values, delta, least)
    assert (found, state.width) == ([len(values) - 1] if changed else [], len(window))
    assert state.total == pytest.approx(window.sum(), abs=1e-9)
    assert state.variance == pytest.approx(window.var() * len(window) if len(window) else 0, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(values=losses(), detector=ADWINS)
def test_adwins_window_is_the_last_values(values: np.ndarray, detector: ADWIN) -> None:
    state, _ = run(detector, values)
    window = values[len(values) - int(state.width) :]
    assert state.total == pytest.approx(window.sum(), abs=1e-8)
    assert state.variance == pytest.approx(window.var() * len(window) if len(window) else 0, abs=1e-8)
    sizes = 2 ** np.arange(drift.LEVELS)
    assert state.width == state.buckets @ sizes
    oldest_first = [
        (sizes[i], state.totals[i, k])
        for i in range(drift.LEVELS - 1, -1, -1)
        for k in range(state.buckets[i])
    ]
    start = 0
    for size, total in oldest_first:
        assert total == pytest.approx(window[start : start + size].sum(), abs=1e-8)
        start += size


@settings(max_examples=60, deadline=None)
@given(values=losses(), detector=st.one_of(PAGE_HINKLEYS, ADWINS), cuts=CUTS)
def test_any_cut_gives_the_same_bits_and_nothing_that_came_in_changes(
    values: np.ndarray, detector: Any, cuts: list[int]
) -> None:
    whole, found = run(detector, values)
    parts, again = run(detector, values, [min(cut, len(values)) for cut in cuts])
    assert (bits(parts), again) == (bits(whole), found)
    assert {name: part[:2] for name, part in bits(whole).items()} == {
        name: part[:2] for name, part in bits(detector.init()).items()
    }
    before, series = bits(whole), values.copy()
    detector.update(whole, values)
    assert bits(whole) == before
    assert values.tobytes() == series.tobytes()


@settings(max_examples=60, deadline=None)
@given(values=losses(), detector=st.one_of(PAGE_HINKLEYS, ADWINS), seed=st.integers(0, 1000))
def test_values_that_are_not_finite_are_left_out(values: np.ndarray, detector: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    holes = np.sort(rng.integers(0, len(values) + 1, 20))
    with_holes = np.insert(values, holes, rng.choice([np.nan, np.inf, -np.inf], 20))
    state, found = run(detector, values)
    again, positions = run(detector, with_holes)
    assert bits(again) == bits(state)
    assert np.flatnonzero(np.isfinite(with_holes))[found].tolist() == positions


@pytest.mark.parametrize("detector", [PageHinkley(), ADWIN()])
def test_a_version_restores_the_state(detector: Any) -> None:
    values = np.random.default_rng(0).gamma(2, 0.2, 3000) + np.repeat([0, 1, 0.2], 1000)
    state, _ = detector.update(detector.init(), values[:1500])
    back = state_dict.unflatten(detector.init(), state_dict.flatten(state))
    assert type(back) is type(state)
    (one, at), (other, there) = (detector.update(each, values[1500:]) for each in (state, back))
    assert bits(one) == bits(other)
    assert at.tolist() == there.tolist()


@pytest.mark.parametrize("detector", [PageHinkley(), ADWIN()])
def test_it_starts_from_scratch_after_a_detection(detector: Any) -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 4000) + np.repeat([0, 1], 2000)
    state, found = run(detector, values)
    assert found
    fresh, _ = run(detector, values[found[-1] + 1 :])
    assert bits(state) == bits(fresh)


@pytest.mark.parametrize("detector", [PageHinkley(), ADWIN()])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e9])
def test_a_constant_never_drifts(detector: Any, value: float) -> None:
    assert run(detector, np.full(5000, value))[1] == []


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=200),
    detector=st.one_of(PAGE_HINKLEYS, ADWINS),
)
def test_no_value_poisons_the_state(values: list[float], detector: Any) -> None:
    state, _ = run(detector, np.array(values))
    assert all(np.isfinite(part).all() for part in state_dict.flatten(state).values())


@pytest.mark.parametrize("mode", drift.MODES)
@pytest.mark.parametrize(
    "make", [lambda mode: PageHinkley(threshold=10, mode=mode), lambda mode: ADWIN(mode=mode)]
)
def test_mode_chooses_the_direction(make: Any, mode: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 0.1, 3000) + np.repeat([0.5, 0, 0.5], 1000)  # falls at 1000, rises at 2000
    found = run(make(mode), values)[1]
    falls, rises = sum(1000 <= i < 2000 for i in found), sum(i >= 2000 for i in found)
    assert (falls > 0, rises > 0) == (mode != "up", mode != "down")
    assert len(found) == falls + rises


def test_a_fall_that_is_not_reported_still_cuts_the_window() -> None:
    values = np.random.default_rng(0).normal(1, 0.1, 2000) - np.repeat([0, 0.5], 1000)
    state, found = run(ADWIN(mode="up"), values)
    assert found == []
    assert 1000 <= state.width <= 1100  # up to a bucket of before is left
    assert state.total / state.width == pytest.approx(0.5, abs=0.05)


def test_a_large_value_that_was_dropped_leaves_no_trace() -> None:
    """Its rounding would hide every later change: 1e12 squared has steps of 1e8."""
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 0.1, 4000) + np.repeat([0, 0.5], 2000)
    values[:100] += 1e12
    state, found = run(ADWIN(mode="up"), values)
    assert len(found) == 1
    assert 2000 <= found[0] < 2064
    assert state.variance / state.width == pytest.approx(0.01, rel=0.2)


def test_no_drift_reads_nothing() -> None:
    state, found = run(NoDrift(), np.array([0.0] * 100 + [1e9] * 100))
    assert found == []
    assert state_dict.flatten(state) == {}


@pytest.mark.parametrize(
    "detector", [NoDrift(), PageHinkley(threshold=3), ADWIN(0.01, clock=4, mode="up")], ids=repr
)
def test_options_rebuild_the_detector(detector: Any) -> None:
    options = json.loads(json.dumps(drift.options(detector)))
    assert drift.detector_from(options) == detector


def test_every_detector_has_a_name() -> None:
    assert {name: drift.detector_from({"detector": name}) for name in DETECTORS} == {
        "none": NoDrift(),
        "page_hinkley": PageHinkley(),
        "adwin": ADWIN(),
    }
    assert drift.detector_from({}) == NoDrift()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detector": "adwim"}, r"^detector must be one of 'none', 'page_hinkley', 'adwin'; got 'adwim'$"),
        ({"delta": 0.1}, r"^unknown option of detector 'none': 'delta'; there are none$"),
        (
            {"detector": "adwin", "clok": 4},
            r"^unknown option of detector 'adwin': 'clok'; did you mean 'clock'\?$",
        ),
        ({"detector": "adwin", "delta": 0}, r"^delta must be a number in \(0, 1\); got 0$"),
        ({"detector": "adwin", "delta": 1.0}, r"^delta must be a number in \(0, 1\); got 1.0$"),
        ({"detector": "adwin", "clock": 0}, r"^clock must be an integer >= 1; got 0$"),
        ({"detector": "adwin", "max_buckets": 0}, r"^max_buckets must be an integer >= 1; got 0$"),
        ({"detector": "adwin", "min_window_length": 0}, r"^min_window_length must be .* >= 1; got 0$"),
        ({"detector": "adwin", "grace_period": -1}, r"^grace_period must be .* >= 0; got -1$"),
        ({"detector": "adwin", "mode": "on"}, r"^mode must be one of 'up', 'down', 'both'; got 'on'$"),
        ({"detector": "page_hinkley", "min_instances": 0}, r"^min_instances must be .* >= 1; got 0$"),
        ({"detector": "page_hinkley", "delta": -1}, r"^delta must be a number in \[0, inf\); got -1$"),
        ({"detector": "page_hinkley", "threshold": 0}, r"^threshold must be a number in \(0, inf\); got 0$"),
        ({"detector": "page_hinkley", "alpha": 1.5}, r"^alpha must be a number in \(0, 1\]; got 1.5$"),
        ({"detector": "page_hinkley", "mode": None}, r"^mode must be one of 'up', 'down', 'both'; got None$"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drift.detector_from(options)
