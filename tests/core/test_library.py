"""Loading the core, and the checks before an address is passed to it."""

import platform
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import streaming_nn
from streaming_nn.core import build_backend, library

pytestmark = pytest.mark.commit


def test_the_fastest_variant_that_runs_is_loaded() -> None:
    core = library.load()
    assert core is library.load()
    assert core.core_arithmetic() == library.ARITHMETIC
    assert Path(core._name).stem.removeprefix("core.") == library.runnable()[0]


@pytest.mark.parametrize(
    ("widest", "names"),
    [(0, ["baseline"]), (1, ["avx2", "baseline"]), (2, ["avx512", "avx2", "baseline"])],
)
def test_a_cpu_runs_what_its_vectors_allow(
    widest: int, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(library, "load", lambda *_: SimpleNamespace(core_vectors=lambda: widest))
    assert library.runnable() == names


def test_the_vectors_are_those_that_the_kernel_lists() -> None:
    cpu = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not cpu.exists():
        pytest.skip("only Linux on x86-64 lists them")
    flags = {*next(line for line in cpu.read_text().splitlines() if line.startswith("flags")).split()}
    avx512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags
    expected = 2 if avx512 else int("avx2" in flags)
    assert library.load("baseline").core_vectors() == expected


def test_each_arithmetic_names_the_releases_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, firsts = list(library.RELEASES), list(library.RELEASES.values())
    assert numbers == list(range(1, library.ARITHMETIC + 1))
    order = [[int(part) for part in release.split(".")] for release in [*firsts, streaming_nn.__version__]]
    assert order == sorted(order)
    monkeypatch.setattr(library, "RELEASES", {1: "0.1.0", 2: "0.3.0"})
    assert library.releases(1, "0.2.5") == "streaming_nn>=0.1.0,<0.3.0"
    assert library.releases(2, "0.3.1") == "streaming_nn>=0.3.0"
    assert library.releases(3, "0.5.1") == "streaming_nn>=0.5.1", "a later one: the release that wrote it"
    assert library.releases(3, None) == "another release of streaming_nn"


def test_a_missing_library_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"cannot load the compiled core: .* does not exist; run `pip"):
        library.load(None, tmp_path)


def test_a_file_that_is_not_a_library_is_one_line(tmp_path: Path) -> None:
    build_backend.library("baseline", tmp_path).write_bytes(b"ELF, or not")
    with pytest.raises(ImportError, match="cannot load the compiled core: ") as caught:
        library.load("baseline", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_library_of_another_arithmetic_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = build_backend.library("baseline", tmp_path)
    path.write_bytes(build_backend.library("baseline").read_bytes())
    found = library.ARITHMETIC
    monkeypatch.setattr(library, "ARITHMETIC", 0)
    with pytest.raises(ImportError, match=f"must have arithmetic 0; got {found}"):
        library.load("baseline", tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3)), "must be float32 .* got float64"),
        (np.zeros((3, 2), np.float32), r"got float32 of shape \(3, 2\)"),
        (np.zeros((3, 2), np.float32).T, "not in C order"),
        (np.zeros((4, 3), np.float32)[::2], "not in C order"),
        (np.zeros((2, 3), ">f4"), "got >f4"),
    ],
)
def test_an_array_that_the_library_must_not_see_is_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        library.address(array, "f4", (2, 3))


def test_a_read_only_array_is_not_written() -> None:
    array = np.zeros(3, np.float32)
    array.flags.writeable = False
    assert library.address(array, "f4", (3,))
    with pytest.raises(ValueError, match="must be writeable"):
        library.address(array, "f4", (3,), written=True)
