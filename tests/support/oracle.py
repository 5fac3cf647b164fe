"""Which part of a partial reply is certain, determined by DSPy's own adapters.

For each format there is a pool of well-formed continuations of a prefix. ``certain`` lets the real
adapter parse the prefix with each of them; the longest common prefix of a field's values is what no
continuation can change, and therefore exactly what a parser must have released by then.

The pools are built from the formats alone, independently of the parsers. The signature's fields
have defaults, so that a reply may end before the second field begins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import dspy
import regex
from dspy.adapters import Adapter, ChatAdapter, JSONAdapter, XMLAdapter
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.utils.exceptions import AdapterParseError

from streamll.core.parsing.base import FieldParser
from streamll.core.parsing.chat import ChatParser
from streamll.core.parsing.json import JSONParser
from streamll.core.parsing.xml import XMLParser


class Reply(dspy.Signature):
    question: str = dspy.InputField()
    reasoning: str = dspy.OutputField(default=None)
    answer: str = dspy.OutputField(default=None)


FIELDS = {"reasoning": True, "answer": True}


class MyChatAdapter(ChatAdapter):
    """A subclass as users write it to change a prompt."""


class MyJSONAdapter(JSONAdapter):
    pass


class MyBAMLAdapter(BAMLAdapter):
    pass


class MyXMLAdapter(XMLAdapter):
    pass


@dataclass(frozen=True)
class Format:
    """A reply format: its parser and adapters, its well-formed replies, its continuations."""

    name: str
    parser: Callable[[Mapping[str, bool]], FieldParser]
    adapters: tuple[Adapter, ...]
    well_formed: Callable[[str], bool]
    endings: Callable[[str], Iterable[str]]

    def __repr__(self) -> str:
        return self.name


def final(adapter: Adapter, reply: str) -> dict[str, str] | None:
    """The values of the reply's fields; ``None`` where the adapter rejects it."""
    try:
        fields = adapter.parse(Reply, reply)
    except (AdapterParseError, ValueError, RecursionError):
        return None
    return {name: value for name, value in fields.items() if value is not None}


def certain(form: Format, prefix: str) -> dict[str, str]:
    """By field, the text that no well-formed continuation of ``prefix`` changes, if any."""
    replies = {prefix + ending for ending in form.endings(prefix)}
    values = [final(form.adapters[0], reply) for reply in replies if form.well_formed(reply)]
    assert values, f"no well-formed continuation of {prefix!r} in the pool"
    found = {}
    for name in FIELDS:
        if common := common_prefix([(value or {}).get(name, "") for value in values]):
            found[name] = common
    return found


def common_prefix(texts: list[str]) -> str:
    """The longest common prefix: that of the first and the last text in order."""
    first, last = min(texts), max(texts)
    same = next((at for at, sign in enumerate(first) if sign != last[at : at + 1]), len(first))
    return first[:same]


def tails(text: str) -> Iterator[str]:
    """Every suffix of ``text``, to complete any beginning of it."""
    return (text[at:] for at in range(len(text) + 1))


def after(prefix: str, sign: str, reach: int) -> bool:
    """Whether something that begins with ``sign`` may still be open at the end of ``prefix``."""
    return sign in prefix[-reach:]


# --- ChatAdapter ----------------------------------------------------------------------------------


def chat_endings(prefix: str) -> Iterator[str]:
    headers = ("\n[[ ## answer ## ]]\np", "\n[[ ## completed ## ]]\n", "\n[[ ## other ## ]] q")
    for header in headers:
        for tail in tails(header):
            yield from (tail, f"{tail}x", f"{tail}\n x")
    yield from ("x", "x" + headers[0], " x", "\nx", "\n", " ", "  \n\n", "\n[", "[x", "# x", "]")


CHAT = Format(
    "chat", ChatParser, (ChatAdapter(), MyChatAdapter()), lambda reply: True, chat_endings
)


# --- JSONAdapter, BAMLAdapter ---------------------------------------------------------------------

_COMMENTED_OUT = re.compile(r"(#|/)[^\r\n]*\Z|/\*")
_BALANCED = regex.compile(r"\{(?:[^{}]|(?R))*\}", regex.DOTALL)


