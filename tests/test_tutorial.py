"""The tutorial is true: its commands run in their order, and print the lines that it shows."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from streaming_nn.kafka.broker import _free_port
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.nightly

TEXT = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
BIN = Path(sys.executable).parent


def commands(port: str) -> list[list[str]]:
    """Return the commands from step 2 on, on another port; `page` runs until it is stopped."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT.partition("## 2.")[2], re.DOTALL)
    found = []
    for line in "".join(blocks).replace("localhost:9092", f"127.0.0.1:{port}").splitlines():
        program, *words = shlex.split(line, comments=True)
        assert program.startswith(".venv/bin/"), line
        found.append([str(BIN / Path(program).name), *words])
        if words == ["broker", "start"]:
            found[-1] += ["--port", port]
    return [command for command in found if command[1:] != ["page"]]


@pytest.mark.timeout(600)
def test_from_an_empty_folder_to_a_dashboard(tmp_path: Path) -> None:
    port = str(_free_port())
    (script,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "shop.py").write_text(script.replace("localhost:9092", f"127.0.0.1:{port}"))
    printed = ""
    try:
        for command in commands(port):
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, (command, done.stderr)
            printed += done.stdout + done.stderr
    finally:
        subprocess.run([str(BIN / "streaming-nn"), "broker", "stop"], cwd=tmp_path, timeout=60)
    (shown,) = re.findall(r"\n((?:    topic .*\n)(?:    .*\n)*)", TEXT)
    for line in shown.splitlines():
        assert line.strip() in printed
    history = VersionLog(tmp_path / "model").history()
    accuracy = history["prequential.window.accuracy"]
    assert accuracy[23] > 0.9
    assert accuracy[23] - accuracy[26] > 0.05
    assert accuracy.iloc[-1] > accuracy[26]
    assert history.rejected.sum() == 1
    assert "mini_batch=1" in printed
