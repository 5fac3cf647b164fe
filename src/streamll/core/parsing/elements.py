"""A value in nested XML elements while it arrives, as ``XMLAdapter`` asks for it.

::

    list   = ("<item>" value "</item>")*
    object = ("<" name ">" value "</" name ">" | '<entry key="' name '">' value "</entry>")*
    value  = list | object | text | JSON

The ``Shape`` of the place says which of them an element is. ``expat`` does the reading, so each
character is looked at once. A list or object may also stand there as JSON. What the adapter
would make something else of (text beside elements, one name twice in an object) is given up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.parsers import expat

from .growth import Change, Growth, TooDeep
from .partial import JSONReader, number_of
from .release import Trimmer
from .shape import Shape

_WORDS: Mapping[str, bool] = {"true": True, "false": False}


class _Element:
    """An element that is open; ``kind`` is "" until its content says what it is."""

    __slots__ = ("kind", "parts", "shape", "trimmer")

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.kind = ""
        self.parts: list[str] = []
        self.trimmer = Trimmer()


class ElementReader:
    """Reads the inside of one field's element."""

    def __init__(self, shape: Shape) -> None:
        self._growth = Growth(shape)
        self._shape = shape
        self._json: JSONReader | None = None
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
    def growth(self) -> Growth:
        return self._json.growth if self._json is not None else self._growth

    @property
    def is_lost(self) -> bool:
        return self._is_lost or (self._json is not None and self._json.is_lost)

    @property
    def is_exact(self) -> bool:
        if self._json is not None and not self._json.is_exact:
            return False
        return not self.is_lost and self.growth.is_complete and not self.growth.repeats

    def feed(self, text: str, *, is_last: bool = False) -> Sequence[Change]:
        """The changes that became certain with ``text``."""
        changes: list[Change] = []
        self._changes = changes
        if not self._is_lost:
            try:
                self._parser.Parse(text, is_last)
            except (expat.ExpatError, TooDeep, ValueError):
                self._is_lost = True
        changes.extend(self._growth.take())
        return changes

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
                self._growth.key(attributes.get("key", tag) if tag == "entry" else tag)
            elif outer.kind != "list":
                self._is_lost = True
            if self._is_lost:
                return
        self._elements.append(_Element(self._growth.shape()))

    def _open(self, element: _Element, tag: str) -> None:
        """The first child says whether the element is a list or an object."""
        shape = element.shape
        if shape.allows("array") and (tag == "item" or not shape.allows("object")):
            element.kind = "list"
            self._growth.begin([])
        elif shape.allows("object"):
            element.kind = "object"
            self._growth.begin({})

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
                self._growth.text(released)
        elif element.kind == "held":
            element.parts.append(text)
        elif element.kind and text.strip():
            self._is_lost = True  # text beside elements

    def _begin_text(self, element: _Element, text: str) -> None:
        shape = element.shape
        if shape.grows:
            element.kind = "text"
            self._growth.begin_text()
        elif shape.kinds and shape.kinds <= {"array", "object", "null"}:
            if len(self._elements) == 1 and text.lstrip()[0] in "[{":
                self._json = JSONReader(shape)
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
            self._growth.end()
        elif element.kind == "text":
            self._growth.end_text()
        else:
            self._growth.put(_scalar("".join(element.parts).strip(), element.shape))


def _scalar(text: str, shape: Shape) -> object:
    """What a text without elements stands for, at a place where no free text may stand."""
    if not text:
        for kind, value in (("null", None), ("array", []), ("object", {})):
            if shape.kinds and kind in shape.kinds:
                return value
        return text
    if shape.allows("string"):
        return text
    if shape.allows("boolean") and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    number = number_of(text)
    return text if number is None else number
