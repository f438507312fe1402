"""A model as one ONNX graph: the scaler, every network, and the mixture of their predictions."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn import __version__
from streaming_nn.core.ensemble import EnsembleState
from streaming_nn.core.networks import Shape
from streaming_nn.model import Model, class_labels, parameters
from streaming_nn.nn.learner import Counts
from streaming_nn.nn.preprocessing import Scaler, target_unit
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema
from streaming_nn.versions.version import state_digest

try:
    from onnx import ModelProto, TensorProto, helper, numpy_helper
except ImportError as error:
    raise ImportError("streaming_nn.export.onnx needs onnx: pip install 'streaming_nn[onnx]'") from error

Array = NDArray[Any]
TARGET_CLIP, STEEP = (
    6.0,
    30.0,
)  # bounds of a regression's outputs, and of the sums of counts: docs/arithmetic.md
SLOPE = 0.01  # of leaky relu
LEAST_MIXED = 1e-4  # least probability in the geometric mixture
OPSET, IR = 13, 7  # of ONNX 1.8, 2020: nothing newer is needed, and all runtimes since then support it
INPUT_DOC = "numbers, in the columns that the metadata names; categories must be encoded before"


class _Graph:
    """Nodes in their order, and their constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, op: str, *inputs: str | Array, output: str | None = None, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        name = f"{op.lower()}_{len(self.nodes)}" if output is None else output
        self.nodes.append(helper.make_node(op, names, [name], name=name, **attributes))
        return name

    def constant(self, value: Array) -> str:
        """Add a constant, and return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def to_onnx(model: Model, schema: Schema) -> ModelProto:
    """Return the graph that predicts rows as the learner does; docs/export.md has its inputs and outputs.

    Members with weights that are not finite are left out. The same model gives the same bytes. ValueError: no
    member is finite, or the classes are of several types.
    """
    learner: Any = model.learner
    graph = _Graph()
    prediction = _predict(graph, model, "features")
    if learner.classes is None:
        outputs = [_output(graph, prediction, "prediction", TensorProto.FLOAT, learner.shape.units[-1])]
    else:
        outputs = _classification_outputs(graph, model, prediction)
    rows = helper.make_tensor_value_info(
        "features", TensorProto.FLOAT, ["rows", learner.inputs], doc_string=INPUT_DOC
    )
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "streaming_nn", [rows], outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="streaming_nn",
        producer_version=__version__,
    )
    helper.set_model_props(proto, _metadata(model, schema))
    return proto


def _output(graph: _Graph, value: str, name: str, kind: int, *columns: int) -> Any:
    graph.add("Identity", value, output=name)
    return helper.make_tensor_value_info(name, kind, ["rows", *columns])


def _classification_outputs(graph: _Graph, model: Model, probabilities: str) -> list[Any]:
    """Add the most probable label, in its own type; the first one of equal ones, as NumPy's argmax.

    Of several labels, add which of them apply.
    """
    labels = class_labels(model)
    if model.learner.multilabel:
        apply = graph.add("Cast", graph.add("Greater", probabilities, _one(0.5)), to=TensorProto.INT64)
        return [
            _output(graph, apply, "label", TensorProto.INT64, len(labels)),
            _output(graph, probabilities, "probabilities", TensorProto.FLOAT, len(labels)),
        ]
    constant = labels.astype(object) if labels.dtype.kind == "U" else labels  # as onnx needs strings
    best = graph.add("ArgMax", probabilities, axis=1, keepdims=0)
    kind = helper.np_dtype_to_tensor_dtype(constant.dtype)
    return [
        _output(graph, graph.add("Gather", constant, best), "label", kind),
        _output(graph, probabilities, "probabilities", TensorProto.FLOAT, len(labels)),
    ]


def _metadata(model: Model, schema: Schema) -> dict[str, str]:
    """Return what identifies the model, as strings: version (if it is one), options, column names."""
    metadata = {
        "digest": state_digest(flatten(model.state)),
        "learner": json.dumps(model.learner.options()),
        "columns": json.dumps(schema.input_columns),
        "classes": json.dumps(model.learner.classes),
        "label": json.dumps(schema.label),
    }
    if model.parent is not None and model.counts == Counts():
        metadata["version"] = str(model.parent.number)
    return metadata


def _predict(graph: _Graph, model: Model, rows: str) -> str:
    """Add the nodes of `predict`: one network is a mixture of one."""
    learner: Any = model.learner
    state: EnsembleState = model.state.model
    loss = "logistic" if learner.multilabel else learner.loss  # the ensemble has none to choose
    thetas = parameters(model)
    finite = [k for k, theta in enumerate(thetas) if np.isfinite(theta).all()]
    if not finite:
        raise ValueError("cannot export the model: no member has finite weights")
    values = _fill(graph, learner.scaler, state, rows)
    z = _prepare(graph, learner.scaler, state, rows, values)
    seen = {learner.scaler.width: z}  # by its number of columns
    order, sums = list[int](), list[str]()
    for shape, alike in _by_shape(learner.core.shapes, finite).items():
        inputs = shape.units[0]
        if inputs not in seen:
            seen[inputs] = _with_ramps(graph, state, values, z)
        sums.append(_sums(graph, shape, [thetas[k] for k in alike], seen[inputs]))
        order += alike
    every = sums[0] if len(sums) == 1 else graph.add("Concat", *sums, axis=0)
    outputs = _activate_outputs(graph, every, loss, learner.classes)
    if learner.classes is None and loss != "poisson":
        outputs = _clip(graph, outputs, -TARGET_CLIP, TARGET_CLIP)
    mixed = _mix(graph, outputs, state.weights[order])
    if len(state.exponents):
        geometric = _geometric_mixture(graph, outputs, state.exponents[order], loss)
        mixed = graph.add("Mul", graph.add("Add", mixed, geometric), _one(0.5))
    if learner.classes is None:
        return _restore_unit(graph, mixed, state, loss, learner.shape.units[-1])
    if loss == "logistic" and not learner.multilabel:  # one output, and the probabilities of both classes
        return graph.add("Concat", graph.add("Sub", _one(1), mixed), mixed, axis=1)
    return mixed


def _fill(graph: _Graph, scaler: Scaler, state: EnsembleState, rows: str) -> str:
    """Return the rows in float64, with missing values imputed."""
    values, filling = graph.add("Cast", rows, to=TensorProto.DOUBLE), scaler.filling(state)
    return values if filling is None else graph.add("Where", graph.add("IsNaN", rows), filling, values)


def _prepare(graph: _Graph, scaler: Scaler, state: EnsembleState, rows: str, values: str) -> str:
    """Scale as the core does: differences in float64, rounded to float32; and indicate missing values."""
    affine = scaler.affine(state)
    if affine is None:
        z = graph.add("Cast", values, to=TensorProto.FLOAT)
    else:
        origin, width, far = affine
        z = _clip(graph, _quotient(graph, values, origin, width), -far, far)
    if scaler.missing == "indicate":
        gaps = graph.add("Cast", graph.add("IsNaN", rows), to=TensorProto.FLOAT)
        z = graph.add("Concat", z, gaps, axis=1)
    return z


def _with_ramps(graph: _Graph, state: EnsembleState, values: str, z: str) -> str:
    """Add the ramps of the values after the inputs z; one that is not there is 0, as its value is."""
    low, high = state.knots[:, :-1], state.knots[:, 1:]
    with np.errstate(invalid="ignore", over="ignore"):
        widths = (high - low).astype(np.float32)
    there = (widths > 0) & (widths < np.inf)
    columns = np.repeat(np.arange(len(low)), low.shape[1])
    of_columns = graph.add("Gather", values, columns, axis=1)
    of_columns = graph.add("Where", there.ravel(), of_columns, np.zeros(1))
    heights = _quotient(
        graph, of_columns, np.where(there, low, 0).ravel(), np.where(there, widths, 1).ravel()
    )
    return graph.add("Concat", z, _clip(graph, heights, 0, 1), axis=1)


def _quotient(graph: _Graph, values: str, origin: Array, width: Array) -> str:
    """Divide differences, which are rounded to float32, by widths in float32."""
    shifted = graph.add("Sub", values, origin)
    return graph.add("Div", graph.add("Cast", shifted, to=TensorProto.FLOAT), width)


def _by_shape(shapes: Sequence[Shape], members: Sequence[int]) -> dict[Shape, list[int]]:
    """Return the members of each shape; those of one are computed as one product."""
    found = dict[Shape, list[int]]()
    for k in members:
        found.setdefault(shapes[k], []).append(k)
    return found


def _sums(graph: _Graph, shape: Shape, theta: Sequence[Array], z: str) -> str:
    """Add the output layer's sums (members, rows, outputs): the network up to its output activation."""
    layers = [shape.views(each) for each in theta]
    *hidden, (W, b) = [_stacked(layer) for layer in zip(*layers, strict=True)]
    h = z
    for V, c in hidden:
        h = _activate(graph, shape.activation, graph.add("Add", graph.add("MatMul", h, V), c))
    sums = graph.add("Add", graph.add("MatMul", h, W), b)
    if not shape.skip:
        return sums
    return graph.add(
        "Add", sums, graph.add("MatMul", z, np.stack([shape.linear_view(each) for each in theta]))
    )


