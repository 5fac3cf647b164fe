"""Field parsers: they decide which text of a reply belongs to which output field.

One module for each reply format of DSPy's adapters (BAML replies are JSON) and one for any
other; ``base`` defines their interface. ``values`` reads the values of typed fields.
"""

from __future__ import annotations

from .base import Closed, FieldParser, Opened, Piece, Text, WholeText
from .chat import ChatParser
from .json import JSONParser
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
