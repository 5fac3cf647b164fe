"""X1: what is released is what the adapter parses, however the reply is cut.

Hypothesis writes the replies; where the run is thorough, more than ten thousand well-formed ones
are compared with the adapters' values. Each is read whole, one character at a time and in
random chunks.
"""

from __future__ import annotations

import time

import pytest
from case_table import TYPED
from difficult_replies import anything, chat_reply, json_reply, sizes, xml_child, xml_reply
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from oracle import CHAT, FIELDS, FORMATS, JSON, XML, Format, final
from parser_protocol import cut, read
from profiles import THOROUGH, thorough

from streamll.core.parsing.base import Text

PARTS = range(7 if THOROUGH else 1)
"""Of each of the three properties of well-formed replies, for as many processes."""
in_parts = pytest.mark.parametrize("part", PARTS)
many = settings(max_examples=thorough(500))


def released(form: Format, reply: str, sizes: list[int], fields=None) -> dict[str, str]:
    """The fields' texts, having seen that no chunking changes them."""
    arguments = () if fields is None else (fields,)
    whole = read(form, [reply], *arguments)
    assert read(form, reply, *arguments) == whole
    assert read(form, cut(reply, sizes), *arguments) == whole
    return whole


@in_parts
@many
@given(chat_reply, sizes, st.sampled_from(CHAT.adapters))
@example("[[ ## answer ## ]] a  \n b \n  [[ ## reasoning ## ]]c", [1], CHAT.adapters[0])
def test_chat_replies_give_the_adapters_text(part, reply, sizes, adapter):
    """X1: every chat reply is well-formed."""
    assert released(CHAT, reply, sizes) == final(adapter, reply)


@in_parts
@many
@given(json_reply, sizes, st.sampled_from(JSON.adapters))
@example('{"answer": "\\ud83d\\ud83d\\ude00"}', [1], JSON.adapters[0])
def test_well_formed_json_replies_give_the_adapters_text(part, reply, sizes, adapter):
    """X1: JSON and BAML."""
    assume(JSON.well_formed(reply))
    assert released(JSON, reply, sizes) == final(adapter, reply)


@in_parts
@many
@given(xml_reply(), sizes, st.sampled_from(XML.adapters))
@example("<answer>&#x20;a &#x1F600;<![CDATA[ ]]></answer>", [1], XML.adapters[0])
def test_well_formed_xml_replies_give_the_adapters_text(part, reply, sizes, adapter):
    """X1: XML, line ends and references as its parser reads them."""
    assume(XML.well_formed(reply))
    assert released(XML, reply, sizes) == final(adapter, reply)


@pytest.mark.parametrize("form", FORMATS, ids=repr)
@given(st.one_of(anything, chat_reply, json_reply, xml_reply(), st.text()), sizes)
def test_no_text_breaks_a_parser_or_depends_on_the_chunks(form, reply, sizes):
    """X1: malformed replies are read to the end, and the same way however they are cut."""
    released(form, reply, sizes)
    released(form, reply, sizes, TYPED)


@given(chat_reply, sizes)
def test_a_typed_chat_field_is_its_stripped_section(reply, sizes):
    assert released(CHAT, reply, sizes, TYPED) == released(CHAT, reply, sizes)


@given(st.lists(xml_child | st.just("&lt; "), min_size=1).map("".join), sizes)
def test_a_typed_xml_field_is_the_markup_between_its_tags(inside, sizes):
    reply = f"<answer> {inside}\n</answer>"
    assert released(XML, reply, sizes, TYPED) == {"answer": inside.strip()}


# --- time -----------------------------------------------------------------------------------------

LONG = {
    "chat": [
        ("[[ ## answer ## ]]\n", " "),
        ("[[ ## answer ## ]]\n", "\n"),
        ("[[ ## answer ## ]] a", " "),
        ("[[ ## answer ## ]]\n", "word"),
        ("[[ ## answer ## ]]\n", "\n[x"),
        ("[[ ## answer ## ]]\n[[ ## ", "a"),
        ("[[ ## answer ## ]]\n[[ ## ", " a"),
    ],
    "json": [
        ('{"answer": "', "word"),
        ('{"answer": "', "\\n"),
        ('{"answer": "', "\\ud83d"),
        ('{"answer": "', "\\u12 "),
        ('{"answer": ', "[1, "),
        ('{"answer": ', "1"),
        ('{"fake": ["', '\\"'),
        ('{"', "key"),
        ('{"answer"', " "),
        ("{", ","),
    ],
    "xml": [
        ("<answer>a", "word "),
        ("<answer>a", " "),
        ("<answer>a", "&lt;"),
        ("<answer>a&#", "0"),
        ("<answer>a<", "b "),
        ("<answer>a<b c='", ">"),
        ("<answer>a<!--", "- "),
        ("<answer>a<![CDATA[", "]"),
        ("<answer>a", "<b>"),
        ("<answer>a", "<"),
    ],
}
CASES = [(form, *case) for form in FORMATS for case in LONG[form.name]]


@pytest.mark.parametrize("chunk", [4, 10**9], ids=["in chunks", "whole"])
@pytest.mark.parametrize(("form", "opening", "text"), CASES)
def test_parsing_time_is_linear(form, opening, text, chunk):
    """X1: nothing is read twice, not even what has to wait for the end."""
    short, long = (2_500, 40_000) if THOROUGH else (1_000, 16_000)

    def seconds(length: int) -> float:
        reply = opening + text * (length // len(text))
        chunks = [reply[at : at + chunk] for at in range(0, len(reply), chunk)]
        start = time.process_time()
        read(form, chunks)
        return (time.process_time() - start) / length

    # Sixteen times the text: quadratic work would cost sixteen times as much for each character.
    per_character = min(seconds(short) for _ in range(3))
    assert any(seconds(long) < 4 * per_character + 1e-7 for _ in range(9))


@pytest.mark.parametrize("form", FORMATS, ids=repr)
def test_a_chunk_gives_one_text_for_each_field(form):
    """X1: a reply in one chunk is one text a field, not one for each of its lines."""
    reply = {
        "chat": "[[ ## reasoning ## ]]\na\n\nb [c]\nd\n[[ ## answer ## ]]\ne\nf\n",
        "json": '{"reasoning": "a\\n\\nb [c]\\nd", "answer": "e\\nf"}',
        "xml": "<reasoning>a\n\nb [c]<!-- -->\n&#100;</reasoning><answer>e\nf</answer>",
    }[form.name]
    released = form.parser(FIELDS).feed(reply)
    texts = [piece for piece in released if isinstance(piece, Text)]
    assert texts == [Text("reasoning", "a\n\nb [c]\nd"), Text("answer", "e\nf")]
