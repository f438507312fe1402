"""Whether the compiled core has the same bits from every compiler, optimization level and CPU at hand.

Streams with every optimizer, activation, loss and scaling, with missing values, replay, restarts and dropout
are learned by each build, and their predictions are measured; all bits of states, predictions and metrics are
compared. The Java scorer predicts the streams' rows by their last states. Through the product, recorded
versions of model directories are replayed by Python on AArch64, and here with the plain code of NumPy and of
its BLAS; digests are compared. What lacks a compiler or an emulator is skipped, and listed as such.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.util import find_spec
from operator import eq
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from benchmarks import emulator, replayed
from benchmarks.output import Json, print_results
from streaming_nn.core import build_backend, build_wheels, library, networks, structures
from streaming_nn.core.ensemble import Ensemble, EnsembleState, MemberOptions, ramp_inputs
from streaming_nn.core.networks import Shape
from streaming_nn.nn import metrics
from streaming_nn.nn.state_dict import flatten

DRIVER = Path(__file__).with_suffix(".c")
FLAGS = ("-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
LEVELS = ("-O1", "-O2", "-O3")
WINDOW, FADING = 20, 0.99  # of the metrics
ROWS = 96  # of a stream: enough for the replay buffer to be full and drawn from
Array = NDArray[Any]
Fetch = Annotated[
    bool, typer.Option(help="First fetch Debian's qemu and Python for AArch64 to the cache folder.")
]


class Stream(NamedTuple):
    """Rows, and the ensemble that learns them."""

    name: str
    ensemble: Ensemble
    initial: Array  # (members, parameters)
    x: Array
    y: Array
    weight: Array | None
    mini_batch: int


class Build(NamedTuple):
    """A core that was compiled in one way, and how it is run."""

    name: str
    compile: tuple[str, ...]
    run: tuple[str, ...] = ()


def measure(fetch: Fetch = False, json_: Json = False) -> None:
    """Learn the streams by each build, print a table and one JSON line. Exit code 1: bits that differ."""
    if fetch:
        emulator.fetch()
    streams = list(recorded())
    expected = [digest(*learn_here(stream)) for stream in streams]
    found: dict[str, str] = {}
    with TemporaryDirectory() as folder:
        for build in builds():
            found[build.name] = compare(build, streams, expected, Path(folder))
        found["the Java scorer, predictions"] = compare_java(streams, Path(folder))
        found |= compare_product(Path(folder))
    differing = [name for name, result in found.items() if result not in ("identical", "skipped")]
    line = {
        "benchmark": "bits",
        "streams": len(streams),
        "versions": len(replayed.RECORDINGS) * (replayed.VERSIONS + 1),
        "digest": sha256("".join(expected).encode()).hexdigest()[:16],
        "builds": found,
        "differing": len(differing),
    }
    table = Table(
        "build", "bits", title=f"{len(streams)} streams, {line['versions']} versions", title_justify="left"
    )
    for name, result in found.items():
        table.add_row(name, result)
    print_results(line, json_, table)
    if differing:
        raise typer.Exit(1)


def builds() -> list[Build]:
    """Return the builds to compare: each compiler at hand, each level and instruction set."""
    native = "x86_64" if "avx2" in build_backend.variants() else "native"
    v3 = ("-march=x86-64-v3",)
    vectors: dict[str, tuple[str, ...]] = {"baseline": (), "AVX2": ("-mavx2",), "AVX2 with FMA": v3}
    if "avx512" in library.runnable():
        vectors["AVX-512"] = build_backend.AVX512
    sets = vectors if native == "x86_64" else {"baseline": ()}
    made = [
        Build(f"{compiler}, {level}, {name}", (compiler, level, *flags))
        for compiler in ("gcc", "clang")
        for level in LEVELS
        for name, flags in sets.items()
    ]
    of_zig = {"-march=x86-64-v3": "-mcpu=x86_64_v3"}  # its own name
    for level in LEVELS:  # clang's, if that is not installed
        for name, flags in sets.items():
            own_flags = (of_zig.get(flag, flag) for flag in flags)
            compiled = (*build_backend.ZIG_CC, level, "-target", f"{native}-linux-musl", *own_flags)
            made.append(Build(f"zig, {level}, {name}", compiled))
    for machine in ("aarch64", "riscv64"):
        run = (emulator.emulator(machine) or "qemu",)
        compiled = (*build_backend.ZIG_CC, "-O3", "-target", f"{machine}-linux-musl")
        made.append(Build(f"zig, {machine} by qemu", compiled, run))
    return made


def compare_java(streams: Sequence[Stream], folder: Path) -> str:
    """Return how Java predicts the rows of the streams by their last states, as `compare` does."""
    from benchmarks import java_scorer
    from streaming_nn.spark.session import session

    if not shutil.which("java"):
        return "skipped"
    spark = session({"spark.master": "local[1]"})
    try:
        java, differing = java_scorer.compiled(spark, folder), []
        for stream in streams:
            state = start_of(stream)
            model = stream.ensemble.bind(state, stream.initial)
            model.learn(stream.x, stream.y, stream.weight, mini_batch=stream.mini_batch)
            found, expected = java_scorer.predictions(
                java, folder / "version", stream.ensemble, state, stream.x
            )
            if found.tobytes() != expected.tobytes():
                differing.append(stream.name)
    finally:
        spark.stop()
    return f"differ: {', '.join(differing)}" if differing else "identical"


def compare_product(folder: Path) -> dict[str, str]:
    """Return how each Python fares that learns recorded versions again, as `compare` does."""
    recordings = folder / "recordings"
    replayed.record(recordings)
    expected = {each.name: replayed.recorded(recordings / each.name) for each in replayed.RECORDINGS}
    found = {"Python here, NumPy and BLAS by plain code": learn_by_plain_code(recordings)}
    given = emulator.packages(folder / "packages") if can_emulate() else None
    for numpy in emulator.NUMPY:
        words = ["-m", "benchmarks.replayed", str(recordings)]
        name = f"Python on AArch64 by qemu, {numpy} NumPy"
        found[name] = emulator.python(words, numpy, given, build_wheels.ROOT) if given else ""
    return {
        name: differing_versions(expected, printed) if printed else "skipped"
        for name, printed in found.items()
    }


def can_emulate() -> bool:
    """Return whether there is a Python for AArch64, and a compiler of its core."""
    return emulator.home().exists() and find_spec("ziglang") is not None


def learn_by_plain_code(recordings: Path) -> str:
    """Replay versions in another process, whose NumPy and BLAS leave out what CPU features they can."""
    config: Any = np.show_config(mode="dicts")
    plain = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(config["SIMD Extensions"].get("found", [])),
        "OPENBLAS_CORETYPE": "Prescott",  # of x86-64; others ignore it
    }
    command = [sys.executable, "-m", "benchmarks.replayed", str(recordings)]
    ran = subprocess.run(command, env={**os.environ, **plain}, stdout=subprocess.PIPE, check=True, text=True)
    return ran.stdout


def differing_versions(expected: dict[str, list[str]], printed: str) -> str:
    """Return "identical", or the first version of each model directory whose digest differs."""
    found = json.loads(printed)["digests"]
    same = {name: list(map(eq, each, found[name])) for name, each in expected.items()}
    first = [f"{name} {each.index(False)}" for name, each in same.items() if not all(each)]
    return f"differ: {', '.join(first)}" if first else "identical"


def compare(build: Build, streams: Sequence[Stream], expected: Sequence[str], folder: Path) -> str:
    """Return "identical", "skipped" (its tools are missing), or the streams whose bits differ."""
    if not all(map(shutil.which, (build.compile[0], *build.run))) or (
        "ziglang" in build.compile and find_spec("ziglang") is None
    ):
        return "skipped"
    program = folder / "program"
    sources = [str(path) for path in (DRIVER, *build_backend.sources())]
    command = [*build.compile, *FLAGS, f"-I{build_backend.FOLDER}", *sources, "-o", str(program)]
    subprocess.run(command, check=True)
    given = b"".join(map(serialize, streams))
    ran = subprocess.run([*build.run, str(program)], input=given, stdout=subprocess.PIPE, check=True)
    differing, start = [], 0
    for stream, digest_ in zip(streams, expected, strict=True):
        size = sum(len(part) for part in learn_here(stream))
        if digest(ran.stdout[start : start + size]) != digest_:
            differing.append(stream.name)
        start += size
    return f"differ: {', '.join(differing)}" if differing else "identical"


def digest(*parts: bytes) -> str:
    """Return the sha256 of parts, one after the other."""
    return sha256(b"".join(parts)).hexdigest()


def learn_here(stream: Stream) -> list[bytes]:
    """Learn a stream by the library of this process; return all bits: state, predictions, steps, metrics."""
    ensemble, initial, x, y, weight, size = stream[1:]
    state = start_of(stream)
    output, trained = ensemble.bind(state, initial).learn(x, y, weight, mini_batch=size)
    return [*parts_of(ensemble, state, output, trained), *measure_here(stream, output)]


def measure_here(stream: Stream, output: Array, measure: Any = metrics.update) -> list[bytes]:
    """Return the bits of the metrics of all rows but the first; as served is the prediction before that."""
    with_classes = stream.ensemble.shape.loss == "softmax"
    figures = output if with_classes else output[:, :1]
    start = metrics.init(output.shape[1] if with_classes else None, WINDOW, FADING)
    y = stream.y[1:, 0]
    counted = measure(start, y.astype(np.int32) if with_classes else y, figures[1:], figures[:-1])
    return [array.tobytes() for name, array in flatten(counted).items() if name != "decay"]


def start_of(stream: Stream) -> EnsembleState:
    """Return the state before a stream: just after a drift, so that the rates are raised."""
    state = stream.ensemble.init(stream.initial)
    state.boost[...] = 1.0
    return state


def parts_of(ensemble: Ensemble, state: EnsembleState, output: Array, trained: Array) -> list[bytes]:
    """Return the bits of a state, in the order in which bits.c writes them, of the predictions and steps."""
    parts = [part for k in range(len(ensemble.members)) for part in vectors_of(ensemble, state, k)]
    parts += [getattr(state, each[0]).tobytes() for each in structures.State._fields_]
    return [*parts, output.tobytes(), trained.astype(np.uint8).tobytes()]


def vectors_of(ensemble: Ensemble, state: EnsembleState, k: int) -> list[bytes]:
    """Return the bits of a member's parameters, its optimizer's vectors (empty if none), and powers."""
    layout = ensemble.layout
    vectors = layout.thetas(state.theta), layout.firsts(state.first), layout.seconds(state.second)
    parts = [each[k] for each in vectors]
    return [*(b"" if part is None else part.tobytes() for part in parts), state.powers[k].tobytes()]


def serialize(stream: Stream) -> bytes:
    """Return a stream as bits.c reads it: blocks of bytes, each after its length."""
    ensemble, initial, x, y, weight, size = stream[1:]
    state, options = start_of(stream), ensemble.structure
    weights = ensemble.class_weight if isinstance(ensemble.class_weight, tuple) else ()
    like = [ensemble.shapes.index(shape) for shape in ensemble.shapes]  # the first member of that shape
    blocks = [bytes(options), np.array(weights, float).tobytes(), np.array(like, np.int64).tobytes()]
    for k in sorted(set(like)):
        shape = ensemble.shapes[k]
        lists = np.array(shape.units, np.int32), np.array(shape.options["quantiles"], float)
        blocks += [bytes(shape.structure), *(each.tobytes() for each in lists)]
    for k, member in enumerate(ensemble.members):
        plain = structures.Member(optimizer=member.structure, emphasis=member.emphasis)
        start = ensemble.layout.thetas(initial)[k]
        blocks += [bytes(plain), start.tobytes(), *vectors_of(ensemble, state, k)]
    blocks += [getattr(state, each[0]).tobytes() for each in structures.State._fields_]
    blocks += [x.tobytes(), y.tobytes(), b"" if weight is None else weight.tobytes()]
    blocks.append(np.array([len(x), size], np.int64).tobytes())
    return b"".join(len(block).to_bytes(8, "little") + block for block in blocks)


def recorded() -> Iterator[Stream]:
    """Yield the streams: each option once, and an ensemble at three sizes of mini-batch."""
    given: dict[str, Any]
    for name in (*structures.OPTIMIZERS, "adamw"):
        given = {"l1": 1e-3, "l2": 1e-2} if name == "ftrl" else {"l2": 1e-2, "weight_decay": 1e-2}
        given |= {"clip_norm": 0.5} if name in ("momentum", "adam") else {}
        yield _stream(name, Drawn(name, 0.05, 0, given), size=3)
    for name in structures.ACTIVATIONS:
        yield _stream(name, Drawn("adam", 0.01), activation=name, size=4, dropout=0.25)
    for name in structures.LOSSES:
        given = {"quantiles": (0.1, 0.5, 0.9)} if name == "quantile" else {}
        given |= {"focal_gamma": 1.5} if name in ("softmax", "logistic") else {}
        yield _stream(name, Drawn("rmsprop", 0.01), loss=name, size=5, **given)
    for scale in structures.SCALES:
        for missing in structures.MISSING:
            given = {"scale": scale, "missing": missing, "class_weight": "balanced"}
            yield _stream(f"{scale}, {missing}", Drawn("sgd", 0.1), size=2, **given)
    for name in structures.SCHEDULES:
        given = {"schedule": structures.schedule(name, 10, rows=20), "class_weight": "effective"}
        yield _stream(f"schedule {name}", Drawn("nadam", 0.02), size=1, **given)
    members = [Drawn("sgd", rate) for rate in (0.003, 0.01, 0.03, 0.1, 1e8)]  # the last one diverges
    members += [Drawn("adam", rate, new) for rate, new in ((0.001, 1), (0.003, 1), (0.003, 8))]
    members += [Drawn("sgd", 0.03, ramps=True), Drawn("adam", 0.003, 1, {"weight_decay": 0.01}, ramps=True)]
    for size in (1, 8, 40):
        given = {"replay_rows": 32, "capacity": 60, "reach": 10.0}
        yield _stream(f"ensemble at {size}", *members, columns=23, hidden=(40,), size=size, **given)
    given = {"scale": "none", "class_weight": "balanced"}
    for name in ("sgd", "adam", "ftrl"):
        yield _stream(f"mostly zero, {name}", Drawn(name, 0.02), columns=40, size=2, **given)
    yield _stream("wide", Drawn("adam", 0.01), columns=150, hidden=(130, 70), size=48)


class Drawn(NamedTuple):
    """A member, whose shape the stream has."""

    optimizer: str
    rate: float
    emphasis: float = 0.0
    options: dict[str, float] = {}  # noqa: RUF012 (nothing changes it)
    ramps: bool = False


def _stream(
    name: str,
    *members: Drawn,
    columns: int = 9,
    hidden: tuple[int, ...] = (12, 10),
    activation: str = "relu",
    loss: str = "softmax",
    size: int,
    **options: Any,
) -> Stream:
    """Return a stream whose rows and weights are drawn by the core's own generator."""
    number = int.from_bytes(sha256(name.encode()).digest()[:8], "little")
    of_shape = {key: options.pop(key) for key in ("quantiles", "focal_gamma") if key in options}
    width = columns * (2 if options.get("missing") == "indicate" else 1)

    def with_shape(member: Drawn) -> MemberOptions:
        inputs = width + (ramp_inputs(columns) if member.ramps else 0)
        shape = Shape((inputs, *hidden, 3), activation, loss, skip=True, **of_shape)
        return MemberOptions(shape, *member[:4])

    ensemble = Ensemble(tuple(map(with_shape, members)), columns, seed=number, **options)
    shape, initial = ensemble.shape, np.zeros(ensemble.layout.sizes[0], np.float32)
    for k, theta in enumerate(ensemble.layout.thetas(initial)):
        for layer, (W, b) in enumerate(ensemble.shapes[k].views(theta)):
            W[:] = networks.draw("normal", len(W) ** -0.5, number, k, layer, 0, W.shape)
            b[:] = networks.draw("uniform", 0.1, number, k, layer, W.size, (1, len(b)))[0]
    x = networks.draw("normal", 3.0, number, 100, 0, 0, (ROWS, columns)).astype(np.float64) + 50.1
    noise = networks.draw("uniform", 1.0, number, 101, 0, 0, (ROWS, columns))
    x[noise > 0.9] = np.nan if options.get("missing", "refuse") != "refuse" else 0
    if name.startswith("mostly zero"):
        x[np.abs(noise) < 0.9] = 0
    else:
        x[ROWS // 2, 0] = 1e9  # an outlier
    y = _targets(shape, x)
    weight = np.abs(networks.draw("normal", 1.0, number, 102, 0, 0, (ROWS, 1)))[:, 0] if size > 1 else None
    return Stream(name, ensemble, initial, x, y, weight, size)


def _targets(shape: Shape, x: Array) -> Array:
    score: Array = np.nan_to_num(x[:, :3]) - 50.0
    if shape.loss == "softmax":
        return np.asarray(score.argmax(axis=1)[:, None], np.float64)
    if shape.loss in ("logistic", "poisson"):
        return np.asarray(score > 0, np.float64)
    return np.ascontiguousarray(score[:, : shape.targets])


def run() -> None:
    """Run the command."""
    typer.run(measure)


if __name__ == "__main__":
    run()
