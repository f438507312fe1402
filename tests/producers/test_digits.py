"""Endless digits: reproducible, real images, and a drift that changes the labels."""

from itertools import islice

import numpy as np
import pytest

from producers.digits import digits

pytestmark = pytest.mark.commit


def rows(stream, count):
    blocks = list(islice(stream.blocks, -(-count // 256)))
    return np.concatenate([b.x for b in blocks])[:count], np.concatenate([b.y for b in blocks])[:count]


def test_the_same_seed_gives_the_same_stream():
    x, y = rows(digits(7, (300,)), 2000)
    again, label = rows(digits(7, (300,)), 2000)
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(y, label)
    assert not np.array_equal(x, rows(digits(8, (300,)), 2000)[0])


def test_images_are_real_and_half_of_them_are_moved():
    from sklearn.datasets import load_digits

    real = {image.astype(np.float32).tobytes() for image in load_digits().data}
    x, y = rows(digits(0), 4000)
    assert x.dtype == np.float32
    assert x.min() == 0
    assert x.max() == 16
    assert set(y) == set(range(10))
    as_they_are = np.mean([image.tobytes() in real for image in x])
    assert 0.45 < as_they_are < 0.55


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr("producers.digits.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^digits needs scikit-learn: pip install 'streaming_nn\[demo\]'$"):
        digits(0)


def test_an_epoch_has_every_image_once():
    _, y = rows(digits(3), 1797)
    from sklearn.datasets import load_digits

    np.testing.assert_array_equal(np.bincount(y), np.bincount(load_digits().target))


def test_the_concept_changes_at_a_drift_and_back_at_the_next():
    calm_x, calm_y = rows(digits(1), 1000)
    x, y = rows(digits(1, (400, 700)), 1000)
    np.testing.assert_array_equal(x[:400], calm_x[:400])
    np.testing.assert_array_equal(y[:400], calm_y[:400])
    mirrored = calm_x.reshape(-1, 8, 8)[:, :, ::-1].reshape(-1, 64)
    np.testing.assert_array_equal(x[400:700], mirrored[400:700])
    assert (y[400:700] != calm_y[400:700]).all()
    np.testing.assert_array_equal(x[700:], calm_x[700:])
    np.testing.assert_array_equal(y[700:], calm_y[700:])


@pytest.mark.nightly
def test_a_network_recovers_from_a_drift_within_10_000_rows():
    from sklearn.neural_network import MLPClassifier

    x, y = rows(digits(1, (10_240,)), 20_480)
    x = np.clip((x - x[:1000].mean(0)) / (x[:1000].std(0) + 0.1), -4, 4)
    network = MLPClassifier((64,), learning_rate_init=0.003, random_state=0)
    right = []
    for start in range(0, len(x), 32):
        batch, label = x[start : start + 32], y[start : start + 32]
        right.append(np.mean(network.predict(batch) == label) if start else 0.0)
        network.partial_fit(batch, label, classes=range(10))
    before, hurt, after = (
        np.mean(right[a // 32 : b // 32]) for a, b in ((9216, 10_240), (10_240, 10_752), (19_456, 20_480))
    )
    assert before > 0.88
    assert hurt < 0.5
    assert after > 0.88


@pytest.mark.parametrize("positions", [(0,), (5, 5), (9, 3)])
def test_drift_rows_must_ascend(positions):
    with pytest.raises(ValueError, match="drift_at must be ascending row numbers, 1 or more"):
        digits(0, positions)
