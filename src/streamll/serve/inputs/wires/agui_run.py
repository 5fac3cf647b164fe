"""``RunAgentInput`` of AG-UI: what a client asks for, besides its messages (``agui.py``).

https://docs.ag-ui.com/spec/1.0/basic/run-input: unknown keys are ignored, a known one with a value
that the schema rejects is refused before the run starts. ``threadId`` and ``runId`` may be missing.

Inputs of a program with these names take the rest, unless ``forwardedProps.inputs`` has them:

* ``context``: the entries, as one text, as texts, or as ``dict`` (``description``, ``value``);
* ``tools``: the page's tools, as ``dspy.Tool`` or as ``dict`` (``name``, ``description``,
  ``parameters``): the program may have the model call them, and the page runs what was called;
* ``state`` and ``forwarded_props``: whatever JSON the client sends.

A program without an input ``context`` is told it by the system.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from streamll.core.errors import InvalidInputs
from streamll.core.problems import Problem
from streamll.serve.inputs.annotations import alternatives, dspy_type, is_a, is_text
from streamll.serve.inputs.declared import Input
from streamll.serve.inputs.messages import Message, Text
from streamll.serve.inputs.wires import agui

MAX_ID_CHARACTERS = 200
Identifier = Annotated[str, msgspec.Meta(max_length=MAX_ID_CHARACTERS)]


class Tool(msgspec.Struct, omit_defaults=True):
    """A tool that the page runs. ``parameters``: a JSON Schema."""

    name: str
    description: str
    parameters: Any = None


class Context(msgspec.Struct):
    """Something that the model should know."""

    description: str
    value: str


class ResumeEntry(msgspec.Struct, rename="camel"):
    """An answer to an interrupt."""

    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Any = None


class RunAgentInput(msgspec.Struct, rename="camel", kw_only=True):
    """What a client asks for. ``protocol_version`` is the one that it speaks."""

    thread_id: Identifier | None = None
    run_id: Identifier | None = None
    protocol_version: str | None = None
    parent_run_id: str | None = None
    messages: list[dict[str, Any]]
    state: Any = None
    tools: list[Tool] | None = None
    context: list[Context] | None = None
    forwarded_props: Any = None
    resume: list[ResumeEntry] | None = None

    @property
    def version(self) -> tuple[int, int] | None:
        """The version declared, ``(0, 0)`` if none is; ``None`` for one that means nothing here."""
        if self.protocol_version is None:
            return 0, 0
        found = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})", self.protocol_version)
        return (int(found[1]), int(found[2])) if found else None

    def said(self, inputs: Iterable[Input]) -> list[Message]:
        """The messages; before them the context, unless one of the ``inputs`` takes it."""
        messages = agui.messages_of({"messages": self.messages})
        if self.context and not any(each.name == "context" for each in inputs):
            told = Text(f"Context:\n{_as_text(self.context)}", "context")
            messages.insert(0, Message("system", (told,), "context"))
        return messages

    def given(self, inputs: Iterable[Input]) -> Any:
        """Values of the ``inputs`` by name; what is no object if the client sent such a thing."""
        props = self.forwarded_props
        given = props.get("inputs", {}) if isinstance(props, dict) else {}
        if not isinstance(given, dict):
            return given
        own: dict[str, Any] = {}
        for each in inputs:
            if each.name == "context":
                own["context"] = _context_for(each.annotation, self.context or [])
            elif each.name == "tools":
                own["tools"] = _tools_for(each.annotation, self.tools or [])
            elif each.name == "state" and self.state is not None:
                own["state"] = self.state
            elif each.name == "forwarded_props" and props is not None:
                own["forwarded_props"] = props
        return {**own, **given}


def read_run(body: dict[str, Any]) -> RunAgentInput:
    """A request's body; ``InvalidInputs`` where a known key has a value that it cannot have."""
    try:
        run = msgspec.convert(body, RunAgentInput)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        raise InvalidInputs([Problem(place.strip(".`"), what)]) from None
    wrong = [
        Problem(f"messages[{number}].id", "must be a text")
        for number, message in enumerate(run.messages)
        if not isinstance(message.get("id", ""), str)
    ]
    if wrong:
        raise InvalidInputs(wrong)
    return run


_PART = re.compile(r"messages\[([0-9]+)\]\.content\[([0-9]+)\]")
_ROLE = re.compile(r"messages\[([0-9]+)\]\.role")


def without_unusable(run: RunAgentInput, error: InvalidInputs) -> RunAgentInput:
    """The same without the parts that the program cannot take, and messages of roles that are new.

    The protocol wants a run not to fail because of these.

    Raises:
        InvalidInputs: the given one, if something else is wrong as well.
    """
    messages = list(run.messages)
    for problem in error.problems:
        if found := _PART.fullmatch(problem.place):
            at, part = int(found[1]), int(found[2])
            content = list(messages[at]["content"])
            content[part] = {"type": "text", "text": ""}
            messages[at] = {**messages[at], "content": content}
        elif found := _ROLE.fullmatch(problem.place):
            messages[int(found[1])] = {"role": "activity"}
        else:
            raise error
    return msgspec.structs.replace(run, messages=messages)


def _as_text(context: list[Context]) -> str:
    return "\n".join(f"{each.description}: {each.value}" for each in context)


def _context_for(annotation: Any, context: list[Context]) -> Any:
    if annotation is not Any and is_text(annotation):
        return _as_text(context)
    if any(is_text(item) for item in _items(annotation)):
        return [_as_text([each]) for each in context]
    return msgspec.to_builtins(context)


def _tools_for(annotation: Any, tools: list[Tool]) -> Any:
    kind = dspy_type("Tool")
    if not any(is_a(item, kind) for item in _items(annotation)):
        return msgspec.to_builtins(tools)
    return [_dspy_tool(kind, each) for each in tools]


def _dspy_tool(kind: Any, tool: Tool) -> Any:
    def run_by_the_page(**_: Any) -> None:
        raise RuntimeError(f"{tool.name} is a tool of the page, which runs it after this run")

    schema = tool.parameters if isinstance(tool.parameters, dict) else {}
    properties = schema.get("properties")
    args = properties if isinstance(properties, dict) else {}
    told = {"name": tool.name, "desc": tool.description}
    return kind(run_by_the_page, **told, args=args, arg_types=dict.fromkeys(args, Any))


def _items(annotation: Any) -> list[Any]:
    """What the lists that are values hold."""
    return [
        item
        for each in alternatives(annotation)
        if get_origin(each) is list
        for item in alternatives((get_args(each) or (Any,))[0])
        if item is not Any
    ]
