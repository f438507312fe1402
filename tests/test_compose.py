"""docker-compose.yml without Docker: its schema, and that what it starts exists and fits together."""

import importlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import promtool
import pytest
import typer
import yaml
from exit_codes import FINAL
from paths import ROOT
from prometheus_client import Metric
from scraping import Running

from producers.__main__ import app as producers_app
from streaming_nn.cli import app as commands
from streaming_nn.kafka import admin
from streaming_nn.kafka.broker import Broker
from streaming_nn.settings import Settings, load
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.commit

TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
KAFKA = SERVICES["kafka"]["environment"]


def unescape(text: str) -> str:
    """Return what a container gets: Compose replaces $$ by $, and substitutes variables after a single $."""
    assert "$" not in text.replace("$$", ""), text
    return text.replace("$$", "$")


def parse(name: str) -> dict[str, Any]:
    """Return the options of the service's command line, parsed by the command itself; nothing is run."""
    words = list(SERVICES[name]["command"])
    if words[:3] == ["python", "-m", "producers"]:
        command: Any = typer.main.get_command(producers_app)
        words = words[3:]
    else:
        assert words[0] == "streaming-nn"
        group: Any = typer.main.get_command(commands.app)
        command, words = group.commands[words[1]], words[2:]
    return dict(command.make_context(name, words).params)


def settings(name: str) -> Settings:
    given = parse(name)
    flags: dict[str, Any] = {"kafka": {"bootstrap.servers": given["bootstrap"]}, "model": given["model"]}
    if name == "trainer":
        flags["train"] = {"topics": given["topic"]}
    else:
        flags["score"] = {key: given[key] for key in ("topic", "predictions", "checkpoint")}
    return load("/dev/null", flags, given["set_"] or ())


def mounts(name: str) -> dict[str, str]:
    """Return the volume of each path in the container."""
    return {v.split(":")[1]: v.split(":")[0] for v in SERVICES[name].get("volumes", ())}


def volume_of(path: str, name: str) -> str:
    """Return the volume that contains a path of the service."""
    return next(volume for mount, volume in mounts(name).items() if Path(path).is_relative_to(mount))


def listeners() -> dict[str, str]:
    """Return the advertised host:port of each listener."""
    return dict(text.split("://") for text in KAFKA["KAFKA_ADVERTISED_LISTENERS"].split(","))


def create_topics(folder: Path) -> dict[str, int]:
    """Run the script of `topics` with a fake kafka-topics.sh; return the partitions of each topic."""
    program = folder / "kafka-topics.sh"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n')
    program.chmod(0o755)
    service = SERVICES["topics"]
    script = unescape(service["command"][0]).replace("/opt/kafka/bin", str(folder))
    subprocess.run([*service["entrypoint"], script], check=True)
    partitions = {}
    for line in (folder / "calls").read_text().splitlines():
        words = line.split()
        assert words[:4] == ["--bootstrap-server", listeners()["CONTAINERS"], "--create", "--if-not-exists"]
        flags = dict(zip(words[4::2], words[5::2], strict=True))
        partitions[flags["--topic"]] = int(flags["--partitions"])
    return partitions


def test_it_is_valid_against_the_schema_of_compose() -> None:
    package = importlib.import_module("check_jsonschema").__file__
    assert package is not None
    schema = Path(package).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text()))
    broken = {**COMPOSE, "services": {"kafka": {"imagine": "apache/kafka"}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, json.loads(schema.read_text()))


def provisioned(name: str) -> dict[str, str]:
    """Return the text of each file that the service gets by `configs`."""
    found = {}
    for each in SERVICES[name]["configs"]:
        source = COMPOSE["configs"][each["source"]]
        text = unescape(source["content"]) if "content" in source else (ROOT / source["file"]).read_text()
        found[each["target"]] = text
    return found


def test_what_services_refer_to_is_defined() -> None:
    configs = {each["source"] for service in SERVICES.values() for each in service.get("configs", ())}
    assert configs == set(COMPOSE["configs"])
    volumes = {volume for name in SERVICES for volume in mounts(name).values()}
    assert volumes == set(COMPOSE["volumes"])
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES, f"{name} waits for {other}"
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other]
            if how["condition"] == "service_completed_successfully":
                assert SERVICES[other]["restart"] == "no"


@pytest.mark.parametrize("name", OURS)
def test_our_commands_parse(name: str) -> None:
    assert parse(name)


def test_an_unknown_option_would_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SERVICES["trainer"], "command", ["streaming-nn", "train", "--imagined=1"])
    with pytest.raises(Exception, match="imagined"):
        parse("trainer")


