"""Tokens as providers count them: what a request, a call, a model and a run have used.

Each count is ``None`` where it is not known, never 0: a provider may report nothing, or may not have
come to it when a reply was cut. A sum with an unknown part is not known either; what was reported
all the same is kept by model (``ModelUsage``).

Counts mean the same for all providers: cached tokens are part of ``prompt_tokens`` and the model's
own reasoning is part of ``completion_tokens``, as OpenAI counts. ``tokens_of`` reads every provider's
own way of reporting them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec


class Tokens(NamedTuple):
    """What one request has used."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cache_read_tokens: int | None = None
    """Of the prompt's, those that the provider had in its cache."""
    cache_write_tokens: int | None = None
    """Of the prompt's, those that it has put there."""
    reasoning_tokens: int | None = None
    """Of the completion's, those of the model's own reasoning."""

    @property
    def known(self) -> bool:
        """Whether the prompt's and the completion's are known; the others are parts of these."""
        return self.prompt_tokens is not None and self.completion_tokens is not None


COUNTS = Tokens._fields
UNKNOWN = Tokens()
NONE_USED = Tokens(0, 0, 0, 0, 0)
"""No model has been at work: the reply came from DSPy's cache, or the request was refused."""


class ModelUsage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ``model`` has used as far as it was reported.

    ``unreported`` is the number of requests of which the provider has not, or not fully, said what
    they used: what is counted here is without these, or without the part of them that is not known.
    """

    model: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None
    unreported: int = 0


class Sums:
    """Adds up requests, or calls, by model."""

    def __init__(self) -> None:
        self._calls = 0
        self._models: dict[str, ModelUsage] = {}
        self._unknown: set[str] = set()  # counts of which some part is not known

    def add(self, model: str, tokens: Tokens, cost: float | None = None) -> None:
        """What one request has used."""
        self._know(tokens)
        self._add(_usage(model, tokens, cost))

    def add_call(self, call: Any) -> None:
        """What an LM call has used, by its last event, an ``LMEnd``."""
        self._calls += 1
        tokens = Tokens(*(getattr(call, name) for name in COUNTS))
        self._know(tokens)
        for usage in call.usage or (_usage(call.model, tokens, call.cost),):
            self._add(usage)

    def _know(self, tokens: Tokens) -> None:
        self._unknown.update(name for name in COUNTS if getattr(tokens, name) is None)

    def _add(self, more: ModelUsage) -> None:
        known = self._models.get(more.model)
        if known is None:
            self._models[more.model] = more
            return
        names = (*COUNTS, "cost")
        sums = {name: _total((getattr(known, name), getattr(more, name))) for name in names}
        unreported = known.unreported + more.unreported
        self._models[more.model] = ModelUsage(model=more.model, unreported=unreported, **sums)

    @property
    def tokens(self) -> Tokens:
        """The sums of all models; ``None`` where any part of a sum is not known."""

        def total(name: str) -> int | None:
            if name in self._unknown:
                return None
            return _total(getattr(usage, name) for usage in self._models.values()) or 0

        return Tokens(*map(total, COUNTS))

    @property
    def by_model(self) -> tuple[ModelUsage, ...]:
        return tuple(self._models.values())

    def of_call(self, model: str, cost: float | None) -> dict[str, Any]:
        """The fields of an ``LMEnd`` of ``model``; ``usage`` where the others cannot say it all."""
        tokens, models = self.tokens, self.by_model
        said = not models or models == (_usage(model, tokens, cost),)
        return {**tokens._asdict(), "cost": cost, "usage": () if said else models}

    def of_run(self) -> dict[str, Any]:
        """The fields of ``Totals``."""
        cost = _total(usage.cost for usage in self._models.values())
        own = {"lm_calls": self._calls, "cost": cost, "usage": self.by_model}
        return {**self.tokens._asdict(), **own}


def _usage(model: str, tokens: Tokens, cost: float | None) -> ModelUsage:
    unreported = int(not tokens.known)
    return ModelUsage(model=model, cost=cost, unreported=unreported, **tokens._asdict())


def _total(counts: Iterable[Any]) -> Any:
    """The sum of what is known, ``None`` if nothing is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


# --- what providers report --------------------------------------------------------------------------


def cost_of(reported: Any) -> float | None:
    """A reported cost as a number; ``None`` where it is none: LM clients of one's own report anything."""
    try:
        cost = math.nan if isinstance(reported, bool) else float(reported)
    except Exception:  # noqa: BLE001 - what a client reports may raise anything
        return None
    return cost if math.isfinite(cost) else None


