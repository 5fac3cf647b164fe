"""One question to a model: as its caller puts it, and as lm15's ``Request``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dspy import lm15

from streamll.core.errors import ConfigurationError

CLIENT_OPTIONS = frozenset(
    {"api_key", "api_base", "base_url", "timeout", "headers", "extra_headers", "max_retries"}
)


class Question:
    """``messages`` and ``options`` of one question; a ``before`` hook may change both.

    ``messages`` are dictionaries as chat completions have them. ``state`` is for the hooks'
    own use.
    """

    def __init__(self, model: str, messages: Any, options: Mapping[str, Any]) -> None:
        self.model = model
        self.messages = as_messages(messages)
        self.options = dict(options)
        self.state: dict[str, Any] = {}
        for name in CLIENT_OPTIONS & self.options.keys():
            raise ConfigurationError(
                f"{name} belongs to the model, not to one question: iModel(…, {name}=…)"
            )
        self.options.pop("stream", None)  # the method that is called decides that

    def request(self, model: str) -> lm15.Request:
        """The request to ``model``, as ``dspy.LM`` takes it.

        Raises:
            ConfigurationError: a message or option that makes no sense.
            UnsupportedFeatureError: lm15's, for what no request can carry; names it.
        """
        body = {**self.options, "model": model, "messages": self.messages}
        try:
            return lm15.request_from_openai_chat(body)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"this cannot be sent: {error}") from error


def as_messages(messages: Any) -> list[dict[str, Any]]:
    """A text, a mapping, messages of a session, or a list of any of these."""
    if isinstance(messages, (str, Mapping)) or hasattr(messages, "to_chat"):
        messages = [messages]
    if not isinstance(messages, Iterable):
        raise ConfigurationError(
            f"messages is a list of {{'role': …, 'content': …}}, not {type(messages).__name__}"
        )
    found = [_as_message(message) for message in messages]
    if not found:
        raise ConfigurationError("there is no message to answer")
    return found


def _as_message(message: Any) -> dict[str, Any]:
    if isinstance(message, str):
        return {"role": "user", "content": message}
    if isinstance(message, Mapping) and "role" in message:
        return dict(message)
    if hasattr(message, "to_chat"):
        return dict(message.to_chat())
    raise ConfigurationError(f"a message has a role and content; this is {type(message).__name__}")
