"""DSPy's private names that are read, each with what is lost where a DSPy does not have it.

Two lines of DSPy are known: 3.4, which selects an engine for each LM call, and 3.1 to 3.3, whose LM
calls all go through LiteLLM. What is read of one line alone says so, and is not missed on the other.

What is replaced in DSPy is listed in ``hooks/places.py``. Public DSPy would do for most of this,
at a price: ``dspy.context`` freezes every other setting for the block, so a program that calls
``dspy.configure`` inside would run differently.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from importlib.util import find_spec
from typing import Any, NamedTuple

import dspy


class PrivateName(NamedTuple):
    """A private name of DSPy that is read; ``name`` is ``None`` where it is a whole module."""

    module: str
    name: str | None
    lost: str
    """What does not work where the name does not exist."""
    since: str = ""
    """The first DSPy that has it, where not all known ones do."""

    def __str__(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module

    @property
    def expected(self) -> bool:
        """Whether this DSPy should have it."""
        return HAS_ENGINES or not self.since

    def find(self, otherwise: Any = None) -> Any:
        try:
            module = importlib.import_module(self.module)
        except ImportError:
            return otherwise
        return getattr(module, self.name, otherwise) if self.name else module


_WHOLE_TEXT = "text arrives whole, when a call ends"
_ENGINES = "3.4"

PRIVATE_NAMES = [
    PrivateName("dspy.clients.execution", None, _WHOLE_TEXT, _ENGINES),
    PrivateName("dspy.clients.engines.lm15_engine", None, _WHOLE_TEXT, _ENGINES),
    PrivateName("dspy.clients.engines.lifecycle", None, _WHOLE_TEXT, _ENGINES),
    PrivateName("dspy.clients.engines.stream_guard", None, _WHOLE_TEXT, _ENGINES),
    PrivateName("dspy.clients.engines.litellm_engine", None, _WHOLE_TEXT, _ENGINES),
    PrivateName("dspy._vendor.lm15.result", None, _WHOLE_TEXT, _ENGINES),
    PrivateName("dspy._vendor.lm15.providers", None, _WHOLE_TEXT, _ENGINES),
    PrivateName("dspy._vendor.lm15.registry", "lookup",
        "`StreamConfig` starts over where it would continue a reply", _ENGINES),
    PrivateName("dspy.clients.cache", "Cache", "`record` and `replay` do not work"),
]  # fmt: skip
"""All of them; those that this module reads itself are added below."""

HAS_ENGINES = find_spec("dspy.clients.execution") is not None
"""Whether this DSPy selects an engine for each LM call (3.4), so that all of streamll works."""


def _private(module: str, name: str, otherwise: Any, *, lost: str, since: str = "") -> Any:
    private = PrivateName(module, name, lost, since)
    PRIVATE_NAMES.append(private)
    return private.find(otherwise)


NEEDS_ENGINES = (
    "attempts, timeouts, limits and fallbacks of LM calls under a `StreamConfig`",
    'continuing a reply that was cut (`on_partial="continue"`)',
    "`DSpyStream`, whose text cannot be taken back",
    "`iModel` and what stands on it: sessions, `StreamingChat`, `streamll probe` and `chat`",
    "chunks of `streamify` in the form of DSPy's engines",
)
"""What older DSPys cannot have."""


def needs_engines(what: str) -> str:
    """The message for something that a DSPy without engines cannot do."""
    return f"{what} needs DSPy 3.4 or newer, and this is {dspy.__version__}"


class _WithoutLM15:
    """Stands in for a missing ``dspy.lm15``: nothing ever raises its errors."""

    def __getattr__(self, name: str) -> type[Exception]:
        return type(name, (Exception,), {})


lm15: Any = PrivateName("dspy.lm15", None, _WHOLE_TEXT, _ENGINES).find(_WithoutLM15())


class AttributeDict(dict[str, Any]):
    """A dict whose keys are attributes."""

    __getattr__ = dict.get


ACTIVE_CALL_ID: ContextVar[str | None] = _private(
    "dspy.utils.callback", "ACTIVE_CALL_ID", ContextVar("active_call_id", default=None),
    lost="every call looks like a root",
)  # fmt: skip
"""The id of the call that is running."""

ADAPTER_CALLS: ContextVar[tuple[Any, ...]] = _private(
    "dspy.clients.call_context", "_adapter_calls", ContextVar("adapter_calls", default=()),
    lost="an adapter's fallback looks like a further call", since=_ENGINES,
)  # fmt: skip
"""The adapter calls under way, innermost last. Where DSPy does not know them, we keep them."""

ACTIVE_COMPILES: ContextVar[tuple[Any, ...]] = _private(
    "dspy.utils.callback_context", "_ACTIVE_COMPILES", ContextVar("active_compiles", default=()),
    lost="text is streamed inside optimizers, too", since="3.3",
)  # fmt: skip
"""The optimizers at work."""

OVERRIDES: ContextVar[Any] | None = _private(
    "dspy.dsp.utils.settings", "thread_local_overrides", None,
    lost="`dspy.configure` inside a captured program has no effect on its further calls",
)  # fmt: skip
"""The settings of ``dspy.context``. Without it ``dspy.context`` itself is used."""

ENGINE_CHUNK: Any = _private(
    "dspy.clients.engines.streaming", "EngineChunk", AttributeDict,
    lost="`streamify` without listeners yields dicts with attributes", since=_ENGINES,
)  # fmt: skip
"""What ``dspy.streamify`` yields without listeners."""

parse_value: Any = _private(
    "dspy.adapters.utils", "parse_value", None,
    lost="numbers, dates and choices of typed fields appear when the program has them",
)  # fmt: skip
"""Makes a value of an annotated type from a field's text."""

