"""X8: a model that writes what is not shown is not silent."""

from __future__ import annotations

import anthropic_cases as anthropic
import chat_cases as chat
import dspy
import frames_server
import gemini_cases as gemini
import pytest
import responses_cases as responses
from case import PAUSE, Case, sse
from frames_server import FramesServer, Play, Sent
from ways import lm_for

import streamll
from streamll import StreamConfig

# What comes after the reason of the end may come late: only the limits of silence are tried here.
pytestmark = [pytest.mark.since_3_4, pytest.mark.usefixtures("ends_may_be_late")]

NUMBERS = range(10)
CODE = [f"x={number};" for number in NUMBERS]
OTHER = [chat.PIECES[0], *CODE, chat.PIECES[-1]]
CODE_OF_RESPONSES = {"type": "response.code_interpreter_call_code.delta", "output_index": 1}
SEARCH = {"type": "response.web_search_call.searching", "output_index": 1}


def choice(**more):
    return {**chat.FIN, "choices": [{"index": 1, "delta": {}, "finish_reason": None, **more}]}


def candidate(**more):
    return {**gemini.TOP, "candidates": [{"index": 1, **more}]}


def part_of_candidate(text):
    return candidate(content={"role": "model", "parts": [{"text": text}]})


def result(at):
    return anthropic.start(at, type="web_search_tool_result", tool_use_id=f"s{at}", content=[])


def written(part):
    return anthropic.delta(0, type="input_json_delta", partial_json=part)


UNSHOWN = {  # the wire and how it is asked, what comes before, what is not shown, the rest
    "another choice": (
        ("chat", "litellm", 2), [*chat.CHAT, chat.FIN],
        [choice(delta={"content": part}) for part in OTHER],
        [choice(finish_reason="stop"), chat.USE, chat.DONE],
    ),
    "thoughts of GitHub Copilot": (
        ("chat", "native", 1), [], [chat.chunk({"reasoning_text": part}) for part in CODE],
        [*chat.CHAT, chat.FIN, chat.USE, chat.DONE],
    ),
    "another candidate": (
        ("gemini", "litellm", 2), [*gemini.said(), gemini.BARE], [*map(part_of_candidate, OTHER)],
        [candidate(finishReason="STOP")],
    ),
    "code that Gemini runs": (
        ("gemini", "native", 1), [],
        [gemini.chunk({"executableCode": {"language": "PYTHON", "code": part}}) for part in CODE],
        [*gemini.said(), gemini.LAST],
    ),
    "arguments of a call in pieces": (
        ("gemini", "native", 1), [*gemini.said(), gemini.piece(name="price", willContinue=True)],
        [gemini.argument("$.q", part, willContinue=True) for part in CODE],
        [gemini.argument("$.q", ""), gemini.piece(), gemini.LAST],
    ),
    "code that Anthropic runs": (
        ("anthropic", "native", 1),
        [anthropic.begin(), anthropic.start(0, type="server_tool_use", id="s", name="n", input={})],
        [*map(written, ['{"code": "', *CODE, '"}'])],
        [anthropic.stop(0), *anthropic.said(1), anthropic.ending(), anthropic.END],
    ),
    "results of a search by Anthropic": (
        ("anthropic", "native", 1), [anthropic.begin()], [*map(result, NUMBERS)],
        [*anthropic.said(10), anthropic.ending(), anthropic.END],
    ),
    "code that OpenAI runs": (
        ("responses", "native", 1), [], [{**CODE_OF_RESPONSES, "delta": part} for part in CODE],
        [*responses.DELTAS, responses.completed()],
    ),
    "searches by OpenAI": (
        ("responses", "native", 1), [], [SEARCH] * 10, [*responses.DELTAS, responses.completed()],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def server():
    with FramesServer() as running:
        yield running


@pytest.mark.parametrize("what", UNSHOWN)
def test_what_is_not_shown_is_no_silence(what, server, monkeypatch):
    (wire, engine, candidates), before, unshown, rest = UNSHOWN[what]
    slowly = [each for payload in unshown for each in (PAUSE, payload)]
    case = Case(name=what, wire=wire, frames=sse(*before, *slowly, *rest), plain={})
    options = {"n": candidates, "temperature": 0.5} if candidates > 1 else {}
    program = dspy.Predict("question -> answer", **options)
    for limit in (0.5, 5.0, 25.0):  # all of it takes longer
        monkeypatch.setattr(frames_server, "PAUSE_S", 0.15 * limit)
        url = server.play(Play(Sent(case.frames), Sent([b"{}"])))
        first = limit if engine == "native" else None  # LiteLLM's first call takes its time
        config = StreamConfig(first_token_timeout=first, idle_timeout=limit, max_retries=0)
        try:
            with dspy.context(lm=lm_for(case, url, engine), adapter=dspy.ChatAdapter()):
                with streamll.stream(program, config=config)(question="?") as events:
                    answer = events.result().answer
        except TimeoutError as timeout:
            answer = timeout
        else:
            break
    assert answer == "Nine lives"
