"""``communicate``: one turn of a conversation, the instruction and the reply, on a branch.

The instruction is on the branch as soon as its turn has come; the reply when it is over,
marked where it was stopped or broke off. A branch has one turn at a time: turns that are asked
for at once follow one another, on other branches they run side by side.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from streamll.chat.branch import Branch
from streamll.chat.invoke_stream import Chunk, InvokeStream
from streamll.chat.messages import (
    AssistantResponseContent,
    InstructionContent,
    Message,
    ToolRequestContent,
    new_id,
    prepare_messages_for_chat,
)
from streamll.chat.model import iModel
from streamll.chat.pending import Asked, invoked, invoked_sync
from streamll.chat.reply import Reply, ToolCall
from streamll.chat.session import BranchLike, Session
from streamll.core.errors import ConfigurationError
from streamll.flow.closing import Closing

Parameters = Mapping[str, Any]
ONE = 1


class Turn:
    """One turn: its instruction, and where its reply goes."""

    def __init__(self, session: Session, branch: BranchLike, parameters: Parameters) -> None:
        given = dict(parameters)
        instruction = given.pop("instruction", None)
        if not isinstance(instruction, str) or not instruction:
            raise ConfigurationError('parameters needs an "instruction": a text')
        self.session = session
        self.branch: Branch = session.branch(branch)
        self.model = model_of(session, given.pop("imodel", None))
        context = given.pop("context", None)
        self.instruction = Message(
            content=InstructionContent(instruction=instruction, context=context)
        )
        self.options = given
        self.reply: Message | None = None

    def messages(self) -> list[dict[str, Any]]:
        """What to send."""
        history = self.session.history(self.branch)
        return prepare_messages_for_chat(history, new_instruction=self.instruction)

    def begun(self) -> None:
        """It can be sent: put the instruction on the branch."""
        self.session.add_message(self.instruction, branches=self.branch)

    def completed(self, reply: Reply | InvokeStream) -> None:
        """Put the reply on the branch, and the tool calls that the model asks for behind it."""
        self._replied(AssistantResponseContent(reply.text, model=reply.model))
        for call in reply.tool_calls:
            self.session.add_message(Message(content=tool_request(call)), branches=self.branch)

    def broke_off(self, text: str, error: BaseException | None) -> None:
        """Put what there is of the reply on the branch, marked: it failed, or was stopped."""
        failed = isinstance(error, Exception)
        self._replied(
            AssistantResponseContent(
                text,
                ending="failed" if failed else "cancelled",
                error=type(error).__name__ if failed else None,
            )
        )

    def _replied(self, content: AssistantResponseContent) -> None:
        self.reply = self.session.add_message(Message(content=content), branches=self.branch)

    @contextmanager
    def asking(self) -> Iterator[Asked]:
        """Have the branch, which is held, for as long as the model is asked.

        Puts the instruction on it, and what became of it; where the block is left before there
        is an outcome (Ctrl-C, a cancelled task), what had come.
        """
        try:
            asked = self.model.events(messages=self.messages(), **self.options)
            self.begun()
            try:
                yield asked
            except BaseException:
                self.broke_off(asked.reply.text, None)
                raise
            execution = asked.calling.execution
            if execution.response is not None:
                self.completed(execution.response)
            else:
                self.broke_off(execution.partial, execution.error)
        finally:
            self.branch.turns.give()


def tool_request(call: ToolCall) -> ToolRequestContent:
    """A model's tool call as a message; arguments that are no JSON object are left out."""
    try:
        arguments = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        arguments = {}
    return ToolRequestContent(
        function=call.name or "", request_id=call.id or new_id(), arguments=arguments
    )


def model_of(session: Session, model: Any) -> iModel:
    """A model by its name in the session, or itself; the only one where none is named."""
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
    """Say ``parameters["instruction"]`` on ``branch``, and return the reply's text.

    ``parameters``: ``instruction``; ``imodel`` (a name or a model; default: the session's only
    one); ``context`` (a mapping, shown before the instruction); others go to the model.

    Tool calls of the reply follow it on the branch as ``ToolRequestContent``. Add the answers
    (``ToolResponseContent``) and the next turn sends both.

    Raises:
        ConfigurationError: no instruction, no model, or what cannot be sent.
        UnknownNameError: no such model or branch.
        Exception: the model's errors, once the branch has the partial reply, marked as failed.
    """
    turn = Turn(session, branch, {**parameters, **options})
    await turn.branch.turns.take_async(ONE)
    with turn.asking() as asked:
        calling = await invoked(asked)
    return calling.text


def communicate_sync(
    session: Session, branch: BranchLike, parameters: Parameters, **options: Any
) -> str:
    """The same, waiting for it in this thread."""
    turn = Turn(session, branch, {**parameters, **options})
    turn.branch.turns.take(ONE)
    with turn.asking() as asked:
        calling = invoked_sync(asked)
    return calling.text


def communicate_stream(
    session: Session, branch: BranchLike, parameters: Parameters, **options: Any
) -> TurnStream:
    """The same as a stream of text, for ``async for`` or ``for``.

    Leaving it early stops the model; the branch keeps what had been read, marked as cancelled.
    """
    return TurnStream(Turn(session, branch, {**parameters, **options}))


class TurnStream(Closing):
    """The reply's text as it comes; afterwards it is on the branch. See ``InvokeStream``."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.stream: InvokeStream | None = None
        """The model's stream, once it has begun: usage, finish reason, times."""
        self._holds_turn = False
        self._ended = False

    @property
    def text(self) -> str:
        return self.stream.text if self.stream is not None else ""

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        if self._ended:
            raise StopAsyncIteration
        try:
            if self.stream is None:
                await self.turn.branch.turns.take_async(ONE)
                self._begin()
            assert self.stream is not None
            return await self.stream.__anext__()
        except BaseException as error:
            self._end(error)
            raise

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        if self._ended:
            raise StopIteration
        try:
            if self.stream is None:
                self.turn.branch.turns.take(ONE)
                self._begin()
            assert self.stream is not None
            return next(self.stream)
        except BaseException as error:
            self._end(error)
            raise

    async def aclose(self) -> None:
        """Stop, if it has not ended."""
        try:
            if self.stream is not None:
                await self.stream.aclose()
        finally:
            self._end(None)

    def close(self) -> None:
        """Stop, if it has not ended."""
        try:
            if self.stream is not None:
                self.stream.close()
        finally:
            self._end(None)

    def __del__(self) -> None:
        if getattr(self, "_holds_turn", False):
            self._end(None)  # dropping the model's stream stops it

    def _begin(self) -> None:
        self._holds_turn = True
        turn = self.turn
        self.stream = turn.model.invoke_stream(messages=turn.messages(), **turn.options)
        turn.begun()

    def _end(self, error: BaseException | None) -> None:
        """Put the reply on the branch and give up the turn, once."""
        self._ended = True
        if not self._holds_turn:
            return
        self._holds_turn = False
        stream = self.stream
        if stream is None:  # it could not be sent
            pass
        elif isinstance(error, (StopAsyncIteration, StopIteration)):
            self.turn.completed(stream)
        else:
            self.turn.broke_off(self.text, error)
        self.turn.branch.turns.give()
