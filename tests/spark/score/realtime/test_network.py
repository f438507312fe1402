"""Network.java beside the compiled core: the same bits, for every network and whatever a row has."""

import ctypes
from pathlib import Path
from typing import Any

import core_steps
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from benchmarks import java_scorer
from benchmarks.java_scorer import write
from streaming_nn.core import library, networks, structures
from streaming_nn.core.ensemble import RAMPED, RAMPS, Ensemble, EnsembleState, MemberOptions, Model
from streaming_nn.core.networks import Shape
from streaming_nn.nn.factory import learner_from
from streaming_nn.nn.learner import Batch
from streaming_nn.nn.mlp import MLP
from streaming_nn.versions.version import Manifest, encode_file, state_digest

pytestmark = pytest.mark.merge

Array = NDArray[Any]
FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "softplus", "erf")  # in the core's order


@pytest.fixture(scope="module")
def java(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a Java object that calls the classes under test."""
    return java_scorer.compiled(spark, tmp_path_factory.mktemp("java-bits"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bits") / "version.safetensors"


def assert_same_bits(java: Any, file: Path, ensemble: Ensemble, state: EnsembleState, x: Array) -> None:
    predicted, expected = java_scorer.predictions(java, file, ensemble, state, x)
    np.testing.assert_array_equal(predicted, expected)
    assert predicted.tobytes() == expected.tobytes(), "zeros have the same signs"


def initial(ensemble: Ensemble, seed: int) -> Array:
    whole = np.zeros(ensemble.layout.sizes[0], np.float32)
    for k, theta in enumerate(ensemble.layout.thetas(whole)):
        shape = ensemble.shapes[k]
        parts = [each for pair in shape.views(theta) for each in pair] + [shape.linear_view(theta)]
        for i, part in enumerate(parts):
            size = (1, part.size) if part.ndim == 1 else part.shape
            part[:] = networks.draw("normal", 0.5, seed, k, i, 0, size).reshape(part.shape)
    return whole


def draw_ensemble(data: st.DataObject) -> Ensemble:
    loss = data.draw(st.sampled_from(structures.LOSSES))
    outputs = data.draw(st.integers(1, 10)) if loss in ("softmax", "quantile") else 1
    columns = data.draw(st.integers(1, 13))
    missing, scale = (data.draw(st.sampled_from(each)) for each in (structures.MISSING, structures.SCALES))
    width = columns * (2 if missing == "indicate" else 1)
    of_loss: dict[str, Any] = {}
    if loss == "quantile":
        of_loss["quantiles"] = tuple((k + 1) / (outputs + 1) for k in range(outputs))

    def draw_shape() -> Shape:
        ramps = scale != "sparse" and data.draw(st.booleans(), label="ramps")
        hidden = data.draw(st.lists(st.integers(1, 19), max_size=3))
        activation, skip = data.draw(st.sampled_from(structures.ACTIVATIONS)), data.draw(st.booleans())
        return Shape((width + RAMPS * columns * ramps, *hidden, outputs), activation, loss, skip, **of_loss)

    shapes = [draw_shape() for _ in range(data.draw(st.integers(1, 3)))]
    members = st.lists(
        st.builds(MemberOptions, st.sampled_from(shapes), rate=st.just(0.1)), min_size=1, max_size=4
    )
    return Ensemble(
        tuple(data.draw(members)),
        columns,
        scale=scale,
        missing=missing,
        clip=data.draw(st.sampled_from([0.1, 3.0, 5.0])),
        eta=2.0,
        capacity=50,
    )


def draw_rows(ensemble: Ensemble, rng: np.random.Generator, rows: int) -> Array:
    """Draw columns of several scales, some constant or of few values, with zeros and missing values."""
    scales = rng.choice([0, 1e-3, 1, 1e6], ensemble.columns)
    x = rng.normal(size=(rows, ensemble.columns)) * scales + rng.choice([0, 7, 1e9], ensemble.columns)
    few = rng.random(ensemble.columns) < 0.2
    x[:, few] = np.rint(x[:, few])
    x[rng.random(x.shape) < 0.2] = 0
    if ensemble.missing != "refuse":
        x[rng.random(x.shape) < 0.2] = np.nan
    return x


def learn(ensemble: Ensemble, state: EnsembleState, x: Array, rng: np.random.Generator) -> None:
    shape, size = ensemble.shape, (len(x), ensemble.shape.targets)
    y = rng.normal(size=size) * 20 - 5
    if shape.loss != "squared":
        y = rng.integers(0, shape.units[-1] if shape.loss == "softmax" else 2, size)
    core_steps.learn(ensemble, state, x, y, mini_batch=4)


@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=100,
)
@given(data=st.data(), seed=st.integers(0, 2**20))
def test_the_bits_are_those_of_the_core(java: Any, file: Path, data: st.DataObject, seed: int) -> None:
    ensemble, rng = draw_ensemble(data), np.random.default_rng(seed)
    state = ensemble.init(initial(ensemble, seed))
    state.correction[:1] = rng.normal(size=state.correction[:1].shape)
    with np.errstate(all="ignore"):
        if rows := data.draw(st.sampled_from([0, 1, 30, 80, 80, 80])):
            learn(ensemble, state, draw_rows(ensemble, rng, rows), rng)
        for theta in ensemble.layout.thetas(state.theta):
            theta *= data.draw(st.sampled_from([0, 1, 1, 100, 1e30]), label="size of weights")
        x = draw_rows(ensemble, rng, data.draw(st.integers(1, 20)))
        x[rng.random(x.shape) < 0.1] = data.draw(st.sampled_from([1, -1e9, 3e38, 1e-42]), label="wild")
        assert_same_bits(java, file, ensemble, state, x)


@pytest.mark.parametrize("activation", structures.ACTIVATIONS)
def test_networks_of_the_usual_size_have_the_bits_of_the_core(java: Any, file: Path, activation: str) -> None:
    plain, ramped = (Shape((inputs, 64, 7), activation, skip=True) for inputs in (54, 54 + RAMPED * RAMPS))
    members = tuple(map(MemberOptions, [plain, plain, ramped, plain, ramped, plain]))
    ensemble, rng = Ensemble(members, 54, capacity=200), np.random.default_rng(0)
    state, x = ensemble.init(initial(ensemble, 0)), rng.normal(size=(400, 54))
    learn(ensemble, state, x[:200], rng)
    assert np.isfinite(state.knots[:, :16]).all()
    assert_same_bits(java, file, ensemble, state, x)


def test_only_the_first_columns_of_many_have_ramps(java: Any, file: Path) -> None:
    columns, rng = RAMPED + 6, np.random.default_rng(0)
    ensemble = Ensemble((MemberOptions(Shape((columns + RAMPS * RAMPED, 5, 3))),), columns, capacity=50)
    state = ensemble.init(initial(ensemble, 0))
    learn(ensemble, state, draw_rows(ensemble, rng, 50), rng)
    assert_same_bits(java, file, ensemble, state, draw_rows(ensemble, rng, 20))


@pytest.mark.parametrize(
    "knots", [[0, 1e-50, 2e-50, 0.5, 1], [-3e38, 3e38, 3.1e38, 3.2e38]], ids=["near", "far"]
)
def test_a_ramp_whose_width_is_0_or_infinite_in_float32_is_not_there(
    java: Any, file: Path, knots: list[float]
) -> None:
    ensemble = Ensemble((MemberOptions(Shape((1 + RAMPS, 5, 3))),), 1, capacity=50)
    state = ensemble.init(initial(ensemble, 0))
    state.knots[0, : len(knots)] = knots
    x = np.array([*knots, -1, 0.3, 0.7, 2, 3.05e38, 1e300, np.nan])[:, None]
    with np.errstate(all="ignore"):
        assert_same_bits(java, file, ensemble, state, x)


@pytest.mark.parametrize("loss", structures.LOSSES)
@pytest.mark.parametrize("bad", [[0], [0, 1, 2]], ids=["one", "all"])
def test_a_member_that_is_not_finite_has_weight_0(java: Any, file: Path, loss: str, bad: list[int]) -> None:
    outputs = 4 if loss == "softmax" else 1
    options = {"quantiles": (0.5,)} if loss == "quantile" else {}
    ensemble = Ensemble((MemberOptions(Shape((3, 5, outputs), loss=loss, **options)),) * 3, 3)
    state, rng = ensemble.init(initial(ensemble, 1)), np.random.default_rng(1)
    learn(ensemble, state, draw_rows(ensemble, rng, 30), rng)
    for k in bad:
        ensemble.layout.thetas(state.theta)[k][:] = np.nan
    assert_same_bits(java, file, ensemble, state, draw_rows(ensemble, rng, 20))


def test_a_version_from_before_there_were_ramps_and_exponents_is_predicted(java: Any, file: Path) -> None:
    ensemble, rng = Ensemble((MemberOptions(Shape((5, 7, 3), skip=True)),) * 4, 5), np.random.default_rng(2)
    state = ensemble.init(initial(ensemble, 2))
    learn(ensemble, state, draw_rows(ensemble, rng, 30), rng)
    new = ("knots", "exponents")
    tensors = {f"model.{name}": array for name, array in state._asdict().items() if name not in new}
    tensors["model.theta"] = state.theta.reshape(4, -1)
    options, x = java_scorer.options_of(ensemble), draw_rows(ensemble, rng, 20)
    for member in options["members"]:
        del member["inputs"]
    manifest = Manifest(7, learner=options, digest=state_digest(tensors), arithmetic=1).to_json()
    file.write_bytes(encode_file(manifest, tensors))
    expected = Model(ensemble, state._replace(exponents=np.zeros(0))).predict(x).astype(np.float64)
    assert java.predict(str(file), x.tobytes()) == expected.tobytes()


def test_a_version_that_continues_one_without_exponents_is_predicted(java: Any, file: Path) -> None:
    ensemble, rng = Ensemble((MemberOptions(Shape((5, 7, 3), skip=True)),) * 4, 5), np.random.default_rng(2)
    state = ensemble.init(initial(ensemble, 2))._replace(exponents=np.zeros(0))
    learn(ensemble, state, draw_rows(ensemble, rng, 30), rng)
    assert_same_bits(java, file, ensemble, state, draw_rows(ensemble, rng, 20))


LEARNERS: list[dict[str, Any]] = [
    *({"activation": activation, "classes": 5} for activation in structures.ACTIVATIONS),
    {"classes": 5, "members": [{"optimizer": "sgd", "learning_rate": 0.1}]},
    {"classes": None, "hidden": [7, 3], "scale": "minmax"},
    {"classes": None, "missing": "indicate"},
    {"learner": "mlp", "classes": 5, "dropout": 0.5, "hidden": [30, 10], "missing": "indicate"},
    {"learner": "mlp", "classes": 2, "loss": "logistic", "scale": "minmax", "missing": "impute"},
    {"learner": "mlp", "classes": None, "loss": "quantile", "quantiles": [0.2, 0.9]},
    *(
        {"learner": name, "classes": classes, **several}
        for name in ("mlp", "ensemble")
        for classes, several in ((None, {"targets": ["a", "b", "c"]}), (2, {"multilabel": True}))
    ),
    {"learner": "mlp", "classes": None, "targets": ["a", "b"], "loss": "poisson"},
    *({"learner": "mlp", "classes": None, "loss": loss} for loss in structures.LOSSES[2:]),
    *({"learner": "mlp", "classes": None, "hidden": hidden} for hidden in ([], [1], [9, 8, 7])),
    {
        "classes": 5,
        "members": [
            {"optimizer": "sgd", "learning_rate": 0.1, "inputs": "ramps", "hidden": []},
            {"optimizer": "sgd", "learning_rate": 0.1, "activation": "tanh", "linear": False},
            {"optimizer": "adam", "learning_rate": 0.01, "inputs": "ramps", "hidden": [7, 3]},
        ],
        "missing": "indicate",
    },
]


@pytest.mark.parametrize("options", LEARNERS, ids=str)
def test_the_bits_are_those_that_the_batch_engine_predicts(
    java: Any, file: Path, options: dict[str, Any]
) -> None:
    classes = None if options["classes"] is None else list(range(options["classes"]))
    learner, rng = learner_from({"inputs": 6, **options, "classes": classes}), np.random.default_rng(0)
    x = rng.normal(size=(150, 6)) * [1, 5, 0, 1e-3, 1e6, 1] + [3, 1e12, 3, 3, 3, 3]
    x[rng.random(x.shape) < 0.1] = np.nan if learner.missing != "refuse" else 0
    y = rng.integers(0, options["classes"] or 9, (150, *filter(None, [learner.columns_of_y])))
    batch = Batch(x, y.astype(np.int32 if classes else np.float64))
    state, _, learned = learner.learn(learner.init(), batch)
    assert learned == 150
    write(file, learner.core, state, learner=learner.options())
    expected = learner.predict(state, x).astype(np.float64)
    assert java.predict(str(file), x.tobytes()) == expected.tobytes()
    assert java.point(str(file)) == learner.point


@pytest.mark.parametrize(
    "quantiles", [None, (0.5,), (0.1, 0.5, 0.9), (0.1, 0.4, 0.6), (0.05, 0.2), (0.9, 0.95)]
)
def test_the_point_is_the_quantile_nearest_to_the_median(
    java: Any, file: Path, quantiles: tuple[float, ...] | None
) -> None:
    learner = MLP(2, loss="quantile", quantiles=quantiles)
    write(file, learner.core, learner.init(), learner=learner.options())
    assert java.point(str(file)) == learner.point


def computed(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute a function in the core."""
    y = np.empty_like(x)
    x_at, y_at = library.address(x, "f8", x.shape), library.address(y, "f8", x.shape)
    assert library.load().core_function(FUNCTIONS.index(name), x_at, y_at, ctypes.c_long(x.size)) == 0
    return y


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_bits_of_the_core(java: Any, name: str) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=4000) * scale for scale in (1e-9, 0.1, 1, 30, 500)]
    edges = np.array([0.0, 0.17, 0.35, 0.5, 1.0, np.sqrt(0.5), 2.0, 20.0, 708.0, 709.0, 1e300, np.inf])
    near = np.concatenate([np.nextafter(edges, -np.inf), edges, np.nextafter(edges, np.inf)])
    x = np.concatenate([*parts, near, -near, [np.nan]])
    if name in ("log", "log1p"):  # not defined for others
        x = x[np.isnan(x) | (x >= 1e-300 if name == "log" else x > -1)]
    x = x[np.isnan(x) | np.isfinite(x)] if name.startswith("log") else x
    ours = np.frombuffer(java.apply(name, x.tobytes()), np.float64)
    np.testing.assert_array_equal(ours, computed(name, x))
    number = ~np.isnan(ours)
    assert ours[number].tobytes() == computed(name, x)[number].tobytes()


