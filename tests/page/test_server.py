"""The page's server, over HTTP: what it serves, whom it refuses, and that a new version is announced."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shown_models import GrowingModel

from streaming_nn.cli.app import run
from streaming_nn.importance import importance
from streaming_nn.page.run import address, listen, serving

pytestmark = pytest.mark.commit


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> GrowingModel:
    grown = GrowingModel(tmp_path_factory.mktemp("page") / "model", classes=["low", "high", "<b>odd</b>"])
    grown.learn(3)
    return grown


@pytest.fixture(scope="module")
def url(model: GrowingModel) -> Iterator[str]:
    listening = listen(port=0)
    with serving([model.log.directory], listening):
        yield address(listening)


def get(url: str, path: str = "", headers: dict[str, str] | None = None) -> Any:
    return urllib.request.urlopen(urllib.request.Request(url + path, headers=headers or {}), timeout=10)


def get_json(url: str, path: str) -> Any:
    return json.load(get(url, path))


def refused(url: str, path: str = "", headers: dict[str, str] | None = None) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as error:
        get(url, path, headers)
    return error.value.code, error.value.read().decode()


def next_event(events: Any) -> list[int]:
    line = next(line for line in events if line.startswith(b"data: "))
    found: list[int] = json.loads(line[6:])["heads"]
    return found


def test_each_response_forbids_what_is_not_from_the_page_itself(url: str) -> None:
    for path in ("", "static/page.js", "static/vendor/uPlot.iife.min.js", "api/models"):
        headers = get(url, path).headers
        assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers.get("set-cookie") is None
    text = get(url).read().decode()
    assert "://" not in text
    assert "<script>" not in text
    assert "style=" not in text


def test_a_model_is_served_as_json(url: str, model: GrowingModel) -> None:
    with get(url, "api/events") as events:
        assert next_event(events)[0] in (3, None)
    assert get_json(url, "api/models") == [
        {"name": "model", "directory": str(model.log.directory), "head": 3}
    ]
    timeline = get_json(url, "api/models/0/timeline?column=prequential.window.accuracy&column=rows")
    assert timeline["numbers"] == [0, 1, 2, 3]
    assert timeline["columns"]["rows"] == [None, 50, 100, 150]
    found = get_json(url, "api/models/0/versions/2")
    assert found["metrics"]["prequential"]["window"] == model.log.manifest(2).metrics["prequential"]["window"]
    assert get_json(url, "api/models/0/versions/head")["number"] == 3
    rows = get_json(url, "api/models/0/samples/2")["rows"]
    assert rows[0] == {"version": 2, **model.log.manifest(2).samples["rows"][-1]}
    fields = get_json(url, "api/models/0/importance/3?from=1")
    assert fields["versions"] == [1, 2, 3]
    expected = importance(model.log.read(3)).fields
    assert [each["field"] for each in fields["fields"]] == [each.field for each in expected]


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("api/models/1/versions/head", 404, "model must be 0 to 0; got 1"),
        ("api/models/0/importance/0", 404, "version 0 has learned too few rows: 0"),
        ("api/models/0/importance/9", 404, "version must be 0 to"),
        ("api/models/0/versions/9", 404, "version must be 0 to"),
        ("api/models/0/versions/x", 400, "expected a number; got 'x'"),
        ("api/models/0/timeline?from=x", 400, "expected a number; got 'x'"),
        ("api/models/x/timeline", 404, "Not Found"),
        ("static/../server.py", 404, "Not Found"),
    ],
)
def test_another_path_is_refused_in_one_line(url: str, path: str, code: int, message: str) -> None:
    assert refused(url, path)[0] == code
    assert message in refused(url, path)[1]


def test_another_sites_name_for_this_machine_is_refused(url: str) -> None:
    assert refused(url, headers={"Host": "example.org"})[0] == 400


def test_a_version_is_announced_within_a_second(url: str, model: GrowingModel) -> None:
    with get(url, "api/events") as events:
        before = next_event(events)
        model.learn(1)
        while (seen := next_event(events)) == before:
            pass
    assert seen == [model.head.number]


def test_open_streams_end_with_the_server_without_a_word_in_the_terminal(
    model: GrowingModel, capfd: pytest.CaptureFixture[str]
) -> None:
    listening = listen(port=0)
    with serving([model.log.directory], listening):
        events = get(address(listening), "api/events")
        next_event(events)
    with events:
        assert b"event: ended" in events.read()
    assert capfd.readouterr() == ("", "")


def test_a_token_is_needed_beyond_this_machine(model: GrowingModel) -> None:
    with pytest.raises(ValueError, match="can be reached from other machines, so it needs --token"):
        listen("0.0.0.0", 0)
    listening = listen(port=0)
    with serving([model.log.directory], listening, token="secret"):
        url = address(listening)
        assert refused(url, "api/models") == (401, '{"error":"the token is missing or wrong"}')
        assert refused(url, "api/models?token=secre")[0] == 401
        assert refused(url, "api/events")[0] == 401
        assert len(get_json(url, "api/models?token=secret")) == 1
        assert get(url, "api/models", {"Authorization": "Bearer secret"}).status == 200


def test_it_works_under_a_path_prefix(model: GrowingModel) -> None:
    listening = listen(port=0)
    with serving([model.log.directory], listening, prefix="/models"):
        url = address(listening, "/models")
        assert url.endswith("/models/")
        assert len(get_json(url, "api/models")) == 1
        assert get(url, "static/page.css").status == 200


def test_a_used_port_and_a_missing_model_end_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with listen(port=0) as used:
        port = str(used.getsockname()[1])
        assert run(["page", str(tmp_path), "--port", port]) == 1
        message = f"cannot listen on 127.0.0.1:{port}: Address already in use; --port 0 takes any free port"
        assert message in capsys.readouterr().err
    assert run(["page", str(tmp_path / "none")]) == 1
    assert "there is no such directory" in capsys.readouterr().err
    assert run(["page", str(tmp_path), "--prefix", "models/"]) == 2
