import hashlib
import multiprocessing
import os
import shutil
from pathlib import Path

import pyspark
import pytest

from streaming_nn.kafka import jars

pytestmark = pytest.mark.commit


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache with the smaller set, copied from the user's (which the first test run fills)."""
    jars.connector()
    home = jars._home("connector")
    monkeypatch.setenv("STREAMING_NN_CACHE", str(tmp_path))
    shutil.copytree(home, jars._home("connector"))
    return tmp_path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide Java, without which nothing can be downloaded."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")


@pytest.mark.parametrize("name", ["connector", "broker"])
def test_every_jar_is_the_listed_one(name: str) -> None:
    found = getattr(jars, name)()
    digests = [hashlib.sha256(jar.read_bytes()).hexdigest() for jar in found]
    assert digests == list(jars.sums(name).values())


def test_the_lists_have_the_roots() -> None:
    for name, roots in jars.ROOTS.items():
        listed = [str(jars.coordinates(path)) for path in jars.sums(name)]
        assert set(roots) <= set(listed)
    assert all(root.endswith(f":{pyspark.__version__}") for root in jars.ROOTS["connector"])


def test_the_connector_has_no_jar_that_pyspark_ships() -> None:
    shipped = {jar.name for jar in jars._pyspark_jars().glob("*.jar")}
    modules = {jars.coordinates(path).module for path in jars.sums("connector")}
    assert "kafka-clients" in modules
    assert not [name for name in shipped for module in modules if name.startswith(f"{module}-")]


def test_a_cached_set_needs_no_network(own_cache: Path, no_network: None) -> None:
    first = jars.connector()
    assert first == jars.connector()
    assert all(jar.is_relative_to(own_cache) and jar.exists() for jar in first)


def test_a_copied_cache_is_hashed_once(
    own_cache: Path, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for jar in jars.connector():
        os.utime(jar)
    jars.connector()
    list_only = jars._sha256(jars._list_of("connector"))
    monkeypatch.setattr(jars, "_sha256", lambda path: list_only)  # any jar hashed now would be found wrong
    jars.connector()


def test_a_changed_byte_is_noticed(
    own_cache: Path, caplog: pytest.LogCaptureFixture, no_network: None
) -> None:
    jar = jars.connector()[0]
    content = bytearray(jar.read_bytes())
    content[len(content) // 2] ^= 1
    jar.write_bytes(content)
    with pytest.raises(RuntimeError, match="Java 17 or newer is needed"):  # so it is downloaded again
        jars.connector()
    assert f"{jar} is not the listed file any more" in caplog.text


def test_a_missing_jar_is_noticed(own_cache: Path, no_network: None) -> None:
    jars.connector()[-1].unlink()
    with pytest.raises(RuntimeError, match="Java 17 or newer is needed"):
        jars.connector()


def create_maven(directory: Path) -> str:
    """Create a Maven repository of the connector's jars on disk; return its address."""
    for path, jar in zip(jars.sums("connector"), jars.connector(), strict=True):
        (directory / path).parent.mkdir(parents=True)
        shutil.copy(jar, directory / path)
    return directory.as_uri()


@pytest.mark.merge
def test_two_processes_download_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMING_NN_MAVEN", create_maven(tmp_path / "maven"))
    monkeypatch.setenv("STREAMING_NN_CACHE", str(tmp_path / "cache"))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, other = [pool.apply_async(jars.connector) for _ in range(2)]
        assert one.get(60) == other.get(60)
    kept = sorted(entry.name for entry in (tmp_path / "cache" / "jars").iterdir())
    assert kept == [jars._home("connector").name, f"{jars._home('connector').name}.lock"]


def test_a_damaged_set_is_replaced(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMING_NN_MAVEN", create_maven(tmp_path / "maven"))
    damaged = jars.connector()[0]
    damaged.write_bytes(b"no jar")
    calls: list[tuple[str, int, int]] = []
    jars.connector(lambda *call: calls.append(call))
    count = len(jars.sums("connector"))
    what = "downloading Spark's Kafka connector"
    assert calls == [(what, done, count) for done in range(count + 1)]
    assert jars._sha256(damaged) == next(iter(jars.sums("connector").values()))


def test_a_wrong_jar_from_the_network_is_never_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMING_NN_MAVEN", create_maven(tmp_path / "maven"))
    monkeypatch.setenv("STREAMING_NN_CACHE", str(tmp_path / "cache"))
    forged = tmp_path / "maven" / next(iter(jars.sums("connector")))
    forged.write_bytes(forged.read_bytes() + b"!")
    with pytest.raises(RuntimeError, match=f"{forged.name} must have the sha256 [0-9a-f]+; got [0-9a-f]+"):
        jars.connector()
    assert not jars._home("connector").exists()


def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMING_NN_MAVEN", "http://127.0.0.1:9/")
    monkeypatch.setenv("STREAMING_NN_CACHE", str(tmp_path))
    with pytest.raises(
        ConnectionError, match=r"cannot download org.apache.*:.* and 3 others.*check the network"
    ) as error:
        jars.connector()
    assert "\n" not in str(error.value)
    assert not jars._home("connector").exists()