def small(columns: int = 3) -> tuple[Ensemble, EnsembleState]:
    ensemble = Ensemble((MemberOptions(Shape((columns, 2), skip=True)),), columns)
    return ensemble, ensemble.init(initial(ensemble, 0))


@pytest.mark.parametrize(
    ("arithmetic", "shown"), [(None, "none"), (0, "0"), (3, "3"), (1.0, "1.0"), ("1", '"1"'), ([1], r"\[1\]")]
)
def test_another_arithmetic_is_refused(java: Any, file: Path, arithmetic: Any, shown: str) -> None:
    ensemble, state = small()
    write(file, ensemble, state, arithmetic=arithmetic)
    with pytest.raises(
        Py4JJavaError, match=f"version 7: arithmetic must be 1 to 2; got {shown}; score it with"
    ):
        java.predict(str(file), b"")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": 4}, "tensor model.means must have 4 numbers; got 3"),
        ({"hidden": [5]}, "members must have 104 parameters; got 56"),
        ({"linear": False}, "members must have 32 parameters; got 56"),
        ({"classes": None}, "tensor model.targets must have 3 numbers; got 0"),
        ({"activation": "swish"}, "activation must be one of identity, sigmoid, .*; got swish"),
        ({"loss": "hinge"}, "loss must be one of softmax, logistic, .*; got hinge"),
    ],
    ids=str,
)
def test_a_state_that_does_not_fit_is_refused(
    java: Any, file: Path, changes: dict[str, Any], message: str
) -> None:
    ensemble, state = small()
    options = java_scorer.options_of(ensemble)
    (member,) = options["members"]
    of_member = {name: value for name, value in changes.items() if name in member}
    options |= changes | {"members": [member | of_member]}
    write(file, ensemble, state, learner=options)
    with pytest.raises(Py4JJavaError, match=message):
        java.predict(str(file), b"")
