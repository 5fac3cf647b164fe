"""The interface of field parsers: text in, pieces out; no clock, no I/O, no dspy.

A parser reads one completion, however it is cut into chunks, and assigns its text to output
fields. It is created with ``Parser(fields)``, a mapping from the name of each output field to
``True`` if the released text must be the field's final value (the annotation is ``str`` or a
choice of texts), ``None`` if it is that or nothing (``Optional[str]``), and ``False`` if the
text is to be released as the model wrote it.

A parser releases text as soon as no well-formed continuation could change it, and not before.
Well-formed means: the adapter parses the reply without repair, no field occurs twice, a
``str`` field is a JSON string, XML has no child elements; each parser's module gives the
details. For other replies, released text may differ from the program's value; the caller
compares and corrects. The joined text of a field never depends on the chunking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Opened(NamedTuple):
    """The field begins (once per field)."""

    field: str


class Text(NamedTuple):
    """More of the field's final text; never empty."""

    field: str
    text: str


class Closed(NamedTuple):
    """The field has ended."""

    field: str


Piece = Opened | Text | Closed


class FieldParser(Protocol):
    """The parser of one completion. Fields open and close in the order of the reply."""

    def feed(self, chunk: str) -> Sequence[Piece]:
        """The pieces that are certain after ``chunk``. Never raises for malformed replies."""
        ...

    def finish(self) -> Sequence[Piece]:
        """The completion has ended: the remaining pieces; every opened field is closed."""
        ...


class SilentParser:
    """For replies of an unknown format: nothing of them is released."""

    def feed(self, chunk: str) -> Sequence[Piece]:
        return ()

    def finish(self) -> Sequence[Piece]:
        return ()
