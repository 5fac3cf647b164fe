"""Messages: what they hold, and the dictionaries that providers take.

A message is plain data, ready for JSON, and never changes once it is made.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from enum import Enum
from operator import itemgetter
from typing import Any, Literal

import msgspec

from streamll.core.errors import ConfigurationError

Ending = Literal["complete", "cancelled", "failed"]


class SystemContent(msgspec.Struct, frozen=True, tag="system", tag_field="kind"):
    """How the model is to behave: ``system_message``."""

    system_message: str

    @property
    def text(self) -> str:
        """What the model sees."""
        return self.system_message


class InstructionContent(msgspec.Struct, frozen=True, tag="instruction", tag_field="kind"):
    """What the user says: ``instruction``.

    The model sees ``context`` in front of it, one ``name: value`` a line.
    """

    instruction: str
    context: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.context, (Mapping, type(None))):
            raise ConfigurationError(
                f"context is a mapping of names to values, not {type(self.context).__name__}"
            )

    @property
    def text(self) -> str:
        """What the model sees."""
        if not self.context:
            return self.instruction
        lines = (f"{name}: {_as_text(value)}" for name, value in self.context.items())
        return "\n".join(lines) + f"\n\n{self.instruction}"


class AssistantResponseContent(
    msgspec.Struct, frozen=True, tag="assistant_response", tag_field="kind"
):
    """What the model says: ``assistant_response``, by ``model``.

    ``ending`` marks a partial reply: cancelled by its reader, or failed with an ``error`` of
    that type.
    """

    assistant_response: str
    ending: Ending = "complete"
    error: str | None = None
    model: str | None = None

    @property
    def partial(self) -> bool:
        """Whether the reply did not come to its end."""
        return self.ending != "complete"

    @property
    def text(self) -> str:
        """What the model said."""
        return self.assistant_response


class ToolRequestContent(msgspec.Struct, frozen=True, tag="tool_request", tag_field="kind"):
    """The model wants a tool called: ``function`` with ``arguments``.

    ``request_id`` is the provider's; the response repeats it.
    """

    function: str
    request_id: str
    arguments: Mapping[str, Any] = msgspec.field(default_factory=dict)

    @property
    def text(self) -> str:
        """The call, as a person reads it."""
        return f"{self.function}({_as_text(dict(self.arguments))})"


class ToolResponseContent(msgspec.Struct, frozen=True, tag="tool_response", tag_field="kind"):
    """What the tool call ``request_id`` gave: a ``result``, or the ``error`` it failed with."""

    request_id: str
    result: Any = None
    error: str | None = None

    @property
    def text(self) -> str:
        """What the model sees."""
        return f"Error: {self.error}" if self.error is not None else _as_text(self.result)


Content = (
    SystemContent
    | InstructionContent
    | AssistantResponseContent
    | ToolRequestContent
    | ToolResponseContent
)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"a message holds what JSON can: {error}") from error


class Role(str, Enum):
    """Who speaks, in the providers' words: ``SYSTEM``, ``USER``, ``ASSISTANT``, ``TOOL``."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


ROLES: Mapping[type, Role] = {
    SystemContent: Role.SYSTEM,
    InstructionContent: Role.USER,
    AssistantResponseContent: Role.ASSISTANT,
    ToolRequestContent: Role.ASSISTANT,
    ToolResponseContent: Role.TOOL,
}


def new_id() -> str:
    return uuid.uuid4().hex


