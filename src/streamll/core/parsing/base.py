"""What a field parser is: text in, pieces out; no clock, no I/O, no dspy.

A parser reads one completion, however it is cut into chunks, and says which text belongs to
which output field. It is made with ``Parser(fields)``, a mapping from the name of each output
field to ``True`` where the released text must be the field's final value (the annotation is
``str`` or a choice of texts), ``None`` where it is that or nothing (``Optional[str]``), and
``False`` where the text is released as the model wrote it.

A parser releases text as soon as no well-formed continuation could change it, and not before.
Well-formed means: the adapter parses the reply without repair, no field occurs twice, a
``str`` field is a JSON string, XML has no child elements; each parser's module says what that
comes to. What a parser releases outside of that may differ from the program's value; the
caller compares and corrects. The joined text of a field never depends on the chunking.
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
    """Nothing more of the field will come."""

    field: str


Piece = Opened | Text | Closed


class FieldParser(Protocol):
    """One completion's parser. Fields open and close in the order the reply has them."""

    def feed(self, chunk: str) -> Sequence[Piece]:
        """The pieces that became certain with ``chunk``. Never raises for bad replies."""
        ...

    def finish(self) -> Sequence[Piece]:
        """The completion has ended: the remaining pieces; every opened field is closed."""
        ...
