"""Which ``iModel`` a command talks to: by its name, the one whose key is there, or practice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streamll.cli.models import AUTO, PRACTICE, PROVIDERS
from streamll.cli.problem import Problem
from streamll.core.errors import ConfigurationError

if TYPE_CHECKING:
    from streamll.chat.model import iModel


@contextmanager
def model_to_talk_to(name: str, base_url: str | None, pace: float) -> Iterator[iModel]:
    """``name`` is provider/model, ``practice``, or ``auto``: a key's provider, else practice."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # nothing here shows prices
    from streamll.chat.model import iModel

    chosen = name if name != AUTO else _with_a_key() or PRACTICE
    if chosen == PRACTICE:
        if base_url is not None:
            raise Problem("--base-url needs --model as well, e.g. --model openai/the-model")
        from streamll.testing import PracticeServer

        with PracticeServer(pace=pace) as server:
            yield iModel(PRACTICE, "practice-model", base_url=server.openai_url, name=PRACTICE)
        return
    if "/" not in chosen:
        raise Problem(f"a model is named provider/model, such as openai/{chosen}, not {chosen!r}")
    try:
        model = iModel(model=chosen, base_url=base_url)
    except ConfigurationError as error:
        raise Problem(str(error)) from error
    yield model


def _with_a_key() -> str | None:
    from streamll.chat.providers import PLACES

    for variable, model in PROVIDERS.items():
        if os.environ.get(variable) and model.partition("/")[0] in PLACES:
            return model
    return None