class Message(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One message. Two messages are equal if their ``id`` is, whatever branch they are on.

    Attributes:
        content: what it holds, one of the five contents.
        id: a unique text; by default a new one.
        created_at: seconds since the epoch; by default now.
        metadata: anything of yours that JSON can hold.

    Raises:
        TypeError: ``content`` is something else.
    """

    content: Content
    id: str = msgspec.field(default_factory=new_id)
    created_at: float = msgspec.field(default_factory=time.time)
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.content) not in ROLES:
            names = ", ".join(kind.__name__ for kind in ROLES)
            raise TypeError(f"a message holds one of {names}, not {type(self.content).__name__}")

    @property
    def role(self) -> Role:
        """Who speaks, by the kind of content."""
        return ROLES[type(self.content)]

    @property
    def text(self) -> str:
        """The text of the content."""
        return self.content.text

    def to_chat(self) -> dict[str, Any]:
        """The message as OpenAI's chat completions spell it."""
        content = self.content
        if isinstance(content, ToolRequestContent):
            return {"role": "assistant", "content": None, "tool_calls": [_tool_call(content)]}
        if isinstance(content, ToolResponseContent):
            return {"role": "tool", "tool_call_id": content.request_id, "content": content.text}
        return {"role": self.role.value, "content": content.text}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


def _tool_call(content: ToolRequestContent) -> dict[str, Any]:
    arguments = msgspec.json.encode(dict(content.arguments)).decode()
    return {
        "id": content.request_id,
        "type": "function",
        "function": {"name": content.function, "arguments": arguments},
    }


def prepare_messages_for_chat(
    messages: Iterable[Message] | Mapping[str, Message],
    progression: Iterable[str] | None = None,
    new_instruction: Message | InstructionContent | str | None = None,
) -> list[dict[str, Any]]:
    """Dictionaries with ``role`` and ``content``, in an order that providers accept.

    The last system message comes first; tool calls join the assistant message before them, and their
    responses follow at once, also those that were added later. Left out is what providers refuse:
    empty messages (a reply that failed before its first token), tool calls without a response and
    responses without a call.

    Args:
        messages: ``session.messages``, or any messages.
        progression: a branch, or ids: which of them, in this order. By default all, as they are.
        new_instruction: added at the end: a message, an instruction, or its text.

    Raises:
        TypeError: something that is no message, or a branch's name as ``progression``.
    """
    chosen = list(messages.values() if isinstance(messages, Mapping) else messages)
    for message in chosen:
        if not isinstance(message, Message):
            raise TypeError(f"messages are Message objects, not {type(message).__name__}")
    if isinstance(progression, str):
        raise TypeError("progression is a branch or ids, not a branch's name")
    if progression is not None:
        by_id = {message.id: message for message in chosen}
        chosen = [by_id[id_] for id_ in progression if id_ in by_id]
    if new_instruction is not None:
        if isinstance(new_instruction, str):
            new_instruction = InstructionContent(instruction=new_instruction)
        if not isinstance(new_instruction, Message):
            new_instruction = Message(content=new_instruction)
        chosen.append(new_instruction)
    return _as_chat(chosen)


_Placed = tuple[int, Message]


def _as_chat(messages: list[Message]) -> list[dict[str, Any]]:
    responses = _responses(messages)
    answers: dict[str, _Placed] = {}  # to the calls that were just made: nothing may come before
    system: list[dict[str, Any]] = []
    chat: list[dict[str, Any]] = []

    def add_answers() -> None:
        chat.extend(message.to_chat() for _, message in sorted(answers.values(), key=itemgetter(0)))
        answers.clear()

    for place, message in enumerate(messages):
        content = message.content
        if isinstance(content, ToolRequestContent):
            found = _behind(place, responses[content.request_id])
            if not found or content.request_id in answers:
                continue
            answers[content.request_id] = found.popleft()
            if chat and chat[-1]["role"] == "assistant":
                chat[-1].setdefault("tool_calls", []).append(_tool_call(content))
            else:
                chat.append(message.to_chat())
        elif isinstance(content, ToolResponseContent):
            add_answers()
        elif isinstance(content, SystemContent):
            system = [message.to_chat()] if content.text else system
        elif content.text:
            add_answers()
            chat.append(message.to_chat())
    add_answers()
    return system + chat


def _responses(messages: list[Message]) -> dict[str, deque[_Placed]]:
    """The tools' responses by the id of their request, each with its place."""
    found: dict[str, deque[_Placed]] = defaultdict(deque)
    for place, message in enumerate(messages):
        if isinstance(message.content, ToolResponseContent):
            found[message.content.request_id].append((place, message))
    return found


def _behind(place: int, placed: deque[_Placed]) -> deque[_Placed]:
    """Without what stands before ``place``."""
    while placed and placed[0][0] < place:
        placed.popleft()
    return placed
