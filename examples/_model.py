"""The language model of the examples: a practice server on this machine, no key needed.

    STREAMLL_MODEL=openai/gpt-4o-mini python examples/token_streaming_basic.py

asks a real one instead. What the practice model shall say is given by the example; it says it in
whatever format DSPy's prompt asks for, at a pace that can be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import dspy

from streamll.testing import PracticeServer


@contextmanager
def language_model(*replies: object, respond=None) -> Iterator[dspy.LM]:
    """A ``dspy.LM`` for the time of a ``with`` block.

    The practice model gives ``replies`` in order of the requests; ``respond``, a function of the
    request, answers those that no reply is left for.
    """
    model = os.environ.get("STREAMLL_MODEL")
    if model:
        yield dspy.LM(model)
        return
    # DSPy would look up current prices on the network; the practice model has none.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")
    with PracticeServer(pace=float(os.environ.get("STREAMLL_PACE", "0.03"))) as server:
        server.script(*replies)
        server.respond(respond)
        yield server.lm()
