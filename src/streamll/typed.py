"""Reading typed values while they are incomplete: partial values, their readers and forms.

``Partials`` (fields of an event stream) and ``ArgumentsReader`` (a tool call's arguments) read
events, in any process, and load no dspy. ``Partial`` is what ``events.partials(field)`` yields,
``partial_form`` the form of a type whose members may all be missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamll.exports import resolver

if TYPE_CHECKING:
    from streamll.capture.typed.partial_form import partial_form
    from streamll.capture.typed.partials import Partial
    from streamll.core.partials import ArgumentsReader, Partials, PartialValue

__all__ = ["ArgumentsReader", "Partial", "PartialValue", "Partials", "partial_form"]

__getattr__ = resolver(
    __name__,
    {
        "capture.typed.partial_form": "partial_form",
        "capture.typed.partials": "Partial",
        "core.partials": "ArgumentsReader PartialValue Partials",
    },
)