_wrap_error: Any = _private(
    "dspy.clients.errors", "wrap_error", None,
    lost="a `StreamConfig` retries nothing", since=_ENGINES,
)  # fmt: skip
_is_retryable: Any = _private(
    "dspy.utils.exceptions", "is_retryable_lm_error", lambda error: False,
    lost="a `StreamConfig` retries nothing", since="3.3",
)  # fmt: skip


prepare_call: Any = _private(
    "dspy.clients.execution", "prepare", None,
    lost="a `StreamConfig` has no fallbacks", since=_ENGINES,
)  # fmt: skip
"""Makes DSPy's ``PreparedCall`` of an LM from what a program asks."""

CLIENT_KEYS: frozenset[str] = frozenset(_private(
    "dspy.clients.backend_selection", "CLIENT_KEYS", ("api_key", "api_base", "base_url"),
    lost="options of a call that are about its provider go to its fallbacks, too",
    since=_ENGINES,
))  # fmt: skip
"""Options that say how a provider is reached."""


_ITERATED = "a token costs more CPU: replies are read as DSPy's own provider client reads them"
_TRANSPORTS = "dspy._vendor.lm15.transports"
READ_ERROR: Any = _private(_TRANSPORTS, "ReadError", None, lost=_ITERATED, since=_ENGINES)
READ_TIMEOUT: Any = _private(_TRANSPORTS, "ReadTimeout", None, lost=_ITERATED, since=_ENGINES)
read_timeout_hint: Any = _private(
    f"{_TRANSPORTS}._limits", "read_timeout_hint", None, lost=_ITERATED, since=_ENGINES
)


def wrapped_error(error: Exception) -> Exception:
    """The error as a program sees it."""
    wrapped: Exception = error if _wrap_error is None else _wrap_error(error, model="")
    return wrapped


def is_transient(error: Exception) -> bool:
    """Whether DSPy would try again after this error."""
    return bool(_is_retryable(wrapped_error(error)))


def attributes(value: Any) -> Any:
    """Dicts, and the dicts in them, with their keys as attributes too."""
    if isinstance(value, dict):
        return AttributeDict({key: attributes(item) for key, item in value.items()})
    return [attributes(item) for item in value] if isinstance(value, list) else value


def setting(key: str) -> Any:
    """A setting of ours in DSPy's overrides; ``None`` where it is not set."""
    if OVERRIDES is None:
        return dspy.settings.get(key)
    return OVERRIDES.get().get(key)


def settings_here() -> Any:
    """The settings of ``dspy.context`` at this place, for ``context_with``."""
    return OVERRIDES and OVERRIDES.get()


def context_with(settings: Any) -> Context:
    """A copy of the current context with ``settings``; where none were set, with its own."""
    context = copy_context()
    if OVERRIDES is not None and settings:
        context.run(OVERRIDES.set, settings)
    return context


OF_CALLERS = ("send_stream", "usage_tracker", "caller_predict", "caller_modules")
"""Settings by which DSPy knows whose call it is in."""


def context_outside() -> Context:
    """A copy of the current context, outside of the calls here: what runs in it is no part of them."""
    context = copy_context()
    context.run(ACTIVE_CALL_ID.set, None)
    context.run(ADAPTER_CALLS.set, ())
    if OVERRIDES is not None:
        overrides = context.run(OVERRIDES.get)
        kept = {key: overrides[key] for key in overrides if not key.startswith("_streamll")}
        outside = {**kept, **dict.fromkeys(OF_CALLERS), "stream_listeners": [], "trace": []}
        context.run(OVERRIDES.set, type(overrides)(outside))
    return context


@contextmanager
def overriding(key: str, value: Any) -> Iterator[None]:
    """Set one key of DSPy's overrides for a block, and no other."""
    if OVERRIDES is None:
        with dspy.context(**{key: value}):
            yield
        return
    overrides = OVERRIDES.get()
    token = OVERRIDES.set(type(overrides)({**overrides, key: value}))
    try:
        yield
    finally:
        OVERRIDES.reset(token)