def test_the_image_copies_existing_files_and_owns_the_directories_of_the_volumes() -> None:
    for name in OURS:
        dockerfile = unescape(SERVICES[name]["build"]["dockerfile_inline"])
        for line in dockerfile.splitlines():
            if line.startswith("COPY "):
                assert all((ROOT / source).exists() for source in line.split()[1:-1]), line
        directories = next(line for line in dockerfile.splitlines() if "install -d" in line).split()
        assert set(mounts(name)) <= set(directories), "a volume gets the owner of the image's directory"
        assert volume_of(SERVICES[name]["environment"]["STREAMING_NN_CACHE"], "trainer") == "cache"


def test_the_topics_of_all_services_are_created(tmp_path: Path) -> None:
    train, score, produce = settings("trainer"), settings("scorer"), parse("producer")
    trained = {*train.train.topics, train.train.dead_letters, train.metrics.topic}
    scored = {score.score.topic, score.score.predictions}
    assert trained | scored == set(create_topics(tmp_path))
    assert [produce["topic"]] == train.train.topics
    assert produce["unlabeled_topic"] == score.score.topic


def test_trainer_and_scorer_share_the_model_and_durable_data_is_in_volumes() -> None:
    train, score = settings("trainer"), settings("scorer")
    assert volume_of(str(train.model), "trainer") == volume_of(str(score.model), "scorer") == "model"
    assert volume_of(score.score.checkpoint, "scorer") == "checkpoint"
    assert volume_of(KAFKA["KAFKA_LOG_DIRS"], "kafka") == "kafka"


def test_ports_agree() -> None:
    host, inner = listeners()["HOST"], listeners()["CONTAINERS"]
    binds = dict(text.split("://:") for text in KAFKA["KAFKA_LISTENERS"].split(","))
    controller = KAFKA["KAFKA_CONTROLLER_QUORUM_VOTERS"]
    assert SERVICES["kafka"]["ports"] == [f"127.0.0.1:{binds['HOST']}:{host.split(':')[1]}"]
    assert host == f"localhost:{binds['HOST']}"
    assert inner == f"kafka:{binds['CONTAINERS']}"
    assert controller == f"{KAFKA['KAFKA_NODE_ID']}@kafka:{binds['CONTROLLER']}"
    assert settings("trainer").kafka == settings("scorer").kafka == {"bootstrap.servers": inner}
    assert parse("producer")["kafka"] == [f"bootstrap.servers={inner}"]
    assert SERVICES["kafka-ui"]["environment"]["KAFKA_CLUSTERS_0_BOOTSTRAPSERVERS"] == inner
    assert SERVICES["kafka"]["healthcheck"]["test"][-1] == host


