"""The parser of a reply: chosen by the adapter instance and signature of that very call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dspy
from dspy.adapters.xml_adapter import XMLAdapter

from streamll.capture.typed.field import is_optional, is_text
from streamll.core.parsing import ChatParser, JSONParser, WholeText, XMLParser
from streamll.core.parsing.base import Closed, FieldParser, Opened, Piece, Text

REPLY_FIELD = "text"
"""The field name of a bare LM call's text."""


class BareReplyParser:
    """Parser of a bare LM call: all of the text is one field."""

    def __init__(self) -> None:
        self._opened = False

    def feed(self, chunk: str) -> Sequence[Piece]:
        if self._opened:
            return (Text(REPLY_FIELD, chunk),)
        self._opened = True
        return (Opened(REPLY_FIELD), Text(REPLY_FIELD, chunk))

    def finish(self) -> Sequence[Piece]:
        return (Closed(REPLY_FIELD),) if self._opened else ()


def parser_for(adapter: Any, signature: Any) -> FieldParser:
    """A fresh parser for one completion; ``adapter`` is ``None`` for a bare LM call.

    The order matters: JSON and XML adapters are Chat adapters too. The fields of an unknown kind of
    adapter arrive whole, from the prediction.
    """
    if adapter is None:
        return BareReplyParser()
    fields = text_fields(signature)
    if isinstance(adapter, dspy.JSONAdapter):
        return JSONParser(fields)
    if isinstance(adapter, XMLAdapter):
        return XMLParser(fields)
    if isinstance(adapter, dspy.ChatAdapter):
        return ChatParser(fields)
    return WholeText(fields)


def text_fields(signature: Any) -> Mapping[str, bool | None]:
    """Output field name → whether its value is text (``None``: or nothing)."""
    return {
        name: is_text(info.annotation) and (None if is_optional(info.annotation) else True)
        for name, info in signature.output_fields.items()
    }
