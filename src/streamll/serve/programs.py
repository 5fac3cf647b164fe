"""What a server knows of a program: its name, its inputs, its reply. Does not import dspy."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

import streamll
from streamll.configuration import checked_guards
from streamll.core.errors import ConfigurationError, UnknownFieldError
from streamll.guards import Guard
from streamll.serve.inputs.checking import convert
from streamll.serve.inputs.conversation import inputs_of_messages
from streamll.serve.inputs.messages import Message, as_openai
from streamll.serve.inputs.taking import Takes, takes


class Served(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A program and how it is served.

    Attributes:
        name: what requests call it; in a mapping that is its key.
        program: a ``dspy.Module`` or a function.
        fields: the output fields to stream; all by default.
        reply: the field that the chat formats give as text; by default the last one of the last
            predictor.
        from_messages: makes the inputs of a chat's messages, which it is given as OpenAI's chat
            completions have them, whatever their wire: ``{"role", "content"}``, with ``content`` a
            text and, if there are attachments, ``parts`` a list. A ``ValueError`` that it raises
            is answered with 400 and its text. By default the inputs take what they can: the last
            user message is the text input, earlier turns are the ``dspy.History``, see
            ``docs/conversations.md``.
    """

    name: str
    program: Callable[..., Any]
    fields: str | tuple[str, ...] = "*"
    reply: str | None = None
    from_messages: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None = None

    @functools.cached_property
    def takes(self) -> Takes:
        """The inputs that the program declares, and what they take of a conversation."""
        return takes(self.name, self.program, self.reply or reply_of(self.program))

    def convert(self, inputs: Mapping[str, Any], place: str = "inputs") -> dict[str, Any]:
        """Inputs of a request, checked and converted by the annotations of the program.

        Args:
            inputs: the values by name, as JSON has them.
            place: what errors call the whole of them.

        Raises:
            InvalidInputs: some are unknown, missing or of another type; it names all of them.
        """
        return convert(self.name, self.takes.inputs, inputs, place)

    def inputs_from(
        self, messages: Sequence[Message], given: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Inputs for a conversation, besides those that are ``given`` by name.

        Raises:
            InvalidInputs: the program cannot take it; it names all that is wrong.
            ValueError: what ``from_messages`` raises.
            TypeError: it returned something else than a mapping of inputs.
        """
        if self.from_messages is None:
            return inputs_of_messages(self.takes, messages, given or {})
        made: Any = self.from_messages(
            [each for message in messages for each in _as_dicts(message)]
        )
        if not isinstance(made, Mapping):
            what = f"from_messages of {self.name} returned {type(made).__name__}, not its inputs"
            raise TypeError(what)
        return self.convert({**(given or {}), **made})


def _as_dicts(message: Message) -> list[dict[str, Any]]:
    """Messages for ``from_messages``, whose ``content`` is always a text."""
    made = as_openai(message)
    for each in made:
        if isinstance(each["content"], list):
            each.update(content=message.text, parts=each["content"])
    return made


def served(programs: Any) -> dict[str, Served]:
    """Programs by name, from one program, a mapping of several, or ``Served`` ones.

    Raises:
        ConfigurationError: it is something else, or an empty mapping.
        UnknownFieldError: a ``reply`` that no predictor of its program has.
    """
    if programs is None:
        return {}  # a server that only shows what others run
    if isinstance(programs, Served):
        programs = {programs.name: programs}
    elif not isinstance(programs, Mapping):
        programs = {getattr(programs, "__name__", type(programs).__name__): programs}
    made = {}
    for name, program in programs.items():
        each = program if isinstance(program, Served) else Served(name=name, program=program)
        if isinstance(each.program, type):
            what = each.program.__name__
            raise ConfigurationError(f"{what} is a class: serve an instance of it, {what}()")
        if not callable(each.program):
            raise ConfigurationError(f"{name!r} is {type(each.program).__name__}, not a program")
        if each.reply is not None:
            check_field(each.program, each.reply)
        reply = each.reply or reply_of(each.program)
        made[name] = msgspec.structs.replace(each, name=name, reply=reply)
    if not made:
        raise ConfigurationError("create_app needs a program to serve")
    return made


def checked(guards: Iterable[Guard], programs: Mapping[str, Served]) -> tuple[Guard, ...]:
    """``guards``, whose fields one or other of the programs has.

    Raises:
        ConfigurationError: something is no guard.
        UnknownFieldError: none of the programs has a field that a guard names.
    """
    taken = checked_guards(guards)
    for guard in taken if programs else ():
        for field in sorted(guard.fields or ()):
            if not any(has_field(each.program, field) for each in programs.values()):
                raise UnknownFieldError(
                    f"no program here has an output field {field!r}, which the guard {guard.name!r} names"
                )
    return taken


def guards_for(program: Any, guards: Iterable[Guard]) -> tuple[Guard, ...]:
    """``guards`` as far as they are about what ``program`` has: each field, or all of them."""
    found = []
    for guard in guards:
        fields = guard.fields and frozenset(f for f in guard.fields if has_field(program, f))
        if fields == guard.fields:
            found.append(guard)
        elif fields:
            found.append(dataclasses.replace(guard, fields=fields))
    return tuple(found)


def check_field(program: Any, name: str) -> None:
    """Raise ``UnknownFieldError`` for a field that no predictor has, unless they are made later."""
    streamll.stream(program, fields=[name])  # which starts nothing yet


def has_field(program: Any, name: str) -> bool:
    try:
        check_field(program, name)
    except UnknownFieldError:
        return False
    return True


def reply_of(program: Any) -> str | None:
    """The field that holds a program's answer: the last one of its last predictor."""
    predictors = list(getattr(program, "named_predictors", list)())
    if not predictors:
        return None
    name, predictor = predictors[-1]
    fields = list(predictor.signature.output_fields)
    if not fields:
        return None
    unique = sum(fields[-1] in each.signature.output_fields for _, each in predictors) == 1
    return fields[-1] if unique else f"{name}.{fields[-1]}"
