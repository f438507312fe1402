"""Java classes in a running session, compiled by the Janino that Spark includes: no JDK, no built jar."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from streaming_nn.versions.atomic_files import naming

_classes: dict[Path, Any] = {}  # by their jar: py4j confuses a class that is loaded twice


def instance(spark: SparkSession, here: Path, sources: tuple[str, ...]) -> Any:
    """Return an object of the last of a directory's classes; see `add`."""
    return add(spark, here, sources).getDeclaredConstructor(None).newInstance(None)


def add(spark: SparkSession, here: Path, sources: tuple[str, ...]) -> Any:
    """Return the last of a directory's classes; driver and executors can load all of them then.

    Each may use those before it. They are compiled once in a session.
    """
    context: Any = spark.sparkContext
    jar = Path(context._temp_dir, f"streaming-nn-{here.name}.jar")  # deleted with the session
    if jar not in _classes:
        with naming(jar):
            write(jar, compile_classes(spark, sources, here))
        spark.sql(f"ADD JAR '{jar.as_uri()}'").collect()  # a path may contain quotes
        java: Any = spark._jvm
        jars = _session_loader(spark)
        jars.addURL(java.java.io.File(str(jar)).toURI().toURL())  # Spark adds another one if the path has a %
        _classes[jar] = jars.loadClass(f"streaming_nn.{sources[-1]}")
    return _classes[jar]


@contextmanager
def found_by_name(spark: SparkSession) -> Iterator[None]:
    """Let Spark find our classes by their names in this thread, and in the threads of queries that it starts.

    Adding a jar does so only in the thread that adds it.
    """
    java: Any = spark._jvm
    thread, before = java.java.lang.Thread.currentThread(), loader(spark)
    thread.setContextClassLoader(_session_loader(spark))
    try:
        yield
    finally:
        thread.setContextClassLoader(before)


def _session_loader(spark: SparkSession) -> Any:
    session: Any = spark._jsparkSession
    return session.sharedState().jarClassLoader()


def register(spark: SparkSession, name: str, function: Any) -> None:
    """Let SQL call a Java object by a name; its `function()` is Spark's user-defined function."""
    session: Any = spark._jsparkSession
    session.udf().register(name, function.function())


def compile_classes(spark: SparkSession, sources: tuple[str, ...], here: Path) -> dict[str, bytes]:
    """Compile classes, each against those before it; return the bytecode by the classes' names."""
    java: Any = spark._jvm
    parent, bytecode = loader(spark), dict[str, bytes]()
    for name in sources:
        compiler = java.org.codehaus.janino.SimpleCompiler()
        compiler.setParentClassLoader(parent)
        compiler.cook((here / f"{name}.java").read_text("utf-8"))
        compiled = compiler.getBytecodes()
        bytecode |= {each: bytes(compiled[each]) for each in compiled}
        parent = compiler.getClassLoader()
    return bytecode


def loader(spark: SparkSession) -> Any:
    """Return the loader of the session's jars."""
    java: Any = spark._jvm
    return java.java.lang.Thread.currentThread().getContextClassLoader()


def write(jar: Path, bytecode: dict[str, bytes]) -> None:
    """Write bytecode into a jar."""
    with zipfile.ZipFile(jar, "w") as file:
        for name, code in bytecode.items():
            file.writestr(name.replace(".", "/") + ".class", code)
