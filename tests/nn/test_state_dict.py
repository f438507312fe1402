from typing import Any, NamedTuple

import numpy as np
import pytest

from streaming_nn.nn import state_dict
from streaming_nn.nn.learner import Batch, State, initial, test_then_train
from streaming_nn.nn.mlp import MLP

pytestmark = pytest.mark.commit


class Nothing(NamedTuple):
    """No fields."""


class Inner(NamedTuple):
    a: Any
    b: Any


class Outer(NamedTuple):
    inner: Inner
    parts: tuple[Any, ...]
    none: None
    nothing: Nothing


INNER = Inner(np.arange(3), np.float64(2.5))
STATE = Outer(INNER, (np.zeros((0, 2)), np.ones(1, np.float32)), None, Nothing())


def test_names_are_the_path_of_fields() -> None:
    assert list(state_dict.flatten(STATE)) == ["inner.a", "inner.b", "parts.0", "parts.1"]
    assert state_dict.flatten(STATE)["inner.b"].shape == ()


def test_arrays_are_contiguous() -> None:
    state = Inner(np.arange(6).reshape(2, 3).T, np.zeros(()))
    assert all(array.flags.c_contiguous for array in state_dict.flatten(state).values())


def test_round_trip() -> None:
    again = state_dict.unflatten(STATE, state_dict.flatten(STATE))
    assert isinstance(again, Outer)
    assert isinstance(again.inner, Inner)
    assert (again.none, again.nothing) == (None, Nothing())
    assert again.inner.a.tolist() == [0, 1, 2]
    assert float(again.inner.b) == 2.5
    assert again.parts[0].shape == (0, 2)


@pytest.mark.parametrize("classes", [None, ("a", "b", "c")])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_learner_resumes_from_its_tensors_with_the_same_bits(classes: Any, optimizer: str) -> None:
    learner = MLP(inputs=2, classes=classes, hidden=(4,), optimizer=optimizer, mini_batch=8)
    rng = np.random.default_rng(0)
    batch = Batch(rng.normal(size=(50, 2)).astype(np.float32), rng.integers(0, 3, 50))
    state, _ = test_then_train(learner, initial(learner), [batch])
    again: State[Any] = state_dict.unflatten(initial(learner), state_dict.flatten(state))
    first, second = (test_then_train(learner, each, [batch])[0] for each in (state, again))
    one, other = state_dict.flatten(first), state_dict.flatten(second)
    assert one.keys() == other.keys()
    assert [one[name].tobytes() for name in one] == [other[name].tobytes() for name in one]


def test_shapes_may_differ() -> None:
    again = state_dict.unflatten(Inner(np.zeros(2), np.zeros(3)), {"a": np.zeros((4, 4)), "b": np.zeros(())})
    assert again.a.shape == (4, 4)


def test_wrong_names_and_dtypes_are_refused() -> None:
    template = Inner(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match=r"those of Inner; missing \['b'\], unknown \['c'\]$"):
        state_dict.unflatten(template, {"a": np.zeros(2), "c": np.zeros(2)})
    with pytest.raises(ValueError, match=r"^tensor b must be float64; got float32$"):
        state_dict.unflatten(template, {"a": np.zeros(2), "b": np.zeros(2, np.float32)})
