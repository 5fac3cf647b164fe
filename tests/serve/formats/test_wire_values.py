"""X5, X11: typed fields on the wires, put together by the clients that people use."""

from __future__ import annotations

import json
import random

import dspy
import pytest

import streamll
from serve.formats.test_wire_formats import (
    ASKED,
    READ_AGUI,
    READ_VERCEL,
    objects,
    sse,
    texts,
)
from serve.npm import run_node
from serve.runs import NAMES, PLAN, RUNS, Scribe, payloads
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.formats.openai import ChatCompletion
from streamll.testing import Fault, Reply

FINAL = {
    "typed": {"plan": json.loads(PLAN), "score": 7},
    "typed_names": {"plan": json.loads(NAMES), "rows": [json.loads(NAMES)]},
    "typed_superseded": {"plan": ["right"]},
    "typed_at_last": {"plan": ["a"], "steps": ["b"], "code": {"code": "print(1)"}},
    "typed_repaired": {"plan": ["a"]},
    "candidates": {"plan": ["a"]},
}

PERMITTED = {"plan": {"constructor": {}, "prototype": [2]}}
PERMITTED["rows"] = [PERMITTED["plan"]]
"""What of ``NAMES`` may be said to Vercel's client."""


def values(read):
    """The typed fields of a message that the ``ai`` package put together."""
    parts = [part["data"] for part in read["message"]["parts"] if part["type"].startswith("data-")]
    return {data["field"]: data["value"] for data in parts if "state" in data}


def both(runs):
    """Runs of events, as the clients of both wires read them: fields of each."""
    vercel = {name: {"sse": sse(payloads(make_format("vercel"), r))} for name, r in runs.items()}
    agui = {
        name: sse(payloads(make_format("agui", RenderOptions(**ASKED)), r))
        for name, r in runs.items()
    }
    read, states = run_node(READ_VERCEL, vercel), run_node(READ_AGUI, agui)
    assert {name: r["errors"] for name, r in read.items() if r["errors"]} == {}
    return read, {name: state["state"] for name, state in states.items()}


@pytest.fixture(scope="module")
def read():
    return both({name: RUNS[name]() for name in RUNS if name not in ("failed", "cancelled")})


@pytest.mark.parametrize("run", FINAL)
def test_the_client_has_the_final_value(read, run):
    vercel, agui = read
    assert values(vercel[run]) == (PERMITTED if run == "typed_names" else FINAL[run])
    assert agui[run]["fields"] == FINAL[run]


def test_what_has_parts_is_a_value_and_no_text(read):
    vercel, _ = read
    assert texts(vercel["typed"]) == ["7", "done"]
    assert texts(vercel["typed_at_last"], of="shown") == ["print(1)"]
    assert texts(vercel["typed_repaired"]) == texts(vercel["typed_superseded"]) == []
    assert not any(
        "[" in o.get("delta", "") for o in objects("agui", "typed") if "STATE" not in o["type"]
    )


def test_on_openais_wire_a_typed_field_is_its_text():
    def said(run, **options):
        chunks = [o for o in objects("openai", run, **options) if o.get("choices")]
        return "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)

    assert said("typed", text="plan") == PLAN
    assert said("typed") == f"{PLAN}\n\n7\n\ndone"
    completion = ChatCompletion(RenderOptions(text="plan"))
    for event in RUNS["typed_repaired"]():
        completion.feed(event)
    assert completion.answer()["choices"][0]["message"]["content"] == '["a"]'


def test_values_of_overlapping_calls_are_all_there(read):
    vercel, agui = read
    parts = [p for p in vercel["typed_overlapping"]["message"]["parts"] if p["type"] == "data-plan"]
    assert [part["data"]["value"] for part in parts] == [["first", "half of it"], ["second"]]
    assert [part["data"]["predictor"] for part in parts] == ["predict", "check"]
    state = agui["typed_overlapping"]
    assert (state["fields"], state["earlier"]) == (
        {"plan": ["second"]},
        {"plan": [["first", "half of it"]]},
    )


