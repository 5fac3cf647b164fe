"""``streamll demo``: programs streamed live, from a practice model or a real one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streamll.cli.demo_modes import MODES, Demonstration
from streamll.cli.models import PRACTICE, language_model
from streamll.cli.perform import perform
from streamll.cli.problem import Problem

if TYPE_CHECKING:
    from streamll.sinks.terminal import Mode
    from streamll.testing import PracticeServer

QUESTION = "Why does a streamed answer feel faster?"


def run_demo(
    mode: str | None,
    question: str | None,
    model: str | None,
    base_url: str | None,
    pace: float,
    view: Mode,
) -> None:
    """Show ``mode``; without one a ChainOfThought program in the terminal view, then every mode."""
    if mode is not None and mode not in MODES:
        raise Problem(f"--mode takes {', '.join(MODES)}, not {mode!r}")
    if model is None:
        print(
            "A practice model on this machine answers; "
            "streamll demo --model openai/gpt-4o-mini asks a real one.\n",
            file=sys.stderr,
            flush=True,
        )
    with answering(model or PRACTICE, base_url, pace) as (lm, practice):
        import dspy

        with dspy.context(lm=lm):
            if mode is None:
                program = dspy.ChainOfThought("question -> answer")
                perform(program, {"question": question or QUESTION}, ["*"], view)
            shown = Demonstration(question, practice)
            for name in [mode] if mode is not None else MODES:
                if mode is None:
                    print(f"\n── {name} ".ljust(60, "─"), flush=True)
                MODES[name](shown)


@contextmanager
def answering(
    model: str, base_url: str | None, pace: float
) -> Iterator[tuple[Any, PracticeServer | None]]:
    """Who answers, and the practice server if that is who."""
    if model != PRACTICE or base_url is not None:
        with language_model(model, base_url, pace) as lm:
            yield lm, None
        return
    from streamll.cli.demo_answers import answer
    from streamll.testing import PracticeServer

    # DSPy would look up current prices on the network; the practice model has none.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")
    with PracticeServer(pace=pace) as server:
        server.respond(answer)
        yield server.lm(), server
