"""Every event as it is: the JSON of ``core.wire``, schema version 1, one object per payload.

A reader puts a token at its ``offset``: ``text = text.slice(0, offset) + token``. Then a token that
arrives twice, or merged with its neighbours, does no harm. ``lm.superseded`` voids the text of its
``call_id`` and ``attempt``; ``field.corrected`` replaces a field's text.
"""

from __future__ import annotations

from typing import ClassVar

from streamll.core.events import Event
from streamll.core.wire import encode
from streamll.serve.formats.base import OutputFormat


class NativeFormat(OutputFormat):
    name: ClassVar[str] = "native"

    def feed(self, event: Event) -> list[bytes]:
        return [encode(event)]
