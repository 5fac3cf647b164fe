"""Which answer a DSPy prompt asks for: the adapter's format, the output fields, the inputs.

Reads the prompt text only, as a model does; knows the Chat, JSON, XML and BAML adapters'
prompts and takes anything else for a plain question. Does not decide what to answer (``model``).
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


class Message(NamedTuple):
    """One message of the conversation, its text parts joined."""

    role: str
    text: str


class Tool(NamedTuple):
    """A tool the request offers; ``parameters`` is its JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


class Field(NamedTuple):
    """An output field as the prompt describes it; ``note`` is where its format is described."""

    name: str
    type: str
    note: str = ""


@dataclass(frozen=True)
class Prompt:
    """What one request asks for. ``inputs`` are the input fields of the last user message."""

    format: Format
    fields: tuple[Field, ...]
    inputs: Mapping[str, str]
    objective: str = ""


OUTPUTS = re.compile(
    r"^Your output fields are:\n(.*?)(?=^All interactions will be structured)",
    re.DOTALL | re.MULTILINE,
)
STRUCTURE = re.compile(
    r"^All interactions will be structured[^\n]*\n(.*?)(?=^In adhering to this structure)",
    re.DOTALL | re.MULTILINE,
)
OBJECTIVE = re.compile(
    r"^In adhering to this structure, your objective is: *\n(.*)", re.DOTALL | re.MULTILINE
)
LISTED = re.compile(r"^\d+\. `([^`]+)` \((.*?)\):", re.MULTILINE)
HEADER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*\n?", re.MULTILINE)
ELEMENT = re.compile(r"^<(\w+)>\n(.*?)\n</\1>[ \t]*$", re.DOTALL | re.MULTILINE)


def read_prompt(messages: Sequence[Message]) -> Prompt:
    """The prompt's last word counts: earlier turns may be demonstrations in the same format."""
    system = "\n".join(text for role, text in messages if role in {"system", "developer"})
    users = [text for role, text in messages if role == "user"]
    asked = next((text for text in reversed(users) if asked_format(text)), None)
    if asked is None:
        inputs = {"question": users[-1].strip()} if users else {}
        return Prompt("text", (), inputs)
    structure = first(STRUCTURE, system)
    return Prompt(
        asked_format(asked) or "text",
        tuple(
            Field(name, kind, description(name, structure))
            for name, kind in LISTED.findall(first(OUTPUTS, system))
        ),
        read_inputs(asked),
        first(OBJECTIVE, system),
    )


def first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def asked_format(text: str) -> Format | None:
    """The format that the closing instruction of a user message asks for."""
    if "Respond with a JSON object" in text:
        return "json"
    if "wrapped in XML tags `<" in text:
        return "xml"
    if "Respond with the corresponding output fields, starting with the field `[[ ##" in text:
        return "chat"
    return None


def read_inputs(text: str) -> dict[str, str]:
    """The input fields of a user message, by name; fields within fields as well."""
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
    """Where the system prompt shows how a field's value is written."""
    quoted = re.search(rf'^  "{name}": (".*"),?$', structure, re.MULTILINE)
    if quoted:
        return str(json.loads(quoted[1]))
    section = re.compile(
        rf"^\[\[ ## {name} ## \]\]\n(.*?)(?=^\[\[ ## )|^<{name}>(.*?)</{name}>$",
        re.DOTALL | re.MULTILINE,
    )
    found = section.search(structure)
    return (found[1] or found[2] or "").strip() if found else ""


def render(fields: Mapping[str, Any], format: Format) -> str:  # noqa: A002
    """Output fields as a model that follows the format writes them.

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
    if format == "xml":
        return "\n\n".join(
            f"<{name}>\n{as_xml(value)}\n</{name}>" for name, value in fields.items()
        )
    if format == "chat":
        sections = [f"[[ ## {name} ## ]]\n{as_text(value)}" for name, value in fields.items()]
        return "\n\n".join([*sections, "[[ ## completed ## ]]"])
    return "\n\n".join(as_text(value) for value in fields.values())


def as_json(value: Any) -> str:
    """With a blank after colons and commas, as models write it."""
    return json.dumps(msgspec.to_builtins(value, enc_hook=plain), ensure_ascii=False)


def plain(value: Any) -> Any:
    """Pydantic models and the like, for msgspec."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot write a {type(value).__name__} as an output field")


def as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if value is None or isinstance(value, bool) else as_json(value)


def as_xml(value: Any) -> str:
    """Nested elements as the XML adapter asks for them: list items are ``<item>``."""
    value = msgspec.to_builtins(value, enc_hook=plain)
    if isinstance(value, Mapping):
        return "".join(f"<{name}>{as_xml(part)}</{name}>" for name, part in value.items())
    if isinstance(value, list):
        return "".join(f"<item>{as_xml(part)}</item>" for part in value)
    return escape(as_text(value))
