"""Where a model is served: provider and endpoint names, addresses and keys from the environment.

The providers themselves (wires, quirks, credentials) are lm15's. This says which of them a name
means, and reads the same variables as the providers' own clients.

It opens no connection, and neither prints nor keeps a key from the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

import msgspec
from dspy import lm15

from streamll.core.errors import ConfigurationError, MissingKeyError


class Place(msgspec.Struct, frozen=True):
    """What a provider's own client knows of it."""

    endpoints: Mapping[str, str]  # endpoint → lm15's provider; the first is the default
    keys: tuple[str, ...] = ()  # variables that hold a key
    addresses: tuple[str, ...] = ()  # variables that hold a base URL
    suffix: str = ""  # what that client adds to its base URL and lm15 expects in it
    port: int | None = None  # where that client looks on a host that is named without one


_CHAT = ("chat", "chat/completions")
_OPENAI = dict.fromkeys(_CHAT, "openai-chat") | {"responses": "openai"}

PLACES: Mapping[str, Place] = {
    "openai": Place(_OPENAI, ("OPENAI_API_KEY",), ("OPENAI_BASE_URL", "OPENAI_API_BASE")),
    "anthropic": Place(
        {"messages": "anthropic"}, ("ANTHROPIC_API_KEY",), ("ANTHROPIC_BASE_URL",), "/v1"
    ),
    "gemini": Place(
        {"generate_content": "gemini", "chat": "gemini"},
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ("GOOGLE_GEMINI_BASE_URL", "GEMINI_BASE_URL"),
        "/v1beta",
    ),
    "groq": Place(
        dict.fromkeys(_CHAT, "groq"), ("GROQ_API_KEY",), ("GROQ_BASE_URL",), "/openai/v1"
    ),
    "openrouter": Place(
        dict.fromkeys(_CHAT, "openrouter"), ("OPENROUTER_API_KEY",), ("OPENROUTER_BASE_URL",)
    ),
    "ollama": Place(
        dict.fromkeys(_CHAT, "ollama"), (), ("OLLAMA_BASE_URL", "OLLAMA_HOST"), "/v1", 11434
    ),
    "deepseek": Place(
        dict.fromkeys(_CHAT, "deepseek"), ("DEEPSEEK_API_KEY",), ("DEEPSEEK_BASE_URL",)
    ),
    "xai": Place(dict.fromkeys(_CHAT, "xai"), ("XAI_API_KEY",), ("XAI_BASE_URL",)),
}
ALIASES = {"google": "gemini", "claude": "anthropic", "gpt": "openai"}
OWN = "openai-compatible"
"""The provider of a server of one's own: it speaks OpenAI's chat completions at ``base_url``."""
NO_KEY = "none"
"""What is sent as a key to a server on this machine, which rarely asks for one."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One model's way: lm15's provider, the address, and where its key comes from."""

    provider: str
    endpoint: str
    door: str
    """lm15's name of the provider."""
    base_url: str | None = None
    keys: tuple[str, ...] = ()
    definition: Any = None
    """lm15's definition of a provider that only the caller knows."""

    def check_key(self, *, given: bool) -> None:
        """Raise ``MissingKeyError`` where a request could only be refused."""
        if given or not self.keys or self.is_local:
            return
        if not any(os.environ.get(name) for name in self.keys):
            raise MissingKeyError(self.provider, self.keys)

    @property
    def is_local(self) -> bool:
        host = urlsplit(self.base_url or "").hostname or ""
        return host in {"localhost", "::1"} or host.startswith("127.")

    def key(self, api_key: Any) -> Any:
        """What lm15 is given as a key; ``None`` lets it look into the environment."""
        if api_key:
            return api_key
        if any(os.environ.get(name) for name in self.keys):
            if self.definition is None:
                return None
            return next(value for name in self.keys if (value := os.environ.get(name)))
        return NO_KEY if self.is_local or self.definition is not None else None


def route(provider: str, endpoint: str | None = None, base_url: str | None = None) -> Route:
    """The way to ``provider``'s ``endpoint``; an address in the environment counts if none is given.

    Raises:
        ConfigurationError: no such provider or endpoint; the message lists those there are.
    """
    name = ALIASES.get(provider.lower(), provider.lower().replace("_", "-"))
    place = PLACES.get(name)
    if place is None:
        return _own(provider, name, endpoint, base_url)
    ending = endpoint.strip("/").removeprefix("v1/") if endpoint else next(iter(place.endpoints))
    door = place.endpoints.get(ending)
    if door is None:
        raise ConfigurationError(
            f"{name} has no endpoint {endpoint!r}; it has {', '.join(place.endpoints)}"
        )
    return Route(
        provider=name,
        endpoint=ending,
        door=door,
        base_url=_address(place, base_url),
        keys=place.keys,
    )


def _address(place: Place, given: str | None) -> str | None:
    """``given``, or the address in the environment, as lm15 expects it."""
    address = given or next(
        (value for name in place.addresses if (value := os.environ.get(name))), None
    )
    if address is None:
        return None
    address = address.strip().rstrip("/")
    if "//" not in address:  # OLLAMA_HOST is a host, with or without its port
        address = f"http://{address}"
        if place.port is not None and urlsplit(address).port is None:
            address = f"{address}:{place.port}"
    return address if address.endswith(place.suffix) else address + place.suffix


def _own(given: str, name: str, endpoint: str | None, base_url: str | None) -> Route:
    if base_url is None:
        close = get_close_matches(name, [*PLACES, OWN], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(
            f"{given!r} is no provider known here ({', '.join(PLACES)}); for a server that speaks "
            f"OpenAI's chat completions pass its base_url.{hint}"
        )
    if endpoint is not None and endpoint.strip("/") not in _CHAT:
        raise ConfigurationError(f"{given!r} is asked for chat completions, not {endpoint!r}")
    keys = (f"{name.upper().replace('-', '_')}_API_KEY",)
    access = lm15.AccessPolicy(
        provider=f"own-{name}",
        supports=lm15.EndpointSupport(complete=True, stream=True),
        auth_modes=("bearer",),
        env_keys=keys,
        base_url=base_url.rstrip("/"),
    )
    definition = lm15.ProviderDefinition.chat(access, compat=lm15.OpenAIChatCompat())
    return Route(
        provider=name,
        endpoint="chat",
        door=definition.id,
        base_url=base_url.rstrip("/"),
        keys=keys,
        definition=definition,
    )
