"""X10, X11: every run on every wire, cut between any two kinds of events: what the client has in the end is the same."""

from __future__ import annotations

import openai
import pytest

from serve.formats.test_wire_formats import (
    ASKED,
    READ_AGUI,
    READ_VERCEL,
    cuts,
    read_by_openai,
    resumed,
    sse,
    told,
)
from serve.npm import run_node
from serve.runs import RUNS


def shown(read):
    """What a page shows of a message that the ``ai`` package put together."""
    kept = []
    for part in read["shown"]:
        if part["type"] in ("text", "reasoning"):
            kept.append((part["type"], part["text"]))
        elif part["type"].startswith("data-"):
            data = part["data"]
            kept.append((part["type"], part.get("id"), repr(data.get("value", data))))
        elif "toolCallId" in part:
            outcome = part.get("output"), part.get("errorText")
            kept.append((part["type"], part["state"], repr(part.get("input")), *map(repr, outcome)))
        elif part["type"] == "source-url":
            kept.append((part["type"], part["url"], part.get("title")))
    return kept


def test_a_message_of_vercels_that_is_taken_up_again_ends_as_it_should():
    """The client keeps the message it has; what comes goes on in it."""
    halves = {f"{run}/{cut}": resumed("vercel", run, cut) for run in RUNS for cut in cuts(run)}
    given = {name: {"sse": sse(half[0])} for name, half in halves.items()}
    given |= {run: {"sse": sse(told("vercel", run))} for run in RUNS}
    before = run_node(READ_VERCEL, given)
    given = {
        name: {"sse": sse(half[1]), "message": before[name]["message"]}
        for name, half in halves.items()
    }
    for name, got in run_node(READ_VERCEL, given).items():
        run = name.partition("/")[0]
        assert [e for e in got["errors"] if e != "bad"] == [], name
        if got["message"] is None:  # nothing came any more
            got = before[name]
        right = shown(before[run])
        assert sorted(shown(got), key=repr) == sorted(right, key=repr), name


def conversation(read):
    """Messages by id, in the order of the client's list; without reasoning that was withdrawn."""
    return [
        (m["id"], m["role"], m.get("content") or "", m.get("toolCalls"))
        for m in read["messages"]
        if m.get("content") or m.get("toolCalls")
    ]


def test_a_reader_of_agui_that_comes_back_ends_with_the_same_conversation():
    given = {run: sse(told("agui", run, **ASKED)) for run in RUNS}
    given |= {
        f"{run}/{cut}": sse(resumed("agui", run, cut, **ASKED)[1])
        for run in RUNS
        for cut in cuts(run)
    }
    read = run_node(READ_AGUI, given)
    for name, got in read.items():
        right = read[name.partition("/")[0]]
        assert got["errors"] == right["errors"], name
        assert sorted(conversation(got), key=repr) == sorted(conversation(right), key=repr), name
        assert got["state"] == right["state"], name


def read_openai(lines):
    try:
        text, reason, _ = read_by_openai(lines)
    except openai.APIError as error:
        return None, error.message
    return text, reason


@pytest.mark.parametrize("run", RUNS)
def test_a_reader_of_openais_wire_that_comes_back_has_the_same_text_or_the_same_error(run):
    right = read_openai(told("openai", run))
    for cut in cuts(run):
        before, after = resumed("openai", run, cut)
        got = read_openai([*before, *after])
        assert got == right, f"cut at {cut}"
