"""Field parsers: they decide which text of a reply belongs to which output field.

One module for each reply format of DSPy's adapters (BAML replies are JSON) and one for any
other; ``base`` defines their interface. ``values`` reads the values of typed fields.
"""

from __future__ import annotations

from streamll.core.parsing.base import Closed, FieldParser, Opened, Piece, SilentParser, Text
from streamll.core.parsing.chat import ChatParser
from streamll.core.parsing.json import JSONParser
from streamll.core.parsing.xml import XMLParser

__all__ = [
    "ChatParser",
    "Closed",
    "FieldParser",
    "JSONParser",
    "Opened",
    "Piece",
    "SilentParser",
    "Text",
    "XMLParser",
]