def _stacked(layer: tuple[tuple[Array, Array], ...]) -> tuple[Array, Array]:
    """Return the members' weights (members, in, out) and biases (members, 1, out) of a layer."""
    return np.stack([W for W, _ in layer]), np.stack([b[None] for _, b in layer])


def _activate(graph: _Graph, activation: str, z: str) -> str:
    if activation == "identity":
        return z
    if activation == "gelu":
        return _gelu(graph, z)
    if activation == "leaky_relu":
        return graph.add("LeakyRelu", z, alpha=SLOPE)
    return graph.add(activation.capitalize(), z)  # Elu's alpha is 1 by default


def _gelu(graph: _Graph, z: str) -> str:
    """Add 0.5 z (1 + erf(z / √2)); ONNX has it as one operator only since opset 20."""
    e = graph.add("Erf", graph.add("Mul", z, _one(float(np.sqrt(0.5)))))
    return graph.add("Mul", graph.add("Mul", z, _one(0.5)), graph.add("Add", e, _one(1)))


def _activate_outputs(graph: _Graph, sums: str, loss: str | None, classes: Any) -> str:
    if loss == "poisson":
        return graph.add("Exp", _clip(graph, sums, -STEEP, STEEP))
    if classes is None:
        return sums
    return _probabilities(graph, sums, loss)


