"""``streamll demo``: programs streamed live, from a practice model or a real one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

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
    with _answering(model or PRACTICE, base_url, pace) as (lm, server):
        import dspy

        with dspy.context(lm=lm):
            if mode is not None:
                MODES[mode](question, server)
                return
            program = dspy.ChainOfThought("question -> answer")
            show_run(program, {"question": question or QUESTION}, ["*"], view.value)
            for name in MODES:
                print(f"\n── {name} ".ljust(60, "─"), flush=True)
                MODES[name](question, server)


@contextmanager
def _answering(
    model: str, base_url: str | None, pace: float
) -> Iterator[tuple[Any, PracticeServer | None]]:
    """The model that answers, and the practice server if it is the practice model."""
    if model == PRACTICE:
        with practice_server(base_url, pace) as server:
            server.respond(known_answer)
            yield server.lm(), server
    else:
        with language_model(model, base_url, pace) as lm:
            yield lm, None
