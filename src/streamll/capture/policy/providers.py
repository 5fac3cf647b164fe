"""Provider, address and key of a call: what calls must have in common to share a limit or breaker.

A key itself is never kept, only a digest that is meaningless outside this process.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Hashable, Mapping
from typing import Any

import dspy

from streamll.flow.breaker import CircuitBreaker, breaker_for

_SALT = secrets.token_bytes(16)


def provider_key(lm: Any, options: Mapping[str, Any] | None = None) -> Hashable | None:
    """Provider, address and key of an LM's calls; ``None`` for an LM without a provider."""
    model = getattr(lm, "model", None)
    spec = getattr(lm, "_engine_spec", None)
    if not isinstance(model, str) or spec is None:
        return None
    if not isinstance(spec, str):
        return ("engine", type(spec).__qualname__, id(spec))
    settings = {**getattr(lm, "kwargs", {}), **(options or {})}
    address = settings.get("api_base") or settings.get("base_url")
    return (provider_name(model), str(address or ""), _digest(settings.get("api_key")))


def provider_name(model: str) -> str:
    provider, slash, _ = model.partition("/")
    return provider if slash else "openai"


def _digest(key: Any) -> str:
    if key is None:
        return ""
    text = key if isinstance(key, str) else str(id(key))
    return hashlib.blake2b(text.encode(), digest_size=8, key=_SALT).hexdigest()


def breaker_of(lm: Any, options: Mapping[str, Any] | None = None) -> CircuitBreaker | None:
    """The breaker that all calls to the same provider with the same key share."""
    key = provider_key(lm, options)
    return None if key is None else breaker_for(key, provider_name(lm.model))


def key_of_program(program: Any) -> Hashable:
    """The provider key of a program's calls: its first predictor's LM, or the default one."""
    predictors = program.predictors() if isinstance(program, dspy.Module) else ()
    own = next((predictor.lm for predictor in predictors if predictor.lm is not None), None)
    return provider_key(own or dspy.settings.lm) or "no provider"