def tokens_of(usage: Any, *, whole: bool = True) -> Tokens:
    """The tokens in a provider's, lm15's, DSPy's or LiteLLM's report of usage.

    Args:
        usage: a mapping, or an object with attributes. The names in it tell whose it is: OpenAI's
            (Chat Completions and Responses), Anthropic's, Gemini's.
        whole: the reply is complete. What a report of before says of the completion may be that
            it has not been counted: 0.

    No prompt is empty, so that a prompt of 0 tokens was not counted.
    """
    if usage is None:
        return UNKNOWN
    if (prompt := _count(usage, "promptTokenCount")) is not None:
        tokens = _of_gemini(usage, prompt)
    elif _first(usage, "prompt_tokens", "completion_tokens") is not None:
        tokens = _of_chat(usage)
    elif _first(usage, "cache_read_input_tokens", "cache_creation_input_tokens") is not None:
        tokens = _of_anthropic(usage)
    else:
        tokens = _of_responses(usage)
    if not tokens.prompt_tokens:
        tokens = tokens._replace(prompt_tokens=None)
        whole = whole and bool(tokens.completion_tokens)
    if not (whole or tokens.completion_tokens):
        tokens = tokens._replace(completion_tokens=None, reasoning_tokens=None)
    return tokens


def _of_chat(usage: Any) -> Tokens:
    """OpenAI's Chat Completions, and what LiteLLM and DSPy make of other providers' reports."""
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    of_prompt = _get(usage, "prompt_tokens_details")
    reasoning = _first(_get(usage, "completion_tokens_details"), "reasoning_tokens")
    if reasoning is None:
        reasoning = _count(usage, "reasoning_tokens")
    total = _count(usage, "total_tokens")
    if prompt and completion is not None and reasoning and total == prompt + completion + reasoning:
        completion += reasoning  # xAI counts it apart
    read = _first(of_prompt, "cached_tokens")
    written = _first(of_prompt, "cache_write_tokens", "cache_creation_tokens")
    return Tokens(
        prompt,
        completion,
        _or(read, usage, "cache_read_input_tokens", "prompt_cache_hit_tokens"),
        _or(written, usage, "cache_creation_input_tokens"),
        reasoning,
    )


def _of_responses(usage: Any) -> Tokens:
    details = _get(usage, "input_tokens_details")
    return Tokens(
        _count(usage, "input_tokens"),
        _count(usage, "output_tokens"),
        _or(_first(details, "cached_tokens"), usage, "cache_read_tokens"),
        _or(_first(details, "cache_write_tokens"), usage, "cache_write_tokens"),
        _or(_first(_get(usage, "output_tokens_details"), "reasoning_tokens", "thinking_tokens"),
            usage, "reasoning_tokens"),
    )  # fmt: skip


def _of_anthropic(usage: Any) -> Tokens:
    """Its ``input_tokens`` are those that are neither read from the cache nor written to it."""
    tokens = _of_responses(usage)
    read = _count(usage, "cache_read_input_tokens")
    written = _count(usage, "cache_creation_input_tokens")
    if tokens.prompt_tokens is not None:
        prompt = tokens.prompt_tokens + (read or 0) + (written or 0)
        tokens = tokens._replace(prompt_tokens=prompt)
    return tokens._replace(cache_read_tokens=read, cache_write_tokens=written)


def _of_gemini(usage: Any, prompt: int) -> Tokens:
    """It counts thoughts and the prompts of its own tools apart, and leaves out what is 0."""
    thoughts = _count(usage, "thoughtsTokenCount")
    return Tokens(
        prompt + (_count(usage, "toolUsePromptTokenCount") or 0),
        (_count(usage, "candidatesTokenCount") or 0) + (thoughts or 0),
        _count(usage, "cachedContentTokenCount"),
        None,
        thoughts,
    )


def _get(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _count(holder: Any, name: str) -> int | None:
    count = _get(holder, name)
    is_count = isinstance(count, (int, float)) and not isinstance(count, bool) and count >= 0
    return int(count) if is_count and count != float("inf") else None


def _first(holder: Any, *names: str) -> int | None:
    return next((count for name in names if (count := _count(holder, name)) is not None), None)


def _or(count: int | None, holder: Any, *names: str) -> int | None:
    return count if count is not None else _first(holder, *names)
