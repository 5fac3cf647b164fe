"""Hypothesis strategies for difficult replies of each format."""

from __future__ import annotations

import json

from hypothesis import strategies as st

LINE_ENDS = ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
BLANKS = [" ", "  ", "\t", "\x1f", "\xa0", "\u2003", "\u3000", "   " * 9]
WORDS = [
    "Machine", " learning", "こんにちは", "é", "😀", "\ud83d", "\x00", "a", "", "x" * 40,
    "# Title", "- **bold**", "`code`", "```python\nprint(1)\n```", "| a | b |", "http://x.y/#z",
    "arr[[0]]", "[", "[[", "]]", "[link](url)", "[[ ##", "## ]]", "a < b", "AT&T", "{", "}", '"',
    "'", "\\", "\\d", "\\alpha", "null", "1e3", "-1.5", ",", ":", '"}', '"answer": "no"', "<b>",
]  # fmt: skip
NAMES = ["reasoning", "answer", "completed", "fake", "foo_1", "ñ", "entry", "x" * 40]
HEADERS = [f"[[ ## {name} ## ]]" for name in NAMES]
HEADER_BITS = ["[[ ## ", "[[ ## answer", "[[ ## answer ##", " ## ]]", " ## ]", "[[ ## no t ## ]]"]

name = st.sampled_from(NAMES)
blanks = st.lists(st.sampled_from(BLANKS + LINE_ENDS), max_size=4).map("".join)
line_end = st.sampled_from(LINE_ENDS)
prose = st.lists(
    st.sampled_from(WORDS + BLANKS + LINE_ENDS + HEADERS + HEADER_BITS) | st.text(max_size=4),
    max_size=8,
).map("".join)
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def joined(*parts):
    return st.tuples(*parts).map("".join)


# --- chat -------------------------------------------------------------------------------------

chat_line = joined(blanks, st.sampled_from([*HEADERS, *HEADER_BITS, "", "", ""]), prose, line_end)
chat_reply = st.lists(
    chat_line | joined(st.sampled_from(HEADERS), blanks, prose, line_end), max_size=8
).map("".join)


# --- JSON -------------------------------------------------------------------------------------


@st.composite
def json_string(draw):
    """A string as a model may write it: any character escaped, or not."""
    of = st.text(max_size=6)
    escapes = ["\\ud83d\\ude00", "\\ud83d", "\\ude00", "\\u00e9", "\\/", "\\b", '\\"', "\\\\"]
    parts = draw(
        st.lists(
            of.map(lambda text: json.dumps(text)[1:-1])
            | of.map(lambda text: json.dumps(text, ensure_ascii=False)[1:-1])
            | st.sampled_from(escapes)
            | st.sampled_from(WORDS + HEADERS).map(lambda word: json.dumps(word)[1:-1])
            | st.sampled_from([*"{}[]<&", '\\"}', '\\"answer\\": \\"', " ", "/"]),
            max_size=8,
        )
    )
    return '"' + "".join(parts) + '"'


