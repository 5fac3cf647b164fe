"""How a text is written: its characters, and the raw text of each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Protocol
from xml.sax.saxutils import escape

Char = tuple[str, str]
"""A character, and the text that it is written as."""


class Form(Protocol):
    """Reads raw text."""

    def read(self, text: str) -> Iterator[Char]:
        """The characters of the next piece, as far as they are complete."""

    def finish(self) -> Iterator[Char]:
        """Those of a beginning that nothing followed."""

    def mask(self, text: str) -> str:
        """A mask's text as it is written here."""


class Plain:
    """Every character stands for itself."""

    def read(self, text: str) -> Iterator[Char]:
        return zip(text, text, strict=True)

    def finish(self) -> Iterator[Char]:
        return iter(())

    def mask(self, text: str) -> str:
        return text


class _Escaped:
    """Text in which some characters are written as several."""

    escapes: str
    """What is written so, as a pattern."""
    begun: str
    """The beginnings of these."""

    def __init__(self) -> None:
        self._rest = ""
        self._whole = re.compile(f"{self.escapes}|.", re.DOTALL)
        self._piece = re.compile(rf"(?P<begun>(?:{self.begun})\Z)|{self.escapes}|.", re.DOTALL)

    def read(self, text: str) -> Iterator[Char]:
        text, self._rest = self._rest + text, ""
        for match in self._piece.finditer(text):
            if match["begun"]:
                self._rest = match[0]
                return
            yield self.char(match[0]), match[0]

    def finish(self) -> Iterator[Char]:
        rest, self._rest = self._rest, ""
        for match in self._whole.finditer(rest):
            yield self.char(match[0]), match[0]

    def char(self, raw: str) -> str:
        """The character that is written so."""
        raise NotImplementedError


SIMPLE = dict(zip("nrtbf0", "\n\r\t\b\f\0", strict=True))
PAIR = len(r"\ud83d\ude00")
_HEX = "[0-9a-fA-F]"


class Json(_Escaped):
    r"""Backslashes escape: ``\n``, ``\"``, ``\xXX``, ``\uXXXX``, and two of these for one character."""

    escapes = (
        rf"\\u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}"
        rf"|\\u{_HEX}{{4}}|\\x{_HEX}{{2}}|\\."
    )
    begun = (
        rf"\\(?:u(?:[dD][89abAB]{_HEX}{{2}}(?:\\(?:u(?:[dD](?:[c-fC-F]{_HEX}?)?)?)?)?|{_HEX}{{0,3}})"
        rf"|x{_HEX}?)?"
    )

    def char(self, raw: str) -> str:
        if len(raw) == 1:
            return raw
        if len(raw) == PAIR:
            pair = chr(int(raw[2:6], 16)) + chr(int(raw[8:], 16))
            return pair.encode("utf-16", "surrogatepass").decode("utf-16")
        if raw[1] in "ux" and len(raw) > len(r"\u"):
            return chr(int(f"0x{raw[2:]}", 0))
        return SIMPLE.get(raw[1], raw[1])

    def mask(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=False)[1:-1]


class Xml(_Escaped):
    """Entities stand for characters."""

    escapes = rf"&(?:amp|lt|gt|quot|apos|#[0-9]{{1,7}}|#x{_HEX}{{1,6}});"
    begun = rf"&(?:[a-z]{{0,4}}|#[0-9]{{0,7}}|#x{_HEX}{{0,6}})"

    def char(self, raw: str) -> str:
        return raw if len(raw) == 1 else unescape(raw) or raw

    def mask(self, text: str) -> str:
        return escape(text, {'"': "&quot;"})


FORMS: dict[str, type[Plain | Json | Xml]] = {"plain": Plain, "json": Json, "xml": Xml}
