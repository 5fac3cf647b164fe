"""A conversation as the inputs of a program: nothing of what was said is dropped without a word.

The last user message is the text input. The turns before it are

1. ``dspy.History``, in the fields of the signature that has it: what was asked in its text input,
   what was answered in the output field that is the reply, and other output fields where the
   client kept them;
2. a list of messages, as OpenAI's chat completions have them;
3. for a program with neither, written in front of the last message, each under its role.

So is what the first two have no place for: the system's messages, unless an input ``system`` takes
them, and the results of tools that the page ran after the last user message. How the assistant
came to an earlier answer (its tool calls, its thinking) belongs to no turn but the one it was in.
Consecutive messages of one side are one turn. An earlier image that no input takes is named where
it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streamll.core.errors import InvalidInputs
from streamll.core.problems import Problem
from streamll.serve.inputs.annotations import dspy_type
from streamll.serve.inputs.checking import convert_given, convert_text, left_out, missing
from streamll.serve.inputs.media import media_of_attachment
from streamll.serve.inputs.messages import (
    Attachment,
    FieldValue,
    Message,
    ToolCall,
    ToolResult,
    as_openai,
    text_of_value,
)
from streamll.serve.inputs.taking import MediaInput, Takes, TurnShape

REMEDY = "Served(from_messages=…) can say how its messages become its inputs"
ROLES = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}


class Exchange(msgspec.Struct, frozen=True):
    """What was asked, and what was said to it."""

    asked: list[Message] = []
    said: list[Message] = []


def inputs_of_messages(
    takes: Takes, messages: Sequence[Message], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The inputs for a conversation, besides those that are ``given`` by name.

    Raises:
        InvalidInputs: the program cannot take the conversation, or inputs are missing, unknown or
            of another type. Each problem names its place.
    """
    return _Reading(takes, messages, given).inputs()


