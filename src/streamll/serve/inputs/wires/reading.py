"""What the readers of the wires share: checked access to JSON of unknown shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from streamll.core.errors import InvalidInputs
from streamll.core.problems import Problem
from streamll.serve.inputs.messages import Message, Part, Role, Text

SAID_SHOWN = 60
"""Characters of a client's own words in an error."""

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


def unreadable(place: str, message: str) -> InvalidInputs:
    """The error for one place of a request that is not what its wire says."""
    return InvalidInputs([Problem(place, message)])


def read_messages(
    messages: Any, read: Callable[[dict[str, Any], str], Message | None]
) -> list[Message]:
    """Each message by ``read(message, place)``, which returns ``None`` for what nobody said.

    Raises:
        InvalidInputs: ``messages`` is no list of objects with a ``role``, or ``read`` found
            something that cannot be read; all of these at once.
    """
    if not isinstance(messages, list):
        raise unreadable("messages", "must be a list")
    found, problems = [], []
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            problems.append(Problem(place, "a message is an object with a role"))
            continue
        try:
            made = read(message, place)
        except InvalidInputs as error:
            problems += error.problems
        else:
            found += [] if made is None else [made]
    if problems:
        raise InvalidInputs(problems)
    return found


def content_parts(
    content: Any, place: str, read: Callable[[dict[str, Any], str], Part | None]
) -> Iterator[Part]:
    """The parts of a content: a text, a list of objects with a ``type``, or ``null``."""
    if isinstance(content, str):
        yield Text(content, place)
    elif isinstance(content, list):
        for number, part in enumerate(content):
            inside = f"{place}[{number}]"
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise unreadable(inside, "a part is an object with a type")
            if part["type"] == "text":
                yield Text(text_in(part, "text", inside), inside)
            elif (made := read(part, inside)) is not None:
                yield made
    elif content is not None:
        raise unreadable(place, "must be a text or a list of parts")


def text_in(value: dict[str, Any], key: str, place: str) -> str:
    """The text under this key."""
    found = optional_text(value, key, place)
    if found is None:
        raise unreadable(f"{place}.{key}", "must be a text")
    return found


def optional_text(value: dict[str, Any], key: str, place: str) -> str | None:
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise unreadable(f"{place}.{key}", "must be a text")
    return found


def object_in(value: dict[str, Any], key: str, place: str) -> dict[str, Any]:
    """The object under this key."""
    found = value.get(key)
    if not isinstance(found, dict):
        raise unreadable(f"{place}.{key}", "must be an object")
    return found


def unknown(part: dict[str, Any], place: str) -> InvalidInputs:
    """The error for a part that no program could be given."""
    return unreadable(
        place, f"a part of the type {part['type'][:SAID_SHOWN]!r} cannot be read here"
    )


def unknown_role(message: dict[str, Any], place: str) -> InvalidInputs:
    return unreadable(f"{place}.role", f"there is no role {message['role'][:SAID_SHOWN]!r}")
