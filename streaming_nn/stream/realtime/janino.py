"""Java classes in a running session, compiled by the Janino that Spark ships: no JDK, no built jar."""

import json
import zipfile
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

HERE = Path(__file__).parent
SOURCES = ("Version", "Network", "Records", "Answer")  # each may use those before it
JAR = "streaming-nn-realtime.jar"


def instance(spark: SparkSession, name: str) -> Any:
    """Make an object of a class; driver and executors know it, and its neighbours, from now on."""
    context: Any = spark.sparkContext
    jar = Path(context._temp_dir, JAR)  # which goes when the session does
    if not jar.exists():
        write(jar, compiled(spark, SOURCES, HERE))
        spark.sql(f"ADD JAR '{jar}'").collect()
    java: Any = spark._jvm
    urls = context._gateway.new_array(java.java.net.URL, 1)
    urls[0] = java.java.io.File(str(jar)).toURI().toURL()
    loader = java.java.net.URLClassLoader(urls, _loader(spark))
    return loader.loadClass(f"streaming_nn.{name}").getDeclaredConstructor(None).newInstance(None)


def register(spark: SparkSession, name: str, function: Any, type: str) -> None:
    """Let SQL call a Java object by a name; `type` is that of what it gives."""
    session: Any = spark._jsparkSession
    session.udf().register(name, function, session.parseDataType(json.dumps(type)))


def compiled(spark: SparkSession, sources: tuple[str, ...], here: Path) -> dict[str, bytes]:
    """Compile classes, each against those before it; gives the bytecode by the classes' names."""
    java: Any = spark._jvm
    loader, bytecode = _loader(spark), dict[str, bytes]()
    for name in sources:
        compiler = java.org.codehaus.janino.SimpleCompiler()
        compiler.setParentClassLoader(loader)
        compiler.cook((here / f"{name}.java").read_text("utf-8"))
        made = compiler.getBytecodes()
        bytecode |= {each: bytes(made[each]) for each in made}
        loader = compiler.getClassLoader()
    return bytecode


def _loader(spark: SparkSession) -> Any:
    java: Any = spark._jvm
    return java.java.lang.Thread.currentThread().getContextClassLoader()


def write(jar: Path, bytecode: dict[str, bytes]) -> None:
    """Put bytecode into a jar."""
    with zipfile.ZipFile(jar, "w") as file:
        for name, code in bytecode.items():
            file.writestr(name.replace(".", "/") + ".class", code)
