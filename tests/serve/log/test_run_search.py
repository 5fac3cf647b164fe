"""X12: runs found by what they are, what they were asked, and what they have written."""

from __future__ import annotations

import dspy
import msgspec
import pytest

from serve.runs import CALL, OTHER, ROOT, Scribe
from streamll.brokers.opening import open_sink
from streamll.core import events as ev
from streamll.serve import create_app
from streamll.serve.log import search
from streamll.serve.log.index import brief, title_of

TOKEN = "a-long-enough-token"
FULL = {"authorization": f"Bearer {TOKEN}"}


def run(name, *, program="QA", at=0.0, context=None, inputs=None, end=ev.RunEnd, texts=()):
    """The events of a run; ``texts`` are tokens of its answer, and of another call's in between."""
    scribe = Scribe(0.001).add(ev.RunStart, ROOT, program=program, inputs=inputs)
    lengths = dict.fromkeys((CALL, OTHER), 0)
    for index, pieces in enumerate(texts):
        for call, piece in zip((CALL, OTHER), pieces, strict=True):
            place = {"token_index": index, "offset": lengths[call]}
            scribe.add(ev.TokenEvent, call, field="answer", token=piece, **place)
            lengths[call] += len(piece)
    scribe.add(ev.LMStart, model="m", messages=[{"role": "user", "content": "the prompt's own"}])
    if end is not None:
        message = (
            {"error_type": "ValueError", "message": "no such town"} if end is ev.RunError else {}
        )
        scribe.add(end, ROOT, **message)
    replace = msgspec.structs.replace
    return [
        replace(each, identity=replace(each.identity, run_id=name), context=context or {},
                timestamp=each.timestamp + at)
        for each in scribe.events
    ]  # fmt: skip


RUNS = [
    run("r0", inputs={"question": "Where is\nBonn?"}, context={"user": "anna", "n": 3}),
    run("r1", program="Summary", at=10, context={"user": "ben", "deep": {"a": 1}, "streamll_program": "short"}),
    run("r2", at=20, end=ev.RunError, context={"user": "anna"}),
    run("r3", at=30, end=ev.RunCancelled, texts=[("On the Rh", "No"), ("ine, of", "where"), (" course", "")]),
    run("r4", at=40, end=None, inputs={"history": [{"role": "user", "content": "A STRASSE in Köln"}]}),
]  # fmt: skip
START = RUNS[0][0].timestamp


@pytest.fixture
def client(lm, serve, log):
    """Of a server whose log has ``RUNS``, of which the last one's process is gone."""
    sink = open_sink(log)
    for events in RUNS:
        for event in events:
            sink.put(event)
    assert sink.stop(60)
    app = create_app(dspy.Predict("question -> answer"), log=log, tokens=TOKEN)
    with serve(app).client(headers=FULL) as client:
        yield client


def found(client, **query):
    answer = client.get("/runs", params=query)
    assert answer.status_code == 200, answer.text
    return [each["run_id"] for each in answer.json()["runs"]]


FOUND = [
    ({}, ["r4", "r3", "r2", "r1", "r0"]),
    ({"program": "Summary"}, ["r1"]),
    ({"program": "Summ"}, []),
    ({"program": "short"}, ["r1"]),
    ({"status": ["failed", "cancelled"]}, ["r3", "r2"]),
    ({"status": "lost", "program": "QA"}, ["r4"]),
    ({"context.user": "anna"}, ["r2", "r0"]),
    ({"context.user": "anna", "context.n": "3"}, ["r0"]),
    ({"context.other": "anna"}, []),
    ({"since": START + 9, "until": START + 20.5}, ["r2", "r1"]),
    ({"q": "bonn WHERE"}, ["r0"]),
    ({"q": "the Rhine, of course"}, ["r3"]),
    ({"q": "nowhere"}, ["r3"]),
    ({"q": "Straße köln"}, ["r4"]),
    ({"q": "town", "status": "failed"}, ["r2"]),
    ({"q": "BEN"}, ["r1"]),
    ({"q": "summary"}, ["r1"]),
    ({"q": "r2"}, ["r2"]),
    ({"q": "prompt's"}, []),
    ({"q": "  "}, ["r4", "r3", "r2", "r1", "r0"]),
]
REFUSED = [
    ("status=done", "status is one of running, ended, failed, cancelled, lost"),
    ("status=failed&status=", "status is one of"),
    ("since=yesterday", "since is a time in seconds"),
    ("until=nan", "until is a time in seconds"),
    ("context.=x", "context.user=anna"),
    ("q=" + "x" * 201, "at most 200 characters"),
    ("limit=0", "limit is a number from 1 to 200"),
]


