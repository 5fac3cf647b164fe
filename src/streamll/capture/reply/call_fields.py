"""The output fields of one LM call, which of them are to be streamed, and the reply's parser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dspy
from dspy.adapters.types.citation import Citations
from dspy.adapters.xml_adapter import XMLAdapter

from streamll.capture.run.scope import Scope, is_quiet
from streamll.capture.typed.field import is_model, is_optional, is_text, native_fields, schema_of
from streamll.core.parsing.base import Closed, FieldParser, Opened, Piece, SilentParser, Text
from streamll.core.parsing.chat import ChatParser
from streamll.core.parsing.json import JSONParser
from streamll.core.parsing.xml import XMLParser

REPLY_FIELD = "text"
"""The field name of a bare LM call's text."""


class CallFields:
    """What an LM call's reply consists of: decided by the adapter and signature of that very call.

    Without a ``prompt`` it is a bare call, whose whole text is one field.
    """

    def __init__(self, scope: Scope, predictor: Any, prompt: Any) -> None:
        self.adapter = prompt.adapter if prompt is not None else None
        self.signature = prompt.signature if prompt is not None else None
        own = getattr(predictor, "signature", None)
        self._native = {} if prompt is None else native_fields(own, self.signature)
        self.thinking = self._native.get(dspy.Reasoning)  # the fields of the provider's reasoning
        self.tool_calls = self._native.get(dspy.ToolCalls)  # and of its tool calls
        self.annotations = {  # what the prompt asks for comes before what was declared
            name: info.annotation
            for signature in (own, self.signature)
            if signature is not None
            for name, info in signature.output_fields.items()
        }
        self.translated = frozenset(
            name
            for name, info in (own.output_fields if own is not None else {}).items()
            if self.annotations[name] is not info.annotation and is_model(self.annotations[name])
        )
        """Fields whose values DSPy makes of something else (``Noul``, of evidence)."""
        self.names = (REPLY_FIELD,) if prompt is None else self._output_fields(own)
        listened = bool(scope.receivers or scope.token_hooks) and not is_quiet()
        selection = scope.selection
        self.everything = listened and selection is not None and selection.everything
        """Whether what belongs to no field (thinking, tool calls, citations) is wanted as well."""
        wanted = scope.wanted(predictor, self.names) if listened else frozenset()
        requests = scope.reader_requests
        self.wanted = wanted.union(*(each.wanted(predictor, self.names) for each in requests))

    def form_of(self, field: str) -> str:
        """How the model writes the text of ``field``: ``"plain"``, ``"json"`` or ``"xml"``."""
        annotation = self.annotations.get(field, str)
        if is_text(annotation):
            return "plain"
        if isinstance(self.adapter, XMLAdapter):
            return "xml"
        is_json = isinstance(self.adapter, dspy.JSONAdapter) or schema_of(annotation) is not None
        return "json" if is_json else "plain"

    @property
    def wants_citations(self) -> bool:
        return self.everything or self._native.get(Citations) in self.wanted

    def _output_fields(self, own: Any) -> tuple[str, ...]:
        if self.signature is not None:
            return (*self.signature.output_fields, *self._native.values())
        return tuple(own.output_fields) if own is not None else ()


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
    """A fresh parser for one completion: chosen by the adapter and signature of that very call.

    The order matters: JSON and XML adapters are Chat adapters too. The fields of an unknown kind of
    adapter arrive whole, from the prediction.
    """
    if adapter is None:
        return BareReplyParser()
    fields: Mapping[str, bool | None] = {
        name: is_text(info.annotation) and (None if is_optional(info.annotation) else True)
        for name, info in signature.output_fields.items()
    }
    if isinstance(adapter, dspy.JSONAdapter):
        return JSONParser(fields)
    if isinstance(adapter, XMLAdapter):
        return XMLParser(fields)
    if isinstance(adapter, dspy.ChatAdapter):
        return ChatParser(fields)
    return SilentParser()
