"""Continuing a cut reply: the request that asks for it, and one text made of two.

The text received so far is put last into the conversation, as the beginning of the assistant's turn.
Whether the model really continues, rather than repeats or rephrases, is up to the provider. Some
refuse an assistant's turn that ends in blanks, so those are left out, and dropped from the
continuation if it begins with them. A model that starts over is recognised by how it begins: then
the first reply is superseded, without another request.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from streamll.capture.inside_dspy import lm15

DIALECTS = frozenset({"openai-chat", "openai-responses", "anthropic"})
"""Wires that carry a trailing assistant message."""


def possible(engine: Any, request: Any) -> bool:
    """Whether this request's reply can be continued: plain text, on a wire that supports it."""
    config = request.config
    if config.response_format is not None or config.logprobs is not None:
        return False
    try:
        from dspy._vendor.lm15.registry import lookup

        definition = lookup(engine.resolve(request.model).provider)
    except Exception:  # noqa: BLE001 - an engine of another kind: its reply is restarted
        return False
    return definition is not None and definition.dialect in DIALECTS


class StartedOver(Exception):
    """Why the first reply is superseded where the second does not continue it."""

    ends_request = False
    """The second one goes on."""


RESTART_CHARS = 16
"""A second reply whose first characters are the first reply's is a new start."""


class Continuation:
    """Where the second reply joins the first."""

    def __init__(self, before: str, request: Any) -> None:
        self._before = before
        sent = before.rstrip()
        self._blanks = before[len(sent) :]  # received, but not part of the request
        turn = lm15.Message.assistant(sent)
        self.request = dataclasses.replace(request, messages=(*request.messages, turn))
        self._after: list[str] = []
        self._held: str | None = ""  # may still turn out to be a new start
        self.started_over = False
        """The second reply begins like the first: it replaces it."""

    def feed(self, text: str) -> str:
        """What of the second reply's next piece is new, once it is certain not to be a new start."""
        if self._held is None:
            return self._new(text)
        self._held += text
        beginning = self._before[:RESTART_CHARS]
        if self._held[:RESTART_CHARS] == beginning:
            self.started_over = True
            return self._held
        if beginning.startswith(self._held):
            return ""
        return self.flush()

    def flush(self) -> str:
        """What has been held back."""
        held, self._held = self._held, None
        return self._new(held or "")

    def _new(self, text: str) -> str:
        while self._blanks and text:
            if text[0] != self._blanks[0]:
                self._blanks = ""
                break
            text, self._blanks = text[1:], self._blanks[1:]
        if text:
            self._after.append(text)
        return text

    def joined(self, response: Any) -> Any:
        """The second response with the whole text."""
        text = self._before + "".join(self._after)
        others = tuple(part for part in response.message.parts if part.type != "text")
        message = dataclasses.replace(
            response.message, parts=(lm15.TextPart(text), *others), continuation=()
        )
        return dataclasses.replace(response, message=message)