class _Reading:
    """One conversation, and the values that become of it."""

    def __init__(self, takes: Takes, messages: Sequence[Message], given: Mapping[str, Any]) -> None:
        self.takes = takes
        self.messages = messages
        self.values, self.problems = convert_given(takes.name, takes.inputs, given)
        self.given = frozenset(given)
        places = [n for n, message in enumerate(messages) if message.role == "user"]
        if not places:
            what = f"no user message, which {takes.name} would answer"
            raise InvalidInputs([*self.problems, Problem("messages", what)])
        self.last = messages[places[-1]]
        self.system = [each for each in messages if each.role == "system"]
        self.earlier, unanswered = _exchanges(messages[: places[-1]])
        self.asked = [*unanswered, self.last]
        self.again: list[Message] = []
        """What is asked before that, with attachments that later ones may replace."""
        self.replaced: list[Attachment] = []
        self.after = [each for each in messages[places[-1] + 1 :] if each.role != "system"]

    def inputs(self) -> dict[str, Any]:
        takes, history, listed = (
            self.takes,
            self._free(self.takes.history),
            self._free(self.takes.messages),
        )
        system = self._free(takes.system)
        if history is not None and takes.turn is not None:
            self._ask_again(takes.turn)
        before = [
            *self.system,
            *(each for turn in self.earlier for each in (*turn.asked, *turn.said)),
        ]
        self._take_attachments(keeps_earlier=history is not None or listed is not None)
        if history is not None and takes.turn is not None:
            self.values[history] = self._history()
            before = self.system
        elif listed is not None:
            self.values[listed] = self._listed(before if takes.takes_earlier else self.messages)
            if not takes.takes_earlier:
                return self._checked()
            before = []
        if system is not None:
            if self.system:
                self.values[system] = "\n\n".join(each.text for each in self.system)
            before = [each for each in before if each.role != "system"]
        self._ask(before)
        return self._checked()

    def _free(self, name: str | None) -> str | None:
        """The input, unless the request gives it by name."""
        return None if name in self.given else name

    def _checked(self) -> dict[str, Any]:
        found = {*self.values, *self.given}
        if self.problems or self.takes.rest(found):
            lacking = missing(self.takes.name, self.takes.inputs, dict.fromkeys(found))
            raise InvalidInputs([*self.problems, *lacking])
        return {**left_out(self.takes.inputs, self.values), **self.values}

    def _ask_again(self, shape: TurnShape) -> None:
        """What has got no reply, since that failed or was stopped, is asked with what comes next."""
        turns, self.earlier = self.earlier, []
        for turn in turns:
            self.again += turn.asked
            if any(_says_something(message, shape) for message in turn.said):
                self.earlier.append(Exchange(self.again, turn.said))
                self.again = []

    def _history(self) -> Any:
        history = dspy_type("History")
        assert history is not None  # the program is annotated with it
        return history(messages=[self._turn(each) for each in self.earlier])

    def _listed(self, messages: Sequence[Message]) -> Any:
        name = self.takes.messages
        assert name is not None
        dicts = [each for message in messages for each in as_openai(message)]
        values, problems = convert_given(self.takes.name, self.takes.inputs, {name: dicts})
        self.problems += problems
        return values.get(name)

    def _turn(self, exchange: Exchange) -> dict[str, Any]:
        shape = self.takes.turn
        assert shape is not None
        attachments = [part for message in exchange.asked for part in message.attachments]
        values, rest = self._fill(shape.media, attachments)
        turn: dict[str, Any] = {**values, shape.asks: _spoken(exchange.asked, rest)}
        for message in exchange.said:
            for part in message.parts:
                if isinstance(part, FieldValue) and part.field in shape.outputs:
                    turn[part.field] = part.value
        turn.setdefault(shape.answers, _spoken(exchange.said))
        return turn

    # --- the text -------------------------------------------------------------------------------

    def _ask(self, before: list[Message]) -> None:
        """What is asked, into the input that takes it; ``before`` has found no other place."""
        takes, place = self.takes, self.last.place or "messages"
        text = next((name for name in takes.texts if name not in self.given), None)
        if not self.last.text.strip() and (text is not None or not self.last.attachments):
            what = f"the last user message has no text, which {takes.name} would answer"
            self.problems.append(Problem(place, what))
            return
        asked = _spoken([*self.again, *self.asked], self.replaced)
        around = bool(before or self.after)
        if text is not None:
            told = _transcript([*before, *self.again, *self.asked], self.after, taken=self.asked)
            self.values[text] = told if around else asked
            return
        if not asked and not around:
            return
        rest = takes.rest({*self.values, *self.given})
        if around and (rest or asked):
            what = f"{takes.name} has no text input for the messages before the last ({takes}); {REMEDY}"
            self.problems.append(Problem("messages", what))
        elif not rest:
            what = f"{takes.name} has no input that could take the message ({takes}); {REMEDY}"
            self.problems.append(Problem(place, what))
        else:
            try:
                self.values[rest[0]] = convert_text(takes.input(rest[0]), asked, place)
            except InvalidInputs as error:
                self.values[rest[0]] = None  # it is not missing
                self.problems += error.problems

    # --- attachments ----------------------------------------------------------------------------

    def _take_attachments(self, *, keeps_earlier: bool) -> None:
        """Put attachments into the inputs that take them.

        An earlier one is taken where the last messages have none of its kind: if the input needs
        one, or the earlier turns are kept nowhere else.
        """
        slots = [each for each in self.takes.media if each.name not in self.given]
        asked = [part for message in self.asked for part in message.attachments]
        earlier = [
            part for turn in self.earlier for message in turn.asked for part in message.attachments
        ]
        again = [part for message in self.again for part in message.attachments]
        kinds = {each.kind for each in slots} | {each.kind for each in self.takes.media}
        in_list = self.takes.history is None and self._free(self.takes.messages) is not None
        for part in [*earlier, *again]:
            if part.kind not in kinds and "file" not in kinds and not in_list:
                self.problems.append(self._untaken(part))
        values, rest = self._fill(slots, asked)
        if not in_list:
            self.problems += [self._untaken(part) for part in rest]
        free = [each for each in slots if each.many or each.name not in values]
        others, unused = self._fill(free, again[::-1])
        self.replaced = unused
        for name, value in others.items():
            values[name] = (
                [*value[::-1], *values.get(name, [])] if isinstance(value, list) else value
            )
        for slot in slots:
            fitting = [part for part in earlier if _fits(slot, part)]
            if slot.many and not keeps_earlier and fitting:
                before, _ = self._fill([slot], fitting)
                values[slot.name] = [*before[slot.name], *values.get(slot.name, [])]
            elif slot.name not in values and fitting and (slot.required or not keeps_earlier):
                values.update(self._fill([slot], fitting[-1:])[0])
        self.values.update(values)

    def _fill(
        self, slots: Sequence[MediaInput], attachments: Sequence[Attachment]
    ) -> tuple[dict[str, Any], list[Attachment]]:
        """Attachments as the values of inputs, and those that no input takes."""
        values: dict[str, Any] = {}
        rest = []
        for part in attachments:
            fitting = [s for s in slots if _fits(s, part) and (s.many or s.name not in values)]
            slot = next((s for s in fitting if s.kind == part.kind), next(iter(fitting), None))
            if slot is None:
                rest.append(part)
                continue
            try:
                value = media_of_attachment(slot.kind, part, slot.cls)
            except ValueError as error:
                self.problems.append(Problem(part.place, str(error)))
                value = None
            if slot.many:
                values.setdefault(slot.name, []).append(value)
            else:
                values[slot.name] = value
        return values, rest

    def _untaken(self, part: Attachment) -> Problem:
        what = f"{self.takes.name} has no input for this {part.kind} ({self.takes})"
        return Problem(part.place, f"{what}; {REMEDY}")


