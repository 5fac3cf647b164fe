"""The language model of the examples: a practice server on this machine, no key needed.

    STREAMLL_MODEL=openai/gpt-4o-mini python examples/token_streaming_basic.py

asks a real model instead. Each example supplies the replies of the practice model, which are sent in
the format that DSPy's prompt asks for, at a pace that can be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import dspy

from streamll.testing import PracticeServer


@contextmanager
def language_model(*replies: object, respond=None, pace: float = 0.03) -> Iterator[dspy.LM]:
    """A ``dspy.LM`` that can be used inside the ``with`` block.

    The practice model sends ``replies`` in the order of the requests; ``respond``, a function of
    the request, answers the requests after them. From one piece to the next it waits ``pace``
    seconds, unless ``STREAMLL_PACE`` says otherwise.
    """
    model = os.environ.get("STREAMLL_MODEL")
    if model:
        yield dspy.LM(model)
        return
    # DSPy would download current prices; the practice model has none.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")
    with PracticeServer(pace=float(os.environ.get("STREAMLL_PACE", pace))) as server:
        server.script(*replies)
        server.respond(respond)
        yield server.lm()
