"""``iModel``: one model of one provider, asked for whole answers or streams."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
from dspy import lm15

from streamll.chat.calling import Calling, Invocation
from streamll.chat.engines import CONNECTIONS, Engines
from streamll.chat.hooks import Hooks
from streamll.chat.invoke_stream import InvokeStream
from streamll.chat.pending import Asked, invoked, invoked_sync
from streamll.chat.providers import Route, route
from streamll.chat.question import Question
from streamll.chat.runner import Answering
from streamll.configuration import Receiver, checked_sinks
from streamll.core.errors import ConfigurationError
from streamll.flow.breaker import breaker_for
from streamll.flow.closing import Closing
from streamll.flow.config import StreamConfig
from streamll.flow.limits import Limits

Options = dict[str, Any]


class EndpointConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was made with; never its key."""

    provider: str
    model: str
    endpoint: str
    base_url: str | None
    options: Options


class Backend(msgspec.Struct, frozen=True):
    """``model.backend.config``: where the questions go."""

    config: EndpointConfig


class iModel(Closing):  # noqa: N801 - the name by which it is known
    """A model to talk to.

    >>> model = iModel(provider="openai", model="gpt-4o-mini", temperature=0.7)
    >>> async for chunk in model.invoke_stream(messages=[{"role": "user", "content": "Hello"}]):
    ...     print(chunk, end="", flush=True)

    Args:
        provider: openai, anthropic, gemini, groq, openrouter, ollama, deepseek, xai; or any name
            for a server that speaks OpenAI's chat completions at ``base_url``. It may also stand
            in front of the model's name (``iModel(model="groq/llama-3.3-70b-versatile")``).
        model: the provider's name of the model.
        endpoint: where a provider has several: ``"chat"`` or ``"responses"``.
        name: what sessions call it; default ``"provider/model"``.
        base_url: its address, if not the provider's or the environment's (``OPENAI_BASE_URL``,
            ``ANTHROPIC_BASE_URL``, …, as the providers' own clients read them).
        api_key: a key, or a function that gives one; default: the provider's variable
            (``OPENAI_API_KEY``, …), read when the first question is asked.
        config: retries and timeouts of every question; see ``StreamConfig``. What was read as
            plain text cannot be taken back, so a stream is tried again only before its first.
        limits: ``Limits(max_concurrent=…, requests_per_minute=…)``, shared by all that have it.
        hooks: functions called before, after and on error.
        sinks: hear every question, besides those of ``configure``.
        options: of every question: ``temperature``, ``max_tokens``, ``tools``, …

    Raises:
        ConfigurationError: an unknown provider or endpoint (the message lists those there are), or
            an option of the wrong kind.
    """

    def __init__(
        self,
        provider: str | None = None,
        model: str | None = None,
        endpoint: str | None = None,
        name: str | None = None,
        *,
        base_url: str | None = None,
        api_key: Any = None,
        config: StreamConfig | None = None,
        limits: Limits | None = None,
        hooks: Hooks | None = None,
        sinks: Iterable[Receiver] = (),
        **options: Any,
    ) -> None:
        if model is None:
            raise ConfigurationError("iModel needs a model, e.g. model='gpt-4o-mini'")
        if provider is None:
            provider, slash, model = model.partition("/")
            if not slash:
                raise ConfigurationError(
                    f"iModel needs a provider, e.g. provider='openai', model={provider!r}"
                )
        for given, kind in ((config, StreamConfig), (limits, Limits), (hooks, Hooks)):
            if not isinstance(given, (kind, type(None))):
                raise ConfigurationError(
                    f"iModel takes {kind.__name__}(…) here, not {type(given).__name__}"
                )
        self._route = route(provider, endpoint, base_url)
        self._has_key = bool(api_key)
        self.name = name or f"{self._route.provider}/{model}"
        self.backend = Backend(
            EndpointConfig(
                provider=self._route.provider,
                model=model,
                endpoint=self._route.endpoint,
                base_url=self._route.base_url,
                options=options,
            )
        )
        self.config = config or StreamConfig()
        self.limits = limits
        self.hooks = hooks or Hooks()
        self.sinks = checked_sinks(sinks)
        self._engines = Engines(_router_config(self._route, api_key))
        self._answering = Answering(
            self._route.provider,
            self._route.door,
            self._engines,
            self.hooks,
            priced=self._route.definition is None and not self._route.is_local,
        )
        self._breaker = breaker_for(
            (self._route.door, self._route.base_url, hash(api_key)), self.name
        )

    # --- asking -----------------------------------------------------------------------------

    def invoke_stream(
        self,
        messages: Any = None,
        *,
        model: str | None = None,
        config: StreamConfig | None = None,
        sinks: Iterable[Receiver] = (),
        **options: Any,
    ) -> InvokeStream:
        """The reply as text while it comes: ``async for chunk in …``, or plain ``for``.

        Raises:
            MissingKeyError: there is no key; the message names the variable.
            ConfigurationError: messages or options that cannot be sent.
        """
        chosen = config or self.config
        if chosen.on_partial == "restart":  # text that was read cannot be taken back
            chosen = replace(chosen, on_partial="fail")
        return InvokeStream(self._asked(messages, model, options, chosen, sinks))

    def events(
        self,
        messages: Any = None,
        *,
        model: str | None = None,
        config: StreamConfig | None = None,
        sinks: Iterable[Receiver] = (),
        **options: Any,
    ) -> Asked:
        """The reply as events: ``with model.events(…) as events:``, or ``async with``.

        A stream like any other of ``streamll.stream``; its ``result()`` is the ``Reply``. Here an
        attempt that is lost in the middle can be superseded, which plain text cannot tell.
        """
        return self._asked(messages, model, options, config or self.config, sinks)

    def invoke(
        self,
        messages: Any = None,
        *,
        model: str | None = None,
        config: StreamConfig | None = None,
        sinks: Iterable[Receiver] = (),
        **options: Any,
    ) -> Invocation:
        """``await`` it for a ``Calling``: ``.execution.response.data`` is the text.

        What the provider refuses or the network loses does not raise here: it is
        ``.execution.error``, and ``.text`` raises it.
        """
        asked = self._asked(messages, model, options, config or self.config, sinks)
        return Invocation(asked.calling, lambda: invoked(asked))

    def invoke_sync(
        self,
        messages: Any = None,
        *,
        model: str | None = None,
        config: StreamConfig | None = None,
        sinks: Iterable[Receiver] = (),
        **options: Any,
    ) -> Calling:
        """The same, waiting for it in this thread."""
        return invoked_sync(self._asked(messages, model, options, config or self.config, sinks))

    def _asked(
        self,
        messages: Any,
        model: str | None,
        options: Options,
        config: StreamConfig,
        sinks: Iterable[Receiver],
    ) -> Asked:
        self._route.check_key(given=self._has_key)
        own = self.backend.config
        question = Question(model or own.model, messages, {**own.options, **options})
        question.request(self._route.door)  # what cannot be sent is said here
        if config.limits is None:
            config = replace(config, limits=self.limits)
        return Asked(
            self._answering,
            question,
            config,
            (*self.sinks, *checked_sinks(sinks)),
            name=self.name,
            breaker=self._breaker if config.breaker is True else config.breaker,
        )

    # --- closing ----------------------------------------------------------------------------

    def close(self) -> None:
        """Close idle connections that threads have used. The model may be used again."""
        self._engines.close()

    async def aclose(self) -> None:
        """Close those, and the ones of this event loop."""
        await self._engines.aclose()

    def __repr__(self) -> str:
        config = self.backend.config
        at = f", base_url={config.base_url!r}" if config.base_url else ""
        return f"iModel(provider={config.provider!r}, model={config.model!r}{at})"


def _router_config(way: Route, api_key: Any) -> lm15.RouterConfig:
    key = way.key(api_key)
    return lm15.RouterConfig(
        api_keys={way.door: key} if key else None,
        base_urls={way.door: way.base_url} if way.base_url else None,
        max_connections=CONNECTIONS,
        providers=(way.definition,) if way.definition is not None else (),
    )