def test_a_superseded_value_is_nothing_until_it_is_written_again():
    """X4: a retry in the middle of a field."""
    events = RUNS["typed_superseded"]()
    [at] = [n for n, event in enumerate(events) if event.event_type == "lm.superseded"]
    client = Client("agui")
    client.feed(events[:at])
    assert client.state["fields"]["plan"][0]["title"] == "Résumé ✓"
    client.feed(events[at : at + 1])
    assert client.state["fields"] == {"plan": None}
    last = [json.loads(p) for p in payloads(make_format("vercel"), events[: at + 1])]
    [gone] = [o["data"] for o in last[-2:] if o["type"] == "data-plan"]
    assert (gone["value"], gone["state"]) == (None, "pending")


class Client:
    """AG-UI's state, put together with a JSON patch of 15 lines: its own does the rest here."""

    def __init__(self, name):
        self.form = make_format(name, RenderOptions(**ASKED))
        self.state, self.size = {}, 0

    def feed(self, events):
        for payload in payloads(self.form, events):
            self.take(json.loads(payload), len(payload))

    def take(self, told, size=0):
        if told["type"] == "STATE_SNAPSHOT":
            self.state = told["snapshot"]
        if told["type"] == "STATE_DELTA":
            self.size += size
            for operation in told["delta"]:
                self.apply(**operation)

    def apply(self, op, path, value=None, **move):
        if op == "move":
            *above, key = self.steps(move["from"])
            value = self.at(above).pop(key)
        *above, key = self.steps(path)
        parent = self.at(above)
        if isinstance(parent, dict):
            assert op != "replace" or key in parent
            parent[key] = value
        elif op == "replace":
            parent[int(key)] = value
        else:
            place = len(parent) if key == "-" else int(key)
            assert place <= len(parent)
            parent.insert(place, value)

    def steps(self, path):
        return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]

    def at(self, steps):
        value = self.state
        for step in steps:
            value = value[int(step) if isinstance(value, list) else step]
        return value


def grown(value, whole):
    """Whether ``value`` is a beginning of ``whole``."""
    if value is None or value == whole:
        return True
    if isinstance(value, str) and isinstance(whole, str):
        return whole.startswith(value)
    if isinstance(value, list) and isinstance(whole, list):
        return len(value) <= len(whole) and all(map(grown, value, whole))
    if isinstance(value, dict) and isinstance(whole, dict):
        return all(key in whole and grown(inner, whole[key]) for key, inner in value.items())
    return False


def invented(dice, depth=4):
    """Some value with odd names and texts in it."""
    kind = dice.randrange(6 if depth else 3)
    if kind == 0:
        return "".join(dice.choices('abc "\\{}[],:é🎉\n/~', k=dice.randrange(12)))
    if kind < 3:
        return dice.choice([0, -1.5, True, None, 12345, "", "x"])
    if kind < 5:
        return [invented(dice, depth - 1) for _ in range(dice.randrange(4))]
    names = ["a", "a/b", "~0", "~1/", "0", "-", "", "ключ", "value"]
    return {name: invented(dice, depth - 1) for name in dice.sample(names, dice.randrange(4))}


def pieces_of(dice, text):
    while text:
        size = dice.randrange(1, 9)
        yield text[:size]
        text = text[size:]


def typed_run(seed):
    """A run with a typed field, however its model cuts it; at a pace that holds some back."""
    dice = random.Random(seed)
    value = [invented(dice) for _ in range(3)] if seed % 2 else {"top": invented(dice)}
    text = json.dumps(value, ensure_ascii=bool(seed % 3), indent=[None, 1][seed % 2])
    scribe = Scribe(dice.choice([0.001, 0.03, 0.5])).start()
    scribe.value("plan", text, pieces=list(pieces_of(dice, text)))
    return value, scribe.text("answer", "done").end().events


