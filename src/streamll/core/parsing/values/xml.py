"""A value in nested XML 1.0 elements while it arrives, as ``XMLAdapter`` asks models for it.

::

    list   = ("<item>" value "</item>")*
    object = ("<" name ">" value "</" name ">" | '<entry key="' name '">' value "</entry>")*
    value  = list | object | text | JSON

The schema says which of them an element is. ``expat`` does the parsing, so each character is
read once. The outermost list or object may also be written as JSON. The reader gives up on what
the adapter would read differently (text beside elements, one name twice in an object, a list where
the schema allows anything).
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
        self.builder = ValueBuilder(schema)
        self.is_lost = False
        self._json: JSONValueReader | None = None
        self._elements: list[_Element] = []
        self._parser = expat.ParserCreate()
        if hasattr(self._parser, "SetReparseDeferralEnabled"):
            self._parser.SetReparseDeferralEnabled(False)  # noqa: FBT003
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.Parse("<value>")

    @property
    def is_exact(self) -> bool:
        if self.is_lost or (self._json is not None and not self._json.is_exact):
            return False
        return self.builder.is_complete and not self.builder.repeats

    def feed(self, text: str, *, is_last: bool = False) -> Sequence[Change]:
        """The changes that are certain after ``text``."""
        if not self.is_lost:
            try:
                self._parser.Parse(text, is_last)
            except (expat.ExpatError, TooDeep, ValueError):
                self.is_lost = True
        if self._json is None or not (parts := self._elements[-1].parts):
            return self.builder.take()
        changes = self._json.feed("".join(parts))
        parts.clear()
        self.is_lost = self.is_lost or self._json.is_lost
        return changes

    def finish(self) -> Sequence[Change]:
        """The element has ended."""
        changes = self.feed("</value>", is_last=True)
        return changes if self._json is None else [*changes, *self._json.finish()]

    # --- what expat sees ------------------------------------------------------------------------

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._json is not None:
            raise ValueError("an element in JSON")
        if self._elements:
            outer = self._elements[-1]
            if not outer.kind:
                self._open(outer, tag)
            if outer.kind == "object":
                self.builder.key(attributes.get("key", tag) if tag == "entry" else tag)
            elif outer.kind != "list" or tag != "item":
                raise ValueError("an element in a text, or other than <item> in a list")
        self._elements.append(_Element(self.builder.schema()))

    def _open(self, element: _Element, tag: str) -> None:
        """The first child decides whether the element is a list or an object."""
        schema = element.schema
        if tag == "item" and not schema.kinds and not self.builder.is_ignored():
            raise ValueError("a list in what may be anything, where the adapter makes an object")
        if schema.allows("array") and (tag == "item" or not schema.allows("object")):
            element.kind = "list"
            self.builder.begin([])
        elif schema.allows("object"):
            element.kind = "object"
            self.builder.begin({})

    def _characters(self, text: str) -> None:
        element = self._elements[-1]
        if not element.kind and text.strip():
            self._begin_text(element, text)
        if element.kind == "text":
            if released := element.trimmer.push(text):
                self.builder.text(released)
        elif element.kind in ("held", "json"):
            element.parts.append(text)
        elif element.kind and text.strip():
            raise ValueError("text beside elements")

    def _begin_text(self, element: _Element, text: str) -> None:
        schema = element.schema
        if schema.grows:
            element.kind = "text"
            self.builder.begin_text()
        elif schema.kinds and schema.kinds <= {"array", "object", "null"}:
            if len(self._elements) > 1 or text.lstrip()[0] not in "[{":
                raise ValueError("text where a list or an object belongs")
            element.kind = "json"
            self._json = JSONValueReader(schema)
            self.builder = self._json.builder
        else:
            element.kind = "held"

    def _end(self, tag: str) -> None:
        if self._json is not None:
            return
        element = self._elements.pop()
        if element.kind in ("list", "object"):
            self.builder.end()
        elif element.kind == "text":
            self.builder.end_text()
        else:
            self.builder.put(_scalar("".join(element.parts).strip(), element.schema))


def _scalar(text: str, schema: SchemaView) -> object:
    """The value of an element with only text, if its schema allows no arbitrary text."""
    if not text:
        for kind, value in (("null", None), ("array", []), ("object", {})):
            if schema.kinds and kind in schema.kinds:
                return value
        return text
    number = number_of(text)
    if schema.allows("string") and (
        schema.grows
        or number is None
        or not schema.kinds & {"integer", "number"}
        or schema.lists(text)
    ):
        return text  # a number beside dates, say, is none of them
    if schema.allows("boolean") and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return text if number is None else number