def _says_something(message: Message, shape: TurnShape) -> bool:
    """Whether it is more than tool calls, their results and fields that are not in a turn."""
    return bool(message.text.strip() or message.attachments) or any(
        isinstance(part, FieldValue) and part.field in shape.outputs for part in message.parts
    )


def _fits(slot: MediaInput, part: Attachment) -> bool:
    return slot.kind in (part.kind, "file")


def _exchanges(messages: Sequence[Message]) -> tuple[list[Exchange], list[Message]]:
    """The turns of a conversation, and what was asked last and not answered."""
    turns: list[Exchange] = []
    asked: list[Message] = []
    for message in messages:
        if message.role == "user":
            asked.append(message)
        elif message.role != "system":
            if asked or not turns:
                turns.append(Exchange(asked, []))
                asked = []
            turns[-1].said.append(message)
    return turns, asked


def _spoken(messages: Sequence[Message], marked: Sequence[Attachment] | None = None) -> str:
    """What was said, and the names of attachments: all, or those ``marked``."""
    told = []
    for message in messages:
        marks = [
            f"[{part.kind}{f' {part.filename}' if part.filename else ''}]"
            for part in message.attachments
            if marked is None or part in marked
        ]
        told += [" ".join(marks), message.text]
    return "\n\n".join(each for each in told if each.strip())


def _transcript(
    before: Sequence[Message], after: Sequence[Message], taken: Sequence[Message]
) -> str:
    """Messages, each under its role; those ``after`` with tool calls and their results.

    Attachments of messages that are ``taken`` are inputs of their own.
    """
    told = []
    for message in before:
        if message.role != "tool":
            text = message.text if message in taken else _spoken([message])
            told.append((ROLES[message.role], text))
    names = {}
    for message in after:
        told.append((ROLES[message.role], _spoken([message])))
        for part in message.parts:
            if isinstance(part, ToolCall):
                names[part.id] = part.name
                told.append((f"{ROLES['assistant']} called {part.name}", part.arguments))
            elif isinstance(part, ToolResult):
                name = part.name or names.get(part.id, part.id)
                what = "failed" if part.failed else "returned"
                told.append((f"{ROLES['tool']} {name} {what}", text_of_value(part.value)))
    return "\n\n".join(f"{who}: {text}" for who, text in told if text.strip())
