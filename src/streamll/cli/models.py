"""Which language model a command asks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streamll.cli.command import Problem

if TYPE_CHECKING:
    from streamll.testing import PracticeServer

AUTO, PRACTICE = "auto", "practice"
PACE = 0.03
"""Seconds from one chunk of the practice model to the next: about as fast as one can read."""

# A provider's key in the environment, and a quick and cheap model of that provider.
PROVIDERS = {
    "OPENAI_API_KEY": "openai/gpt-4o-mini",
    "ANTHROPIC_API_KEY": "anthropic/claude-haiku-4-5",
    "GEMINI_API_KEY": "gemini/gemini-2.5-flash",
    "GROQ_API_KEY": "groq/llama-3.3-70b-versatile",
    "MISTRAL_API_KEY": "mistral/mistral-small-latest",
    "DEEPSEEK_API_KEY": "deepseek/deepseek-chat",
    "OPENROUTER_API_KEY": "openrouter/openai/gpt-4o-mini",
}


@contextmanager
def language_model(name: str, base_url: str | None, pace: float = PACE) -> Iterator[Any]:
    """A ``dspy.LM`` for ``name``, without DSPy's cache, since a cached answer does not stream."""
    if name == PRACTICE:
        if base_url is not None:
            raise Problem("--base-url needs --model as well, e.g. --model openai/the-model")
        with practice_server(pace) as server:
            yield server.lm()
        return
    import dspy

    options: dict[str, Any] = {"cache": False}
    if base_url is not None:
        options["api_base"] = base_url
        provider = name.partition("/")[0]
        if not os.environ.get(f"{provider.upper()}_API_KEY"):
            options["api_key"] = "none"  # a server of one's own rarely asks for one
    yield dspy.LM(resolve(name), **options)


@contextmanager
def practice_server(pace: float) -> Iterator[PracticeServer]:
    """A practice server on this machine."""
    from streamll.testing import PracticeServer

    # DSPy would look up current prices on the network; the practice model has none.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")
    with PracticeServer(pace=pace) as server:
        yield server


def resolve(name: str) -> str:
    """The model to ask for ``name``: itself, or for ``auto`` the one whose key is there."""
    if name != AUTO:
        if "/" not in name:
            raise Problem(f"--model takes provider/name, such as openai/{name}, not {name!r}")
        return name
    for variable, model in PROVIDERS.items():
        if os.environ.get(variable):
            return model
    raise Problem(
        f"--model auto found no key in the environment: set one of {', '.join(PROVIDERS)}"
    )