def test_every_listener_has_a_protocol() -> None:
    protocols = dict(text.split(":") for text in KAFKA["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    names = {text.split("://")[0] for text in KAFKA["KAFKA_LISTENERS"].split(",")}
    assert set(protocols) == names
    assert KAFKA["KAFKA_INTER_BROKER_LISTENER_NAME"] in listeners()
    assert KAFKA["KAFKA_CONTROLLER_LISTENER_NAMES"] in names - set(listeners())


def test_prometheus_scrapes_the_jobs_and_loads_the_alerts() -> None:
    files = provisioned("prometheus")
    config = yaml.safe_load(files["/etc/prometheus/prometheus.yml"])
    (rules,) = config["rule_files"]
    assert files[f"/etc/prometheus/{rules}"] == (ROOT / "docs" / "alerts.yml").read_text()
    scraped = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    ports = {name: settings(name).metrics.prometheus.split(":") for name in ("trainer", "scorer")}
    assert all(host == "0.0.0.0" for host, _ in ports.values()), "Prometheus is another container"
    assert scraped == {
        "train": [f"trainer:{ports['trainer'][1]}"],
        "score": [f"scorer:{ports['scorer'][1]}"],
    }
    published = [port for name in OURS for port in SERVICES[name].get("ports", ())]
    assert published == [], "/metrics has no password"


def test_grafana_has_the_dashboard_and_its_data_source() -> None:
    files = provisioned("grafana")
    folder = "/etc/grafana/provisioning"
    (source,) = yaml.safe_load(files[f"{folder}/datasources/prometheus.yml"])["datasources"]
    (provider,) = yaml.safe_load(files[f"{folder}/dashboards/streaming_nn.yml"])["providers"]
    (dashboard,) = [path for path in files if str(Path(path).parent) == provider["options"]["path"]]
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard
    panels = json.loads(files[dashboard])["panels"]
    assert panels[0]["datasource"] == {"type": source["type"], "uid": source["uid"]}
    host, port = source["url"].removeprefix("http://").split(":")
    assert SERVICES[host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    config = yaml.safe_load(provisioned(host)["/etc/prometheus/prometheus.yml"])
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


@pytest.mark.nightly
def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    tool = promtool.find()
    if tool is None:
        pytest.skip("promtool, of Debian's package prometheus")
    for path, text in provisioned("prometheus").items():
        (tmp_path / Path(path).name).write_text(text)
    subprocess.run([tool, "check", "config", tmp_path / "prometheus.yml"], check=True)


class Ready:
    """A job that is ready if it has no reason why not."""

    def __init__(self, why: str) -> None:
        self.why = why

    def collect(self) -> list[Metric]:
        return []

    def reason(self) -> str:
        return self.why


@pytest.mark.parametrize(("why", "code", "printed"), [("", 0, "ready"), ("the job is behind", 1, "behind")])
def test_the_health_check_is_readyz(why: str, code: int, printed: str) -> None:
    command, python, *script = [unescape(w) for w in SERVICES["trainer"]["healthcheck"]["test"]]
    assert (command, python) == ("CMD", "python")
    assert SERVICES["scorer"]["healthcheck"]["test"] == SERVICES["trainer"]["healthcheck"]["test"]
    with closing(Running()) as server:
        server.show(Ready(why))
        for name in ("trainer", "scorer"):
            port = settings(name).metrics.prometheus.split(":")[1]
            assert f'"127.0.0.1", {port}' in script[-1]
        script[-1] = script[-1].replace(port, server.url.rpartition(":")[2])
        done = subprocess.run([sys.executable, *script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert printed in done.stdout


def wrapped(name: str, command: list[str]) -> list[str]:
    return [unescape(word) for word in SERVICES[name]["entrypoint"]] + command


def ends() -> Iterator[tuple[int, int]]:
    """Yield the exit code of a command, and that of its container."""
    return ((code, 0 if code in FINAL else code) for code in (0, 1, 2, 3, 4, 5, 6, 7, 130))


@pytest.mark.parametrize(("code", "container"), list(ends()))
def test_only_what_may_fix_itself_is_restarted(code: int, container: int) -> None:
    for name in OURS:
        assert SERVICES[name]["restart"] == "on-failure"
    ended = subprocess.run(
        wrapped("trainer", ["sh", "-c", f"exit {code}"]), capture_output=True, text=True, check=False
    )
    assert ended.returncode == container
    assert (f"exit code {code}" in ended.stderr) == (code != container)


@pytest.mark.skipif(shutil.which("sh") is None, reason="no sh")
def test_a_stop_signal_reaches_the_command_which_is_waited_for(tmp_path: Path) -> None:
    began, ended = tmp_path / "began", tmp_path / "ended"
    script = f"trap 'sleep 0.5; touch {ended}; exit 130' TERM; touch {began}; while :; do sleep 0.1; done"
    running = subprocess.Popen(wrapped("trainer", ["sh", "-c", script]))
    deadline = time.monotonic() + 20
    while not began.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 130
    assert ended.exists()


@pytest.mark.skipif(shutil.which("sh") is None, reason="no sh")
def test_a_stop_signal_before_the_command_is_known_stops_it_too() -> None:
    *shell, script, name = wrapped("trainer", [])
    early = script.replace("child=$!\n", "sleep 0.3; kill -TERM $$; child=$!\n")
    assert early != script
    ended = subprocess.run([*shell, early, name, "sleep", "20"], timeout=10, check=False)
    assert ended.returncode == 128 + signal.SIGTERM


@pytest.mark.nightly
def test_the_commands_run_without_docker(tmp_path: Path) -> None:
    with Broker.start(tmp_path / "broker") as broker:

        def ended(name: str, *more: str) -> None:
            words = [word.replace("kafka:19092", broker.bootstrap) for word in SERVICES[name]["command"]]
            words = [word.replace("/data", str(tmp_path)) for word in words]
            words = [re.sub(r"0\.0\.0\.0:\d+", "127.0.0.1:0", word) for word in words]
            programs = {
                "streaming-nn": [sys.executable, "-m", "streaming_nn.cli.app"],
                "python": [sys.executable],
            }
            subprocess.run(wrapped(name, [*programs[words[0]], *words[1:], *more]), check=True, timeout=250)

        kafka = {"bootstrap.servers": broker.bootstrap}
        for topic, partitions in create_topics(tmp_path).items():
            admin.create(kafka, topic, partitions)
        ended("producer", "--records=1500", "--rate=100000")
        ended("trainer", "--once", "--master=local[1]")
        ended("scorer", "--once", "--master=local[1]")
        sent = {t: sum(admin.ends(kafka, [t])[t].values()) for t in create_topics(tmp_path / "model")}
    head = VersionLog(tmp_path / "model").head()
    assert head is not None
    assert head.manifest.counts["received"] == sent["labeled"] > 1000
    assert sent["predictions"] == sent["unlabeled"] > 100
    assert sent["metrics"] == head.number + 1
    assert sent["dead-letters"] == 0
