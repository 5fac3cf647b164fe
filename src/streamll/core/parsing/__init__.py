"""Field parsers: which text of a reply belongs to which output field.

One module for each reply format DSPy's adapters know (BAML replies are JSON) and one for any
other. ``base`` says what they have in common.
"""

from __future__ import annotations

from .base import Closed, FieldParser, Opened, Piece, Text
from .chat import ChatParser
from .json import JSONParser
from .whole import WholeText
from .xml import XMLParser

__all__ = [
    "ChatParser",
    "Closed",
    "FieldParser",
    "JSONParser",
    "Opened",
    "Piece",
    "Text",
    "WholeText",
    "XMLParser",
]