def test_any_value_in_any_pieces_grows_and_ends_as_it_is():
    runs = {str(seed): typed_run(seed) for seed in range(60)}
    for value, events in runs.values():
        client = Client("agui")
        for event in events:
            client.feed([event])
            assert grown(client.state.get("fields", {}).get("plan"), value)
    vercel, agui = both({name: events for name, (_, events) in runs.items()})
    for name, (value, _) in runs.items():
        assert values(vercel[name]) == {"plan": value}
        assert agui[name]["fields"] == {"plan": value}


def listing(length):
    text = json.dumps([{"name": f"element {n}", "size": n} for n in range(length)])
    pieces = [text[at : at + 20] for at in range(0, len(text), 20)]
    return text, Scribe(0.001).start().value("plan", text, pieces=pieces).end().events


def test_a_change_costs_what_is_new():
    """A list of any length is told in its own length, not again and again."""
    sizes = []
    for length in (500, 2000):
        text, events = listing(length)
        client = Client("agui")
        client.feed(events[:-3])  # without the whole value that comes last
        assert client.state["fields"]["plan"] == json.loads(text)
        sizes.append(client.size / len(text))
    assert sizes[1] < 1.2 * sizes[0]
    whole = [p for p in payloads(make_format("vercel"), events) if b"data-plan" in p]
    assert len(whole) < len(events) * 0.001 / 0.1 + 4  # whole values, ten a second …
    assert sum(map(len, whole)) < 25 * len(text)  # … and longer ones less often


def test_a_field_with_the_name_of_another_data_part_keeps_apart():
    events = Scribe().start().value("status", '["fine"]').end().events
    told = [json.loads(p) for p in payloads(make_format("vercel"), events)[:-1]]
    assert {o["type"] for o in told if o["type"].startswith("data-")} == {"data-field-status"}


def test_the_state_that_the_client_brought_is_kept():
    events = RUNS["typed"]()
    given = {"mine": [1], "fields": {"old": 1}, "earlier": {"old": [0]}}
    form = make_format("agui", RenderOptions(state=given))
    [first, *_] = [
        o for p in payloads(form, events) if (o := json.loads(p))["type"] == "STATE_SNAPSHOT"
    ]
    assert first["snapshot"] == {"mine": [1], "fields": {}}


def test_a_lost_change_stops_the_value_until_it_is_whole_again():
    events = RUNS["typed"]()
    partials = [e for e in events if e.event_type == "field.partial"]
    holed = [e for e in events if e is not partials[1]]
    client = Client("agui")
    client.feed(holed)
    assert client.state["fields"] == FINAL["typed"]


class Plan(dspy.Signature):
    """Plan it."""

    question: str = dspy.InputField()
    steps: list[dict[str, str]] = dspy.OutputField()
    sure: bool = dspy.OutputField()
    answer: str = dspy.OutputField()


REPLY = {
    "steps": [{"name": "look", "why": 'it [may] be "there"'}, {"name": "ask", "why": "é ~ /"}],
    "sure": True,
    "answer": "done",
}


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
def test_clients_show_what_a_real_program_returned_also_after_a_retry(practice, adapter):
    dspy.configure(lm=practice.lm(), adapter=adapter())
    runs, returned = {}, {}
    for name, replies in {
        "whole": [Reply(REPLY)],
        "again": [Reply(REPLY, fault=Fault(error_after=12)), Reply(REPLY)],
    }.items():
        practice.script(*replies)
        with streamll.stream(dspy.Predict(Plan))(question=name) as stream:
            runs[name] = list(stream)
            returned[name] = dict(stream.value)
        assert sum(e.event_type == "lm.superseded" for e in runs[name]) == len(replies) - 1
    vercel, agui = both(runs)
    for name, fields in returned.items():
        assert fields == REPLY
        typed = {"steps": fields["steps"], "sure": True}
        assert values(vercel[name]) == agui[name]["fields"] == typed
        assert texts(vercel[name], of="shown")[-1] == "done"
        assert "look" not in "".join(texts(vercel[name], of="shown"))
