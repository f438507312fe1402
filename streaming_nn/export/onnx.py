"""A model as one ONNX graph: the scaler, every network, and the mixture of their answers."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_nn import __version__
from streaming_nn.estimators.model import Model, labels, thetas
from streaming_nn.nn import moments, network
from streaming_nn.nn.activations import CUBE, GELU, SLOPE
from streaming_nn.nn.learner import Counts
from streaming_nn.nn.losses import STEEP
from streaming_nn.nn.mlp import TARGET_CLIP, mean_of_counts
from streaming_nn.nn.moments import Scaling
from streaming_nn.nn.network import Network
from streaming_nn.nn.preprocessing import Inputs
from streaming_nn.nn.state_dict import flatten
from streaming_nn.records.schema import Schema
from streaming_nn.versions.version import state_digest

try:
    from onnx import ModelProto, TensorProto, helper, numpy_helper
except ImportError as error:
    raise ImportError("streaming_nn.export.onnx needs onnx: pip install 'streaming_nn[onnx]'") from error

Array = NDArray[Any]
OPSET, IR = 13, 7  # of ONNX 1.8, 2020: nothing newer is needed, and runtimes since then take it
CODED = "numbers, the columns that the metadata names; a category is coded before it comes here"


class _Graph:
    """Nodes in their order, and the constants that they take."""

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
    """Give the graph that answers rows as the learner does; docs/export.md has its inputs and outputs.

    Members whose weights are not finite are left out. The same model gives the same bytes. ValueError: no
    member is finite, or the classes are of several types.
    """
    learner: Any = model.learner
    graph = _Graph()
    answer = _answer(graph, model, "features")
    if learner.classes is None:
        outputs = [_described(graph, answer, "prediction", TensorProto.FLOAT, learner.shape.layers[-1])]
    else:
        outputs = _classified(graph, model, answer)
    rows = helper.make_tensor_value_info(
        "features", TensorProto.FLOAT, ["rows", learner.inputs], doc_string=CODED
    )
    made = helper.make_model(
        helper.make_graph(graph.nodes, "streaming_nn", [rows], outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="streaming_nn",
        producer_version=__version__,
    )
    helper.set_model_props(made, _metadata(model, schema))
    return made


def _described(graph: _Graph, value: str, name: str, kind: int, *columns: int) -> Any:
    graph.add("Identity", value, output=name)
    return helper.make_tensor_value_info(name, kind, ["rows", *columns])


def _classified(graph: _Graph, model: Model, probabilities: str) -> list[Any]:
    """Answer with the likeliest label too, in its own type; of equals the first, as NumPy's argmax."""
    named = labels(model)
    constant = named.astype(object) if named.dtype.kind == "U" else named  # as onnx wants texts
    best = graph.add("ArgMax", probabilities, axis=1, keepdims=0)
    kind = helper.np_dtype_to_tensor_dtype(constant.dtype)
    return [
        _described(graph, graph.add("Gather", constant, best), "label", kind),
        _described(graph, probabilities, "probabilities", TensorProto.FLOAT, len(named)),
    ]


def _metadata(model: Model, schema: Schema) -> dict[str, str]:
    """Say which model this is, as text: its version where it is one, its options, and its columns' names."""
    known = {
        "digest": state_digest(flatten(model.state)),
        "learner": json.dumps(model.learner.options()),
        "columns": json.dumps(schema.columns),
        "classes": json.dumps(model.learner.classes),
        "label": json.dumps(schema.label),
    }
    if model.place is not None and model.rows == Counts():
        known["version"] = str(model.place.number)
    return known


def _answer(graph: _Graph, model: Model, rows: str) -> str:
    """Follow `predict` of either learner: the plain network is a mixture of one."""
    learner: Any = model.learner
    state = model.state.model
    loss = getattr(learner, "loss", None)  # the ensemble has none to choose
    z = _prepared(graph, learner.scaler, state.features, rows)
    theta, weight = thetas(model), getattr(state, "weight", np.ones(1))
    finite = np.isfinite(theta).all(axis=1)
    if not finite.any():
        raise ValueError("there is nothing to export: the weights of no member are finite")
    sums = _sums(graph, learner.shape, theta[finite], z)
    answers = _linked(graph, sums, loss, learner.classes)
    if state.targets is not None and loss != "poisson":
        answers = _clipped(graph, answers, TARGET_CLIP)
    mixed = _mixed(graph, answers, weight[finite])
    if state.targets is not None:
        return _with_unit(graph, mixed, state.targets, loss, learner.shape.layers[-1])
    if loss == "logistic":  # one output, and the probabilities of both classes
        return graph.add("Concat", graph.add("Sub", _one(1), mixed), mixed, axis=1)
    return mixed


