"""The chat format, case by case: whole, by character, by three, by token, at random."""

from __future__ import annotations

import pytest
from case_table import Row, check
from oracle import CHAT, FIELDS

from streamll.core.parsing.base import Closed, Opened, Text
from streamll.core.parsing.chat import ChatParser

REASONING, ANSWER = "[[ ## reasoning ## ]]\n", "[[ ## answer ## ]]\n"
DONE = "\n\n[[ ## completed ## ]]\n"
ROWS = [
    Row("nothing", "", {}),
    Row("no header", "Paris, of course.", {}),
    Row(
        "as asked for",
        f"{REASONING}Two words.\n\n{ANSWER}Paris{DONE}",
        {"reasoning": "Two words.", "answer": "Paris"},
    ),
    Row("no completed marker", f"{ANSWER}Paris", {"answer": "Paris"}),
    Row("text before the first field", f"Sure!\n\n{ANSWER}Paris{DONE}", {"answer": "Paris"}),
    Row("an empty field", f"{REASONING}{ANSWER}{DONE}", {"reasoning": "", "answer": ""}),
    Row("only a header", "[[ ## answer ## ]]", {"answer": ""}),
    Row("blanks at both ends", f"{ANSWER} \t\n\u3000 a\xa0 b \x1f\n\t{DONE}", {"answer": "a\xa0 b"}),
    Row("blanks inside", f"{ANSWER}a \n\n  b\t\n{DONE}", {"answer": "a \n\n  b"}),
    Row("text on the header's line", "[[ ## answer ## ]] a  b {DONE}", {"answer": "a  b {DONE}"}),
    Row(
        "blanks at the end of the header's line",
        f"[[ ## answer ## ]]  a \t\n \n  b{DONE}",
        {"answer": "a\n \n  b"},
    ),
    Row("text right after the header", "[[ ## answer ## ]]: a", {"answer": ": a"}),
    Row(
        "a header inside a line",
        f"{ANSWER}see [[ ## reasoning ## ]] there{DONE}",
        {"answer": "see [[ ## reasoning ## ]] there"},
    ),
    Row(
        "two headers in a line",
        "[[ ## answer ## ]] a [[ ## reasoning ## ]] b",
        {"answer": "a [[ ## reasoning ## ]] b"},
    ),
    Row(
        "an unknown header ends the field",
        f"{ANSWER}a\n[[ ## fake ## ]]\nb\n{REASONING}c",
        {"answer": "a", "reasoning": "c"},
    ),
    Row(
        "the first section of a name counts",
        f"{ANSWER}a\n{ANSWER}b\n{REASONING}c\n{ANSWER}d",
        {"answer": "a", "reasoning": "c"},
    ),
    Row(
        "an indented header leaves its own end",
        "  [[ ## answer ## ]] hello\n   [[ ## reasoning ## ]]x",
        {"answer": "]] hello", "reasoning": "]]x"},
    ),
    Row(
        "a header indented by more than itself",
        f"\n{' ' * 30}[[ ## answer ## ]] a",
        {"answer": "[[ ## answer ## ]] a"},
    ),
    *(
        Row(f"not a header: {line!r}", f"{ANSWER}{line}\nb", {"answer": f"{line.strip()}\nb"})
        for line in (
            "arr[[0]]", "[0]", "[[", "[[x]]", "[[ ## ## ]]", "[[ ## a b ## ]]", "[[## a ## ]]",
            "[[ ## a ##]]", "[[ ## a ## ]", "[[[ ## a ## ]]", "[[  ## a ## ]]", "[link](url)",
            "[[ ## a-b ## ]]", "[[ ## a ## ] ]", "# [[ ## a ## ]]", "  [[ ## a ##", "[[ ##",
        )
    ),
    Row("a header's beginning at the end", f"{ANSWER}a\n [[ ## b ", {"answer": "a\n [[ ## b"}),
    Row("another's right after it", f"{ANSWER}[[ ## a\n[[ ## b ## ]]", {"answer": "[[ ## a"}),
    *(
        Row(
            f"lines end in {end!r}",
            f"x{end}[[ ## answer ## ]]{end}a {end}{end} b{end}[[ ## reasoning ## ]]c{end}",
            {"answer": "a \n\n b", "reasoning": "c"},
        )
        for end in ("\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
    ),
    Row("line ends mixed", f"{ANSWER}a\r\r\n\n\rb\u2028\r\nc", {"answer": "a\n\n\n\nb\n\nc"}),
    Row("a name in another script", "[[ ## ñandú ## ]]\na\n[[ ## answer ## ]]\nб", {"answer": "б"}),
    Row(
        "markdown",
        f"{ANSWER}# T\n\n- **a** `[[b]]`\n```\n[ ]\n\n  x\n```\n| c |{DONE}",
        {"answer": "# T\n\n- **a** `[[b]]`\n```\n[ ]\n\n  x\n```\n| c |"},
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_chat_reply(row):
    """X1: the released text is the adapter's, however the reply is cut."""
    check(CHAT, row)


def test_a_field_opens_with_its_header_and_closes_with_the_next():
    """X2: as soon as each is certain."""
    parser = ChatParser(FIELDS)
    assert parser.feed("[[ ## answer ## ]") == ()
    assert parser.feed("]") == [Opened("answer")]
    assert parser.feed("\n a") == (Text("answer", "a"),)
    assert parser.feed(" ") == ()
    assert parser.feed("b\n\n[[ ## fake ##") == (Text("answer", " b"),)
    assert parser.feed(" ]]") == [Closed("answer")]
    assert parser.finish() == ()


def test_the_end_releases_what_did_not_become_a_header():
    parser = ChatParser(FIELDS)
    parser.feed("[[ ## answer ## ]]\na\n[[ ##")
    assert parser.finish() == [Text("answer", "\n[[ ##"), Closed("answer")]
