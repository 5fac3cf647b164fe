"""Providers: their endpoints, and addresses and keys from the environment.

The wires themselves are lm15's, behind ``dspy.LM``. This module maps the names people use to
DSPy's and reads the environment variables that the providers' own clients read. It opens no
connection, and neither prints nor keeps a key from the environment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

import dspy
import msgspec

from streamll.chat.lm15 import lm15
from streamll.core.errors import ConfigurationError, MissingKeyError
from streamll.core.urls import without_password


class ProviderInfo(msgspec.Struct, frozen=True):
    """What a provider's own client knows about it."""

    endpoints: Mapping[str, str]  # endpoint → model_type of dspy.LM; the first is the default
    key_variables: tuple[str, ...] = ()
    address_variables: tuple[str, ...] = ()
    path: str = ""  # what that client appends to its base URL, and lm15 expects in it
    port: int | None = None  # for a host that is given without one


_CHAT = dict.fromkeys(("chat", "chat/completions"), "chat")

PROVIDERS: Mapping[str, ProviderInfo] = {
    "openai": ProviderInfo(
        _CHAT | {"responses": "responses"},
        ("OPENAI_API_KEY",),
        ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    ),
    "anthropic": ProviderInfo(
        {"messages": "chat"}, ("ANTHROPIC_API_KEY",), ("ANTHROPIC_BASE_URL",), "/v1"
    ),
    "gemini": ProviderInfo(
        {"generate_content": "chat", "chat": "chat"},
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ("GOOGLE_GEMINI_BASE_URL", "GEMINI_BASE_URL"),
        "/v1beta",
    ),
    "groq": ProviderInfo(_CHAT, ("GROQ_API_KEY",), ("GROQ_BASE_URL",), "/openai/v1"),
    "openrouter": ProviderInfo(_CHAT, ("OPENROUTER_API_KEY",), ("OPENROUTER_BASE_URL",)),
    "ollama": ProviderInfo(_CHAT, (), ("OLLAMA_BASE_URL", "OLLAMA_HOST"), "/v1", 11434),
    "deepseek": ProviderInfo(_CHAT, ("DEEPSEEK_API_KEY",), ("DEEPSEEK_BASE_URL",)),
    "xai": ProviderInfo(_CHAT, ("XAI_API_KEY",), ("XAI_BASE_URL",)),
}
ALIASES = {"google": "gemini", "claude": "anthropic", "gpt": "openai"}
NO_KEY = "none"
"""Sent as the key to a server that needs none, because lm15 wants one."""


class EndpointConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where one model's requests go, with which options; never its key."""

    provider: str
    model: str
    endpoint: str
    base_url: str | None
    options: dict[str, Any]
    info: ProviderInfo

    @property
    def shown_url(self) -> str:
        """The address, as it may be shown."""
        return without_password(self.base_url or "")

    def __repr__(self) -> str:  # options may be a person's
        return f"EndpointConfig({self.provider!r}, {self.model!r}, {self.endpoint!r}, {self.shown_url!r})"

    def check_key(self, *, given: bool) -> None:
        """Raise ``MissingKeyError`` where the provider would only refuse the request."""
        variables = self.info.key_variables
        if variables and not (given or self._is_local or self._key_in_environment()):
            raise MissingKeyError(self.provider, variables)

    def lm(self, api_key: Any = None) -> dspy.LM:
        """A ``dspy.LM`` on DSPy's native engine, without DSPy's cache and retries.

        Without ``api_key`` lm15 reads the environment when the first request is made.
        """
        if not api_key and self._is_local and not self._key_in_environment():
            api_key = NO_KEY
        connection = {"api_key": api_key, "api_base": self.base_url}
        make = dspy.LM if self.provider in PROVIDERS else _declared_lm
        return make(
            f"{self.provider}/{self.model}",
            model_type=self.info.endpoints[self.endpoint],
            engine="lm15",
            cache=False,
            num_retries=0,
            **{name: value for name, value in connection.items() if value},
        )

    @property
    def _is_local(self) -> bool:
        host = urlsplit(self.base_url or "").hostname or ""
        return host in {"localhost", "::1"} or host.startswith("127.")

    def _key_in_environment(self) -> bool:
        return any(os.environ.get(name) for name in self.info.key_variables)


def endpoint_config(
    provider: str, model: str, endpoint: str | None, base_url: str | None, options: dict[str, Any]
) -> EndpointConfig:
    """The config of ``model`` at ``provider``; without ``base_url`` at the environment's address.

    Raises:
        ConfigurationError: no such provider or endpoint; the message lists those there are.
    """
    name = ALIASES.get(provider.lower(), provider.lower().replace("_", "-"))
    info = PROVIDERS.get(name)
    if info is None and base_url is None:
        close = get_close_matches(name, PROVIDERS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(
            f"{provider!r} is no provider known here ({', '.join(PROVIDERS)}); for a server that "
            f"speaks OpenAI's chat completions pass its base_url.{hint}"
        )
    info = info or ProviderInfo(_CHAT, _own_key(name))
    ending = endpoint.strip("/").removeprefix("v1/") if endpoint else next(iter(info.endpoints))
    if ending not in info.endpoints:
        raise ConfigurationError(
            f"{name} has no endpoint {endpoint!r}; it has {', '.join(info.endpoints)}"
        )
    address = _address(info, base_url)
    return EndpointConfig(
        provider=name, model=model, endpoint=ending, base_url=address, options=options, info=info
    )


def _address(info: ProviderInfo, given: str | None) -> str | None:
    """``given`` or the environment's address, in the form that lm15 expects."""
    address = given or next(
        (value for name in info.address_variables if (value := os.environ.get(name))), None
    )
    if address is None:
        return None
    address = address.strip().rstrip("/")
    if "//" not in address:  # OLLAMA_HOST is a host, with or without its port
        address = f"http://{address}"
        if info.port is not None and urlsplit(address).port is None:
            address = f"{address}:{info.port}"
    return address if address.endswith(info.path) else address + info.path


_declaring = threading.Lock()


def _declared_lm(model: str, *, api_base: str, **options: Any) -> dspy.LM:
    """A ``dspy.LM`` for a provider that neither lm15 nor DSPy knows.

    An LM keeps the providers that are registered when it is made. This one is registered for
    just that moment, so that the process's own registrations stay as they are.
    """
    name, _, rest = model.partition("/")
    with _declaring:
        for provider in (name, f"own-{name}"):  # the name itself may be taken
            if any(provider == other.id for other in lm15.registered_providers()):
                continue
            access = lm15.AccessPolicy(
                provider=provider,
                supports=lm15.EndpointSupport(complete=True, stream=True),
                auth_modes=("bearer",),
                env_keys=_own_key(name),
                base_url=api_base,
            )
            chat = lm15.ProviderDefinition.chat(access, compat=lm15.OpenAIChatCompat())
            try:
                lm15.register_provider(chat)
            except (ValueError, lm15.LM15Error):
                continue
            try:
                return dspy.LM(f"{provider}/{rest}", api_base=api_base, **options)
            finally:
                lm15.unregister_provider(provider)
    raise ConfigurationError(f"{name!r} cannot be the name of a provider")


def _own_key(name: str) -> tuple[str, ...]:
    return (f"{name.upper().replace('-', '_')}_API_KEY",)
