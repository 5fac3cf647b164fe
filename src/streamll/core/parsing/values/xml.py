"""A value in nested XML 1.0 elements while it arrives, as ``XMLAdapter`` asks models for it.

::

    list   = ("<item>" value "</item>")*
    object = ("<" name ">" value "</" name ">" | '<entry key="' name '">' value "</entry>")*
    value  = list | object | text | JSON

The schema says which of them an element is. ``expat`` does the parsing, so each character is
read once. The outermost list or object may also be written as JSON. The reader gives up on what
the adapter would read differently (text beside elements, one name twice in an object).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.parsers import expat

import msgspec

from streamll.core.parsing.release import Trimmer
from streamll.core.parsing.values.builder import Change, TooDeep, ValueBuilder
from streamll.core.parsing.values.json import JSONValueReader, number_of
from streamll.core.parsing.values.schema import SchemaView

_WORDS: Mapping[str, bool] = {"true": True, "false": False}


class _Element(msgspec.Struct):
    """An open element; ``kind`` is "" until its content decides what it is."""

    schema: SchemaView
    kind: str = ""
    parts: list[str] = []
    trimmer: Trimmer = msgspec.field(default_factory=Trimmer)


class XMLValueReader:
    """Reads the content of one field's element."""

    def __init__(self, schema: SchemaView) -> None:
        self._builder = ValueBuilder(schema)
        self._json: JSONValueReader | None = None
        self._elements: list[_Element] = []
        self._is_lost = False
        self._parser = expat.ParserCreate()
        if hasattr(self._parser, "SetReparseDeferralEnabled"):
            self._parser.SetReparseDeferralEnabled(False)  # noqa: FBT003
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.Parse("<value>")

    @property
    def builder(self) -> ValueBuilder:
        return self._json.builder if self._json is not None else self._builder

    @property
    def is_lost(self) -> bool:
        return self._is_lost or (self._json is not None and self._json.is_lost)

    @property
    def is_exact(self) -> bool:
        if self._json is not None and not self._json.is_exact:
            return False
        return not self.is_lost and self.builder.is_complete and not self.builder.repeats

    def feed(self, text: str, *, is_last: bool = False) -> Sequence[Change]:
        """The changes that are certain after ``text``."""
        self._changes: list[Change] = []
        if not self._is_lost:
            try:
                self._parser.Parse(text, is_last)
            except (expat.ExpatError, TooDeep, ValueError):
                self._is_lost = True
        return [*self._changes, *self._builder.take()]

    def finish(self) -> Sequence[Change]:
        """The element has ended."""
        return [
            *self.feed("</value>", is_last=True),
            *(self._json.finish() if self._json is not None else ()),
        ]

    # --- what expat sees ------------------------------------------------------------------------

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._is_lost or self._json is not None:
            self._is_lost = True
            return
        if self._elements:
            outer = self._elements[-1]
            if not outer.kind:
                self._open(outer, tag)
            if outer.kind == "list" and tag != "item":
                self._is_lost = True
            elif outer.kind == "object":
                self._builder.key(attributes.get("key", tag) if tag == "entry" else tag)
            elif outer.kind != "list":
                self._is_lost = True
            if self._is_lost:
                return
        self._elements.append(_Element(self._builder.schema()))

    def _open(self, element: _Element, tag: str) -> None:
        """The first child decides whether the element is a list or an object."""
        schema = element.schema
        if schema.allows("array") and (tag == "item" or not schema.allows("object")):
            element.kind = "list"
            self._builder.begin([])
        elif schema.allows("object"):
            element.kind = "object"
            self._builder.begin({})

    def _characters(self, text: str) -> None:
        if self._is_lost:
            return
        if self._json is not None:
            self._changes.extend(self._json.feed(text))
            return
        element = self._elements[-1]
        if not element.kind and text.strip():
            self._begin_text(element, text)
        if element.kind == "text":
            if released := element.trimmer.push(text):
                self._builder.text(released)
        elif element.kind == "held":
            element.parts.append(text)
        elif element.kind and text.strip():
            self._is_lost = True  # text beside elements

    def _begin_text(self, element: _Element, text: str) -> None:
        schema = element.schema
        if schema.grows:
            element.kind = "text"
            self._builder.begin_text()
        elif schema.kinds and schema.kinds <= {"array", "object", "null"}:
            if len(self._elements) == 1 and text.lstrip()[0] in "[{":
                self._json = JSONValueReader(schema)
                self._changes.extend(self._json.feed(text))
            else:
                self._is_lost = True
        else:
            element.kind = "held"

    def _end(self, tag: str) -> None:
        if self._is_lost or self._json is not None:
            return
        element = self._elements.pop()
        if element.kind in ("list", "object"):
            self._builder.end()
        elif element.kind == "text":
            self._builder.end_text()
        else:
            self._builder.put(_scalar("".join(element.parts).strip(), element.schema))


def _scalar(text: str, schema: SchemaView) -> object:
    """The value of an element with only text, if its schema allows no arbitrary text."""
    if not text:
        for kind, value in (("null", None), ("array", []), ("object", {})):
            if schema.kinds and kind in schema.kinds:
                return value
        return text
    if schema.allows("string"):
        return text
    if schema.allows("boolean") and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    number = number_of(text)
    return text if number is None else number
