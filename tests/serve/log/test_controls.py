"""docs/wire.md, Controls: what any program can ask of a run through the log, and what is ignored."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from pathlib import Path

import dspy

from serve.serving import frames
from streamll.consumer import EventConsumer
from streamll.core.events import TERMINAL
from streamll.serve import create_app
from streamll.testing import Reply

DOCS = Path(__file__).parents[3] / "docs" / "wire.md"


def documented(run_id):
    """The entry of the docs, about this run."""
    section = DOCS.read_text("utf-8").partition("## Controls")[2]
    [entry] = re.findall(r"```json\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    return entry.replace("5f3c9a", run_id)


def append(path, body):
    """What a program does that does not know streamll."""
    with sqlite3.connect(path, timeout=60) as log:
        log.execute(
            "INSERT INTO streamll_entries (target, run_id, written_at, body) VALUES (?, ?, ?, ?)",
            ("streamll:events", None, time.time(), body.encode()),
        )
    log.close()


def test_an_entry_as_documented_stops_its_run_and_no_other(practice, lm, serve, tmp_path):
    practice.respond(lambda _: Reply({"answer": "one two three four five six"}, hold_after=10))
    path = tmp_path / "log.db"
    app = create_app(dspy.Predict("question -> answer"), log=f"sqlite:///{path}")
    with serve(app).client() as client:
        runs = [client.post("/runs", json={"inputs": {"question": q}}).json() for q in "ab"]
        practice.wait_for(lambda: len(practice.requests) == 2)
        stopped, other = runs
        with client.stream("GET", stopped["events"]) as response:
            coming = frames(response)
            next(coming)
            for nonsense in (
                documented("of nobody"),
                documented(other["run_id"]).replace("server.cancel", "server.unheard-of"),
                documented(other["run_id"]).replace("run_id", "run"),
                json.dumps({"v": 1, "events": [
                    {"event_type": "server.cancel", "timestamp": 1.0, "data": {"run_id": [other["run_id"]]}}
                ]}),
                json.dumps({"v": 1, "events": [{"event_type": "server.cancel", "timestamp": 1.0}]}),
            ):  # fmt: skip
                append(path, nonsense)
            append(path, documented(stopped["run_id"]))
            assert [frame.event for frame in coming][-1]["event_type"] == "run.cancelled"
        assert client.get(other["url"]).json()["status"] == "running"
        practice.release()
        with client.stream("GET", other["events"]) as response:
            assert [frame.event for frame in frames(response)][-1]["event_type"] == "run.end"
    consumer, types, ended = EventConsumer(f"sqlite:///{path}", start="beginning"), set(), set()

    @consumer.subscribe
    def see(event):
        types.add(event.event_type)
        if event.event_type in TERMINAL:
            ended.add(event.run_id)
        if len(ended) == len(runs):
            consumer.stop_soon()

    consumer.run_sync()
    assert not any(each.startswith("server.") for each in types), "a control is for no reader"