def _prepared(graph: _Graph, inputs: Inputs, state: Any, rows: str) -> str:
    """Fill in what is missing, then scale: `Inputs.prepare`, in float32 as there."""
    z, gaps, filling, affine = rows, "", inputs.filling(state), inputs.affine(state)
    if filling is not None:
        gaps = graph.add("IsNaN", rows)
        z = graph.add("Where", gaps, filling, rows)
    if affine is not None:
        shift, width, far = affine
        z = _clipped(graph, graph.add("Div", graph.add("Sub", z, shift), width), far)
    if inputs.missing == "indicate":
        z = graph.add("Concat", z, graph.add("Cast", gaps, to=TensorProto.FLOAT), axis=1)
    return z


def _sums(graph: _Graph, shape: Network, theta: Array, z: str) -> str:
    """Give the last sums (members, rows, outputs): `network.predict` up to the link."""
    *hidden, (W, b) = network.views(shape, theta)
    h = z
    for V, c in hidden:
        h = _activated(graph, shape.activation, graph.add("Add", graph.add("MatMul", h, V), c))
    sums = graph.add("Add", graph.add("MatMul", h, W), b)
    if not shape.skip:
        return sums
    return graph.add("Add", sums, graph.add("MatMul", z, network.skip_view(shape, theta)))


def _activated(graph: _Graph, activation: str, z: str) -> str:
    if activation == "identity":
        return z
    if activation == "gelu":
        return _gelu(graph, z)
    if activation == "leaky_relu":
        return graph.add("LeakyRelu", z, alpha=SLOPE)
    return graph.add(activation.capitalize(), z)  # Elu's alpha is 1 unless it is said


def _gelu(graph: _Graph, z: str) -> str:
    """Give 0.5 z (1 + tanh(GELU (z + CUBE z³))): ONNX has had it as one operator since opset 20 only."""
    cubed = graph.add("Mul", graph.add("Mul", graph.add("Mul", z, z), z), _one(CUBE))
    t = graph.add("Tanh", graph.add("Mul", graph.add("Add", z, cubed), _one(GELU)))
    return graph.add("Mul", graph.add("Mul", z, _one(0.5)), graph.add("Add", t, _one(1)))


def _linked(graph: _Graph, sums: str, loss: str | None, classes: Any) -> str:
    if loss == "poisson":
        return graph.add("Exp", _clipped(graph, sums, STEEP))
    if classes is None:
        return sums
    return graph.add("Sigmoid", sums) if loss == "logistic" else graph.add("Softmax", sums, axis=-1)


def _mixed(graph: _Graph, answers: str, weight: Array) -> str:
    """Weigh the members' answers (members, rows, outputs); of one alone, only its axis goes."""
    first = np.zeros(1, np.int64)
    if len(weight) == 1:
        return graph.add("Squeeze", answers, first)
    shares = (weight / weight.sum()).astype(np.float32)[:, None, None]
    return graph.add("ReduceSum", graph.add("Mul", answers, shares), first, keepdims=0)


def _with_unit(graph: _Graph, z: str, targets: Scaling, loss: str | None, outputs: int) -> str:
    """Give answers the targets' own unit; the mean is added in double precision, as in `moments.restore`."""
    if loss == "poisson":
        return graph.add("Mul", z, mean_of_counts(targets))
    wide = graph.add("Cast", graph.add("Mul", z, moments.deviation(targets)), to=TensorProto.DOUBLE)
    answer = graph.add("Cast", graph.add("Add", wide, targets.mean), to=TensorProto.FLOAT)
    return answer if outputs == 1 else _sorted(graph, answer, outputs)


def _sorted(graph: _Graph, answer: str, outputs: int) -> str:
    """Sort each row, least first: quantiles that crossed."""
    count = graph.constant(np.array([outputs]))
    sort = helper.make_node("TopK", [answer, count], ["sorted", "places"], name="sorted", axis=1, largest=0)
    graph.nodes.append(sort)
    return "sorted"


def _clipped(graph: _Graph, z: str, far: float) -> str:
    return graph.add("Clip", z, _one(-far), _one(far))


def _one(value: float) -> Array:
    return np.array(value, np.float32)
