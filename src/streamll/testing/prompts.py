"""What a DSPy prompt asks for: the adapter's format, the output fields and the inputs.

Reads nothing but the prompt's text, as a model does. Knows the prompts of the Chat, JSON, XML and
BAML adapters of DSPy 3.1 to 3.4; anything else is a plain question. ``model`` decides what to answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from xml.sax.saxutils import escape

import msgspec

Format = Literal["chat", "json", "xml", "text"]


class PromptMessage(NamedTuple):
    """One message of the conversation, its text parts joined."""

    role: str
    text: str


class PromptTool(NamedTuple):
    """A tool that the request offers; ``parameters`` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]


class PromptField(NamedTuple):
    """An output field as the prompt describes it; ``note`` is the description of its format."""

    name: str
    type: str
    note: str = ""


@dataclass(frozen=True)
class Prompt:
    """What one request asks for.

    ``inputs`` are the input fields of the last user message, ``fields`` the output fields it asks
    for, in ``format`` (``"chat"``, ``"json"`` or ``"xml"``); ``objective`` is the signature's text.
    """

    format: Format
    fields: tuple[PromptField, ...]
    inputs: Mapping[str, str]
    objective: str = ""


CLOSINGS: dict[str, Format] = {
    "Respond with a JSON object": "json",
    "wrapped in XML tags `<": "xml",
    "Respond with the corresponding output fields, starting with the field `[[ ##": "chat",
}
JSON_SCHEMA = "adhere to the JSON schema: "
OUTPUTS = "Your output fields are:"
STRUCTURE = "All interactions will be structured"
OBJECTIVE = "In adhering to this structure"
FIELD_LINE = re.compile(r"^\d+\. `([^`]+)` \((.*?)\):", re.MULTILINE)
HEADER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*\n?", re.MULTILINE)
ELEMENT = re.compile(r"^<(\w+)>\n(.*?)\n</\1>[ \t]*$", re.DOTALL | re.MULTILINE)


def read_prompt(messages: Sequence[PromptMessage]) -> Prompt:
    """The last user message with instructions counts; earlier ones may be demonstrations."""
    system = "\n".join(text for role, text in messages if role in {"system", "developer"})
    users = [text for role, text in messages if role == "user"]
    asked = next((text for text in reversed(users) if format_of(text)), None)
    if asked is None:
        return Prompt("text", (), {"question": users[-1].strip()} if users else {})
    structure = between(STRUCTURE, OBJECTIVE, system)
    return Prompt(
        format_of(asked) or "text",
        tuple(
            PromptField(name, kind, description(name, structure))
            for name, kind in FIELD_LINE.findall(between(OUTPUTS, STRUCTURE, system))
        ),
        read_inputs(asked),
        between(OBJECTIVE, r"\Z", system),
    )


def between(begin: str, end: str, text: str) -> str:
    """What follows the line that begins with ``begin``, up to the line that begins with ``end``."""
    found = re.search(rf"^{begin}[^\n]*\n(.*?)(?=^{end}|\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def format_of(text: str) -> Format | None:
    """The format that the closing instruction of a user message asks for, if it has one."""
    return next((CLOSINGS[closing] for closing in CLOSINGS if closing in text), None)


def read_inputs(text: str) -> dict[str, str]:
    """The input fields of a user message by name, including nested XML elements."""
    body = text[: text.rindex("Respond with ")]
    headers = list(HEADER.finditer(body))
    ends = [*(header.start() for header in headers[1:]), len(body)]
    inputs = {
        header[1]: body[header.end() : end].strip()
        for header, end in zip(headers, ends, strict=bool(headers))
    }
    return inputs or elements(body)


def elements(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, inner in ELEMENT.findall(text):
        found[name] = inner.strip()
        found |= elements(inner)
    return found


def description(name: str, structure: str) -> str:
    """How the system prompt describes the format of a field's value."""
    if quoted := re.search(rf'^  "{name}": (".*"),?$', structure, re.MULTILINE):
        return str(json.loads(quoted[1]))
    section = re.compile(
        rf"^\[\[ ## {name} ## \]\]\n(.*?)(?=^\[\[ ## )|^<{name}>(.*?)</{name}>$",
        re.DOTALL | re.MULTILINE,
    )
    found = section.search(structure)
    return (found[1] or found[2] or "").strip() if found else ""


def render(
    fields: Mapping[str, Any],
    format: Format,  # noqa: A002
    asked: Sequence[PromptField] = (),
) -> str:
    """Output fields as a model that follows the format, and what it was asked for, writes them.

    >>> print(render({"answer": "Paris", "sure": True}, "chat"))
    [[ ## answer ## ]]
    Paris
    <BLANKLINE>
    [[ ## sure ## ]]
    True
    <BLANKLINE>
    [[ ## completed ## ]]
    """
    if format == "json":
        return as_json(fields)
    parts: list[str] = []
    in_json = {field.name for field in asked if JSON_SCHEMA in field.note}
    for name, value in fields.items():
        if format == "xml":
            inner = escape(as_text(value)) if name in in_json else as_xml(value)
            parts.append(f"<{name}>\n{inner}\n</{name}>")
        else:
            header = f"[[ ## {name} ## ]]\n" if format == "chat" else ""
            parts.append(header + as_text(value))
    return "\n\n".join([*parts, "[[ ## completed ## ]]"] if format == "chat" else parts)


def as_json(value: Any) -> str:
    """JSON with a blank after colons and commas, as models write it."""
    return json.dumps(msgspec.to_builtins(value, enc_hook=to_plain), ensure_ascii=False)


def to_plain(value: Any) -> Any:
    """Pydantic models as mappings, for msgspec."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot write a {type(value).__name__} as an output field")


def as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if value is None or isinstance(value, bool) else as_json(value)


def as_xml(value: Any) -> str:
    """Nested elements as the XML adapter asks for them since DSPy 3.3: list items are ``<item>``."""
    value = msgspec.to_builtins(value, enc_hook=to_plain)
    if isinstance(value, Mapping):
        return "".join(f"<{name}>{as_xml(part)}</{name}>" for name, part in value.items())
    if isinstance(value, list):
        return "".join(f"<item>{as_xml(part)}</item>" for part in value)
    return escape(as_text(value))
