"""The same test on both sides: ``dspy.streamify`` and ours."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import dspy
import pytest
import warm
from patience import BOUND

import streamll

DSPY = SimpleNamespace(
    name="dspy",
    streamify=dspy.streamify,
    StreamListener=dspy.streaming.StreamListener,
    StatusMessageProvider=dspy.streaming.StatusMessageProvider,
)
OURS = SimpleNamespace(
    name="streamll",
    streamify=streamll.streamify,
    StreamListener=streamll.StreamListener,
    StatusMessageProvider=streamll.StatusMessageProvider,
)
BOTH = [DSPY, OURS]
EACH = [pytest.param(DSPY, marks=pytest.mark.since_3_4), OURS]
"""As ``BOTH``; what DSPy streamed before 3.4 has a header's line end and closing blanks in it."""


class Yielded:
    """Everything a streamified call yielded."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self.error: BaseException | None = None

    @property
    def chunks(self) -> list[dspy.streaming.StreamResponse]:
        return [v for v in self.values if isinstance(v, dspy.streaming.StreamResponse)]

    @property
    def prediction(self) -> dspy.Prediction | None:
        return next((v for v in self.values if isinstance(v, dspy.Prediction)), None)

    @property
    def statuses(self) -> list[str]:
        return [v.message for v in self.values if isinstance(v, dspy.streaming.StatusMessage)]

    def text(self, field: str, predictor: str | None = None) -> str:
        """The field's text as a reader knows it who minds resets."""
        text = ""
        for chunk in self.of(field, predictor):
            text = chunk.text if isinstance(chunk, streamll.StreamReset) else text + chunk.chunk
        return text

    def of(self, field: str, predictor: str | None = None) -> list:
        return [
            chunk
            for chunk in self.chunks
            if chunk.signature_field_name == field and predictor in (None, chunk.predict_name)
        ]


async def read(stream) -> Yielded:
    """All of an async stream; its error is kept."""
    said = Yielded()
    try:
        async for value in stream:
            said.values.append(value)
    except Exception as error:
        said.error = error
    return said


def read_all(stream, timeout: float = 5 * BOUND) -> Yielded:
    return asyncio.run(asyncio.wait_for(read(stream), timeout))  # it may import LiteLLM


async def values(stream, count: int) -> list:
    """The first values of a stream, without leaving it, read in the reader's own task."""
    return [await anext(stream) for _ in range(count)]


def in_a_process(code: str, *arguments: str, timeout: float = 15) -> str:
    """What a program prints; ``"hangs"`` if it has to be killed."""
    try:
        return warm.run(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
        ).stdout
    except subprocess.TimeoutExpired:
        return "hangs"
