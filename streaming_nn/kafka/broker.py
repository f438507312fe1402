"""An Apache Kafka broker on this machine: one node, 127.0.0.1 only, in a separate process."""

import base64
import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from streaming_nn.kafka import EMBEDDED, jars, java
from streaming_nn.progress import Progress, no_progress

# Measured: the serial collector and only the first compiler reduce the start from 5 s to 2.5 s.
JVM = ["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]
LOGGING = [
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",  # logs when it is up
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
]
STARTED = "Kafka Server started"
LOG_BYTES = 10_000_000  # a larger log is renamed to broker.log.1 at the next start
# Below the ports that systems assign to clients: a client that reconnects to a stopped broker on one of those
# can end up connected to itself.
PORTS = range(20000, 32000)

FIXED = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
}
DEFAULTS = {
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "CLIENT",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "broker.session.timeout.ms": "3000",  # a killed broker waits as long at its next start
    "broker.heartbeat.interval.ms": "500",
    "log.cleaner.dedupe.buffer.size": "16777216",  # of a heap of 512 MB
    "log.retention.ms": "-1",  # expired records cannot be replayed: they expire by size only
    "log.retention.bytes": "4000000000",  # of a partition
    "log.segment.bytes": "250000000",  # what expires at once
    "num.network.threads": "2",
    "num.io.threads": "4",
}

# Stops the broker ($0) when standard input ends: when the process that holds the other end has ended.
# (Linux's PR_SET_PDEATHSIG would stop it with the *thread* that started it.)
WATCH = """read -r _; kill "$0" || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 0.5; kill -0 "$0" || exit 0; done
kill -9 "$0" """

LOCAL = ("localhost", "127.0.0.1")  # names of the address on which it listens


class Address(NamedTuple):
    """What a directory's broker.json holds of its broker; pid is 0 while none runs."""

    pid: int
    port: int
    controller_port: int


class Broker:
    """A running broker; a context manager, which stops it.

    All its files are in `directory`: data/, server.properties, broker.log and broker.json. A partition keeps
    its last 4 GB of records, unless its topic's `retention.bytes` or `retention.ms` sets another bound.
    """

    def __init__(self, directory: Path, address: Address):
        self.directory = directory
        self.pid = address.pid
        self.port = address.port
        self._address = address
        self._process: subprocess.Popen[bytes] | None = None  # None if another process started it
        self._watch: subprocess.Popen[bytes] | None = None
        self._log_start = 0  # offset in the log at which this process's lines begin

    @classmethod
    def start(
        cls,
        directory: str | Path,
        port: int = 0,
        properties: Mapping[str, str] | None = None,
        *,
        detached: bool = False,
        timeout: float = 60,
        progress: Progress = no_progress,
    ) -> Self:
        """Start a broker on `directory`, new or with the data of an earlier one, and wait until it is up.

        Port 0 is the directory's earlier port if that is free, else any. `properties` override our
        defaults. The broker ends with this process, however that ends, unless it is `detached`. `timeout` is
        in seconds; `progress` is called while the jars are downloaded, once on a machine. OSError: the port
        is taken; RuntimeError: the directory's broker is running, or the new one exits; TimeoutError: it is
        not up in time.
        """
        home = Path(directory).expanduser().resolve()
        fixed = _properties(home, properties or {})
        program = [str(java.find()), *JVM, *LOGGING, "-cp", os.pathsep.join(map(str, jars.broker(progress)))]
        home.mkdir(parents=True, exist_ok=True)
        with _start_lock(home):
            address = _choose_ports(home, port)
            _write_private(home / "server.properties", _java_properties({**fixed, **_listeners(address)}))
            _format(home, program)
            broker = cls._launch(home, address, program, detached)
            try:
                broker._wait_until_up(timeout)
            except BaseException:
                broker.stop(timeout=0)
                raise
        return broker

    @classmethod
    def _launch(cls, home: Path, address: Address, program: list[str], detached: bool) -> Self:
        log = home / "broker.log"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(home / "broker.log.1")
        command = [*program, "kafka.Kafka", str(home / "server.properties")]
        with log.open("ab") as file:
            start = file.tell()
            process = _spawn(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        broker = cls(home, address._replace(pid=process.pid))
        broker._process, broker._log_start = process, start
        if not detached:
            broker._watch = _spawn(["/bin/sh", "-c", WATCH, str(process.pid)], stdin=subprocess.PIPE)
        _write_private(home / "broker.json", json.dumps(broker._address._asdict()))
        return broker

    @classmethod
    def find(cls, directory: str | Path) -> Self | None:
        """Return the broker that runs on `directory`, whichever process started it, or None."""
        home = Path(directory).expanduser().resolve()
        address = _read_address(home)
        return cls(home, address) if address and _is_broker(address.pid, home) else None

    @property
    def bootstrap(self) -> str:
        """The address for clients, host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The broker's log file."""
        return self.directory / "broker.log"

    @property
    def running(self) -> bool:
        """Whether its process is running."""
        if self._process is not None:
            return self._process.poll() is None
        return _is_broker(self.pid, self.directory)

    def stop(self, timeout: float = 15) -> None:
        """Stop it cleanly, or kill it after `timeout` seconds. A stopped broker is left as it is."""
        self._signal(signal.SIGTERM)
        if not self._ends_within(timeout):
            self._signal(signal.SIGKILL)
            self._ends_within(10)
        if self._watch is not None:
            self._watch.kill()
            self._watch.communicate()
            self._watch = None
        if _read_address(self.directory) == self._address:
            _write_private(
                self.directory / "broker.json", json.dumps(self._address._replace(pid=0)._asdict())
            )

    def _signal(self, number: int) -> None:
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.running or _exiting(self.pid):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True

    def _wait_until_up(self, seconds: float) -> None:
        """Wait until its log reports that it is up, which works with any security and shows why it exits."""
        deadline = time.monotonic() + seconds
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            output = b""
            while STARTED.encode() not in output:
                if not self.running:
                    raise RuntimeError(
                        f"the broker exited during its start; {self.log} ends with:\n{_last_lines(output)}"
                    )
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the broker did not start within {seconds:.0f} s; see {self.log}")
                time.sleep(0.03)
                output += log.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Broker({str(self.directory)!r}, {self.bootstrap!r}, pid={self.pid})"


def is_embedded(servers: str) -> bool:
    """Return whether these bootstrap servers are the broker that runs on `EMBEDDED`."""
    running = Broker.find(EMBEDDED)
    host, _, port = servers.rpartition(":")
    return running is not None and host in LOCAL and port == str(running.port)


def _spawn(command: list[str], **streams: Any) -> subprocess.Popen[bytes]:
    """Start a process in a new session, which a terminal's Ctrl-C does not reach."""
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams}
    return subprocess.Popen(command, start_new_session=True, **streams)


