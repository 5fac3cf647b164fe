"""What of a conversation each input of a program takes, and what a turn of its history looks like."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from streamll.serve.inputs.annotations import is_history, is_messages, is_text, media_of
from streamll.serve.inputs.declared import Input, inputs_of, of_signature
from streamll.serve.inputs.messages import MediaKind

SYSTEM = frozenset({"system", "system_prompt"})
"""Text inputs of these names take the system's messages."""


class MediaInput(msgspec.Struct, frozen=True):
    """An input for attachments of a kind, as ``cls``; ``many``: it is a list of them."""

    name: str
    kind: MediaKind
    cls: Any
    many: bool
    required: bool


class TurnShape(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of one earlier turn: those of the signature that has the history."""

    asks: str
    answers: str
    outputs: frozenset[str]
    media: tuple[MediaInput, ...]


class Takes(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of program ``name``, by what they take of a conversation.

    Attributes:
        history: takes the earlier turns as ``dspy.History``, each in the shape ``turn``.
        messages: takes messages as a list: all, or the earlier ones if ``takes_earlier``.
        system: takes the system's messages.
        texts: can take what is asked, those without a default first.
        media: take attachments.
    """

    name: str
    inputs: tuple[Input, ...]
    history: str | None = None
    turn: TurnShape | None = None
    messages: str | None = None
    takes_earlier: bool = False
    system: str | None = None
    texts: tuple[str, ...] = ()
    media: tuple[MediaInput, ...] = ()

    def input(self, name: str) -> Input:
        return next(each for each in self.inputs if each.name == name)

    def beside(self, given: Collection[str | None]) -> list[Input]:
        """The required inputs that no conversation fills, apart from those that are given."""
        told = {self.history, self.messages, *(each.name for each in self.media if each.many)}
        if self.messages is None or self.takes_earlier:
            asked = next((name for name in self.texts if name not in given), None)
            told.add(asked or next(iter(self.rest({*told, *given})), None))
        return [self.input(name) for name in self.rest({*told, *given})]

    def rest(self, taken: Collection[str | None]) -> list[str]:
        """The required inputs that nothing has been found for."""
        return [each.name for each in self.inputs if each.required and each.name not in taken]

    def __str__(self) -> str:
        return ", ".join(f"{each.name}: {each.type}" for each in self.inputs) or "none"


def takes(name: str, program: Any, reply: str | None) -> Takes:
    """What the inputs of ``program`` take; ``reply`` is the field that answers."""
    inputs = inputs_of(program)
    history = next((each.name for each in inputs if each.is_history), None)
    listed = next((i.name for i in inputs if is_messages(i.name, i.annotation)), None)
    media = media_inputs(inputs)
    others = {history, listed, *(each.name for each in media)}
    texts = [each for each in inputs if is_text(each.annotation) and each.name not in others]
    system = next((each.name for each in texts if each.name in SYSTEM), None)
    if len(texts) == 1:
        system = None  # it takes what is asked
    asking = sorted(
        (each for each in texts if each.name != system), key=lambda each: not each.required
    )
    names = tuple(each.name for each in asking)
    return Takes(
        name=name,
        inputs=inputs,
        history=history,
        turn=_turn_shape(program, names, reply, media) if history and names else None,
        messages=listed if history is None else None,
        takes_earlier=listed is not None and "history" in listed and bool(names),
        system=system,
        texts=names,
        media=media,
    )


def media_inputs(inputs: tuple[Input, ...]) -> tuple[MediaInput, ...]:
    found = []
    for each in inputs:
        kind, cls, many = media_of(each.annotation)
        if kind is not None:
            found.append(MediaInput(each.name, kind, cls, many, each.required))
    return tuple(found)


def _turn_shape(
    program: Any, asking: tuple[str, ...], reply: str | None, media: tuple[MediaInput, ...]
) -> TurnShape:
    """Of the program's own signature, else of the predictor that has the history and replies.

    Where neither is known, it has the program's own names, and ``answer``.
    """
    own: Any = getattr(program, "signature", None)
    inside: list[Any] = [each.signature for each in getattr(program, "predictors", list)()]
    with_history = [
        signature
        for signature in ([own] if hasattr(own, "input_fields") else inside)
        if any(is_history(field.annotation) for field in signature.input_fields.values())
    ]
    field = (reply or "").rpartition(".")[2]
    replying = [each for each in with_history if field in each.output_fields]
    if not with_history:
        answers = field or "answer"
        return TurnShape(asks=asking[0], answers=answers, outputs=frozenset({answers}), media=media)
    signature = (replying or with_history)[-1]
    inputs = of_signature(signature)
    texts = [each.name for each in inputs if is_text(each.annotation) and each.name not in SYSTEM]
    outputs = list(signature.output_fields)
    asks = next((name for name in asking if name in texts), (texts or asking)[0])
    return TurnShape(
        asks=asks,
        answers=field if field in outputs or not outputs else outputs[-1],
        outputs=frozenset(outputs),
        media=media_inputs(inputs),
    )