json_blanks = st.text(" \t\r\n", max_size=3)
JSON_FIELDS = [
    ['"reasoning"', '"answer"'],
    ['"\\u0061nswer"'],
    ['"answer"', '"reasonin\\u0067"'],
]
json_name = st.sampled_from(
    ["fake", "completed", "k", "l", "m", "n", "", '\\"', "{", "x" * 40, "answer"]
).map(lambda key: f'"{key}"')
json_value = st.recursive(
    json_string() | st.sampled_from(["null", "true", "1e3", "-0.5", "12", "[]", "{}", '""']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
        | st.lists(st.tuples(json_name, inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{key} :{value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=6,
)


@st.composite
def json_object(draw):
    """Fields among other members, mostly strings, mostly once, in any order."""
    members = [(name, draw(json_string())) for name in draw(st.sampled_from(JSON_FIELDS))]
    members += draw(st.lists(st.tuples(json_name, json_value), max_size=3))
    members = draw(st.permutations(members))
    one, two, three, four = draw(st.tuples(*[json_blanks] * 4))
    written = [f"{one}{key}{two}:{three}{value}{four}" for key, value in members]
    return "{" + ",".join(written) + "}"


HARMLESS = ["Here is ", "the \"answer\": '1'", "\n", "```json\n", "```", "\n```\n", "note: "]
HARMFUL = ["[1]", "(note)", "# ", "// ", "/", "/* x */", ",", "[[ ## completed ## ]]", "{x}", "{"]
json_prose = st.lists(
    st.sampled_from(HARMLESS) | st.sampled_from(HARMLESS * 5 + HARMFUL), max_size=3
).map("".join)
json_reply = joined(json_prose, json_object(), json_prose)


# --- XML --------------------------------------------------------------------------------------

REFERENCES = ["&lt;", "&gt;", "&amp;", "&quot;", "&apos;", "&#65;", "&#x1F600;", "&#x000020;"]
REFERENCES += ["&#13;", "&#10;", "&amp;lt;", "&#1114111;", "&#x10FFFF;", "&#0065;"]
HIDDEN = ["<!-- <answer> & -->", "<!---->", "<?php </answer> ?>", "<!-- - -->"]
CDATA = ["<![CDATA[ <b> & ]]>", "<![CDATA[]]>", "<![CDATA[]]]]>", "<![CDATA[a]] > \r\n]]>"]
XML_WORDS = [word for word in WORDS if not set(word).intersection("<&\x00\ud83d")]
XML_ENDS = ["\n", "\r\n", "\r", "\x85", "\u2028", "\r\r\n", "\n\n"]
BROKEN = ["<", "&", "& ", "<3", "]]>", "&nbsp;", "&#0;", "&#xD800;", "&lx;", "&am", "</b>", "<!x>"]

xml_text = st.lists(
    st.sampled_from(XML_WORDS + HEADERS + BLANKS[:3] + XML_ENDS)
    | st.sampled_from(REFERENCES + HIDDEN + CDATA + ["]", "[", "&#32;", "&#x2003;"])
    | st.text(st.characters(exclude_characters="<&", exclude_categories=["C"]), max_size=4),
    max_size=8,
).map("".join)
xml_child = st.sampled_from(["<b>x</b>", "<br/>", "<b k='>'><answer>&lt;</answer></b>"])
XML_FIELDS = [
    [("<reasoning>", "</reasoning>"), ("<answer>", "</answer>")],
    [("<reasoning\n>", "</reasoning\n>"), ("<answer a='>' b=\"/>\" >", "</answer>")],
    [('<entry key="answer">', "</entry>")],
    [("<answer/>", ""), ("<reasoning  k='/>' />", "")],
]
XML_OTHERS = [
    ("<entry>", "</entry>"),
    ("<fake>", "</fake>"),
    ("<fake><answer>no</answer>", "</fake>"),
    ("<ñ>", "</ñ>"),
    ("<fake/>", ""),
    ("", ""),
    ("<answer>", "</answer>"),
    ("<x:y>", "</x:y>"),
]


@st.composite
def xml_reply(draw):
    """Fields among other elements and text, mostly once, in any order."""
    tags = draw(st.permutations(draw(st.sampled_from(XML_FIELDS))))
    tags += draw(st.lists(st.sampled_from(XML_OTHERS[:-2] * 5 + XML_OTHERS), max_size=3))
    texts = [draw(xml_text) if end or not start else "" for start, end in tags]
    return "".join(f"{start}{text}{end}" for (start, end), text in zip(tags, texts, strict=True))


# --- anything ---------------------------------------------------------------------------------

anything = st.lists(
    st.sampled_from(WORDS + BLANKS + LINE_ENDS + HEADERS + HEADER_BITS)
    | st.sampled_from(REFERENCES + HIDDEN + CDATA + BROKEN)
    | st.sampled_from(["<answer>", "</answer>", "<answer", "/>", "<b>", "</b>", "<!-", "-->"])
    | st.sampled_from(['{"answer":', '"', '{"', '":', '"answer"', "{", "}", "[", "]", "\\u", "d8"])
    | st.sampled_from(["\\ud83d", "\\ude0", "0", "\\u12 z", "\\'", "12", "null,", "&#1", "&#x1F60"])
    | xml_child
    | st.text(max_size=4),
    max_size=14,
).map("".join)
