"""``iModel``: one model of one provider, asked for whole answers or streams."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec

from streamll import StreamConfig, stream
from streamll.chat.calling import Calling, Invocation, InvokeStream
from streamll.chat.providers import EndpointConfig, endpoint_config
from streamll.chat.question import CLIENT_OPTIONS, Hooks, LMPool, PendingCall, Question
from streamll.configuration import Receiver, checked_guards, checked_sinks
from streamll.core.errors import ConfigurationError
from streamll.flow.config import checked_config
from streamll.flow.dual import Closing
from streamll.flow.limits import Limits
from streamll.guards import Guard

CLIENT_REMEDIES = {
    "timeout": ": timeouts are config=StreamConfig(…)",
    "max_retries": ": attempts are config=StreamConfig(…)",
    "api_base": ": it is called base_url",
}


class Backend(msgspec.Struct, frozen=True):
    """``model.backend.config``, as the notebook spells it."""

    config: EndpointConfig


class iModel(Closing):  # noqa: N801 - the name by which it is known
    """A model to talk to: a ``dspy.LM`` whose every question is a ``streamll.stream``.

    Args:
        provider: openai, anthropic, gemini, groq, openrouter, ollama, deepseek, xai; or any name
            for a server that speaks OpenAI's chat completions at ``base_url``. It may also be a
            prefix of the model's name (``iModel("groq/llama-3.3-70b-versatile")``).
        model: the provider's name of the model.
        endpoint: where a provider has several: ``"chat"`` or ``"responses"``.
        name: what sessions call it; default ``"provider/model"``.
        base_url: its address; default: the environment's (``OPENAI_BASE_URL``,
            ``ANTHROPIC_BASE_URL``, …, as the providers' own clients read them), then the
            provider's.
        api_key: a key, or a function that returns one; default: the provider's variable
            (``OPENAI_API_KEY``, …), read when the first question is asked.
        config: retries and timeouts of every question; see ``StreamConfig``. Yielded text cannot
            be taken back, so ``invoke_stream`` retries only before its first chunk. Its
            ``fallbacks`` may be ``iModel`` objects, too.
        limits: ``Limits(max_concurrent=…, requests_per_minute=…)``, shared by all that have it.
        hooks: functions called before, after and on error.
        sinks: receive the events of every question, besides the sinks of ``configure``.
        guards: what no reply may show while it streams, of ``streamll.guards``, besides those of
            ``configure``. Whole replies (``invoke``), and what a stream has besides its text, change
            for guards with ``result=True`` alone.
        options: of every question: ``temperature``, ``max_tokens``, ``tools``, …

    Raises:
        ConfigurationError: an unknown provider or endpoint (the message lists those there are), or
            an option of the wrong type.

    Examples:
        >>> model = iModel(provider="openai", model="gpt-4o-mini", temperature=0.7)
        >>> async for chunk in model.invoke_stream(messages=[{"role": "user", "content": "Hello"}]):
        ...     print(chunk, end="", flush=True)
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
        guards: Iterable[Guard] = (),
        **options: Any,
    ) -> None:
        if model is None and provider is not None and "/" in provider:
            provider, model = None, provider  # as dspy.LM takes it
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
        for option in options.keys() & CLIENT_OPTIONS:
            remedy = CLIENT_REMEDIES.get(option, "")
            raise ConfigurationError(f"iModel has no option {option!r}{remedy}")
        endpoint_ = endpoint_config(provider, model, endpoint, base_url, options)
        self.backend = Backend(endpoint_)
        self.name = name or f"{endpoint_.provider}/{model}"
        self._has_key = bool(api_key)
        self.config = config or StreamConfig()
        if limits is not None and self.config.limits not in (None, limits):
            raise ConfigurationError("limits= and the config's limits differ; give one of them")
        self.limits = limits
        self.sinks = checked_sinks(sinks)
        self.guards = checked_guards(guards)
        self.hooks = hooks or Hooks()
        self._lms = LMPool(lambda: endpoint_.lm(api_key))

    def invoke_stream(
        self,
        messages: Any = None,
        *,
        model: str | None = None,
        config: StreamConfig | None = None,
        sinks: Iterable[Receiver] = (),
        guards: Iterable[Guard] = (),
        **options: Any,
    ) -> InvokeStream:
        """The reply as text while it comes: ``async for chunk in …``, or plain ``for``.

        Args:
            messages: a text, or messages as chat completions or sessions have them.
            model: another model of the provider.
            config: in place of the model's.
            sinks: receive the events of this question, too.
            guards: for this question, too.
            options: ``temperature``, ``tools``, …, besides those of the model.

        Raises:
            MissingKeyError: there is no key; the message names the variable.
            ConfigurationError: messages or options that cannot be sent.
            GuardStopped: while it is read, a guard has stopped the reply.
        """
        config = self.config if config is None else checked_config(config)
        if config.on_partial == "restart":  # yielded text cannot be taken back
            config = replace(config, on_partial="fail")
        return InvokeStream(
            self._call(
                "*", messages, model=model, config=config, sinks=sinks, guards=guards, **options
            )
        )

    def events(self, messages: Any = None, **options: Any) -> Any:
        """The reply as events: ``with model.events(…) as events:``, or ``async with``.

        A ``streamll.stream`` like any other; its ``result()`` is the ``ModelReply``. Unlike plain
        text it can supersede an attempt that fails in the middle. Arguments: ``invoke_stream``'s.
        """
        return self._call("*", messages, **options)

    def invoke(self, messages: Any = None, **options: Any) -> Invocation:
        """``await`` it for a ``Calling``: ``.execution.response.data`` is the text.

        Errors of the provider and the network are not raised here: they are in
        ``.execution.error``, and ``.text`` raises them. Arguments: ``invoke_stream``'s.
        """
        return Invocation(Calling(self._call(None, messages, **options)))

    def invoke_sync(self, messages: Any = None, **options: Any) -> Calling:
        """``invoke`` without an event loop: waits in this thread, and returns a ``Calling``.

        Arguments: ``invoke_stream``'s.
        """
        return Calling(self._call(None, messages, **options)).run_sync()

    def _call(
        self,
        fields: str | None,
        messages: Any,
        /,
        *,
        model: str | None = None,
        config: StreamConfig | None = None,
        sinks: Iterable[Receiver] = (),
        guards: Iterable[Guard] = (),
        **options: Any,
    ) -> Any:
        """The call of a stream whose program asks this question."""
        own = self.backend.config
        own.check_key(given=self._has_key)
        options = {**own.options, **options}
        streams = fields is not None
        if bool(options.pop("stream", streams)) != streams:
            raise ConfigurationError(
                "what is called decides whether the reply is streamed, not stream=: invoke_stream "
                "and communicate_stream stream it, invoke and communicate give it whole"
            )
        question = Question(model or own.model, messages, options)
        question.request(question.model)  # raises what is wrong with it before anything is sent
        config = self.config if config is None else checked_config(config)
        if config.limits is None:
            config = replace(config, limits=self.limits)
        if config.fallbacks:
            config = replace(config, fallbacks=[_lm_of(each) for each in config.fallbacks])
        pending = PendingCall(self._lms, self.hooks, question, self.name)
        receivers = (*self.sinks, *checked_sinks(sinks), pending.reply)
        return stream(
            pending,
            fields=fields,
            config=config,
            sinks=receivers,
            keep_text=False,
            guards=(*self.guards, *checked_guards(guards)),
        )()

    def close(self) -> None:
        """Close the idle connections of threads. The model may be used again."""
        self._lms.close()

    async def aclose(self) -> None:
        """Close the idle connections of threads and those of this event loop."""
        await self._lms.aclose()

    def __repr__(self) -> str:
        config = self.backend.config
        at = f", base_url={config.shown_url!r}" if config.base_url else ""
        return f"iModel(provider={config.provider!r}, model={config.model!r}{at})"


def _lm_of(model: Any) -> Any:
    """The ``dspy.LM`` that an ``iModel`` is; anything else as it is."""
    return model._lms.lms[0] if isinstance(model, iModel) else model  # noqa: SLF001 - of its own kind
