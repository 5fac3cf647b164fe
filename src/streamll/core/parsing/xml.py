r"""Fields of a reply in XML 1.0 tags; the rule is ``XMLAdapter.parse``.

::

    reply     = (text | element | cdata | hidden)*      inside one invisible root element
    element   = "<" name attributes ">" content "</" name ">" | "<" name attributes "/>"
    content   = (text | reference | element | cdata | hidden)*
    reference = "&" ("lt" | "gt" | "amp" | "quot" | "apos" | "#" digits | "#x" digits) ";"
    cdata     = "<![CDATA[" text "]]>"
    hidden    = "<!--" text "-->" | "<?" text "?>"

An element of the outermost level named like a field (or ``<entry key="field">``) is that
field. The adapter uses a real XML parser, so line ends become ``\n``, references are decoded
and comments removed; then the text is stripped. A ``str`` field is released the same way:
blanks that may be trailing are held back, and so is a tag or a reference, which is released as
soon as it can only mean one character. Fields of other types are released as the model wrote
them between their tags, stripped.

Well-formed means well-formed XML (numbers in references up to 30 digits) in which each field
is one element without child elements. Beyond that, a ``<`` that begins no tag and a ``&`` that
begins no reference are text (the adapter refuses the reply), an element inside a ``str``
field is text as written (the adapter serializes it again, and strips nothing), and a field's
second element is ignored (the adapter makes a list).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from streamll.core.parsing.base import Piece, Text
from streamll.core.parsing.release import LineParser, Trimmer

_CDATA = "<![CDATA["
_SECTIONS = {_CDATA: "]]>", "<!--": "-->", "<?": "?>"}
_TAG_SIGN = re.compile("[<>\"']")
_MARKUP = re.compile("[<&]")
_PLAIN_TAG = re.compile(r"<([^\s/>]+)/?>")

_UNDECIDED = {"&", "&a", "&#", "&#x"}
_DECIDED = {
    "&l": ("<", "t;"),
    "&g": (">", "t;"),
    "&am": ("&", "p;"),
    "&ap": ("'", "os;"),
    "&q": ('"', "uot;"),
}
_NUMBER = re.compile("&#(?:x([0-9a-fA-F]{1,30})|([0-9]{1,30}))(;?)")
_NO_CHARACTER = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LAST = 0x10FFFF
_LEADING_ZEROS = re.compile("(?<=[#x])0+")
_BLANKS = "\t\n\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_BLANK_SO_FAR = {
    reference[:end]
    for blank in _BLANKS
    for reference in (f"&#{ord(blank)};", f"&#x{ord(blank):x};")
    for end in range(1, len(reference))
}


class XMLParser(LineParser):
    """Reads one reply."""

    line_end = re.compile("\r\n?")

    def __init__(self, fields: Mapping[str, bool | None]) -> None:
        super().__init__(fields, XMLParser._in_content, XMLParser._in_content)
        self._depth = 0  # of elements
        self._raw = False  # the open field is released as written
        self._tag: list[str] = []  # the tag so far
        self._quote = ""  # the quote that ends the attribute's value
        self._terminator = ""  # what ends the section
        self._shown = False  # the section's text is the field's
        self._reference = ""  # the reference so far, while it can mean several characters
        self._rest = ""  # how the reference must end

    def feed(self, chunk: str) -> Sequence[Piece]:
        field = self._flow
        if (
            field is not None
            and "<" not in chunk
            and "&" not in chunk
            and chunk[-1:] > " "
            and chunk.isprintable()
        ):
            return (Text(field, chunk),)  # no markup, no line end, no last blank
        return self._feed(chunk)

    def _in_content(self, text: str, at: int) -> int:
        if self._raw or self._field is None:
            end = text.find("<", at)
        else:
            match = _MARKUP.search(text, at)
            end = match.start() if match else -1
        if end < 0:
            self._text(text[at:])
            return len(text)
        self._text(text[at:end])
        is_reference = text[end] == "&"
        self._state = XMLParser._in_reference if is_reference else XMLParser._in_opening
        return end

    # --- references, character by character -----------------------------------------------------

    def _in_reference(self, text: str, at: int) -> int:
        """Several characters are still possible."""
        reference = self._reference + text[at]
        decided = _decide(reference)
        if decided is None:
            self._text(self._reference)
            self._reference = ""
            self._state = XMLParser._in_content
            return at
        character, self._rest = decided
        self._reference = "" if character else reference
        if not (character or _may_be_blank(reference)):
            self._release(self._trimmer.keep_blanks())
        if character:
            self._text(character)
            self._state = XMLParser._in_rest if self._rest else XMLParser._in_content
        return at + 1

    def _in_rest(self, text: str, at: int) -> int:
        """The character is released; its reference must end with ``_rest``."""
        as_expected = text[at] == self._rest[0]
        self._rest = self._rest[1:] if as_expected else ""
        if not self._rest:
            self._state = XMLParser._in_content
        return at + as_expected

    # --- comments, processing instructions and CDATA --------------------------------------------

    def _in_opening(self, text: str, at: int) -> int:
        """After a ``<`` of which it is not yet known what it begins."""
        beginning = text[at : at + len(_CDATA)]
        for opening, terminator in _SECTIONS.items():
            if beginning.startswith(opening):
                self._terminator = terminator
                self._shown = self._raw or opening == _CDATA
                self._text(opening if self._raw else "")
                self._state = XMLParser._in_section
                return at + len(opening)
            if opening.startswith(beginning):
                self._held = beginning
                return len(text)
        if beginning[1] in "/:" or beginning[1].isidentifier():
            self._state = XMLParser._in_tag
            return at
        self._text("<")
        self._state = XMLParser._in_content
        return at + 1

    def _in_section(self, text: str, at: int) -> int:
        terminator = self._terminator
        end = text.find(terminator, at)
        if end < 0:
            beginnings = (terminator[:-1], terminator[0], "")
            self._held = next(held for held in beginnings if text.endswith(held, at))
            self._text(text[at : len(text) - len(self._held)] if self._shown else "")
            return len(text)
        self._text(text[at:end] if self._shown else "")
        self._text(terminator if self._raw else "")
        self._state = XMLParser._in_content
        return end + len(terminator)

    # --- tags -----------------------------------------------------------------------------------

    def _in_tag(self, text: str, at: int) -> int:
        if self._quote:
            quote = text.find(self._quote, at)
            end = len(text) if quote < 0 else quote + 1
            self._quote = self._quote if quote < 0 else ""
            self._tag.append(text[at:end])
            return end
        begun = not self._tag  # skip the tag's own "<"
        match = _TAG_SIGN.search(text, at + begun)
        end = match.end() if match else len(text)
        sign = match.group() if match else ""
        if sign == "<":
            self._tag.append(text[at : end - 1])
            self._text(self._end_of_tag())
            self._state = XMLParser._in_opening
            return end - 1
        self._tag.append(text[at:end])
        if sign == ">":
            tag = self._end_of_tag()
            if tag.startswith("</"):
                self._end(tag)
            else:
                self._start(tag)
        else:
            self._quote = sign
        return end

    def _end_of_tag(self) -> str:
        tag = "".join(self._tag)
        self._tag.clear()
        self._state = XMLParser._in_content
        return tag

    def _start(self, tag: str) -> None:
        if self._depth:
            self._raw = True
            self._text(tag)
        else:
            self._raw = not self._open(_name(tag))
            self._trimmer = Trimmer()
        self._depth += 1
        if tag.endswith("/>"):
            self._end("")

    def _end(self, tag: str) -> None:
        self._depth = max(0, self._depth - 1)
        if self._depth:
            self._text(tag)
        else:
            self._close()


def _name(tag: str) -> str:
    """The field name of an element of the outermost level, as the adapter reads it."""
    if match := _PLAIN_TAG.fullmatch(tag):
        return match.group(1)
    try:
        # One tag has no document type, so it can define no entities.
        element = ET.fromstring(tag[:-1].removesuffix("/") + "/>")  # noqa: S314
    except (ET.ParseError, ValueError):
        return ""
    return element.get("key", element.tag) if element.tag == "entry" else element.tag


def _decide(reference: str) -> tuple[str, str] | None:
    """The one character this prefix can mean and what must follow; "" if it can mean several."""
    if reference in _UNDECIDED:
        return "", ""
    match = _NUMBER.fullmatch(reference)
    if match is None:
        return _DECIDED.get(reference)
    hexadecimal, decimal, end = match.groups()
    base = 16 if hexadecimal else 10
    number = int(hexadecimal or decimal, base)
    if number > _LAST or (end and _NO_CHARACTER.match(chr(number))):
        return None
    if end or number * base > _LAST:
        return chr(number), "" if end else ";"
    return "", ""


def _may_be_blank(reference: str) -> bool:
    """Whether this prefix can still mean a blank, which ``strip`` may remove."""
    return _LEADING_ZEROS.sub("", reference.lower()) in _BLANK_SO_FAR
