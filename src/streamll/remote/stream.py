"""The events of a server's run: the shape of ``streamll.stream``'s, read over HTTP.

``with`` gives a ``RemoteStream``, ``async with`` an ``AsyncRemoteStream``: one class but for what
waits. Reading is done by ``remote.reading``, behind a bridge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import wait
from typing import Any

import msgspec

from streamll.core.errors import RunFailed, RunLost, StreamCancelled
from streamll.core.events import Event, RunCancelled, RunEnd, RunError
from streamll.core.positions import Position, position
from streamll.core.run_view import RUN_LOST, RunView, qualified
from streamll.flow.bridge import Bridge, Mapped
from streamll.remote.answering import Answering
from streamll.remote.reading import CANCEL_S, Reading
from streamll.streams.stream_events import token_of

BATCHES_AHEAD = 8
"""Chunks of a connection that wait for a reader; the rest waits at the server."""


class _RemoteStream(Bridge):
    """What both streams are. Events come as they happen; after ``run.error``, ``RunFailed`` is raised."""

    closed_by_loop = False

    def __init__(self, reading: Reading, *, on_loop: bool) -> None:
        super().__init__(reading, capacity=BATCHES_AHEAD, name="connection")
        self._remote = reading
        self._view = RunView(keep_values=True)
        self._left = False
        self._last: Event | None = None
        self._producer.start(on_loop=on_loop)

    def _feed(self, read: list[list[Event]]) -> Iterator[Event]:
        for batch in read:
            for event in batch:
                if event.seq is not None:
                    self._last = event
                yield self._view.feed(event)

    def _end(self, error: Exception | None) -> tuple[()]:
        super()._end(error)
        self._raise_failure()
        return ()

    def _raise_failure(self) -> None:
        end = self._view.end
        if isinstance(end, RunError):
            kind = RunLost if end.error_type == RUN_LOST else RunFailed
            raise kind(end.error_type, end.message, end.partial)
        if isinstance(end, RunCancelled):
            raise StreamCancelled("the run was cancelled, so there is no result")

    @property
    def run_id(self) -> str | None:
        """The id of the run; ``None`` until the server has started it."""
        return self._remote.run_id

    @property
    def position(self) -> Position | None:
        """How far it has been read: ``connect(url, after=…)`` goes on from here, in any process."""
        return self._remote.target.after if self._last is None else position(self._last)

    @property
    def fields(self) -> dict[str, str]:
        """The text of each field so far, corrected and without superseded attempts, by its name, or
        by ``"predictor.field"`` where several predictors have it.
        """
        return self._named(self._view.texts())

    @property
    def value(self) -> dict[str, Any] | None:
        """What the program has returned, as ``result`` gives it; ``None`` until then, and where the
        beginning was not read (``after=``), which ``result`` does.
        """
        end = self._view.end
        if not isinstance(end, RunEnd) or self._lacks_beginning:
            return None
        if end.outputs is not None:
            return dict(end.outputs)
        values: dict[tuple[str | None, str], Any] = {}
        for field in self._view.fields.values():
            if not field.identity.candidate:
                is_typed = field.value is not None and field.value.is_complete
                values[field.owner] = field.value.value if is_typed and field.value else field.text
        return self._named(values)

    @property
    def _lacks_beginning(self) -> bool:
        """Whether what the program returned may be in events before those that were asked for."""
        after = self._remote.target.after
        has_outputs = getattr(self._view.end, "outputs", None) is not None
        return after is not None and after.seq >= 0 and not has_outputs

    def _whole(self) -> Any:
        """The run from its beginning, for the same kind of reader."""
        target = msgspec.structs.replace(self._remote.target, after=None)
        return type(self)(Reading(target), on_loop=isinstance(self, AsyncRemoteStream))

    @staticmethod
    def _named(by_owner: dict[tuple[str | None, str], Any]) -> dict[str, Any]:
        names = [name for _, name in by_owner]
        return {
            name if names.count(name) == 1 else qualified(predictor, name): value
            for (predictor, name), value in by_owner.items()
        }

    def text(self, field: str) -> str:
        """What has been read of ``field``, corrected and without superseded attempts.

        Raises:
            UnknownFieldError: nothing of such a field has been read.
            AmbiguousFieldError: several predictors have the field; the message lists them.
        """
        return self._view.text(field)

    def tokens(self, field: str | None = None) -> Mapped[str]:
        """The text of ``field`` (default: of every field) in pieces, as it comes.

        Which fields the program has is not known here: nothing comes of one that it has not. Text
        that a retry supersedes cannot be taken back; read the events for that.

        Raises:
            StreamllError: where it is read: another reading has had its text.
        """
        asked = None if field == "*" else field
        return Mapped(self, lambda event: filter(None, (token_of(event, asked),)))

    def cancel(self) -> None:
        """Have the server stop the run, and go on reading: its last events come, up to ``run.cancelled``.

        Then reading raises ``StreamCancelled``. Any thread may call this; it never waits.
        """
        self._remote.cancel()

    def interrupt(self) -> None:
        self._producer.channel.interrupt()

    def leave(self) -> None:
        """Stop reading, without waiting. The run goes on at the server."""
        self._left = self._left or not self._over
        super().leave()

    def _must_ask(self) -> bool:
        """Whether the run is to be stopped by reading that goes on: it may not have begun yet, or the
        server may have started the run and not said which it is.
        """
        return self._remote.cancelling and not self._over

    def _outcome(self) -> dict[str, Any]:
        self._raise_failure()
        if self.value is None:
            raise StreamCancelled("the run's end was not read, so there is no result")
        return self.value


class RemoteStream(_RemoteStream):
    """The events of a server's run, read from this thread. Made by ``with streamll.connect(…)``."""

    def result(self) -> dict[str, Any]:
        """Read to the end and return what the program returned, by the fields' names.

        These are the program's outputs where the server's events include them; otherwise every
        field as it was written last, typed ones as plain data. For that, after ``after=`` the run
        is then read once more, from its beginning.

        Raises:
            RunFailed: the program raised; ``RunLost``: its process is gone.
            StreamCancelled: the run was cancelled, or the stream was left before the end.
            RunUnavailable: the server can no longer be read.
        """
        for _ in self:
            pass
        if self._lacks_beginning and not self._left:
            with self._whole() as whole:
                return whole.result()  # type: ignore[no-any-return]
        return self._outcome()

    def answer(self, question: str | Event, value: Any, *, by: str | None = None) -> bool:
        """Answer a question of the run, and wait until the server has taken it.

        Args:
            question: the ``question`` event, or its ``question_id``.
            value: the answer as JSON has it, for the question's ``schema``.
            by: who answers, for the ``answer`` event, where the server does not know it by the token.

        Returns:
            Whether the program has it. ``False``: the log has it, and the process that runs the
            program has not said within seconds what came of it; the ``answer`` event does.

        Raises:
            WrongAnswer: it cannot be the answer; ``problems`` says where and why. The question stays
                open.
            QuestionClosed: the question has ended, mostly since somebody else was first.
            NoSuchQuestion: the run has not asked it.
            TokenRefused: the token may read the run, but not answer; or it is not the server's.
            RunUnavailable: the server or its log is away.
        """
        return Answering(self._remote, question, by, value=value).send()

    def decline(self, question: str | Event, *, by: str | None = None) -> bool:
        """Withdraw a question: there will be no answer. Returns and raises as ``answer`` does."""
        return Answering(self._remote, question, by).send()

    def close(self) -> None:
        """Stop reading; a request to stop the run is sent before."""
        if self._must_ask():
            wait([self._remote.asked], CANCEL_S)
        self.leave()
        if self._remote.cancelling:
            self._producer.join(CANCEL_S)

    async def aclose(self) -> None:
        """``close``, where something reads it on an event loop."""
        await asyncio.to_thread(self.close)


class AsyncRemoteStream(_RemoteStream):
    """The events of a server's run, on an event loop. Made by ``async with streamll.connect(…)``."""

    async def result(self) -> dict[str, Any]:
        """Read to the end and return what the program returned, as ``RemoteStream.result`` does."""
        async for _ in self:
            pass
        if self._lacks_beginning and not self._left:
            async with self._whole() as whole:
                return await whole.result()  # type: ignore[no-any-return]
        return self._outcome()

    async def answer(self, question: str | Event, value: Any, *, by: str | None = None) -> bool:
        """Answer a question of the run with ``value``, as ``RemoteStream.answer`` does."""
        return await Answering(self._remote, question, by, value=value).send_async()

    async def decline(self, question: str | Event, *, by: str | None = None) -> bool:
        """Withdraw a question, as ``RemoteStream.decline`` does."""
        return await Answering(self._remote, question, by).send_async()

    async def aclose(self) -> None:
        """Stop reading; a request to stop the run is sent before."""
        if self._must_ask():
            await asyncio.wait({asyncio.wrap_future(self._remote.asked)}, timeout=CANCEL_S)
        await super().aclose()
