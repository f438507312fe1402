from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from streaming_nn.mllib import dataframe
from streaming_nn.mllib.dataframe import Columns
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch, initial, test_then_train
from streaming_nn.nn.state_dict import flatten

pytestmark = pytest.mark.commit

COLUMNS = Columns("features", "label")


def bits(state: Any) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in flatten(state).items()}


@pytest.mark.nightly
@pytest.mark.parametrize("slices", [pytest.param(1, marks=pytest.mark.nightly), 3])
@pytest.mark.parametrize("name", ["mlp", "ensemble"])
def test_passes_give_the_loop_s_bits_with_any_number_of_tasks(
    spark: SparkSession, name: str, slices: int
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)), rng.normal(size=60)
    rows = spark.sparkContext.parallelize(list(zip(x.tolist(), y.tolist(), strict=True)), slices)
    made = dataframe.select_rows(spark.createDataFrame(rows, "features array<double>, label double"), COLUMNS)
    learner = learner_from({"learner": name, "inputs": 2, "hidden": [4], "mini_batch": 7})
    found = dataframe.learn_passes(learner, initial(learner), made, COLUMNS, 3)
    state, curve = initial(learner), []
    if slices == 1:
        for _ in range(3):
            state, _ = test_then_train(learner, state, [Batch(x, y)])
            curve.append(dataframe.window_loss(learner, state))
    else:
        for _ in range(3):
            state = dataframe.learn_once(learner, state, made, COLUMNS).state
            curve.append(dataframe.window_loss(learner, state))
    assert bits(found.state) == bits(state)
    assert found.curve == tuple(curve)
    assert found.counts.trained == found.counts.received == 180


@pytest.mark.merge
def test_a_bad_row_in_a_later_partition_leaves_no_state(spark: SparkSession) -> None:
    rows = spark.sparkContext.parallelize([([1.0], 1.0), ([1.0, 2.0], 1.0)], 2)
    made = dataframe.select_rows(spark.createDataFrame(rows, "features array<double>, label double"), COLUMNS)
    learner = learner_from({"learner": "mlp", "inputs": 1})
    with pytest.raises(ValueError, match=r"^featuresCol 'features' must have 1 features per row; got 2$"):
        dataframe.learn_passes(learner, initial(learner), made, COLUMNS, 2)


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=6, unique=True), st.data())
def test_a_label_becomes_its_index_among_the_classes(classes: list[int], data: st.DataObject) -> None:
    learner = learner_from({"learner": "mlp", "inputs": 1, "classes": classes})
    labels = data.draw(st.lists(st.sampled_from(classes)))
    found = dataframe.targets(learner, "label", pa.array(labels, pa.float64()))
    assert [classes[index] for index in found] == labels
    for unknown in (99.0, -99.0, 0.5, float("nan")):
        with pytest.raises(ValueError, match="must be one of"):
            dataframe.targets(learner, "label", pa.array([*labels, unknown], pa.float64()))


@given(st.lists(st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=2), max_size=5), st.integers(0, 5))
def test_features_are_read_from_a_slice_as_from_an_array(rows: list[list[float]], start: int) -> None:
    learner = learner_from({"learner": "mlp", "inputs": 2})
    column = pa.array(rows, pa.list_(pa.float32())).slice(start)
    assert dataframe.matrix(learner, "x", column).tolist() == rows[start:]


def test_strings_and_booleans_are_numbers_to_spark() -> None:
    assert dataframe.label_values(("b", "a")).tolist() == [0.0, 1.0]
    assert dataframe.label_values((False, True)).tolist() == [0.0, 1.0]
    assert dataframe.label_values((3, 1)).tolist() == [3.0, 1.0]


def test_the_logarithm_of_0_is_finite() -> None:
    assert np.isfinite(dataframe.log_probabilities(np.array([[0.0, 1.0]], np.float32))).all()


def test_no_rows_give_no_predictions() -> None:
    learner = learner_from({"learner": "ensemble", "inputs": 2, "classes": [0, 1]})
    assert dataframe.predict(learner, learner.init(), np.empty((0, 2), np.float32)).shape == (0, 2)
