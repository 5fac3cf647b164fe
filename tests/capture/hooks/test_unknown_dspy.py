"""On a DSPy it does not know, capture warns once and delivers whole text; and it can be taken off."""

from __future__ import annotations

import sys

import dspy
import pytest
import warm
from dspy_lines import HAS_ENGINES
from programs import QA

import streamll
from streamll.capture.hooks.places import ONE_CALL

PROGRAM = """
import logging, sys
logging.basicConfig(format="%(message)s")
import dspy
{breakage}
import streamll
from streamll.sinks import MemorySink
from streamll.testing import PracticeServer

with PracticeServer() as server:
    server.respond(lambda request: {{"reasoning": "r", "answer": "whole text"}})
    dspy.configure(lm=server.lm(), adapter=dspy.ChatAdapter())
    sink = MemorySink()
    qa = streamll.instrument(
        dspy.ChainOfThought("question -> answer"), stream_fields=["answer"], sinks=[sink]
    )
    for _ in range(2):
        assert qa(question="Why?").answer == "whole text"
    assert not any(request.streaming for request in server.requests)
tokens = [event.token for event in sink.events if event.event_type == "token"]
assert tokens == ["whole text"] * 2, tokens
assert sink.events[-1].event_type == "run.end"
"""


def run(breakage):
    return warm.run(
        [sys.executable, "-c", PROGRAM.format(breakage=breakage)], modules=warm.WITH_DSPY,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


WITHOUT_SELECTION = (
    "import dspy.clients.execution as x; x._pick = x.__dict__.pop('_select_engine'); "
    "x._engine = lambda lm, call, asynchronous: x._pick(lm, call, asynchronous)"
)
WITHOUT_REQUESTS = """
import types, dspy.clients.lm as x
x.LM.forward = types.FunctionType(x.LM.forward.__code__, dict(vars(x)), "forward", (None, None))
for name in [name for name in vars(x) if name.endswith("_completion")]:
    delattr(x, name)
"""


def test_a_dspy_of_no_known_line_gives_whole_text_and_one_warning():
    """It neither selects engines where 3.4 does, nor asks LiteLLM where the ones before do."""
    done = run(WITHOUT_SELECTION if HAS_ENGINES else WITHOUT_REQUESTS)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be streamed") == 1


WITHOUT_LM15 = """
import builtins, importlib
imported, import_module = builtins.__import__, importlib.import_module

def without_lm15(name, globals=None, locals=None, fromlist=(), level=0):
    ours = (globals or {}).get("__name__", "").startswith("streamll.capture")
    if ours and name.startswith("dspy") and "lm15" in (*name.split("."), *(fromlist or ())):
        raise ImportError(name)
    return imported(name, globals, locals, fromlist, level)

def module_without_lm15(name, *rest):
    if "lm15" in name:
        raise ImportError(name)
    return import_module(name, *rest)

builtins.__import__, importlib.import_module = without_lm15, module_without_lm15
"""


@pytest.mark.since_3_4  # it takes lm15 away
def test_without_its_own_provider_client_text_arrives_whole_with_one_warning():
    done = run(WITHOUT_LM15)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be streamed") == 1


def site_of_one_call():
    """Where an LM call is tapped on this DSPy: the owner and the name of one function."""
    site = ONE_CALL[0].sites[0]
    return site.resolve(), site.name


def test_uninstall_restores_every_hook(lm, heard):
    owner, name = site_of_one_call()
    streamll.uninstall()
    before = (dspy.Module.__call__, dspy.BaseLM.acall, vars(owner)[name])
    program = streamll.instrument(QA(), stream_fields="*", sinks=[heard])
    assert dspy.Module.__call__ is not before[0]
    streamll.uninstall()
    assert (dspy.Module.__call__, dspy.BaseLM.acall, vars(owner)[name]) == before
    program("Why?")
    assert heard.events == []
    streamll.instrument(program, stream_fields=["answer"], sinks=[heard])
    assert program("Why?").answer == heard.text("answer")


def test_who_wraps_a_hook_keeps_what_he_wrapped(lm, heard, monkeypatch):
    """Another tracing library may come later: it is not torn out, and nothing is heard twice."""
    program = streamll.instrument(QA(), stream_fields="*", sinks=[heard])
    ours, called = dspy.Module.__call__, []

    def theirs(self, *args, **kwargs):
        called.append(type(self).__name__)
        return ours(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(dspy.Module, "__call__", theirs)
        streamll.uninstall()
        assert dspy.Module.__call__ is theirs
        program = streamll.instrument(program, stream_fields="*", sinks=[heard])
        answer = program("Why?").answer
    assert called.count("QA") == 1
    assert heard.text("answer") == answer
    assert len(heard.of("run.start")) == 1
    streamll.uninstall()
    assert dspy.Module.__call__ is not ours


def test_a_hook_that_somebody_has_taken_off_is_put_on_again(lm, heard):
    streamll.uninstall()
    original = dspy.Module.__call__
    program = streamll.instrument(QA(), stream_fields="*", sinks=[heard])
    dspy.Module.__call__ = original
    streamll.uninstall()
    streamll.instrument(program, stream_fields="*", sinks=[heard])
    answer = program("Why?").answer
    assert heard.text("answer") == answer
