"""Fields whose text is only known once the program has its values.

For adapters of an unknown reply format: nothing is released while the reply arrives; the text
that the caller gives is released in one piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .base import Closed, Opened, Piece, Text


class WholeText:
    """A parser that parses nothing; ``give`` it the texts before ``finish``."""

    def __init__(self, fields: Mapping[str, bool | None]) -> None:
        self._fields = fields
        self._texts: dict[str, str] = {}

    def feed(self, chunk: str) -> Sequence[Piece]:
        return ()

    def give(self, texts: Mapping[str, str]) -> None:
        """Set the final text of fields, by name; other names are ignored."""
        self._texts.update({name: text for name, text in texts.items() if name in self._fields})

    def finish(self) -> Sequence[Piece]:
        pieces: list[Piece] = []
        for field, text in self._texts.items():
            pieces.append(Opened(field))
            if text:
                pieces.append(Text(field, text))
            pieces.append(Closed(field))
        self._texts = {}
        return pieces
