"""The second implementation of docs/arithmetic.md: NumPy, one operation after the other, slow.

Only + - * /, square roots, comparisons and the bits of numbers are used, each of which IEEE 754 defines: no
reduction, no product of matrices, no function of NumPy's that another machine computes otherwise.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
F4 = np.float32


# --- Functions of float64


def bits(x: Array) -> NDArray[np.uint64]:
    return np.asarray(x, np.float64).view(np.uint64)


def from_bits(x: NDArray[np.uint64]) -> Array:
    return x.view(np.float64)


LOG2E = float.fromhex("0x1.71547652b82fep0")
LN2_HIGH = float.fromhex("0x1.62e42feep-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
SHIFT = 1.5 * 2.0**52
PI = float.fromhex("0x1.921fb54442d18p1")
FACTORIAL = [1.0]
for n in range(1, 18):
    FACTORIAL.append(FACTORIAL[-1] * n)


def horner(x: Array, coefficients: list[float]) -> Array:
    """Evaluate a polynomial; the coefficient of the highest power comes first."""
    p = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        p = p * x + c
    return p


def exp_series(r: Array) -> Array:
    return horner(r, [1.0 / FACTORIAL[n] for n in range(13, 1, -1)])


def exponential(x: Array) -> Array:
    x = np.where(x < -708.0, -708.0, x)
    x = np.where(x > 709.0, 709.0, x)
    shifted = x * LOG2E + SHIFT
    k = shifted - SHIFT
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    p = 1.0 + (r + r * r * exp_series(r))
    return p * from_bits((bits(shifted) + np.uint64(1023)) << np.uint64(52))


def exponential_minus_1(x: Array) -> Array:
    return np.where(np.abs(x) < 0.35, x + x * x * exp_series(x), exponential(x) - 1.0)


def log_series(f: Array) -> Array:
    return horner(f * f, [2.0 / n for n in range(23, 1, -2)] + [2.0])


def logarithm(x: Array) -> Array:
    low = np.uint64(0x3FE6A09E00000000)
    b = bits(x) - low
    k = (b.view(np.int64) >> 52).astype(np.float64)
    m = from_bits((b & np.uint64(0x000FFFFFFFFFFFFF)) + low)
    f = (m - 1.0) / (m + 1.0)
    return np.where(x == x, k * LN2_HIGH + (f * log_series(f) + k * LN2_LOW), x)


def logarithm_1_plus(x: Array) -> Array:
    f = x / (2.0 + x)
    return np.where(np.abs(f) < 0.17, f * log_series(f), logarithm(1.0 + x))


def hyperbolic_tangent(x: Array) -> Array:
    size = np.abs(x)
    e = exponential_minus_1(2.0 * np.where(size > 20.0, 20.0, size))
    t = e / (e + 2.0)
    return np.where(x < 0, -t, t)


def sigmoid(x: Array) -> Array:
    e = exponential(-np.abs(x))
    return np.where(x < 0, e / (1.0 + e), 1.0 / (1.0 + e))


def softplus(x: Array) -> Array:
    more = logarithm_1_plus(exponential(-np.abs(x)))
    return np.where(x > 0, x + more, more)


ERFC = [
    "-0x1.581a78efdeeb8p-4",
    "0x1.3f2a92f69c284p-1",
    "-0x1.0b84905213d0dp1",
    "0x1.08c34c9d1f661p2",
    "-0x1.53167eed5d5b3p2",
    "0x1.23977dd696befp2",
    "-0x1.5e684413d4e9ep1",
    "0x1.4c61179308a7bp0",
    "-0x1.0aa7ba1ea6e9fp-1",
    "0x1.2a252271220d9p-4",
    "-0x1.05fffb54d696dp-5",
    "0x1.692fa8fb692bdp-4",
    "0x1.68036d63754c2p-3",
    "0x1.f999c3db69cd8p-3",
    "0x1.20dce6494ebf4p-2",
    "0x1.20dd785a1d659p-2",
]


def error_function(x: Array) -> Array:
    size = np.abs(x)
    size = np.where(size > 6.0, 6.0, size)
    s, t = size * size, 2.0 / (2.0 + size)
    series = horner(s, [(-1) ** n / (FACTORIAL[n] * (2 * n + 1)) for n in range(17, -1, -1)])
    small = size * (float.fromhex("0x1.20dd750429b6dp0") * series)
    large = 1.0 - exponential(-s) * (t * horner(t, [float.fromhex(each) for each in ERFC]))
    y = np.where(size < 1.0, small, large)
    return np.where(x < 0, -y, y)


def power(x: Array, y: Array | float) -> Array:
    return np.where(x > 0, exponential(y * logarithm(x)), 0.0)


def cosine_of_pi(t: Array) -> Array:
    t = np.where(t > 1.0, 2.0 - t, t)
    sign = np.where(t > 0.5, -1.0, 1.0)
    t = np.where(t > 0.5, 1.0 - t, t)
    x = PI * np.where(t > 0.25, 0.5 - t, t)
    signed = [(-1) ** (n // 2) / FACTORIAL[n] for n in range(17)]
    cosine = horner(x * x, signed[16::-2])
    sine = horner(x * x, signed[15::-2])
    return sign * np.where(t > 0.25, x * sine, cosine)


FUNCTIONS = (
    exponential,
    exponential_minus_1,
    logarithm,
    logarithm_1_plus,
    hyperbolic_tangent,
    sigmoid,
    softplus,
    error_function,
    cosine_of_pi,
)


# --- Products


def product(x: Array, w: Array) -> Array:
    """Return x (rows, n) times w (n, m): each element one chain over n, from +0, in float32."""
    z = np.zeros((len(x), w.shape[1]), F4)
    for i in range(x.shape[1]):
        z = z + x[:, i : i + 1] * w[i]
    return z


# --- Random numbers

GOLDEN = 0x9E3779B97F4A7C15
M64 = 2**64 - 1


def mixed(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


def draw_key(seed: int, a: int, b: int) -> int:
    z = mixed((seed + GOLDEN) & M64)
    z = mixed((z + a * GOLDEN) & M64)
    return mixed((z + b * GOLDEN) & M64)


def draw_bits(key: int, index: int) -> int:
    return mixed((key + (index + 1) * GOLDEN) & M64)


def keep_units(key: int, dropout: float, rows: int, units: int) -> Array:
    bound, factor = int(dropout * 2.0**32), F4(1.0 / (1.0 - dropout))
    kept = [factor if draw_bits(key, i) >> 32 >= bound else F4(0) for i in range(rows * units)]
    return np.array(kept, F4).reshape(rows, units)


def uniform(key: int, index: int) -> float:
    return float(draw_bits(key, index) >> 11) * 2.0**-53


def normal(key: int, index: int) -> float:
    u = float((draw_bits(key, 2 * index) >> 11) + 1) * 2.0**-53
    cosine = cosine_of_pi(np.array([2.0 * uniform(key, 2 * index + 1)]))
    return float(np.sqrt(-2.0 * logarithm(np.array([u])))[0] * cosine[0])


def orthonormalize(q: Array) -> Array:
    """Gram and Schmidt, each column twice; all sums are chains over the rows."""

    def chain(products: Array) -> float:
        total = 0.0
        for each in products.tolist():
            total = total + each
        return total

    q = q.copy()
    for c in range(q.shape[1]):
        for _ in range(2):
            for b in range(c):
                q[:, c] = q[:, c] - chain(q[:, b] * q[:, c]) * q[:, b]
        q[:, c] = q[:, c] / np.sqrt(chain(q[:, c] * q[:, c]))
    return q


def draw(kind: str, size: float, seed: int, a: int, b: int, start: int, shape: tuple[int, int]) -> Array:
    key, (rows, columns) = draw_key(seed, a, b), shape
    numbers = range(start, start + rows * columns)
    if kind == "constant":
        return np.full(shape, size, F4)
    if kind == "uniform":
        return np.array([(2.0 * uniform(key, i) - 1.0) * size for i in numbers]).reshape(shape).astype(F4)
    values = np.array([normal(key, i) for i in numbers])
    if kind == "normal":
        return (values * size).reshape(shape).astype(F4)
    q = orthonormalize(values.reshape(max(shape), min(shape)))
    return (q if rows >= columns else q.T).astype(F4)


# --- Activations: sums to values, and a gradient by the values to one by the sums; both in float32

SLOPE = F4(0.01)
ROOT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
NORMAL_PEAK = float.fromhex("0x1.9884533d43651p-2")


def in_float64(function: Any) -> Any:
    return lambda z: function(z.astype(np.float64)).astype(F4)


def gelu_slope(z: Array) -> Array:
    density = NORMAL_PEAK * exponential((-0.5 * z) * z)
    return 0.5 * (1.0 + error_function(ROOT_HALF * z)) + z * density


ACTIVATE: dict[str, Any] = {
    "identity": lambda z: z,
    "sigmoid": in_float64(sigmoid),
    "tanh": in_float64(hyperbolic_tangent),
    "relu": lambda z: np.where(z < 0, F4(0), z),
    "leaky_relu": lambda z: np.where(z > 0, z, SLOPE * z),
    "elu": lambda z: np.where(z > 0, z, in_float64(exponential_minus_1)(z)),
    "gelu": in_float64(lambda z: (0.5 * z) * (1.0 + error_function(ROOT_HALF * z))),
    "softplus": in_float64(softplus),
}

ONE = F4(1)
DIFFERENTIATE: dict[str, Any] = {  # of delta and the value, of gelu the sum
    "identity": lambda d, h: d,
    "sigmoid": lambda d, h: (d * h) * (ONE - h),
    "tanh": lambda d, h: d * (ONE - h * h),
    "relu": lambda d, h: np.where(h > 0, d, F4(0)),
    "leaky_relu": lambda d, h: np.where(h > 0, d, d * SLOPE),
    "elu": lambda d, h: np.where(h > 0, d, d * (h + ONE)),
    "gelu": lambda d, z: (d.astype(np.float64) * gelu_slope(z.astype(np.float64))).astype(F4),
    "softplus": lambda d, h: (d.astype(np.float64) * -exponential_minus_1(-h.astype(np.float64))).astype(F4),
}


# --- Losses: one row's last sums to predictions; predictions and y to the loss, in float64, and the slopes

LEAST = 1e-37
STEEP = 30.0


def link(shape: Any, z: Array) -> Array:
    wide = z.astype(np.float64)
    if shape.loss == "softmax":
        top = z[0]
        for each in z[1:]:
            top = each if each > top else top
        e = exponential(wide - float(top))
        total = 0.0
        for each in e.tolist():
            total = total + each
        wide = e / total
    elif shape.loss == "logistic":
        wide = sigmoid(wide)
    elif shape.loss == "poisson":
        wide = np.where(wide < -STEEP, -STEEP, wide)
        wide = exponential(np.where(wide > STEEP, STEEP, wide))
    return wide.astype(F4)


def one(function: Any, *values: float) -> float:
    return float(function(*(np.array([value]) for value in values))[0])


def log_loss(right: float) -> float:
    return -one(logarithm, LEAST if right < LEAST else right)


def focus(gamma: float, right: float) -> tuple[float, float]:
    loss, wrong = log_loss(right), 1.0 - right
    easy = one(power, wrong, gamma)
    slope = one(power, LEAST if wrong < LEAST else wrong, gamma - 1.0)
    return easy * loss, easy + ((gamma * right) * slope) * loss


def error_loss(shape: Any, output: np.float32, y: np.float32, quantile: float) -> tuple[float, np.float32]:
    error = output - y
    if shape.loss == "squared":
        return 0.5 * (float(error) * float(error)), error
    if shape.loss == "absolute":
        return abs(float(error)), F4(1) if error > 0 else F4(-1) if error < 0 else error
    if shape.loss == "huber":
        bound = F4(shape.options["huber_delta"])
        slope = bound if error > bound else -bound if error < -bound else error
        return float(slope) * (float(error) - 0.5 * float(slope)), slope
    if shape.loss == "quantile":
        slope = F4(1 if error > 0 else 0) - F4(quantile)
        return float(slope) * float(error), slope
    return float(output) - float(y) * one(logarithm, float(output)), error


def loss_and_slope(shape: Any, output: Array, y: Array) -> tuple[float, Array]:
    gamma = shape.options["focal_gamma"]
    slope = output.copy()
    if shape.loss == "softmax":
        truth = int(y[0])
        slope[truth] = output[truth] - F4(1)
        if not gamma:
            return log_loss(float(output[truth])), slope
        loss, factor = focus(gamma, float(output[truth]))
        return loss, slope * F4(factor)
    total = 0.0
    for j in range(len(output)):
        if shape.loss == "logistic":
            right = float(output[j] if y[j] == 1 else F4(1) - output[j])
            loss, slope[j] = log_loss(right), output[j] - y[j]
            if gamma:
                loss, factor = focus(gamma, right)
                slope[j] = slope[j] * F4(factor)
        else:
            quantiles = shape.options["quantiles"]
            at = y[0] if shape.loss == "quantile" else y[j]
            loss, slope[j] = error_loss(shape, output[j], at, quantiles[j] if quantiles else 0.0)
        total = total + loss
    return total, slope


# --- Networks


class Ramps(NamedTuple):
    """What a member sees after the other inputs of some rows."""

    heights: Array  # (rows, columns, ramps) 0 of those that are not there
    there: NDArray[np.bool_]  # (columns, ramps)


def first_sums(x: Array, ramps: Ramps | None, W: Array) -> Array:
    z = product(x, W[: x.shape[1]])
    if ramps is not None:
        columns = W[x.shape[1] :].reshape(*ramps.there.shape, -1)
        for c, weights in enumerate(columns):
            z = z + product(ramps.heights[:, c], weights)
    return z


def first_gradient(x: Array, ramps: Ramps | None, delta: Array) -> Array:
    parts = [product(x.T, delta)]
    for c, there in enumerate([] if ramps is None else ramps.there):
        parts.append(ramps_gradient(ramps.heights[:, c], there, delta))  # type: ignore[union-attr]
    return np.concatenate(parts)


def ramps_gradient(heights: Array, there: NDArray[np.bool_], delta: Array) -> Array:
    slopes, after = np.zeros((len(there), delta.shape[1]), F4), np.zeros(delta.shape[1], F4)
    listed = np.flatnonzero(there)
    ones = (heights[:, listed] == 1).sum(axis=1)
    for i in range(len(listed), -1, -1):
        rising, full = np.zeros_like(after), np.zeros_like(after)
        for r in np.flatnonzero(ones == i):
            full = full + delta[r]
            if i < len(listed):
                rising = rising + heights[r, listed[i]] * delta[r]
        if i < len(listed):
            slopes[listed[i]] = after + rising
        after = after + full
    return slopes


def forward(
    shape: Any, theta: Array, x: Array, kept: list[Array] | None = None, ramps: Ramps | None = None
) -> Any:
    """Return outputs, each layer's inputs, and what each activation's derivative needs."""
    inputs, saved = [x], []
    *hidden, (W, b) = shape.views(theta)
    for layer, (V, c) in enumerate(hidden):
        z = (product(inputs[-1], V) if layer else first_sums(x, ramps, V)) + c
        h = ACTIVATE[shape.activation](z)
        saved.append(z if shape.activation == "gelu" else h)
        inputs.append(h if kept is None else h * kept[layer])
    z = product(inputs[-1], W) if hidden else first_sums(x, ramps, W)
    if shape.skip:
        z = z + first_sums(x, ramps, shape.linear_view(theta))
    return np.stack([link(shape, row) for row in z + b]), inputs, saved


def gradient(
    shape: Any,
    theta: Array,
    x: Array,
    y: Array,
    weight: Array | None = None,
    dropout: float = 0.0,
    key: int = 0,
    ramps: Ramps | None = None,
) -> tuple[Array, Array, Array]:
    rows = len(x)
    kept = None
    if dropout:
        keys = [draw_key(key, layer, 0) for layer in range(len(shape.units) - 2)]
        sizes = shape.units[1:-1]
        kept = [keep_units(k, dropout, rows, units) for k, units in zip(keys, sizes, strict=True)]
    outputs, inputs, saved = forward(shape, theta, x, kept, ramps)
    weight = np.ones(rows, F4) if weight is None else weight
    results = [loss_and_slope(shape, output, truth) for output, truth in zip(outputs, y, strict=True)]
    part = F4(1.0 / rows)
    slopes = np.stack([(slope * w) * part for (_, slope), w in zip(results, weight, strict=True)])
    slopes = quiet(slopes, F4(1e-15))
    whole = np.zeros_like(theta)
    views, delta = shape.views(theta), slopes
    for layer in range(len(views) - 1, -1, -1):
        W, b = shape.views(whole)[layer]
        W[:] = product(inputs[layer].T, delta) if layer else first_gradient(x, ramps, delta)
        b[:] = product(np.ones((1, rows), F4), delta)[0]
        if layer:
            delta = product(delta, views[layer][0].T)
            if kept is not None:
                delta = delta * kept[layer - 1]
            delta = DIFFERENTIATE[shape.activation](delta, saved[layer - 1])
    if shape.skip:
        shape.linear_view(whole)[:] = first_gradient(x, ramps, slopes)
    return outputs, np.array([loss for loss, _ in results]), whole


# --- Optimizers: one step; `state` is {"theta", "first", "second", "powers"}; each parameter by itself

LIMIT = F4(2.0**64)
MOST_SQUARES = F4(2.0**126)
QUIET = F4(1e-30)


def bounded(x: Array) -> Array:
    x = np.where(x > LIMIT, LIMIT, x)
    return np.where(x < -LIMIT, -LIMIT, x)


def quiet(x: Array, least: np.float32 = QUIET) -> Array:
    return np.where((x < least) & (x > -least), F4(0), x)


def at_most(squares: Array) -> Array:
    return np.where(squares > MOST_SQUARES, MOST_SQUARES, squares)


def adjusted(options: Any, gradient: Array, theta: Array, biases: bool) -> Array:
    if options.kind != FTRL and not biases:
        l1, l2 = F4(options.l1), F4(options.l2)
        if l1 > 0:
            gradient = gradient + np.where(theta > 0, l1, np.where(theta < 0, -l1, F4(0)))
        if l2 > 0:
            gradient = gradient + theta * l2
    most = F4(options.clip_value)
    if most > 0:
        gradient = np.where(gradient > most, most, gradient)
        gradient = np.where(gradient < -most, -most, gradient)
    return gradient


SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM, NADAM, FTRL = range(1, 9)


def begin_step(options: Any, factor: float, powers: Array) -> dict[str, Any]:
    """Return a step's constants; Adam's powers are changed."""
    rate = options.rate * factor
    step: dict[str, Any] = {
        "rate": F4(rate),
        "decay": F4(rate * options.weight_decay),
        "epsilon": F4(options.epsilon),
    }
    if options.kind in (ADAM, NADAM):
        powers[0] = powers[0] * options.momentum
        powers[1] = powers[1] * options.beta2
        corrected = float(np.sqrt(1.0 - powers[1]))
        step["epsilon"] = F4(options.epsilon * corrected)
        step["alpha"] = F4(rate * corrected / (1.0 - powers[0]))
        later = options.momentum * (1.0 - powers[0]) / (1.0 - powers[0] * options.momentum)
        step["later"] = F4(later)
    return step


def take_step(
    options: Any, step: dict[str, Any], state: dict[str, Array], at: slice, gradient: Array, biases: bool
) -> None:
    """Change a part of the parameters, and of the optimizer's state, by an adjusted gradient."""
    theta, first, second = (state[name][at] for name in ("theta", "first", "second"))
    rate, epsilon = step["rate"], step["epsilon"]
    beta1, fresh1 = F4(options.momentum), F4(1.0 - options.momentum)
    beta2, fresh2 = F4(options.beta2), F4(1.0 - options.beta2)
    if options.kind == FTRL:
        l1, l2 = (F4(0), F4(0)) if biases else (F4(options.l1), F4(options.l2))
        n = at_most(second + gradient * gradient)
        now = np.sqrt(n)
        z = bounded((first + gradient) - ((now - np.sqrt(second)) / rate) * theta)
        far = np.where(z < 0, -z, z) - l1
        size = np.where(far > 0, far, F4(0)) / ((F4(options.beta) + now) / rate + l2)
        first[:], second[:], theta[:] = z, n, bounded(np.where(z < 0, size, -size))
        return
    if options.kind == SGD:
        move = rate * gradient
    elif options.kind in (MOMENTUM, NESTEROV):
        first[:] = quiet(bounded(beta1 * first - rate * gradient))
        move = -first if options.kind == MOMENTUM else rate * gradient - beta1 * first
    elif options.kind == ADAGRAD:
        first[:] = at_most(first + gradient * gradient)
        move = rate * (gradient / (np.sqrt(first) + epsilon))
    elif options.kind == RMSPROP:
        first[:] = quiet(beta2 * first + fresh2 * (gradient * gradient))
        move = rate * (gradient / (np.sqrt(first) + epsilon))
    else:
        first[:] = quiet(beta1 * first + fresh1 * gradient)
        second[:] = quiet(beta2 * second + fresh2 * (gradient * gradient))
        ahead = step["later"] * first + fresh1 * gradient if options.kind == NADAM else first
        move = step["alpha"] * (ahead / (np.sqrt(second) + epsilon))
    if step["decay"] != 0 and not biases:
        move = move + theta * step["decay"]
    theta[:] = bounded(theta - move)