def test_runs_are_found(client):
    expected = [runs for _, runs in FOUND]
    assert [found(client, **query) for query, _ in FOUND] == expected
    kept = [found(client, **query) for query, _ in FOUND]
    assert kept == expected, "from what was kept of their texts"


def test_what_nobody_can_look_for_is_refused(client):
    for query, told in REFUSED:
        answer = client.get(f"/runs?{query}")
        assert (answer.status_code, told in answer.json()["error"]) == (400, True), answer.text


def test_the_answer_says_what_it_covers(client, monkeypatch):
    """Without time only what the list itself says is searched."""
    answer = client.get("/runs?limit=2").json()
    assert (answer["more"], "searched" in answer) == (True, False)
    assert client.get("/runs?limit=5").json()["more"] is False
    with monkeypatch.context() as patched:
        patched.setattr(search, "SEARCH_S", -1.0)
        answer = client.get("/runs?q=bonn").json()
        assert (answer["runs"], answer["searched"]) == ([], {"runs": 5, "texts": 0})
        assert found(client, q="where is") == ["r0"]
    assert client.get("/runs?q=q").json()["searched"] == {"runs": 5, "texts": 5}
    assert client.get("/runs?q=qa&limit=1").json()["more"] is True


def test_a_run_that_takes_too_long_leaves_time_for_the_others(client, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(search, "RUN_S", 0.0)
        assert client.get("/runs?q=zzz").json()["searched"] == {"runs": 5, "texts": 0}
    assert client.get("/runs?q=zzz").json()["searched"]["texts"] == 0, "not tried again at once"


def test_of_a_very_long_run_the_beginning_is_searched(monkeypatch):
    monkeypatch.setattr(search, "TEXT_CHARACTERS", 12)
    text = search.RunText()
    for event in run("r", texts=[("first ", ""), ("second ", ""), ("third", "")]):
        if not text.is_full:
            text.feed(event)
    assert text.text == "first second \n"


def test_what_is_kept_of_texts_is_bounded(monkeypatch):
    monkeypatch.setattr(search, "CACHE_CHARACTERS", 100)
    kept = search.RunSearch(None)
    for number in range(50):
        kept._keep(f"r{number}", "x" * 30)
    assert list(kept._texts) == ["r47", "r48", "r49"]


def test_titles_and_contexts_are_short_and_only_where_events_carry_them(client):
    runs = {each["run_id"]: each for each in client.get("/runs").json()["runs"]}
    titles = {name: each.get("title") for name, each in runs.items()}
    assert titles == {"r0": "Where is", "r1": None, "r2": None, "r3": None,
                      "r4": "A STRASSE in Köln"}  # fmt: skip
    assert [runs[name].get("context") for name in ("r0", "r1", "r3")] == [
        {"user": "anna", "n": 3}, {"user": "ben", "streamll_program": "short"}, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "title"),
    [
        (None, None),
        ({}, None),
        ({"a": 3, "b": " \n ", "c": "\n  third\t input \nmore"}, "third input"),
        ({"image": "data:image/png;base64,AAAA", "q": "What is it?"}, "What is it?"),
        ({"m": [{"content": "first"}, {"content": "last"}]}, "last"),
        ({"m": [{"content": [{"type": "text"}]}], "q": "yes"}, "yes"),
        ({"m": [], "q": ["no"], "r": "yes"}, "yes"),
        ({"q": "x" * 500}, "x" * 119 + "…"),
        ({"q": "half \ud83d a pair"}, "half ? a pair"),
        ({"q": "<script>alert(1)</script>"}, "<script>alert(1)</script>"),
    ],
)
def test_a_title_is_the_first_line_of_the_first_text(inputs, title):
    assert title_of(inputs) == title


def test_a_long_or_odd_context_is_listed_in_part():
    context = {f"k{n}": n for n in range(30)}
    assert brief(context) == {f"k{n}": n for n in range(20)}
    odd = {"nan": float("nan"), "long": "x" * 201, "k" * 201: 1, "half": "\ud83d", "no": None}
    assert brief(odd) == {"half": "?"}


def test_a_report_is_a_file_with_the_run_in_it(client):
    answer = client.get("/runs/r3/report")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "ine, of" in answer.text
    assert "default-src 'none'" in answer.text
    assert client.get("/runs/none/report").status_code == 404
    started = client.post("/runs", json={"inputs": {"question": "?"}}).json()
    only = {"authorization": f"Bearer {started['token']}"}
    assert client.get(f"/runs/{started['run_id']}/report", headers=only).status_code == 200
    assert client.get("/runs/r3/report", headers=only).status_code == 401
