"""Which language model a command uses: a ``dspy.LM`` for programs, an ``iModel`` to talk to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streamll.cli.command import Problem
from streamll.core.errors import ConfigurationError

if TYPE_CHECKING:
    from streamll.chat.model import iModel
    from streamll.testing import PracticeServer

AUTO, PRACTICE = "auto", "practice"
PACE_S = 0.03
"""Between two chunks of the practice model: about as fast as one can read."""

# A provider's key in the environment, and a quick and cheap model of that provider.
DEFAULT_MODELS = {
    "OPENAI_API_KEY": "openai/gpt-4o-mini",
    "ANTHROPIC_API_KEY": "anthropic/claude-haiku-4-5",
    "GEMINI_API_KEY": "gemini/gemini-2.5-flash",
    "GROQ_API_KEY": "groq/llama-3.3-70b-versatile",
    "MISTRAL_API_KEY": "mistral/mistral-small-latest",
    "DEEPSEEK_API_KEY": "deepseek/deepseek-chat",
    "OPENROUTER_API_KEY": "openrouter/openai/gpt-4o-mini",
}


@contextmanager
def language_model(name: str, base_url: str | None) -> Iterator[Any]:
    """A ``dspy.LM`` for ``name``, without DSPy's cache, since a cached answer does not stream."""
    if name == PRACTICE:
        with practice_server(base_url, PACE_S) as server:
            yield practice_lm(server)
        return
    import dspy

    options: dict[str, Any] = {"cache": False}
    if base_url is not None:
        options["api_base"] = base_url
        if not os.environ.get(f"{name.partition('/')[0].upper()}_API_KEY"):
            options["api_key"] = "none"  # a server of one's own rarely needs one
    try:
        lm = dspy.LM(resolve(name), **options)
    except ValueError as error:
        raise Problem(str(error)) from error
    yield lm


@contextmanager
def chat_model(name: str, base_url: str | None, pace: float = PACE_S) -> Iterator[iModel]:
    """An ``iModel`` for ``name``; ``auto`` without a key in the environment is ``practice``."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # no command shows prices
    try:
        from streamll.chat.model import iModel
        from streamll.chat.providers import PROVIDERS
    except ImportError as error:  # of a DSPy without lm15
        raise Problem(str(error)) from None

    if name == AUTO:
        name = _model_with_key(PROVIDERS) or PRACTICE
    if name == PRACTICE:
        with practice_server(base_url, pace) as server:
            yield iModel(PRACTICE, "practice-model", base_url=server.openai_url, name=PRACTICE)
        return
    try:
        model = iModel(model=resolve(name), base_url=base_url)
    except ConfigurationError as error:
        raise Problem(str(error)) from error
    yield model


@contextmanager
def practice_server(base_url: str | None, pace: float) -> Iterator[PracticeServer]:
    """A practice server on this machine. Raises ``Problem`` where a ``base_url`` is given."""
    if base_url is not None:
        raise Problem("--base-url needs --model as well, e.g. --model openai/the-model")
    from streamll.testing import PracticeServer

    # DSPy would download current prices; the practice model has none.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")
    with PracticeServer(pace=pace) as server:
        yield server


def practice_lm(server: PracticeServer) -> Any:
    """A ``dspy.LM`` that asks ``server``, not through LiteLLM because of ``OPENAI_BASE_URL``."""
    return server.lm(engine="lm15")


def resolve(name: str) -> str:
    """``name``; for ``auto`` a model of the provider whose key is in the environment."""
    if name != AUTO and "/" not in name:
        raise Problem(f"a model is named provider/model, such as openai/{name}, not {name!r}")
    if name != AUTO:
        return name
    if (model := _model_with_key()) is not None:
        return model
    keys = ", ".join(DEFAULT_MODELS)
    raise Problem(f"--model auto found no key in the environment: set one of {keys}")


def _model_with_key(providers: Any = None) -> str | None:
    for variable, model in DEFAULT_MODELS.items():
        if os.environ.get(variable) and (not providers or model.partition("/")[0] in providers):
            return model
    return None
