"""Every case of every dialect, in every way and cut: what is captured is what is asked for plainly."""

from __future__ import annotations

import asyncio
import json
import zlib

import anthropic_cases
import chat_cases
import gemini_cases
import pytest
import responses_cases
from case import PAUSE, READ_BY_LITELLM
from frames_server import CUTS, PAUSE_S, FramesServer
from profiles import THOROUGH
from ways import WAYS, plain_of, play

from streamll.capture.tap import connection
from streamll.capture.tap.wire import reply
from streamll.core.ordering import OrderCheck

pytestmark = pytest.mark.since_3_4

CASES = [
    *chat_cases.CASES,
    *responses_cases.CASES,
    *anthropic_cases.CASES,
    *gemini_cases.CASES,
]
OPEN_GRACE_S = 0.25
"""Instead of a second: what a case holds open came in one go."""


def plays_of(case):
    """The ways and cuts of a case: all where the run is thorough. Otherwise one of those in which lm15
    reads the reply, and for every sixth case also one of LiteLLM's: in turn sync and async, by DSPy
    and by an ``iModel``, each with another cut; other cases have the other pairs.
    """
    ways = case.ways or WAYS
    if THOROUGH:
        return [(way, CUTS) for way in ways]
    turn = zlib.crc32(str(case).encode())
    readers = {False: [], True: []}
    for way in ways:
        readers[way in READ_BY_LITELLM].append(way)
    if readers[False] and turn // 27 % 6:  # both read what is rebuilt from one stream
        del readers[True]
    return [
        (of_reader[(turn // 3 + at) % len(of_reader)], (CUTS[(turn // 9 + at) % 3],))
        for at, of_reader in enumerate(readers.values())
        if of_reader
    ]


PLAYS = [
    pytest.param(case, way, cuts, id=f"{case} ({way})")
    for case in CASES
    for way, cuts in plays_of(case)
]


@pytest.fixture(scope="module")
def server():
    with FramesServer() as running:
        yield running


@pytest.fixture(scope="module")
def plainly(server):
    """``plainly(case, way)``: what it gives without capture. Many cases have one plain reply."""
    known = {}

    def outcome(case, way):
        asked = (way, case.wire, case.provider, case.ask, case.options, case.headers)
        key = repr((*asked, plain_of(case)))
        if key not in known:
            known[key] = play(server, case, way, "whole", captured=False)
        return known[key]

    return outcome


def test_names_are_unique():
    assert len({str(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize(("case", "way", "cuts"), PLAYS)
def test_a_dialect(case, way, cuts, server, plainly, monkeypatch):
    """X1, X3: the plain reply, whatever the stream looks like, and events that say the same."""
    if PAUSE in case.frames:
        monkeypatch.setattr(reply, "GRACE_AFTER_REASON_S", PAUSE_S / 10)
    elif case.end == "open":
        monkeypatch.setattr(reply, "GRACE_AFTER_REASON_S", OPEN_GRACE_S)
        monkeypatch.setattr(reply, "GRACE_AFTER_EARLY_REASON_S", 4 * OPEN_GRACE_S)
    if case.early_grace is not None:
        monkeypatch.setattr(reply, "GRACE_AFTER_EARLY_REASON_S", case.early_grace)
    elif case.end != "open" or PAUSE in case.frames:  # it comes, on a busy machine not soon
        monkeypatch.setattr(reply, "GRACE_AFTER_EARLY_REASON_S", 60)
    plain = plainly(case, way)
    for how in cuts:
        captured = play(server, case, way, how, captured=True)
        check_outcome(case, how, plain, captured)
        check_requests(case, plain, captured)
        check_events(case, captured)
        check_parts(case, way, captured)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.end == "cut" and "native async" in (case.ways or WAYS)],
    ids=str,
)
def test_what_has_come_counts_though_the_connection_was_lost_before_it_is_read(
    case, server, plainly, monkeypatch
):
    """X3: a task that has its turn late finds all of it there, and the end of the connection."""
    read = connection.Body.read

    async def read_late(body):
        while not body._reader._eof and body._reader.exception() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await read(body)

    monkeypatch.setattr(connection.Body, "read", read_late)
    plain = plainly(case, "native async")
    captured = play(server, case, "native async", "whole", captured=True)
    check_outcome(case, "whole", plain, captured)
    check_requests(case, plain, captured)
    check_events(case, captured)


def check_outcome(case, how, plain, captured):
    assert captured.error == plain.error, (how, captured.message)
    if plain.error is not None:
        if case.same_words:
            assert captured.message == plain.message
        return
    assert captured.result == plain.result, how
    assert captured.usage == plain.usage, how
    assert captured.finish_reason == plain.finish_reason, how
    if case.exact:
        assert captured.response == plain.response, how


def check_requests(case, plain, captured):
    seen = (captured.play.streams, captured.play.plains)
    asked = plain.play.requests
    assert seen == ((0, asked) if case.plainly else (asked, int(case.confused or case.refused)))
    if case.end == "open":
        assert captured.play.client_left.wait(60), "the connection was not dropped"


def check_events(case, captured):
    OrderCheck().check_all(captured.events)
    last = captured.events[-1]
    assert last.event_type == ("run.end" if captured.error is None else "run.error")
    superseded = [event.reason for event in captured.of("lm.superseded")]
    assert superseded == (["Confused"] if case.confused else [])
    if captured.error is not None:
        return
    assert bool(captured.of("field.corrected")) is case.corrected
    check_text(case, captured)
    check_tool_calls(captured)
    check_counts(case, captured)


def check_text(case, captured):
    attempt = len(captured.of("lm.superseded"))
    tokens = [event for event in captured.of("token") if event.attempt == attempt]
    said = {}
    for token in tokens:
        said[token.field] = said.get(token.field, "") + token.token
    said.update((event.field, event.text) for event in captured.of("field.corrected"))
    assert said == returned_text(case, captured)
    if not (case.whole or case.confused):
        assert not said or len([token for token in tokens if token.token]) > 1


def returned_text(case, captured):
    """By field: the text that the program got."""
    result = captured.result
    if isinstance(result, dict) and case.ask is not None and "answer" in result:
        return {name: str(result[name]) for name in case.fields if result.get(name) is not None}
    if isinstance(result, dict):
        text = result["text"]
    else:
        first = result[0]
        text = first.get("text") if isinstance(first, dict) else first
    return {"text": text} if text else {}


def check_tool_calls(captured):
    attempt, said = len(captured.of("lm.superseded")), {}
    for event in captured.of("tool_call.delta"):
        if event.attempt == attempt:
            name, arguments = said.get(event.index, (None, ""))
            said[event.index] = (event.name or name, arguments + event.arguments)
    calls = [(name, json.loads(arguments or "{}")) for name, arguments in said.values()]
    assert calls == returned_calls(captured.result)


def returned_calls(result):
    if isinstance(result, dict) and "tool_calls" not in result:
        return []
    if isinstance(result, dict):
        return [(name, json.loads(arguments)) for name, arguments in result["tool_calls"]]
    first = result[0]
    calls = first.get("tool_calls") or () if isinstance(first, dict) else ()
    return [
        (call["function"]["name"], json.loads(call["function"]["arguments"] or "{}"))
        if "function" in call
        else (call["name"], json.loads(call["arguments"] or "{}"))
        for call in calls
    ]


def check_parts(case, way, captured):
    kinds = [event.kind for event in captured.of("reply.part")]
    assert kinds == ([] if way in READ_BY_LITELLM else list(case.parts))


def check_counts(case, captured):
    end, [call] = captured.events[-1], captured.of("lm.end")
    usage = captured.usage
    if isinstance(usage, dict):
        names = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
        counted = [next((usage[n] for n in each if usage.get(n) is not None), 0) for each in names]
        told = [call.prompt_tokens, call.completion_tokens]
        assert [end.prompt_tokens, end.completion_tokens] == told
        if case.confused:  # the stream that could not be understood has used tokens, too
            assert all(
                one is None or one >= other for one, other in zip(told, counted, strict=True)
            )
        else:
            assert [each or 0 for each in told] == counted
    assert call.finish_reason is not None
