"""XML replies, case by case: whole, by character, by three, by token, at random."""

from __future__ import annotations

import pytest
from case_table import REFUSED, Row, check, check_typed
from oracle import FIELDS, XML

from streamll.core.parsing.base import Closed, Opened, Text
from streamll.core.parsing.xml import XMLParser

ROWS = [
    Row("nothing", "", {}),
    Row(
        "as asked for",
        "<reasoning>\nTwo words.\n</reasoning>\n\n<answer>\nParis\n</answer>",
        {"reasoning": "Two words.", "answer": "Paris"},
    ),
    Row("text around the fields", "Sure: <answer>x</answer> done.", {"answer": "x"}),
    Row("an empty field", "<answer></answer><reasoning> \n</reasoning>", {"answer": "", "reasoning": ""}),
    Row("empty tags", "<answer/><reasoning />", {"answer": "", "reasoning": ""}),
    Row("blanks in tags", "<answer \n>x</answer\t>", {"answer": "x"}),
    Row("attributes", "<answer a='>' b=\"'/>\" c='/'>x</answer>", {"answer": "x"}),
    Row("an entry", '<entry id="1" key="ans&#119;er">x</entry>', {"answer": "x"}),
    Row("an entry of no name", "<entry>x</entry>", {}),
    Row("other elements", "<k>a<answer>no</answer></k><answer>x</answer><z/>", {"answer": "x"}),
    Row("names that begin alike", "<answers>no</answers><answer>x</answer>", {"answer": "x"}),
    Row("a namespace", "<answer xmlns='urn:x'>no</answer>", {}),
    Row("line ends", "<answer>a\r\nb\rc\n\r\nd\r</answer>", {"answer": "a\nb\nc\n\nd"}),
    Row("other line ends", "<answer>\x85a\u2028b\u2029</answer>", {"answer": "a\u2028b"}),
    Row("references", "<answer>&lt;b&gt; &amp;amp; &quot;&apos;</answer>", {"answer": "<b> &amp; \"'"}),
    Row(
        "numbers",
        "<answer>&#65;&#x41;&#x00041;&#0065;&#128512;&#x1f600;&#x1F600;&#1114111;&#x10fFFF;</answer>",
        {"answer": "AAAA😀😀😀\U0010ffff\U0010ffff"},
    ),
    Row("blanks by number", "<answer>&#32;a&#10;b&#13;&#x2003;</answer>", {"answer": "a\nb"}),
    Row("a return by number", "<answer>a&#13;\nb</answer>", {"answer": "a\r\nb"}),
    Row(
        "character data",
        "<answer><![CDATA[ <b>&amp;</b> ]]]><![CDATA[]]><![CDATA[]]]]>&gt;<![CDATA[\r\n]]></answer>",
        {"answer": "<b>&amp;</b> ]]]>"},
    ),
    Row("comments", "<!-- <answer> --><answer>a <!-- </answer> & - -->b<!----></answer>", {"answer": "a b"}),
    Row("instructions", "<?x <answer> ?><answer>a<?y </answer> ? ?>b</answer>", {"answer": "ab"}),
    Row("blanks across markup", "<answer>a <!-- --> <?x?> &#32; b <!-- --> </answer>", {"answer": "a     b"}),
    Row("markdown", "<answer># T\n\n- `a[[0]]` > b</answer>", {"answer": "# T\n\n- `a[[0]]` > b"}),
    Row("brackets", "<answer>]] ]>] ]</answer>", {"answer": "]] ]>] ]"}),
]  # fmt: skip

MALFORMED = [
    # What the caller has to correct.
    Row(
        "elements inside",
        "<answer> a <b>c &lt;</b> d</answer>",
        {"answer": "a <b>c &lt;</b> d"},
        {"answer": " a <b>c &lt;</b> d"},
    ),
    Row(
        "a field inside itself",
        "<answer><answer>a</answer><br/></answer>",
        {"answer": "<answer>a</answer><br/>"},
        {"answer": "<answer>a</answer><br />"},
    ),
    Row("twice", "<answer>a</answer><answer>b</answer>", {"answer": "a"}, {"answer": "['a', 'b']"}),
    # What the adapter refuses.
    *(
        Row(f"refused: {inside}", f"<answer>{inside}</answer>", {"answer": text}, REFUSED)
        for inside, text in (
            ("a < b", "a < b"), ("1<2", "1<2"), ("AT&T", "AT&T"), ("a & b", "a & b"), ("]]>", "]]>"),
            ("&nbsp;", "&nbsp;"), ("&#0;", "&#0;"), ("&#xD800;", "&#xD800;"), ("&#1114112;", "&#1114112;"),
            ("&;", "&;"), ("&#;", "&#;"), ("&#x;", "&#x;"), ("&<!-- -->", "&"), ("&&amp;", "&&"),
            ("&lx;", "<x;"), ("&am &", "& &"), ("<b", "<b"), ("<<b>x</b>", "<<b>x</b>"), ("&#1F;", "&#1F;"),
        )
    ),
    Row("not closed", "<answer>abc", {"answer": "abc"}, REFUSED),
    Row("cut in a tag", "<answer>abc</ans", {"answer": "abc"}, REFUSED),
    Row("cut in a reference", "<answer>abc &a", {"answer": "abc "}, REFUSED),
    Row("closed by another", "<answer>a</reasoning><reasoning>b</reasoning>",
        {"answer": "a", "reasoning": "b"}, REFUSED),
    Row("closed too often", "</answer></k><answer>a</answer>", {"answer": "a"}, REFUSED),
]  # fmt: skip

RAW = ["12", "a &lt; b", "<item>a</item> <item k='>'>b<answer/></item>", "<!-- c --> <![CDATA[<]]>"]
AS_WRITTEN = [
    *(Row(raw, f"<answer>\n{raw} </answer>", {"answer": raw}) for raw in RAW),
    Row("empty", "<answer />", {"answer": ""}),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_xml_reply(row):
    """X1: the released text is the adapter's, however the reply is cut."""
    check(XML, row)


@pytest.mark.parametrize("row", MALFORMED, ids=lambda row: row.name)
def test_xml_reply_that_is_not_well_formed(row):
    """X1: what is released then, and what the caller corrects or never gets."""
    check(XML, row, well_formed=False)


@pytest.mark.parametrize("row", AS_WRITTEN, ids=lambda row: row.name)
def test_a_field_that_is_not_str_is_released_as_written(row):
    check_typed(XML, row)


def test_a_field_opens_and_closes_with_its_tags():
    """X2: as soon as each is certain."""
    parser = XMLParser(FIELDS)
    assert parser.feed("<answer") == ()
    assert parser.feed("> a") == [Opened("answer"), Text("answer", "a")]
    assert parser.feed(" &") == ()
    assert parser.feed("l") == (Text("answer", " <"),)
    assert parser.feed("t;&#x1F600") == (Text("answer", "😀"),)
    assert parser.feed("; ]]<") == (Text("answer", " ]]"),)
    assert parser.feed("/answer") == ()
    assert parser.feed(">") == [Closed("answer")]
    assert parser.finish() == ()
