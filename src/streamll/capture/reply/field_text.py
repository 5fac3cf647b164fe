"""What has been released of one field in one attempt, and whether it was right."""

from __future__ import annotations

from typing import Any

from streamll.capture.reply.outcome import final_text
from streamll.capture.typed.field import TypedField, is_text


class FieldText:
    """What has been released of one field in the current attempt."""

    __slots__ = ("length", "parts", "tokens", "typed")

    def __init__(self, typed: TypedField | None) -> None:
        self.typed = typed
        self.parts: list[str] = []
        self.length = 0
        self.tokens = 0

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def agrees(self, annotation: Any, value: Any) -> bool:
        """Whether what was said is what the program has."""
        if is_text(annotation):
            return self.text == final_text(value)
        return self.typed is None or self.typed.agrees(self.text)
