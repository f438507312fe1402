"""Generated streams follow their papers' formulas, seeded, with the drift at its row."""

import inspect
from itertools import islice

import numpy as np
import pytest

from producers import generators, known

pytestmark = pytest.mark.commit


def rows(stream, count=4096):
    blocks = list(islice(stream.blocks, -(-count // 256)))
    return np.concatenate([b.x for b in blocks])[:count], np.concatenate([b.y for b in blocks])[:count]


@pytest.mark.parametrize("name", ["sea", "sine", "hyperplane", "agrawal", "led", "random_rbf", "friedman"])
def test_streams_are_reproducible_and_change_at_the_drift(name):
    make = known.GENERATORS[name]
    stream = make(5, (1000,))
    x, y = rows(stream)
    again_x, again_y = rows(make(5, (1000,)))
    np.testing.assert_array_equal(x, again_x)
    np.testing.assert_array_equal(y, again_y)
    assert x.shape == (4096, stream.inputs)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    if stream.classes is None:
        assert y.dtype == np.float32
    else:
        assert y.dtype == np.int32
        assert set(y) == set(range(len(stream.classes)))
    calm_x, calm_y = rows(make(5))
    np.testing.assert_array_equal(x[:1000], calm_x[:1000])
    np.testing.assert_array_equal(y[:1000], calm_y[:1000])
    assert not (np.array_equal(x[1000:], calm_x[1000:]) and np.array_equal(y[1000:], calm_y[1000:]))


def test_sea_compares_the_sum_with_theta():
    x, y = rows(generators.sea(1, (1000, 2000, 3000), noise=0))
    theta = np.repeat([8, 9, 7, 9.5], [1000, 1000, 1000, 1096])
    np.testing.assert_array_equal(y, x[:, 0] + x[:, 1] <= theta.astype(np.float32))
    _, noisy = rows(generators.sea(1, (1000, 2000, 3000), noise=0.1))
    assert 0.08 < np.mean(y != noisy) < 0.12


def test_sine_is_reversed():
    x, y = rows(generators.sine(1, (2000,)))
    below = x[:, 1] < np.sin(x[:, 0])
    np.testing.assert_array_equal(y[:2000], below[:2000])
    np.testing.assert_array_equal(y[2000:], ~below[2000:])


def test_a_hyperplane_that_does_not_move_separates_the_classes():
    x, y = rows(generators.hyperplane(1, noise=0, magnitude=0.0), 1000)
    from sklearn.linear_model import LogisticRegression

    assert LogisticRegression(C=1e4, max_iter=1000).fit(x, y).score(x, y) > 0.99


def test_led_segments_show_the_digit():
    x, y = rows(generators.led(1, (2000,), noise=0))
    np.testing.assert_array_equal(x[:2000, :7], generators.LED_SEGMENTS[y[:2000]])
    np.testing.assert_array_equal(np.roll(x[2000:], -2, axis=1)[:, :7], generators.LED_SEGMENTS[y[2000:]])


def test_random_rbf_has_the_class_of_the_centroid():
    centroid = generators._centroids(np.random.default_rng([1, 2, 0]), 5, 10, 3)
    x, y = rows(generators.random_rbf(1, classes=3, centroids=5))
    distance = np.linalg.norm(x[:, None] - centroid.centre, axis=2)
    surely = distance.min(axis=1) < 0.01  # of this centroid and no other
    assert surely.sum() > 50
    np.testing.assert_array_equal(y[surely], centroid.label[distance.argmin(axis=1)[surely]])
    share = np.bincount(y, minlength=3) / len(y)
    weight = np.diff(centroid.until, prepend=0)
    np.testing.assert_allclose(share, np.bincount(centroid.label, weight, 3), atol=0.04)


def test_random_rbf_moves_between_the_walls():
    still, moving = (rows(generators.random_rbf(1, speed=speed))[0] for speed in (0.0, 0.001))
    moved = np.linalg.norm(moving - still, axis=1)
    assert moved[0] < 1e-6
    np.testing.assert_allclose(moved[1:100], 0.001 * np.arange(1, 100), rtol=0.5)
    assert np.abs(moving - still).max() <= 1  # a coordinate of a centroid stays in [0, 1]


def test_friedman_without_noise_is_the_formula():
    x, y = rows(generators.friedman(1, noise=0.0))
    a, b, c, d, e = x[:, :5].T.astype(float)
    expected = 10 * np.sin(np.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e
    np.testing.assert_allclose(y, expected, atol=1e-4)


def group_a(function, salary, commission, age, elevel, car, zipcode, hvalue, hyears, loan):
    """The paper's functions, row by row."""
    if function == 1:
        return age < 40 or age >= 60
    if function == 7:
        return 2 * (salary + commission) / 3 - loan / 5 - 20_000 > 0
    if function == 10:
        equity = 0.1 * hvalue * (hyears - 20) if hyears >= 20 else 0
        return 2 * (salary + commission) / 3 - 5_000 * elevel + equity / 5 - 10_000 > 0
    levels = {4: ((0, 1), (1, 2, 3), (2, 3, 4))}
    young, middle = age < 40, 40 <= age < 60
    if function == 2:
        low, high = (50, 100) if young else (75, 125) if middle else (25, 75)
        return low * 1000 <= salary <= high * 1000
    if function == 3:
        return elevel in ((0, 1) if young else (1, 2, 3) if middle else (2, 3, 4))
    if function == 4:
        i = 0 if young else 1 if middle else 2
        ranges = (((25, 75), (50, 100)), ((50, 100), (75, 125)), ((50, 100), (25, 75)))[i]
        low, high = ranges[0] if elevel in levels[4][i] else ranges[1]
        return low * 1000 <= salary <= high * 1000
    if function == 5:
        i = 0 if young else 1 if middle else 2
        low, high = ((50, 100), (75, 125), (25, 75))[i]
        inside, other = (((100, 300), (200, 400)), ((200, 400), (300, 500)), ((300, 500), (100, 300)))[i]
        low, high = inside if low * 1000 <= salary <= high * 1000 else other
        return low * 1000 <= loan <= high * 1000
    if function == 6:
        low, high = (50, 100) if young else (75, 125) if middle else (25, 75)
        return low * 1000 <= salary + commission <= high * 1000
    if function == 8:
        return 2 * (salary + commission) / 3 - 5_000 * elevel - 20_000 > 0
    return 2 * (salary + commission) / 3 - 5_000 * elevel - loan / 5 - 10_000 > 0


@pytest.mark.parametrize("function", range(1, 11))
def test_agrawal_agrees_with_the_paper_row_by_row(function):
    x, y = rows(generators.agrawal(1, function=function, noise=0), 1024)
    agree = np.mean([group_a(function, *map(float, row)) == label for row, label in zip(x, y, strict=True)])
    assert agree > 0.998  # float32 features at a boundary


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("sea", {"noise": "2"}, "noise must be 0 to 1; got 2.0"),
        ("sea", {"nois": "0"}, "the options of sea are: noise; got 'nois'"),
        ("digits", {"noise": "0"}, "the options of digits are: none; got 'noise'"),
        ("hyperplane", {"inputs": "0"}, "inputs must be an integer, 1 or more; got 0"),
        ("hyperplane", {"inputs": "x"}, "inputs must be a number; got 'x'"),
        ("agrawal", {"function": "11"}, "function must be 1 to 10; got 11"),
        ("random_rbf", {"classes": "60"}, "classes must be 2 to the 50 centroids; got 60"),
        ("random_rbf", {"speed": "-1"}, "speed must be 0 or more; got -1.0"),
        ("friedman", {"noise": "-1"}, "noise must be 0 or more; got -1.0"),
        ("seaa", {}, f"stream must be one of {', '.join(known.STREAMS)}; got 'seaa'"),
    ],
)
def test_an_invalid_option_raises_one_line(name, options, error):
    with pytest.raises(ValueError) as raised:
        known.generator(name, 0, (), options)
    assert str(raised.value) == error


def test_every_generator_has_a_seed_and_a_drift():
    for make in known.GENERATORS.values():
        assert list(inspect.signature(make).parameters)[:2] == ["seed", "drift_at"]
