"""Wheels for other platforms: tags, commands, contents; real builds in the nightly tier."""

import os
import struct
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

from benchmarks import emulator
from streaming_nn.core import build_backend, build_wheels
from streaming_nn.core.library import ARITHMETIC

pytestmark = pytest.mark.commit

TAGS = {
    "manylinux_2_17_x86_64",
    "musllinux_1_2_x86_64",
    "manylinux_2_17_aarch64",
    "musllinux_1_2_aarch64",
    "macosx_11_0_x86_64",
    "macosx_11_0_arm64",
}
ELF = {"x86_64": 62, "aarch64": 183}  # e_machine
MACH = {"x86_64": 0x01000007, "arm64": 0x0100000C}  # cputype
SIGNATURE = 0x1D  # LC_CODE_SIGNATURE, without which Apple's own CPUs load nothing


def libraries(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as held:
        return {Path(name).stem: held.read(name) for name in held.namelist() if name.endswith(".so")}


def check_contents(wheel: Path, platform: build_wheels.Platform) -> None:
    """Check a wheel as an installer reads it: its name, tags, libraries and list of files."""
    tags = {Tag("py3", "none", tag) for tag in platform.tags}
    assert parse_wheel_filename(wheel.name)[3] == tags
    with zipfile.ZipFile(wheel) as held:
        files = {name: held.read(name) for name in held.namelist()}
    (about,) = (files[name].decode() for name in files if name.endswith(".dist-info/WHEEL"))
    assert {f"Tag: {tag}" for tag in tags} == {line for line in about.splitlines() if "Tag" in line}
    assert "Root-Is-Purelib: false" in about
    assert {*libraries(wheel)} == {f"core.{name}" for name in build_backend.variants(platform.machine)}
    (record,) = (files[name].decode() for name in files if name.endswith(".dist-info/RECORD"))
    listed = [line.rsplit(",", 2) for line in record.splitlines()]
    assert [name for name, *_ in listed] == [*files]
    for name, digest, size in listed[:-1]:
        content = files[name]
        assert digest.encode() == b"sha256=" + urlsafe_b64encode(sha256(content).digest()).rstrip(b"=")
        assert int(size) == len(content)


def test_the_platforms_have_the_tags_of_linux_and_macos() -> None:
    assert {tag for platform in build_wheels.PLATFORMS for tag in platform.tags} == TAGS


def test_the_commands_are_those_of_the_build_backend_for_each_target(tmp_path: Path) -> None:
    for platform in build_wheels.PLATFORMS:
        found = build_wheels.commands(platform, tmp_path)
        assert [*found] == [*build_backend.variants(platform.machine)]
        for variant, command in found.items():
            assert command[command.index("-target") + 1] == platform.target
            assert ("-mavx2" in command) == (variant == "avx2")
            assert ("-mavx512f" in command) == (variant == "avx512")
            assert {*build_backend.FLAGS} < {*command}
            assert ("-nostdlib" in command) == (platform.system == "linux")
            assert ("dynamic_lookup" in command) == (platform.system == "darwin")


def test_a_wheel_becomes_another_platforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "name-1.2-py3-none-here.whl"
    with zipfile.ZipFile(given, "w") as held:
        for name in ("name.py", "streaming_nn/core/core.of_another.so", "name-1.2.dist-info/RECORD"):
            held.writestr(name, "content of the wheel")
        held.writestr(
            "name-1.2.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-here\n\n",
        )
    compiler = "import sys; open(sys.argv[sys.argv.index('-o') + 1], 'w').write(' '.join(sys.argv))"
    monkeypatch.setattr(build_backend, "ZIG_CC", (sys.executable, "-Sc", compiler))
    platform = build_wheels.PLATFORMS[0]
    made = build_wheels.build_for(platform, given, tmp_path)
    assert made.name == "name-1.2-py3-none-manylinux_2_17_x86_64.musllinux_1_2_x86_64.whl"
    check_contents(made, platform)
    assert all(platform.target.encode() in content for content in libraries(made).values())


def load_commands(content: bytes) -> set[int]:
    """Return the load commands of a Mach-O file of 64 bits."""
    found, at = set(), 32
    for _ in range(struct.unpack_from("<I", content, 16)[0]):
        command, size = struct.unpack_from("<II", content, at)
        found.add(command)
        at += size
    return found


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[build_wheels.Platform, Path]:
    if find_spec("ziglang") is None and not os.environ.get("TOOLS_REQUIRED"):
        pytest.skip("ziglang, which compiles for other platforms")
    directory = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "streaming_nn.core.build_wheels", directory]
    built = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(zip(build_wheels.PLATFORMS, map(Path, built.stdout.split()), strict=True))


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_library_is_of_its_platform_and_needs_no_version_of_a_c_library(
    wheels: dict[build_wheels.Platform, Path],
) -> None:
    for platform, wheel in wheels.items():
        check_contents(wheel, platform)
        for content in libraries(wheel).values():
            assert b"debug_info" not in content
            if platform.system == "linux":
                assert content[:4] == b"\x7fELF"
                assert struct.unpack_from("<H", content, 18)[0] == ELF[platform.machine]
                assert b"GLIBC_" not in content
                assert b".so.6" not in content
            else:
                assert struct.unpack_from("<II", content) == (0xFEEDFACF, MACH[platform.machine])
                assert (SIGNATURE in load_commands(content)) >= (platform.machine == "arm64")


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("tag", sorted(TAGS))
def test_pip_finds_the_wheel_of_each_platform(
    tag: str, wheels: dict[build_wheels.Platform, Path], tmp_path: Path
) -> None:
    (directory,) = {wheel.parent for wheel in wheels.values()}
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-index", "--no-deps", "--only-binary=:all:"]
    command = [*pip, "--platform", tag, "--find-links", directory, "-d", tmp_path, "streaming_nn"]
    subprocess.run(command, check=True)
    assert [tag in path.name for path in tmp_path.iterdir()] == [True]


LOADS = """
import platform
from streaming_nn.core import library
print(platform.machine(), library.load().core_arithmetic(), library.load()._name)
"""


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_wheel_of_this_machine_is_installed_and_loads(
    wheels: dict[build_wheels.Platform, Path], tmp_path: Path
) -> None:
    here = [platform for platform in wheels if f"{platform.system}-{platform.machine}" == _here()]
    if not here:
        pytest.skip(f"no wheel for {_here()}")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    for what in ("numpy", wheels[here[0]]):
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", what], check=True)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [python, "-c", LOADS], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )
    assert Path(ran.stdout.split()[2]).is_relative_to(tmp_path / "venv")


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_wheel_for_aarch64_loads_there(wheels: dict[build_wheels.Platform, Path], tmp_path: Path) -> None:
    if os.environ.get("TOOLS_REQUIRED"):
        emulator.fetch()
    elif not emulator.home().exists():
        pytest.skip("Python on AArch64: `python -m benchmarks.bits --fetch` gets it")
    with zipfile.ZipFile(wheels[build_wheels.LINUX_AARCH64]) as wheel:
        wheel.extractall(tmp_path)
    machine, arithmetic, name = emulator.python(["-c", LOADS], "newest", tmp_path).split()
    assert (machine, int(arithmetic)) == ("aarch64", ARITHMETIC)
    assert Path(name).is_relative_to(tmp_path)


def _here() -> str:
    return f"{sys.platform}-{os.uname().machine}"