def sum_of_squares(x: Array) -> float:
    """Sum in eight chains over every eighth number, then the chains' sums in their order."""
    wide = x.astype(np.float64)
    lanes = np.zeros(8)
    for start in range(0, len(wide), 8):
        part = wide[start : start + 8]
        lanes[: len(part)] = lanes[: len(part)] + part * part
    total = 0.0
    for each in lanes.tolist():
        total = total + each
    return total


def update(
    shape: Any,
    options: Any,
    factor: float,
    state: dict[str, Array],
    gradient: Array,
    resting: NDArray[np.bool_] | None = None,
) -> None:
    """Take one step for all parameters of a network, whose gradient has their layout, but resting ones."""
    step = begin_step(options, factor, state["powers"])
    rest = np.zeros(len(gradient), bool) if resting is None else resting
    before = {name: state[name][rest] for name in ("theta", "first", "second")}
    spans = [span for each in shape.layers for span in weights_and_biases(each)]
    for at, biases in spans:
        gradient[at] = adjusted(options, gradient[at], state["theta"][at], biases)
    gradient[rest] = 0
    if options.clip_norm > 0:
        length = float(np.sqrt(sum_of_squares(gradient)))
        if length > options.clip_norm:
            gradient = gradient * F4(options.clip_norm / length)
    for at, biases in spans:
        take_step(options, step, state, at, gradient[at], biases)
    for name, values in before.items():
        state[name][rest] = values


