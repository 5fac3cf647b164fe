"""Turns of a conversation: an instruction and the reply to it, on a branch.

The instruction is put on the branch when it is sent; the reply when it has ended, marked where it
was cancelled or failed. Turns of one branch follow one another in the order in which they were
requested; turns of several branches run side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from streamll.chat.calling import Calling, ChunkStream, InvokeStream
from streamll.chat.messages import (
    AssistantResponseContent,
    InstructionContent,
    Message,
    ToolRequestContent,
    new_id,
    prepare_messages_for_chat,
)
from streamll.chat.model import iModel
from streamll.chat.reply import ModelReply, ModelToolCall
from streamll.chat.session import Branch, BranchLike, Session
from streamll.core.errors import ConfigurationError, StreamCancelled

Parameters = Mapping[str, Any]


class Turn:
    """One turn: its instruction, the model, and the branch that its reply goes to."""

    def __init__(self, session: Session, branch: BranchLike, parameters: Parameters) -> None:
        given = dict(parameters)
        instruction = given.pop("instruction", None)
        if not isinstance(instruction, str) or not instruction:
            raise ConfigurationError('parameters needs an "instruction": a text')
        if "messages" in given:
            raise ConfigurationError(
                'parameters has no "messages": those of the branch are sent, and the instruction '
                "after them; session.add_message adds others"
            )
        self.session = session
        self.branch: Branch = session.branch(branch)
        self.model = model_of(session, given.pop("imodel", None))
        context = given.pop("context", None)
        self.instruction = Message(content=InstructionContent(instruction, context))
        self.options = given
        self.reply: Message | None = None

    def messages(self) -> list[dict[str, Any]]:
        """The conversation to send."""
        history = self.session.history(self.branch)
        return prepare_messages_for_chat(history, new_instruction=self.instruction)

    def ended(
        self, reply: ModelReply | InvokeStream, error: BaseException | None, *, complete: bool
    ) -> None:
        """Put the reply on the branch: with its tool calls, or marked as failed or cancelled."""
        failed = isinstance(error, Exception)
        content = AssistantResponseContent(
            reply.text,
            ending="complete" if complete else "failed" if failed else "cancelled",
            error=type(error).__name__ if failed else None,
            model=reply.model if complete else None,
        )
        self.reply = self.session.add_message(Message(content=content), branches=self.branch)
        for call in reply.tool_calls if complete else ():
            self.session.add_message(Message(content=tool_request(call)), branches=self.branch)

    @contextmanager
    def asking(self) -> Iterator[Calling]:
        """The call to run while this turn has the branch; its outcome is put on the branch."""
        try:
            calling = self.model.invoke(messages=self.messages(), **self.options).calling
            self.session.add_message(self.instruction, branches=self.branch)
            try:
                yield calling
            finally:
                outcome = calling.execution
                complete = outcome.response is not None
                self.ended(calling.reply, outcome.error, complete=complete)
        finally:
            self.branch.turns.give()


def tool_request(call: ModelToolCall) -> ToolRequestContent:
    """A model's tool call as a message; arguments that are not a JSON object are dropped."""
    try:
        arguments = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        arguments = {}
    return ToolRequestContent(
        function=call.name or "", request_id=call.id or new_id(), arguments=arguments
    )


def model_of(session: Session, model: Any) -> iModel:
    """``model`` itself, the session's model of that name, or its only one for ``None``."""
    if isinstance(model, iModel):
        return model
    if model is not None:
        return session.services[model]
    names = session.services.list_names()
    if len(names) != 1:
        raise ConfigurationError(
            'parameters needs an "imodel": '
            + (f"one of {', '.join(names)}" if names else "the session has no models yet")
        )
    return session.services[names[0]]


async def communicate(
    session: Session, branch: BranchLike, parameters: Parameters, **options: Any
) -> str:
    """Send ``parameters["instruction"]`` on ``branch`` and return the reply's text.

    ``parameters``: ``instruction``; ``imodel`` (a name or a model; default: the session's only
    one); ``context`` (a mapping, sent before the instruction); others are options of the model.

    Tool calls of the reply follow it on the branch as ``ToolRequestContent``. Add their results
    (``ToolResponseContent``), and the next turn sends both.

    Raises:
        ConfigurationError: no instruction, no model, or something that cannot be sent.
        UnknownNameError: no such model or branch.
        Exception: the model's errors; the branch then has the partial reply, marked as failed.
    """
    turn = Turn(session, branch, {**parameters, **options})
    await turn.branch.turns.take_async()
    with turn.asking() as calling:
        await calling.run()
    return calling.text


def communicate_sync(
    session: Session, branch: BranchLike, parameters: Parameters, **options: Any
) -> str:
    """``communicate`` (``session``, ``branch``, ``parameters``), waiting for it in this thread."""
    turn = Turn(session, branch, {**parameters, **options})
    turn.branch.turns.take()
    with turn.asking() as calling:
        calling.run_sync()
    return calling.text


def communicate_stream(
    session: Session, branch: BranchLike, parameters: Parameters, **options: Any
) -> TurnStream:
    """``communicate`` as a stream of text, for ``async for`` or ``for``.

    ``session``, ``branch`` and ``parameters`` are the same; errors are raised where it is read.
    Leaving it early stops the model; the branch keeps what was read, marked as cancelled.
    """
    return TurnStream(Turn(session, branch, {**parameters, **options}))


class TurnStream(ChunkStream):
    """The reply's text as it comes; afterwards it is on the branch. See ``InvokeStream``."""

    _holds_turn = False

    def __init__(self, turn: Turn) -> None:
        super().__init__(None)
        self.turn = turn
        self.stream: InvokeStream | None = None
        """The model's stream, once it has begun: usage, finish reason, times."""

    @property
    def text(self) -> str:
        """What has come of the reply so far."""
        return self.stream.text if self.stream is not None else ""

    def _read(self) -> Any:
        if self.stream is None:
            self.turn.branch.turns.take()
            self._begin()
        return super()._read()

    async def _aread(self) -> Any:
        if self.stream is None:
            await self.turn.branch.turns.take_async()
            self._begin()
        return await super()._aread()

    def _begin(self) -> None:
        self._holds_turn = True
        if self._over:  # closed by another thread or task, while this one was in line
            raise StreamCancelled("the stream was closed before the branch was free")
        turn = self.turn
        self._source = self.stream = turn.model.invoke_stream(
            messages=turn.messages(), **turn.options
        )
        turn.session.add_message(turn.instruction, branches=turn.branch)

    def _end(self, error: Exception | None) -> tuple[()]:
        self._end_turn(error, complete=error is None)
        if error is not None:
            raise error
        return ()

    def _release(self) -> None:
        self._end_turn(None)

    __del__ = _release  # dropping the model's stream stops it

    def _end_turn(self, error: Exception | None, *, complete: bool = False) -> None:
        """Put the reply on the branch and release the branch, once."""
        if not self._holds_turn:
            return
        self._holds_turn = False
        try:
            if self.stream is not None:  # else it could not be sent
                self.turn.ended(self.stream, error, complete=complete)
        finally:  # its branch may have been unregistered meanwhile, with others in line
            self.turn.branch.turns.give()