def _probabilities(graph: _Graph, sums: str, loss: str | None) -> str:
    return graph.add("Sigmoid", sums) if loss == "logistic" else graph.add("Softmax", sums, axis=-1)


def _mix(graph: _Graph, outputs: str, weight: Array) -> str:
    """Add the weighted mean of the members' outputs (members, rows, outputs); of one, drop its axis."""
    first = np.zeros(1, np.int64)
    if len(weight) == 1:
        return graph.add("Squeeze", outputs, first)
    shares = (weight / weight.sum()).astype(np.float32)[:, None, None]
    return graph.add("ReduceSum", graph.add("Mul", outputs, shares), first, keepdims=0)


def _geometric_mixture(graph: _Graph, outputs: str, exponents: Array, loss: str) -> str:
    """Add the weighted geometric mean of probabilities (members, rows, outputs), of labels that of odds."""

    def logs(p: str) -> str:
        return graph.add("Log", graph.add("Max", p, _one(LEAST_MIXED)))

    of_members = logs(outputs)
    if loss == "logistic":
        of_members = graph.add("Sub", of_members, logs(graph.add("Sub", _one(1), outputs)))
    powers = graph.add("Mul", of_members, exponents.astype(np.float32)[:, None, None])
    sums = graph.add("ReduceSum", powers, np.zeros(1, np.int64), keepdims=0)
    return _probabilities(graph, sums, loss)


def _restore_unit(graph: _Graph, z: str, state: EnsembleState, loss: str | None, outputs: int) -> str:
    """Return to the unit of the targets, in double precision."""
    unit = target_unit(state, loss == "poisson")
    wide = graph.add("Mul", graph.add("Cast", z, to=TensorProto.DOUBLE), unit)
    if loss != "poisson":
        wide = graph.add("Add", wide, state.targets[:, 1])
    if len(state.correction):
        wide = graph.add("Add", wide, state.correction[0])
    prediction = graph.add("Cast", wide, to=TensorProto.FLOAT)
    return _sort(graph, prediction, outputs) if loss == "quantile" and outputs > 1 else prediction


def _sort(graph: _Graph, prediction: str, outputs: int) -> str:
    """Sort each row, least first: quantiles may cross."""
    count = graph.constant(np.array([outputs]))
    sort = helper.make_node(
        "TopK", [prediction, count], ["sorted", "indices"], name="sorted", axis=1, largest=0
    )
    graph.nodes.append(sort)
    return "sorted"


def _clip(graph: _Graph, z: str, low: float, high: float) -> str:
    return graph.add("Clip", z, _one(low), _one(high))


def _one(value: float) -> Array:
    return np.array(value, np.float32)