def resting(shape: Any, z: Array) -> NDArray[np.bool_]:
    """Return which parameters (parameters,) are first weights of inputs that are 0 in all rows."""
    first = shape.layers[0]
    rest = np.zeros(shape.parameters, bool)
    rest[first.weights : first.biases].reshape(first.inputs, -1)[:] = (z == 0).all(axis=0)[:, None]
    return rest


def without_ramps(options: Any, state: Any, shape: Any) -> NDArray[np.bool_]:
    """Return which parameters (parameters,) are first weights of ramps that are not there."""
    first = shape.layers[0]
    rest = np.zeros(shape.parameters, bool)
    rows = rest[first.weights : first.biases].reshape(first.inputs, -1)
    there = are_there(state).ravel()[: len(rows) - options.width]
    rows[options.width :][~there] = True
    return rest


def are_there(state: Any) -> NDArray[np.bool_]:
    """Return which ramps (columns, ramps) are there."""
    width = np.diff(state.knots).astype(F4)
    return (width > 0) & (width < INFINITE)


def weights_and_biases(layer: Any) -> list[tuple[slice, bool]]:
    end = layer.biases + -(-layer.outputs // 8) * 8
    return [(slice(layer.weights, layer.biases), False), (slice(layer.biases, end), True)]


# --- Schedules


def integer_power(x: float, n: int) -> float:
    result = 1.0
    while n:
        if n & 1:
            result = result * x
        x = x * x
        n >>= 1
    return result


def schedule_factor(options: Any, rows: float) -> float:
    warmed = (rows + 1.0) / options.warmup if rows < options.warmup else 1.0
    after = 0.0 if rows < options.warmup else rows - options.warmup
    units = after / options.rows
    if options.kind == 1:
        return warmed * one(power, 1.0 + units, -options.power)
    if options.kind == 2:
        return warmed * integer_power(options.drop, int(units))
    if options.kind == 3:
        cosine = one(cosine_of_pi, part_of_period(units, options.growth))
        return warmed * (options.least + (1.0 - options.least) / 2.0 * (1.0 + cosine))
    return warmed


def part_of_period(periods: float, growth: float) -> float:
    if growth == 1.0:
        return periods - float(int(periods))

    def start(full: int) -> float:
        return (integer_power(growth, full) - 1.0) / (growth - 1.0)

    more = growth - 1.0
    full = int(one(logarithm_1_plus, periods * more) / one(logarithm_1_plus, more))
    while start(full + 1) <= periods:
        full += 1
    while full and start(full) > periods:
        full -= 1
    return (periods - start(full)) / integer_power(growth, full)


# --- Rows and their statistics

INFINITE = F4(np.inf)


def widths_of(options: Any, state: Any) -> Array:
    if options.scale == "none":
        return np.ones(options.columns, F4)
    if options.scale == "sparse":
        squares = state.means * state.means + state.squares / np.where(state.rows < 1.0, 1.0, state.rows)
        width = np.sqrt(squares).astype(F4)
        return np.where(width == 0, F4(1), width)
    if options.scale == "minmax":
        half = ((state.high.astype(np.float64) - state.low.astype(np.float64)) / 2.0).astype(F4)
        half = np.where(half == 0, F4(1), half)
        return np.where(state.low <= state.high, half, INFINITE)
    width = deviation(state.rows, state.squares).astype(F4)
    width = np.where(width == 0, F4(1), width)
    return np.where(state.rows == 0, INFINITE, width)


def deviation(rows: Array, squares: Array) -> Array:
    return np.sqrt(squares / np.where(rows < 1.0, 1.0, rows))


def origins_of(options: Any, state: Any) -> Array:
    if options.scale == "standard":
        return state.means
    if options.scale in ("none", "sparse"):
        return np.zeros(options.columns)
    middle = (state.low.astype(np.float64) + state.high.astype(np.float64)) / 2.0
    return np.where(state.low <= state.high, middle, 0.0)


def prepare(options: Any, state: Any, x: Array) -> Array:
    missing = np.isnan(x) & (options.missing != "refuse")
    value = np.where(missing, 0.0 if options.scale == "sparse" else state.means, x.astype(np.float64))
    z = (value - origins_of(options, state)).astype(F4) / widths_of(options, state)
    most = {"minmax": F4(1), "none": INFINITE}.get(options.scale, F4(options.clip))
    z = np.where(z > most, most, z)
    z = np.where(z < -most, -most, z)
    return np.concatenate([z, missing], axis=1, dtype=F4) if options.missing == "indicate" else z


# --- Ramps


def ramps(options: Any, state: Any, x: Array) -> Ramps:
    """Return each ramp's height; without knots, 0."""
    heights = np.zeros((len(x), *are_there(state).shape), F4)
    for j, knots in enumerate(state.knots):
        missing = np.isnan(x[:, j]) & (options.missing != "refuse")
        value = np.where(missing, state.means[j], x[:, j])
        for i in np.flatnonzero(are_there(state)[j]):
            z = (value - knots[i]).astype(F4) / F4(knots[i + 1] - knots[i])
            z = np.where(z > 1, F4(1), z)
            heights[:, j, i] = np.where(z < 0, F4(0), z)
    return Ramps(heights, are_there(state))


def seen_by(options: Any, shape: Any, ramps: Ramps, rows: int) -> Ramps | None:
    """Return what a member of this shape sees of the first rows' ramps."""
    return Ramps(ramps.heights[:rows], ramps.there) if options.sees_ramps(shape) else None


def placements(rows: int) -> int:
    return sum(rows >= 32 << i for i in range(7)) + rows // 4096


def set_knots(options: Any, state: Any, before: int) -> None:
    appended = int(state.appended)
    if placements(before) == placements(appended):
        return
    kept = min(appended, options.capacity)
    count = min(kept, 1024)
    slots = [(appended - kept + i * kept // count) % options.capacity for i in range(count)]
    for knots, values in zip(state.knots, state.ring[slots].T, strict=False):
        sample = sorted((values[~np.isnan(values)] + 0.0).tolist())
        found = sorted(set(sample))
        if len(found) > len(knots):
            found = sorted({sample[i * (len(sample) - 1) // 15] for i in range(16)})
        knots[:] = np.inf
        if len(found) > 2:
            knots[: len(found)] = found


def correct(
    correction: Array, before: Array, targets: Array, y: Array, output: Array, as_served: Array
) -> None:
    """Set the correction (4, targets) after rows; `before` and `targets` are the moments around them."""
    rows = list(zip(y.tolist(), output.tolist(), as_served.tolist(), strict=True))
    for t, (added, squares, products, last) in enumerate(correction.T.tolist()):
        unit, total, error = unit_of(before[t], False), 0.0, 0.0
        for truth, predicted, served in rows:
            total = total + bounded_error(truth[t], served[t], added, unit)
            error = bounded_error(truth[t], predicted[t], added, unit)
        squares = 0.999 * squares + last * last
        products = 0.999 * products + last * (total / len(rows))
        part = products / (squares + 10.0)
        part = part if part < 1.0 else 1.0
        part = part if part > 0.0 else 0.0
        correction[:, t] = part * error * unit_of(targets[t], False), squares, products, error


def bounded_error(y: float, prediction: float, added: float, unit: float) -> float:
    error = ((y - prediction) + added) / unit
    if not np.isfinite(error):
        return 0.0
    error = 1.0 if error > 1.0 else error
    return -1.0 if error < -1.0 else error


class Moments:
    """Count, mean and sum of squared deviations of some values, one by one."""

    def __init__(self, values: Any) -> None:
        self.rows, self.mean, self.squares = map(float, values)

    def push(self, value: float) -> None:
        delta = value - self.mean
        self.rows = self.rows + 1
        shift = delta / self.rows
        self.mean, self.squares = self.mean + shift, self.squares + delta * (delta - shift)

    def limit(self, reach: float) -> float:
        return reach * one(deviation, self.rows, self.squares) if reach > 0 else np.inf

    def numbers(self) -> list[float]:
        return [self.rows, self.mean, self.squares]


def merged(a: Moments, b: Moments) -> Moments:
    rows = a.rows + b.rows
    part, delta = b.rows / rows, b.mean - a.mean
    return Moments([rows, delta * part + a.mean, delta * delta * (a.rows * part) + a.squares + b.squares])


def distance(near: Moments, far: Moments) -> float:
    delta = far.mean - near.mean
    return one(np.sqrt, delta * delta + far.squares / far.rows)


def add_column(column: Array, values: list[float], reach: float) -> None:
    """Add one column's values to its clusters (7,)."""
    near, far, votes = Moments(column[:3]), Moments(column[3:6]), float(column[6])
    limit = near.limit(reach)
    low, high = (near.mean - limit, near.mean + limit) if near.rows > 0 else (np.inf, -np.inf)
    inside, total, squares, outside = 0, 0.0, 0.0, []
    for value in values:
        if low <= value <= high:
            delta = value - near.mean
            inside, total, squares = inside + 1, total + delta, squares + delta * delta
        elif value == value:
            outside.append(value)
    near.rows = near.rows + inside
    shift = total / max(near.rows, 1.0)
    more = squares - total * shift
    near.mean, near.squares = near.mean + shift, (more if more > 0 else 0.0) + near.squares
    for value in outside:
        size = abs(value - near.mean)
        if near.rows == 0 or size <= near.limit(reach):
            near.push(value)
            inside += 1
            continue
        other = distance(near, far) if far.rows > 0 else 0.0
        farther = far.rows > 0 and size > reach * other
        if farther and votes > 0:
            votes -= 1
        elif farther or far.rows == 0 or other > reach * size:
            far, votes = Moments([1, value, 0]), 1
        else:
            far.push(value)
            votes += 1
            if near.squares == 0 < far.squares and distance(near, far) <= far.limit(reach):
                near, far, votes = merged(near, far), Moments([0, 0, 0]), 0
    votes = max(votes - inside, 0)
    if outside and votes > min(near.rows, 30):
        near, far, votes = far, near, 0
        if not abs(far.mean - near.mean) > near.limit(reach):
            far = Moments([0, 0, 0])
    column[:] = [*near.numbers(), *far.numbers(), votes]


def moments_of(column: Array) -> list[float]:
    """Return count, mean and squares of the values that scale a column."""
    near, far = Moments(column[:3]), Moments(column[3:6])
    return merged(near, far).numbers() if near.squares == 0 and far.rows > 0 else near.numbers()


def add_rows(options: Any, state: Any, x: Array) -> None:
    for j in range(options.columns):
        values = x[:, j].tolist()
        if options.scale == "sparse":
            values = [value for value in values if value != 0]
        add_column(state.clusters[:, j], values, options.reach)
        state.rows[j], state.means[j], state.squares[j] = moments_of(state.clusters[:, j])
    if options.scale == "minmax":
        for row in x:
            state.low[:] = np.where(row < state.low, row, state.low)
            state.high[:] = np.where(row > state.high, row, state.high)


def is_far(moments: Array, y: Array, reach: float) -> Any:
    if reach == 0 or moments[2] == 0:
        return np.zeros(len(y), bool)
    return np.abs(y - moments[1]) > reach * one(deviation, moments[0], moments[2])


def unit_of(moments: Array, counts: bool) -> float:
    unit = float(moments[1]) if counts else one(deviation, moments[0], moments[2])
    return unit if unit > 0 else 1.0


# --- The step of an ensemble

TARGET_CLIP = F4(6)


def is_classes(options: Any) -> bool:
    return options.shape.loss in ("softmax", "logistic")


def clipped(options: Any, p: Array) -> Array:
    if is_classes(options) or options.shape.loss == "poisson":
        return p
    p = np.where(p > TARGET_CLIP, TARGET_CLIP, p)
    return np.where(p < -TARGET_CLIP, -TARGET_CLIP, p)


def logs(options: Any, predictions: Array) -> Array:
    """Return the logarithms of predictions (members, rows, outputs), of labels of their odds."""

    def bounded(p: Array) -> Array:
        wide = p.astype(np.float64)
        return logarithm(np.where(wide < 1e-4, 1e-4, wide))

    found = bounded(predictions)
    if options.shape.loss == "logistic":
        found = found - bounded(F4(1) - predictions)
    found[~np.isfinite(predictions).all(axis=2)] = 0.0
    return found


def geometric_mixture(options: Any, state: Any, of_members: Array) -> Array:
    """Return the probabilities (rows, outputs) of logarithms (members, rows, outputs), in float64."""
    sums = np.zeros(of_members.shape[1:])
    for k, each in enumerate(of_members):
        sums = sums + float(state.exponents[k]) * each
    if options.shape.loss == "logistic":
        return sigmoid(sums)
    mixed = np.zeros(sums.shape)
    for r, row in enumerate(sums):
        e, total = exponential(row - max(row.tolist())), 0.0
        for each in e.tolist():
            total = total + each
        mixed[r] = e / total
    return mixed


def update_exponents(options: Any, state: Any, predictions: Array, y: Array, w: Array) -> None:
    of_members = logs(options, predictions)
    mixed, slopes, rows = geometric_mixture(options, state, of_members), [0.0] * len(predictions), 0.0
    for r, weight in enumerate(w.astype(np.float64).tolist()):
        rows = rows + weight
        for k in range(len(slopes)):
            for j in range(mixed.shape[1]):
                one_hot = 1.0 if j == int(y[r, 0]) else 0.0
                truth = float(y[r, j]) if options.shape.loss == "logistic" else one_hot
                slopes[k] = slopes[k] + (weight * (mixed[r, j] - truth)) * float(of_members[k, r, j])
    step = 0.004 * (32.0 / rows) if rows > 32.0 else 0.004
    state.exponents[:] = state.exponents - step * np.array(slopes)


def mix(options: Any, state: Any, predictions: Array) -> Array:
    """Return the mixture (rows, outputs) of predictions (members, rows, outputs)."""
    counts, outputs = options.shape.loss == "poisson", predictions.shape[2]
    mixed = np.zeros(predictions.shape[1:], F4 if is_classes(options) else np.float64)
    both = len(state.exponents) > 0
    geometric = geometric_mixture(options, state, logs(options, predictions)) if both else mixed
    for r in range(predictions.shape[1]):
        finite = np.isfinite(predictions[:, r]).all(axis=1)
        total, sums = 0.0, np.zeros(outputs)
        for k in np.flatnonzero(finite):
            total = total + float(state.weights[k])
            sums = sums + float(state.weights[k]) * clipped(options, predictions[k, r]).astype(np.float64)
        default = 1.0 / outputs if is_classes(options) else 0.0
        value = sums / total if total > 0 else np.full(outputs, default)
        if not is_classes(options):
            moments = [state.targets[0 if len(state.targets) == 1 else j] for j in range(outputs)]
            units = np.array([unit_of(each, counts) for each in moments])
            value = value * units + np.array([0.0 if counts else each[1] for each in moments])
            value = value + state.correction[0] if len(state.correction) else value
        mixed[r] = 0.5 * (value + geometric[r]) if both else value
    return np.sort(mixed, axis=1) if options.shape.loss == "quantile" else mixed


def predict(options: Any, state: Any, x: Array) -> Array:
    z = prepare(options, state, x)
    rising = ramps(options, state, x)
    each = zip(options.shapes, options.layout.thetas(state.theta), strict=True)
    predictions = [
        forward(shape, theta, z, ramps=seen_by(options, shape, rising, len(z)))[0] for shape, theta in each
    ]
    return mix(options, state, np.stack(predictions))


def valid_targets(options: Any, y: Array) -> bool:
    if options.shape.loss == "softmax":
        return bool(np.all((y >= 0) & (y < options.shape.units[-1])))
    if options.shape.loss == "logistic":
        return bool(np.isin(y, (0, 1)).all())
    return bool(np.isfinite(y).all()) and not (options.shape.loss == "poisson" and bool((y < 0).any()))


def draws(options: Any, state: Any) -> list[int]:
    kept = min(int(state.appended), options.capacity)
    turns = [(int(state.drawn) + i) * GOLDEN & M64 for i in range(min(options.replay_rows, kept))]
    return [((turn >> 32) * kept) >> 32 for turn in turns]


def weigh_classes(options: Any, class_rows: Array) -> Array:
    if isinstance(options.class_weight, tuple):
        return np.array(options.class_weight).astype(F4)

    def effective(rows: float) -> float:
        exponent = rows * one(logarithm, options.class_beta)
        return -1.0 / one(exponential_minus_1, exponent)

    total = seen = inverse = 0.0
    for rows in class_rows.tolist():
        if rows:
            total, seen = total + rows, seen + 1.0
            inverse = inverse + effective(rows)
    weights = []
    for rows in class_rows.tolist():
        if not rows:
            weights.append(1.0)
        elif options.class_weight == "balanced":
            weights.append(total / (seen * rows))
        else:
            weights.append(effective(rows) * (seen / inverse))
    return np.array(weights).astype(F4)


def mixture_loss(options: Any, p: Array, y: Array) -> float:
    loss, name = 0.0, options.shape.loss
    if is_classes(options):
        rights = [p[int(y[0])]] if name == "softmax" else np.where(y == 1, p, F4(1) - p)
        for right in rights:
            loss = loss - one(logarithm, 1e-4 if right < 1e-4 else float(right))
        return loss
    for t in range(len(y)):
        error = abs(float(p[options.point if len(y) == 1 else t]) - float(y[t]))
        loss = loss + (10.0 if error > 10.0 else error)
    return loss / len(y)


def learn(options: Any, state: Any, x: Array, y: Array, weight: Array | None, initial: Array) -> Any:
    """Take one step; return the predictions from before it, and whether it was taken."""
    shape, rows = options.shape, len(x)
    given = np.ones(rows, F4) if weight is None else weight
    finite = np.isfinite(x.astype(F4)) | (np.isnan(x) if options.missing != "refuse" else False)
    slots = draws(options, state)
    drawn = state.ring[slots]
    targets, columns = shape.targets, options.columns
    raw_y = np.concatenate([y, drawn[:, columns:-1]])
    both_y = raw_y.astype(F4)
    if not (finite.all() and np.isfinite(given).all() and valid_targets(options, both_y)):
        return predict(options, state, x), False
    both = np.concatenate([x, drawn[:, :columns]])
    z = prepare(options, state, both)
    rising = ramps(options, state, both)
    w = np.concatenate([given, drawn[:, -1].astype(F4)])
    moments, clusters = state.targets.copy(), state.target_clusters.copy()
    if not is_classes(options):
        counts = shape.loss == "poisson"
        for t in range(targets):
            add_column(clusters[:, t], raw_y[:rows, t].tolist(), options.reach)
            moments[t] = moments_of(clusters[:, t])
            origin = 0.0 if counts else moments[t, 1]
            unit = unit_of(moments[t], counts)
            w = np.where(is_far(moments[t], raw_y[:, t], options.reach), F4(0), w)
            both_y[:, t] = clipped(options, ((raw_y[:, t] - origin) / unit).astype(F4))
    class_rows = state.class_rows.copy()
    if options.class_weight is not None:
        for truth in both_y[:rows, 0] if isinstance(options.class_weight, str) else ():
            class_rows[int(truth)] += 1.0
        w = weigh_classes(options, class_rows)[both_y[:, 0].astype(int)] * w
    predictions, member_losses, bad, steps = [], [], [], []
    for k, (member, shape, theta) in enumerate(
        zip(options.members, options.shapes, options.layout.thetas(state.theta), strict=True)
    ):
        count = len(z) if member.emphasis > 0 else rows
        p = forward(shape, theta, z[:rows], ramps=seen_by(options, shape, rising, rows))[0]
        loss = 0.0
        for r in range(rows):
            loss = loss + mixture_loss(options, p[r], both_y[r]) * float(w[r])
        fresh = old = F4(1)
        if count > rows:
            mean = (member.emphasis * rows + (count - rows)) / count
            fresh, old = F4(member.emphasis / mean), F4(1.0 / mean)
        emphasis = np.array([fresh if r < rows else old for r in range(count)], F4)
        key = draw_key(options.seed, int(state.learned), k)
        seen, weighted = seen_by(options, shape, rising, count), emphasis * w[:count]
        slope = gradient(shape, theta, z[:count], both_y[:count], weighted, options.dropout, key, seen)[2]
        squares = sum_of_squares(slope)
        predictions.append(p)
        member_losses.append(loss)
        bad.append(not (np.isfinite(loss) and squares < squares_limit(options, w)))
        steps.append(slope)
    output = mix(options, state, np.stack(predictions))
    if any(bad) and len(bad) == 1:
        return output, False
    factor = 1.0 + 2.0 * float(state.boost) if state.boost > 0 else 1.0
    factor = factor * schedule_factor(options.schedule, float(state.learned))
    for k, slope in enumerate(steps):
        if not bad[k]:
            shape = options.shapes[k]
            rest = resting(shape, z) if options.scale == "sparse" else without_ramps(options, state, shape)
            update(shape, options.members[k].structure, factor, vectors(options, state, k), slope, rest)
    if len(bad) > 1:
        update_mixture(options, state, member_losses, bad, w[:rows])
    if len(state.exponents):
        update_exponents(options, state, np.stack(predictions), both_y[:rows], w[:rows])
    restart(options, state, bad, initial)
    add_rows(options, state, x)
    state.targets[:], state.target_clusters[:], state.class_rows[:] = moments, clusters, class_rows
    if options.capacity:
        kept = np.where(x == 0, 0.0, x) if options.scale == "sparse" else x  # +0
        block = np.concatenate([kept, y, given[:, None]], axis=1)
        for r in range(rows):
            state.ring[(int(state.appended) + r) % options.capacity] = block[r]
        state.appended[...] += rows
        set_knots(options, state, int(state.appended) - rows)
        state.drawn[...] += np.uint64(len(slots))
    state.learned[...] += rows
    left = float(state.boost) * one(exponential, rows / 500.0 * one(logarithm, 0.5))
    state.boost[...] = left if left > 1e-3 else 0.0
    return output, True


def squares_limit(options: Any, w: Array) -> float:
    if len(options.members) == 1:
        return 1e36
    most = 1e4 * max(1.0, *w.astype(np.float64).tolist())
    return min(most * most, 1e36)


def vectors(options: Any, state: Any, k: int) -> dict[str, Array]:
    layout = options.layout
    first, second = layout.firsts(state.first)[k], layout.seconds(state.second)[k]
    none = np.zeros((2, options.shapes[k].parameters), F4)
    return {
        "theta": layout.thetas(state.theta)[k],
        "first": none[0] if first is None else first,
        "second": none[1] if second is None else second,
        "powers": state.powers[k],
    }


def update_mixture(options: Any, state: Any, losses: list[float], bad: list[bool], w: Array) -> None:
    rows = 0.0
    for each in w.tolist():
        rows = rows + each
    scaled = [
        options.eta * (10.0 * rows if diverged else loss) for loss, diverged in zip(losses, bad, strict=True)
    ]
    least, total = min(scaled), 0.0
    for k, loss in enumerate(scaled):
        state.weights[k] = state.weights[k] * one(exponential, least - loss)
        total = total + state.weights[k]
    spread = 1.0 - integer_power(1.0 - options.share, len(w))
    kept = (1.0 - spread) / total
    state.weights[:] = state.weights * kept + spread / len(scaled)


def restart(options: Any, state: Any, bad: list[bool], initial: Array) -> None:
    thetas, initials = options.layout.thetas(state.theta), options.layout.thetas(initial)
    for k in range(len(bad)):
        if bad[k]:
            good = [i for i in range(len(bad)) if not bad[i] and options.shapes[i] is options.shapes[k]]
            best = max(good, key=lambda i: (state.weights[i], -i)) if good else None
            thetas[k][:] = initials[k] if best is None else thetas[best]
            part, o = vectors(options, state, k), options.members[k].structure
            strength = F4(o.beta / o.rate)
            part["first"][:] = -(thetas[k] * strength) if o.kind == FTRL else 0
            part["second"][:] = 0
            state.powers[k] = 1.0
            state.restarts[k] += 1
