"""Who answers in ``streamll chat``: a model, or a program that is given the conversation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from streamll.core.events import FieldCorrected, LMSuperseded, Question, TokenEvent, Totals
from streamll.core.jsonable import as_text
from streamll.terminal.text import amount, seconds

if TYPE_CHECKING:
    from streamll.chat.messages import Message
    from streamll.chat.model import iModel
    from streamll.chat.session import Branch, Session
    from streamll.chat.turns import TurnStream
    from streamll.serve.inputs.messages import Message as Said
    from streamll.serve.programs import Served


Ask = Callable[[Question, Any], None]
"""Has a question answered or declined, of a run whose events are read."""


class Turn(Protocol):
    """One answer: entered, read piece by piece, and on the branch when it is left."""

    def __enter__(self) -> Any: ...
    def __exit__(self, *exc_info: object) -> Any: ...
    def __iter__(self) -> Iterator[str]: ...


class Partner(Protocol):
    """Who answers."""

    @property
    def name(self) -> str: ...
    def turn(
        self, session: Session, branch: Branch, text: str, sink: Any, ask: Ask | None = None
    ) -> Turn:
        """``ask`` has a person answer what is asked meanwhile; ``None``: nobody can."""

    def summary(self, turn: Any) -> str: ...


class ModelPartner:
    """A model is given the messages as they are."""

    def __init__(self, model: iModel) -> None:
        self.model = model
        self.name = model.name

    def turn(
        self, session: Session, branch: Branch, text: str, sink: Any, ask: Ask | None = None
    ) -> TurnStream:
        from streamll.chat.turns import communicate_stream

        request = {"instruction": text, "imodel": self.model, "sinks": [sink]}
        return communicate_stream(session, branch, request)

    def summary(self, turn: TurnStream) -> str:
        """One line about a reply."""
        stream = turn.stream
        if stream is None:
            return ""
        tokens = getattr(stream.usage, "output_tokens", None)
        return _summary(stream.chunks, stream.time_to_first_token, stream.duration, tokens)


class ProgramPartner:
    """A program is given the conversation as its inputs take it, as a server gives it.

    Args:
        served: the program, and its ``from_messages``.
        given: its other inputs.
    """

    def __init__(self, served: Served, given: Mapping[str, Any]) -> None:
        self.served = served
        self.given = given
        self.name = served.name

    def turn(
        self, session: Session, branch: Branch, text: str, sink: Any, ask: Ask | None = None
    ) -> Turn:
        return ProgramTurn(self, session, branch, text, sink, ask)

    def summary(self, turn: ProgramTurn) -> str:
        """One line about a reply."""
        first = None if turn.first is None else turn.first - turn.began
        return _summary(turn.chunks, first, time.monotonic() - turn.began, turn.tokens)


def _summary(chunks: int, first: float | None, duration: float, tokens: int | None) -> str:
    parts = [amount(chunks, "chunk")]
    if first is not None:
        parts.append(f"first after {seconds(first)}")
    parts.append(seconds(duration))
    if tokens is not None:
        parts.append(amount(tokens, "token"))
    return " · ".join(parts)


@dataclass(eq=False)
class ProgramTurn:
    """One run of a program. What it replies is read as it comes, and is on the branch afterwards."""

    partner: ProgramPartner
    session: Session
    branch: Branch
    text: str
    sink: Any
    ask: Ask | None = None
    began: float = 0.0
    first: float | None = None
    chunks: int = 0
    tokens: int | None = None
    _reply: str = ""
    _complete: bool = False

    def __enter__(self) -> Any:
        import streamll
        from streamll.chat.messages import InstructionContent, Message

        served, asked = self.partner.served, Message(content=InstructionContent(self.text))
        messages = [*self.session.history(self.branch), asked]
        inputs = served.inputs_from(list(map(_said, messages)), self.partner.given)
        self.session.add_message(asked, branches=self.branch)
        self.began = time.monotonic()
        stream = streamll.stream(
            served.program, sinks=[self.sink], keep_text=False, questions=self.ask is not None
        )
        self._call = stream(**inputs)
        self._events = self._call.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        from streamll.chat.messages import AssistantResponseContent, Message

        kind: Any = exc_info[0]
        try:
            self._call.__exit__(*exc_info)
        finally:
            failed = kind is not None and issubclass(kind, Exception)
            content = AssistantResponseContent(
                self._reply,
                ending="complete" if self._complete else "failed" if failed else "cancelled",
                error=kind.__name__ if failed else None,
            )
            self.session.add_message(Message(content=content), branches=self.branch)

    def __iter__(self) -> Iterator[str]:
        """The reply's text; what replaces earlier text begins on a line of its own."""
        field = self.partner.served.reply
        call: tuple[Any, int] | None = None
        for event in self._events:
            if isinstance(event, TokenEvent) and _is_reply(field, event):
                if call not in (None, (event.call_id, event.attempt)):
                    yield from self._again("")
                call = event.call_id, event.attempt
                yield from self._said(event.token)
            elif isinstance(event, FieldCorrected) and _is_reply(field, event) and self._reply:
                yield from self._again(event.text)
            elif isinstance(event, LMSuperseded) and call == (event.call_id, event.attempt):
                yield from self._again("")
            elif isinstance(event, Question) and self.ask is not None:
                self.ask(event, self._events)
            elif isinstance(event, Totals):
                self.tokens = event.completion_tokens or None
        reply = _reply_in(self._events.result(), field)
        if not self._reply:
            yield from self._said(reply)
        self._reply, self._complete = reply or self._reply, True

    def _said(self, text: str) -> Iterator[str]:
        if text:
            self.first = self.first or time.monotonic()
            self.chunks += 1
            self._reply += text
            yield text

    def _again(self, text: str) -> Iterator[str]:
        """Begin anew: what was said does not count."""
        if self._reply:
            yield "\n"
        self._reply = ""
        yield from self._said(text)


def _is_reply(field: str | None, event: TokenEvent | FieldCorrected) -> bool:
    if event.candidate:
        return False
    names = (event.field, f"{event.predictor}.{event.field}")
    return event.field != "reasoning" if field is None else field in names


def _reply_in(result: Any, field: str | None) -> str:
    """The reply of what the program returned, as text."""
    name = (field or "").rpartition(".")[2]
    value = getattr(result, name, None) if name else None
    if value is None:
        value = result
    return value if isinstance(value, str) else as_text(value)


def _said(message: Message) -> Said:
    """A message of a session, as a server reads those of its clients."""
    from streamll.serve.inputs.messages import Message as Said
    from streamll.serve.inputs.messages import Text

    role: Any = message.role.value
    return Said(role, (Text(message.text),), "the conversation")
