r"""Fields of a reply in DSPy's chat format; the rule is ``ChatAdapter.parse``.

::

    reply    = line*                      lines end as str.splitlines() ends them
    line     = blank* header rest         begins a section; rest is its first line
             | text                       belongs to the section begun last
    header   = "[[ ## " word " ## ]]"

A section's value is its lines, joined by ``\n`` and stripped; the rest of the header's own
line is stripped separately. The first section of a name counts; sections of other names
(such as ``completed``) and text before the first header belong to no field. The adapter
finds the header in the stripped line but cuts the unstripped one, so a header indented by
``n`` blanks leaves its own last ``n`` characters in the value.

Every reply is well-formed here: what follows cannot change what precedes it, except for
blanks that ``strip`` may remove and the beginning of a line that may become a header. These
are held back; everything else is released at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from streamll.core.parsing.base import Piece, Text
from streamll.core.parsing.release import LineParser, Trimmer, so_far
from streamll.core.parsing.strings import match_end

_STEPS = (r"\[", r"\[", " ", "#", "#", " ", r"\w+", " ", "#", "#", " ", r"\]", r"\]")
_HEADER = re.compile("".join(_STEPS))
_HEADER_SO_FAR = re.compile(so_far(*_STEPS))
_OPENING = _CLOSING = len("[[ ## ")
_WORD = re.compile(r"\w+")
_BLANKS = re.compile(r"\s*")


class ChatParser(LineParser):
    """Reads one reply line by line."""

    line_end = re.compile("\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")

    def __init__(self, fields: Mapping[str, bool | None]) -> None:
        super().__init__(fields, ChatParser._at_line_start, ChatParser._in_line)
        self._indent = 0  # blanks before the header
        self._on_header_line = False
        self._header: list[str] = []  # text that may become a header
        self._probe = ""  # the same, the word in it shortened to one letter

    def feed(self, chunk: str) -> Sequence[Piece]:
        field = self._flow
        if field is not None and chunk[-1:] > " " and chunk.isprintable():
            return (Text(field, chunk),)  # no line end, no last blank
        return self._feed(chunk)

    def finish(self) -> Sequence[Piece]:
        self._text("".join(self._header))
        self._header.clear()
        return super().finish()

    def _at_line_start(self, text: str, at: int) -> int:
        """Only blanks in this line so far."""
        begin, at = at, match_end(_BLANKS, text, at)
        blanks = text[begin:at]
        line = blanks.rfind("\n") + 1
        self._indent = len(blanks) - line + (0 if line else self._indent)
        self._text(blanks)
        if at < len(text):
            may_be_header = text[at] == "["
            self._state = ChatParser._in_header if may_be_header else ChatParser._in_line
        return at

    def _in_header(self, text: str, at: int) -> int:
        """The line may still begin with a header."""
        end = text.find("\n", at)
        line = text[at:] if end < 0 else text[at:end]
        probe = self._probe + line
        if match := _HEADER.match(probe):
            length = match.end() - len(self._probe)
            self._begin("".join(self._header) + line[:length])
            return at + length
        if end < 0 and _HEADER_SO_FAR.fullmatch(probe):
            self._header.append(line)
            self._probe = _WORD.sub("x", probe)
            return len(text)
        self._text("".join(self._header))
        self._leave_header()
        return at

    def _begin(self, header: str) -> None:
        """A section begins and ends the one before."""
        self._close()
        self._open(header[_OPENING:-_CLOSING])
        self._trimmer = Trimmer()
        self._on_header_line = True
        self._leave_header()
        self._text(header[max(0, len(header) - self._indent) :])

    def _leave_header(self) -> None:
        self._header.clear()
        self._probe = ""
        self._state = ChatParser._in_line

    def _in_line(self, text: str, at: int) -> int:
        """Nothing in the rest of this line can be a header."""
        end = text.find("\n", at)
        if end < 0:
            self._text(text[at:])
            return len(text)
        self._text(text[at:end])
        if self._on_header_line:
            self._trimmer.forget_blanks()
            self._on_header_line = False
        self._indent = 0
        self._state = ChatParser._at_line_start
        return end