class _Twice(ValueError):
    """A key occurs twice in one object."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) < len(pairs):
        raise _Twice
    return dict(pairs)


_STRICT = json.JSONDecoder(object_pairs_hook=_once)


def json_well_formed(reply: str) -> bool:
    """One valid JSON object, ``str`` fields as strings, and prose that cannot be mistaken."""
    start = reply.find("{")
    if start < 0:
        return False
    try:
        value, end = _STRICT.raw_decode(reply, start)
    except (ValueError, RecursionError):
        return False
    before, after = reply[:start], reply[end:]
    return (
        all(isinstance(value.get(name, ""), str) for name in FIELDS)
        and not set("{}").intersection(before + after)
        and not _COMMENTED_OUT.search(before)
        and not after.lstrip().startswith(",")
        and (
            not set("[(").intersection(before + after)
            or _BALANCED.fullmatch(reply[start:end]) is not None
        )
    )


def json_closing(prefix: str) -> str:
    """The brackets still open, to be closed."""
    open_brackets: list[str] = []
    strings = re.compile(r'"(?:[^"\\]|\\.)*("|\Z)|\\\Z', re.DOTALL)
    for sign in strings.sub("", prefix[prefix.find("{") :] if "{" in prefix else ""):
        if sign in "{[":
            open_brackets.append("}" if sign == "{" else "]")
        elif sign in "}]" and open_brackets:
            open_brackets.pop()
    return "".join(reversed(open_brackets))


_ESCAPES = ("\\n", "\\\\", "\\u0041", "\\u00e9", "\\ud83d\\ude00", "\\udbff\\udfff", "\\ud83d\\n")
_NAMES = ('{"reasoning": "p"', '{"answer": "p"', ', "answer": "q"', ', "reasoning": "q"')
_WORDS = ("null", "true", "[1, 2.5e33]", '{"k": "v"}')


def json_endings(prefix: str) -> Iterator[str]:
    rest = ['"', '"x', 'x"', ' x"', 'x": "p"', '": "p"', ': "p"', ': "q"', '"p"', "0"]
    rest += [tail for text in _NAMES + _WORDS for tail in tails(text)]
    if after(prefix, "\\", 12):
        begun = [tail for escape in _ESCAPES for tail in tails(escape)]
        rest += [escape + string for escape in begun for string in ('"', 'x"', '": "p"')]
    close = json_closing(prefix)
    for value in dict.fromkeys(rest):
        for end in (close, f"]{close}", f"{close}}}", "}", ""):
            yield from (value + end, f'{value}, "answer": "q"{end}')


JSON = Format(
    "json",
    JSONParser,
    (JSONAdapter(), BAMLAdapter(), MyJSONAdapter(), MyBAMLAdapter()),
    json_well_formed,
    json_endings,
)


# --- XMLAdapter -----------------------------------------------------------------------------------


def xml_well_formed(reply: str) -> bool:
    """Well-formed XML, each field one element without elements in it."""
    try:
        root = ET.fromstring(f"<root>{reply}</root>")
    except (ET.ParseError, ValueError):
        return False
    names = [element.get("key") if element.tag == "entry" else element.tag for element in root]
    fields = [element for element, name in zip(root, names, strict=True) if name in FIELDS]
    return all(names.count(name) <= 1 for name in FIELDS) and not any(map(list, fields))


_REFERENCES = ("&lt;", "&gt;", "&amp;", "&quot;", "&apos;", "&#32;", "&#x20;", "&#x1F600;")
_REFERENCES += ("&#x1680;", "&#5760;", "&#x2003;", "&#8199;", "&#12288;", "&#160;")
_NUMBER = re.compile(r"&#x?[0-9a-fA-F]*\Z")
_HIDDEN = ("<!-- c -->", "<?p c?>", "<![CDATA[c]]>", "<![CDATA[ ]]>")
_NO_TAGS = re.compile(r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>", re.DOTALL)
_TAG = re.compile(r"""<(/?)([\w:]+)(?:[^<>"'/]|"[^"]*"|'[^']*')*(/?)>""")
_BEGUN_TAG = re.compile(r"""<([\w:]+)(?:[^<>"']|"[^"<]*(?:"|\Z)|'[^'<]*(?:'|\Z))*\Z""")


def xml_closing(prefix: str) -> str:
    """The elements still open, to be closed."""
    names: list[str] = []
    for ends, name, empty in _TAG.findall(_NO_TAGS.sub("", prefix)):
        if ends:
            names.pop()
        elif not empty:
            names.append(name)
    return "".join(f"</{name}>" for name in reversed(names))


def xml_endings(prefix: str) -> Iterator[str]:
    begun = ["", "x", " ", "]"]
    if after(prefix, "&", 8):
        begun += [tail for reference in _REFERENCES for tail in tails(reference)]
    if _NUMBER.search(prefix):
        digits = ["", *"0123456789abcdef"]
        begun += [f"{digit}{more};" for digit in digits for more in ("", "0", "1000")]
    if "<" in prefix:
        begun += [tail for hidden in _HIDDEN for tail in tails(hidden)]
    close = xml_closing(prefix)
    for end in dict.fromkeys((close, *tails(close))):
        for start in dict.fromkeys(begun):
            yield from (start + end, f"{start}p{end}<answer>q</answer>", f"{start}q{end}")
    if tag := _BEGUN_TAG.search(prefix):
        for more in ("", *tails("answer"), *tails("reasoning"), *tails("entry")):
            yield from (f"{more}{rest}/>{close}" for rest in ("", "=''", "''"))
            for text in "pq":
                end = f">{text}</{tag[1]}{more}>{close}"
                yield from (f"{more}{quote}{end}" for quote in ("", '"', "'"))
        for rest in tails(' key="answer"'):
            yield f"{rest}>p</{tag[1]}>{close}"


XML = Format("xml", XMLParser, (XMLAdapter(), MyXMLAdapter()), xml_well_formed, xml_endings)

FORMATS = (CHAT, JSON, XML)
