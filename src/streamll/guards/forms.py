"""How a text is written: which characters its raw text stands for, and where its parts meet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Protocol
from xml.sax.saxutils import escape

Piece = tuple[str, str]
"""Characters and their raw text: the same, or one character that is written otherwise.

No characters: raw text at which one text ends and the next begins.
"""


class Writing(Protocol):
    """Reads raw text."""

    def is_plain(self, text: str) -> bool:
        """Whether a next piece of raw text stands for itself."""

    def read(self, text: str) -> Iterator[Piece]:
        """The next piece, as far as it is decided what it stands for."""

    def finish(self) -> Iterator[Piece]:
        """A beginning that nothing followed."""

    def mask(self, text: str) -> str:
        """A mask's text as it is written at the place that was read last."""


class _Written:
    """Text in which some characters are written as several, or separate parts."""

    special: str
    """The characters that may not stand for themselves, for a set of characters."""
    escapes: str
    """A character that is written as several, as a pattern."""
    borders: str
    """What separates parts."""
    begun: str
    """The beginnings of these."""

    def __init__(self) -> None:
        self._rest = ""
        whole = f"(?P<char>{self.escapes})|(?P<border>{self.borders})|[^{self.special}]+|."
        self._whole = re.compile(whole, re.DOTALL)
        self._piece = re.compile(rf"(?P<begun>(?:{self.begun})\Z)|{whole}", re.DOTALL)
        self._special = re.compile(f"[{self.special}]")

    def is_plain(self, text: str) -> bool:
        return not self._rest and self._special.search(text) is None

    def read(self, text: str) -> Iterator[Piece]:
        text, self._rest = self._rest + text, ""
        for match in self._piece.finditer(text):
            if match["begun"]:
                self._rest = match[0]
            else:
                yield from self._as_piece(match)

    def finish(self) -> Iterator[Piece]:
        rest, self._rest = self._rest, ""
        for match in self._whole.finditer(rest):
            yield from self._as_piece(match)

    def _as_piece(self, match: re.Match[str]) -> Iterator[Piece]:
        raw = match[0]
        if match["border"] and self._is_border(raw):
            yield "", raw
            self._cross(raw)
        else:
            yield (self._char(raw) if match["char"] else raw), raw

    def _is_border(self, raw: str) -> bool:
        return True

    def _cross(self, border: str) -> None:
        """What follows is another part."""

    def _char(self, raw: str) -> str:
        raise NotImplementedError


SIMPLE = dict(zip("nrtbf0", "\n\r\t\b\f\0", strict=True))
PAIR = len(r"\ud83d\ude00")
_HEX = "[0-9a-fA-F]"


class Json(_Written):
    r"""Each string is a text, and so is what stands between two.

    Escapes are read wherever they are: ``\n``, ``\"``, ``\xXX``, ``\uXXXX``, and two of these for one
    character. Between strings a mask is written as a string.
    """

    special = r'\\"'
    escapes = (
        rf"\\u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}"
        rf"|\\u{_HEX}{{4}}|\\x{_HEX}{{2}}|\\."
    )
    borders = '"'
    begun = (
        rf"\\(?:u(?:[dD][89abAB]{_HEX}{{2}}(?:\\(?:u(?:[dD](?:[c-fC-F]{_HEX}?)?)?)?)?|{_HEX}{{0,3}})"
        rf"|x{_HEX}?)?"
    )

    def __init__(self) -> None:
        super().__init__()
        self._in_string = False

    def mask(self, text: str) -> str:
        written = json.dumps(text, ensure_ascii=False)
        return written[1:-1] if self._in_string else written

    def _cross(self, border: str) -> None:
        self._in_string = not self._in_string

    def _char(self, raw: str) -> str:
        if len(raw) == PAIR:
            pair = chr(int(raw[2:6], 16)) + chr(int(raw[8:], 16))
            return pair.encode("utf-16", "surrogatepass").decode("utf-16")
        if raw[1] in "ux" and len(raw) > len(r"\u"):
            return chr(int(f"0x{raw[2:]}", 0))
        return SIMPLE.get(raw[1], raw[1])


_NAME = r"[A-Za-z_][\w.-]{0,99}"


class Xml(_Written):
    """Entities stand for characters; tags separate texts, and a tag's name is one."""

    special = "&<>"
    escapes = rf"&(?:amp|lt|gt|quot|apos|#[0-9]{{1,7}}|#x{_HEX}{{1,6}});"
    borders = rf"</?(?={_NAME}\s?/?>)|>"
    begun = rf"&(?:[a-z]{{0,4}}|#[0-9]{{0,7}}|#x{_HEX}{{0,6}})|</?(?:{_NAME}\s?/?)?"

    def __init__(self) -> None:
        super().__init__()
        self._in_tag = False

    def mask(self, text: str) -> str:
        return escape(text, {'"': "&quot;"})

    def _is_border(self, raw: str) -> bool:
        return raw != ">" or self._in_tag

    def _cross(self, border: str) -> None:
        self._in_tag = border != ">"

    def _char(self, raw: str) -> str:
        return unescape(raw) or raw


FORMS: dict[str, type[Json | Xml] | None] = {"plain": None, "json": Json, "xml": Xml}
