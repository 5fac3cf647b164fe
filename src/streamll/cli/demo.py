"""``streamll demo``: programs streamed live, from a practice model or a real one."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

from typer import Option

from streamll.cli.command import BaseURL, Pace, Problem, ViewChoice, ViewOption
from streamll.cli.demo_modes import MODES, known_answer
from streamll.cli.models import PACE_S, PRACTICE, language_model, practice_server
from streamll.cli.run import show_run

if TYPE_CHECKING:
    from streamll.testing import PracticeServer

QUESTION = "Why does a streamed answer feel faster?"


def demo(
    model: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Ask a real model, e.g. openai/gpt-4o-mini; auto takes the provider whose key is "
            "in the environment. Default: a practice model on this machine, no key needed.",
        ),
    ] = None,
    base_url: BaseURL = None,
    mode: Annotated[
        str | None,
        Option(
            metavar="MODE",
            help="simple, concurrent, aggregate or recovery. Default: a ChainOfThought program in "
            "the terminal view, then all four.",
        ),
    ] = None,
    question: Annotated[str | None, Option(help="What to ask.", show_default=False)] = None,
    pace: Pace = PACE_S,
    view: ViewOption = ViewChoice.auto,
) -> None:
    """Watch programs answer questions. One, several at once, merged, and with a failing provider."""
    if mode is not None and mode not in MODES:
        raise Problem(f"--mode takes {', '.join(MODES)}, not {mode!r}")
    if model is None:
        print(
            "A practice model on this machine answers; "
            "streamll demo --model openai/gpt-4o-mini asks a real one.\n",
            file=sys.stderr,
            flush=True,
        )
    with ExitStack() as stack:
        server: PracticeServer | None = None
        if model is None or model == PRACTICE:
            server = stack.enter_context(practice_server(base_url, pace))
            server.respond(known_answer)
            lm = server.lm()
        else:
            lm = stack.enter_context(language_model(model, base_url))
        import dspy

        stack.enter_context(dspy.context(lm=lm))
        if mode is not None:
            MODES[mode](question, server)
            return
        program = dspy.ChainOfThought("question -> answer")
        show_run(program, {"question": question or QUESTION}, ["*"], view.value)
        for name in MODES:
            print(f"\n── {name} ".ljust(60, "─"), flush=True)
            MODES[name](question, server)
