"""The live tables of a real trainer and a real scorer, on a pseudo-terminal."""

import json
import logging
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from kafka_topics import fill, labeled, settings_of, unlabeled
from pyspark.sql import SparkSession
from terminals import HIDDEN, SHOWN, terminal

from streaming_nn.cli import live, score, train
from streaming_nn.versions.version_log import VersionLog

pytestmark = pytest.mark.merge


def test_jobs_are_shown_on_a_terminal_while_stdout_has_their_results(
    spark: SparkSession,
    broker: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, "streaming_nn")
    monkeypatch.setattr("streaming_nn.spark.session.running", lambda *given: nullcontext(spark))
    monkeypatch.setattr("streaming_nn.sinks.position.POLL", 0.1)
    monkeypatch.setattr(live, "DRAWS", 20)
    topics = broker.topic("shown"), broker.topic("unlabeled"), broker.topic("predictions")
    fill(broker.options, topics[0], [*labeled(2500), b"no JSON"])
    fill(broker.options, topics[1], [*unlabeled(200), b"no JSON"])
    to_predict = {"topic": topics[1], "predictions": topics[2], "once": True}
    settings = settings_of(broker.options, tmp_path / "model", topics[0], score=to_predict)

    with terminal(monkeypatch) as shown:
        train._run(settings, as_json=True)
    log = VersionLog(settings.model)
    head = log.manifest(log.head_number() or 0)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["number"] for event in events] == [*range(1, head.number + 1)]
    last = shown.text.split(f"learns {topics[0]}")[-1]
    assert f"2,500 rows, {head.number} versions" in last
    accuracy = head.metrics["prequential"]["window"]["accuracy"]
    assert re.search(f"accuracy +│ {accuracy:.3f} +[▁█]+", last)
    assert "1 (0.0%): not JSON" in last
    assert re.search(r"lag +│ 0 records, \d+ s", last)
    (bad,) = (m for m in map(log.manifest, log.numbers()) if m.rejected_by_reason)
    line = train.summarize(bad, marked=bad.rejected_by_reason)
    assert [each for each in caplog.messages if "rows" in each] == [line], "of the others nothing is news"

    with terminal(monkeypatch) as shown:
        scorer = score._score(settings, None, as_json=True)
    summary = score._summary(scorer)
    assert (summary["predicted"], summary["rejected"], summary["versions"]) == (200, 1, [head.number] * 2)
    last = shown.text.split(f"predicts {topics[1]}")[-1]
    assert re.search(r"predicted +│ 200 ", last)
    assert re.search(r"latency +│ median < \S+ m?s, 99 % < \S+ m?s", last)
    assert re.search(rf"version +│ {head.number}, ", last)
    assert "1 (0.5%): not JSON" in last
    assert shown.output.rindex(SHOWN) > shown.output.rindex(HIDDEN)
