"""X2: a parser releases exactly the text that no well-formed continuation can change.

Each reply of the corpus is read one character at a time; at every prefix (every tenth one, unless
the run is thorough) the texts released so far are compared with what ``tests/support/oracle.py`` finds certain by asking the real adapter.
"""

from __future__ import annotations

import pytest
from oracle import CHAT, FIELDS, JSON, XML, certain, common_prefix, final
from profiles import THOROUGH

from streamll.core.parsing.base import Text

EVERY = 1 if THOROUGH else 10
CHAT_REPLIES = [
    "[[ ## reasoning ## ]]\nTwo  words.\n\n[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]\n",
    "Sure!\n[[ ## answer ## ]] on the line  \n\t and [[ ## below ## ]] it ",
    "[[ ## answer ## ]]\narr[[0]]\n[[ ## no header\n[[ ## n ## ]\n[[x\n[[[ ## a ## ]]\n",
    "[[ ## answer ## ]]\r\n a\r\r\nb\u2028c\x85[[ ## other ## ]]\nno\n[[ ## reasoning ## ]]",
    " [[ ## answer ## ]] indented\n      [[ ## reasoning ## ]] \n\xa0more\u3000\n",
    "[[ ## answer ## ]]\nfirst\n[[ ## answer ## ]]\nsecond\n[[ ## reasoning ## ]]\n# Title\n",
]
JSON_REPLIES = [
    '{"reasoning": "Two  words.\\n", "answer": "Par\\u0069s \\"\\\\\\/"}',
    'Here is it:\n```json\n{ "answer" : " a } [ {" ,\n"reasoning":"\\t "\n}\n```\nDone: 1.',
    '{"a": {"answer": "no", "n": [1, {"x": "}"}]}, "\\u0061nswer": "b", "z": null}',
    '{"answer": "\\ud83d\\ude00 \\ud83d \\ud83d\\n\\ud83d\\ud83d\\ude00\\ud83d\\u0041\\udc00"}',
    '{"answer": "\\\\ud83d\\\\\\u00e9\\uD83D\\uDE00\\uDBFF\\\\", "reasoning": "\\ud8a0"}',
    '{"answer": "", "n": 1.5e3, "t": true, "reasoning": "[[ ## x ## ]] <b>&"}',
]
XML_REPLIES = [
    "<reasoning>\nTwo  words.\n</reasoning>\n\n<answer>\n Par&#105;s </answer>\n",
    "Sure: <!-- <answer>no</answer> --><answer>a &lt;b&gt; &amp;amp; &quot;&apos;</answer>",
    "<answer>x<![CDATA[ <b> ]] ]]]]>y <![CDATA[]]><!-- no --> <?p no?>z\r\r\n</answer >",
    "<k><answer>no</answer></k><answer a='>'>&#x1F600;&#x41;&#128512;&#32;a&#1114111;</answer>",
    '<entry key="answer">] ]] > a</entry><reasoning/><z a="<answer>"/>'.replace("<answer>", ""),
    "<answer>&#x10FFFF; &#x20; &#9999; &#x00041; \u2028 \t&#10; . </answer>",
]
CORPUS = [
    pytest.param(form, reply, id=f"{form}-{number}")
    for form, replies in ((CHAT, CHAT_REPLIES), (JSON, JSON_REPLIES), (XML, XML_REPLIES))
    for number, reply in enumerate(replies)
]


@pytest.mark.parametrize(("form", "reply"), CORPUS)
def test_every_prefix_releases_exactly_what_is_certain(form, reply):
    """X2: not a character later, and not one too early."""
    parser = form.parser(FIELDS)
    out: dict[str, str] = {}
    for end, character in enumerate(reply, 1):
        for piece in parser.feed(character):
            if isinstance(piece, Text):
                out[piece.field] = out.get(piece.field, "") + piece.text
        if (len(reply) - end) % EVERY == 0:
            assert out == certain(form, reply[:end]), f"after {reply[:end]!r}"


@pytest.mark.parametrize(("form", "reply"), CORPUS)
def test_the_corpus_is_well_formed(form, reply):
    assert form.well_formed(reply)
    assert final(form.adapters[0], reply)


def test_the_oracle_finds_the_common_prefix():
    assert common_prefix(["abc", "abd", "ab"]) == "ab"
    assert common_prefix(["ab", "ab"]) == "ab"
    assert common_prefix(["a", ""]) == ""
