"""``streamll demo``: a ChainOfThought program, live, from a practice model or a real one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from streamll.cli.models import PRACTICE, language_model
from streamll.cli.perform import perform

if TYPE_CHECKING:
    from streamll.sinks.terminal import Mode


def run_demo(
    question: str, model: str | None, base_url: str | None, pace: float, view: Mode
) -> None:
    if model is None:
        print(
            "A practice model on this machine answers; "
            "streamll demo --model openai/gpt-4o-mini asks a real one.\n",
            file=sys.stderr,
            flush=True,
        )
    with language_model(model or PRACTICE, base_url, pace) as lm:
        import dspy

        with dspy.context(lm=lm):
            program = dspy.ChainOfThought("question -> answer")
            perform(program, {"question": question}, ["*"], view)