def _properties(home: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return all but the listeners: defaults for one node, then those given, then those that are fixed."""
    reserved = {
        *FIXED,
        "listeners",
        "advertised.listeners",
        "controller.quorum.voters",
        "log.dir",
        "log.dirs",
    }
    if clash := reserved.intersection(given):
        raise ValueError(f"properties must not have {', '.join(sorted(reserved))}; got {min(clash)}")
    if "," in str(home):
        raise ValueError(f"the broker's directory must not have a comma in its path; got {home}")
    return {**DEFAULTS, **given, **FIXED, "log.dirs": str(home / "data")}


def _listeners(address: Address) -> dict[str, str]:
    controller = f"127.0.0.1:{address.controller_port}"
    return {
        "listeners": f"CLIENT://127.0.0.1:{address.port},CONTROLLER://{controller}",
        "controller.quorum.voters": f"1@{controller}",
    }


def _java_properties(properties: Mapping[str, str]) -> str:
    """Return the text of a .properties file: ASCII, with Java's escapes in the values."""

    def escaped(value: str) -> str:
        value = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        return "".join(c if ord(c) < 128 else f"\\u{ord(c):04x}" for c in value)

    return "".join(f"{key}={escaped(value)}\n" for key, value in properties.items())


@contextmanager
def _start_lock(home: Path) -> Iterator[None]:
    """Allow one start at a time on a directory, and none if a broker runs on it."""
    with (home / "broker.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RuntimeError(f"cannot start a broker on {home}: another process is starting one") from None
        if running := Broker.find(home):
            raise RuntimeError(
                f"cannot start a broker on {home}: one is running (pid {running.pid}, {running.bootstrap})"
            )
        yield


def _choose_ports(home: Path, port: int) -> Address:
    """Return the ports to use: the given one, else the directory's earlier ones, else any free ones."""
    if port and not _is_free(port):
        raise OSError(f"port must be free on 127.0.0.1; got {port}, which is taken")
    earlier = _read_address(home) or Address(0, 0, 0)
    first = port or (earlier.port if _is_free(earlier.port) else _free_port())
    second = earlier.controller_port
    return Address(0, first, second if _is_free(second) and second != first else _free_port(besides=first))


def _free_port(besides: int = 0) -> int:
    while True:
        port = random.choice(PORTS)
        if port != besides and _is_free(port):
            return port


def _is_free(port: int) -> bool:
    if not port:
        return False
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # earlier connections do not count
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _format(home: Path, program: list[str]) -> None:
    """Write the cluster id into a new directory, as Kafka requires."""
    if (home / "data" / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    tool = [*program, "kafka.tools.StorageTool", "format", "--config", str(home / "server.properties")]
    tool += [f"--cluster-id={cluster}"]  # with "=", because a random id can begin with "-"
    ran = subprocess.run(tool, capture_output=True)
    if ran.returncode:
        raise RuntimeError(
            f"cannot format the broker's directory {home}:\n{_last_lines(ran.stdout + ran.stderr)}"
        )


def _last_lines(output: bytes, count: int = 5) -> str:
    """Return the last lines, without those of stack traces."""
    lines = [
        line for line in output.decode(errors="replace").splitlines() if line.strip() and line[0] not in "\t "
    ]
    return "\n".join(lines[-count:]) or "(nothing)"


def _read_address(home: Path) -> Address | None:
    try:
        return Address(**json.loads((home / "broker.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _is_broker(pid: int, home: Path) -> bool:
    """Return whether `pid` is the broker of this directory, not a later process with the same number."""
    return pid > 0 and f"kafka.Kafka {home / 'server.properties'}" in _command_of(pid)


def _command_of(pid: int) -> str:
    """Return a process's command line; "" if it has ended (or is only waiting to be reaped)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        if Path("/proc/self").exists():
            return ""
    listed = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
    return listed.stdout


def _exiting(pid: int) -> bool:
    """Return whether a process has no command line any more, but may still hold files, locks and ports."""
    if pid <= 0 or _command_of(pid):
        return False
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    state, threads = fields[0], int(fields[17])  # see proc(5): the third field and the twentieth
    return not (state in "ZX" and threads <= 1)


def _write_private(path: Path, text: str) -> None:
    """Replace a file atomically, readable by its owner only: properties may hold passwords."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
