"""ReAct shows a failed tool's traceback to the model, so capture must not be seen in one."""

from __future__ import annotations

import asyncio
import sys
import traceback

import dspy
import pytest
import warm
from dspy_lines import ENGINES, LM_ERROR, NO_FALLBACK

import streamll
from streamll.testing import Fault

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="before, a traceback cannot be put right"
)


class Asking(dspy.Module):
    """Makes an LM call, by a predictor or a bare one."""

    def __init__(self, bare):
        super().__init__()
        self.bare, self.predict = bare, dspy.Predict("question -> answer")

    def forward(self):
        return dspy.settings.lm("?") if self.bare else self.predict(question="?")

    async def aforward(self):
        call = dspy.settings.lm.acall("?") if self.bare else self.predict.acall(question="?")
        return await call


def frames(program, asynchronous):
    with pytest.raises(LM_ERROR) as raised:
        asyncio.run(program.acall()) if asynchronous else program()
    found = traceback.extract_tb(raised.value.__traceback__)[1:]
    return [(frame.filename, frame.name, frame.lineno) for frame in found]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bare", [False, True], ids=["predictor", "lm"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_failed_lm_call_has_the_frames_that_it_has_without_capture(
    practice, heard, engine, bare, asynchronous
):
    practice.respond(lambda _: Fault(status=400))
    streamll.uninstall()
    with dspy.context(lm=practice.lm(num_retries=0, engine=engine), adapter=NO_FALLBACK):
        alone = frames(Asking(bare), asynchronous)
        captured = frames(streamll.instrument(Asking(bare), sinks=[heard]), asynchronous)
        aside = frames(Asking(bare), asynchronous)
    assert len(alone) > 3
    assert captured == aside == alone
    assert heard.of("run.error")


WATCHED = """
import traceback
import dspy, streamll

class Failing(dspy.Module):
    def forward(self):
        raise LookupError

def places():
    try:
        Failing()()
    except LookupError as error:
        return [(each.filename, each.name, each.lineno) for each in traceback.extract_tb(error.__traceback__)]

plain = places()
with streamll.watch(sinks=[]):
    assert places() == plain, (places(), plain)
"""


def test_the_first_program_that_is_watched_fails_with_the_frames_that_it_has_without():
    """In a process that has captured nothing before."""
    done = warm.run([sys.executable, "-c", WATCHED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
