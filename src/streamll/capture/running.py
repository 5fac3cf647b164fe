"""One run of a program for one reader, shared by the sync and the async stream."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import dspy

from streamll.capture.policy.attempts import timeout_behind
from streamll.capture.policy.call import CallPolicy, grace
from streamll.capture.run.enter import captured, inputs_of, settled, settled_async
from streamll.capture.run.fields import FieldSelection, check_field, in_full
from streamll.capture.run.frames import output_fields
from streamll.capture.run.options import guards_of_run, own_options, receivers_of_run
from streamll.capture.run.run import Run
from streamll.capture.run.scope import Scope, current_scope
from streamll.configuration import Receiver
from streamll.core import errors
from streamll.core.errors import StreamTimeout, Unwind
from streamll.core.events import Event
from streamll.core.run_view import RunView
from streamll.flow.bridge import Background
from streamll.flow.channel import Channel
from streamll.flow.config import StreamConfig
from streamll.flow.timers import Timer, timers
from streamll.flow.waiting import is_async_function
from streamll.guards import Guard

DEFAULTS = StreamConfig()

CANCEL_GRACE_S = 5.0
"""How long the stream of a cancelled program stays open for its last events: a tool may block."""


class ProgramRun(Background):
    """A program, its channel and its outcome."""

    def __init__(
        self,
        program: Callable[..., Any],
        selection: FieldSelection | None,
        config: StreamConfig | None,
        sinks: tuple[Receiver, ...],
        keep_text: bool,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        read: bool = True,
        questions: bool | None = True,
        guards: tuple[Guard, ...] = (),
    ) -> None:
        self.program = program
        self.args = args
        self.kwargs = kwargs
        self.config = config or DEFAULTS
        self.channel: Channel[Event] = Channel(
            self.config.buffer_size, self.config.overflow, name="stream"
        )
        outer = current_scope()
        run = outer.run if outer is not None else Run(program)
        super().__init__(f"streamll {run.name}")
        self._names = run.names.of_part(program)
        fields = output_fields(program)
        known = [(self._names.get(name, name), names) for name, names in fields.items()]
        self.view = RunView(known) if keep_text else None
        reader: Any = self.channel
        if self.config.overflow == "fail":
            reader = SimpleNamespace(put=self._put_or_fail)
        if selection is None:  # the reader wants no tokens; does anyone else?
            others = outer.receivers if outer is not None else receivers_of_run()
            selection = _selection_of_others(program, (*others, *sinks))
        receivers = sinks if outer is not None else (*receivers_of_run(program), *sinks)
        self.scope = Scope(
            run,
            program,
            parent=outer,
            receivers=(*receivers, reader) if read else receivers,
            declared=selection,
            policy=CallPolicy(config, self.expire) if config is not None else None,
            questions=(read or None) if questions else questions,
            guards=guards if outer is not None else (*guards_of_run(program), *guards),
        )
        self.value: Any = None
        self.ended = False
        self._is_overdue = False  # its stream was ended without it: what it does now is too late
        self._deadline: Timer | None = None
        self._must_end_at = 0.0
        self.error: BaseException | None = None
        self.left = False

    @property
    def is_async(self) -> bool:
        if isinstance(self.program, dspy.Module):
            return "aforward" in vars(self.program) or hasattr(type(self.program), "aforward")
        if isinstance(self.program, dspy.BaseLM):  # its ``acall`` may have nothing behind it
            return False
        acall = getattr(type(self.program), "acall", None)
        return is_async_function(acall or self.program)

    def run(self) -> None:
        with self._running(), settled(self.scope), self._captured():
            value = self.program(*self.args, **self.kwargs)
            if inspect.iscoroutine(value):  # an async function's, which gets a loop of its own
                value = asyncio.run(value)
            self.value = self.scope.returned(value)

    async def run_async(self) -> None:
        program: Callable[..., Awaitable[Any]] = getattr(self.program, "acall", self.program)
        with self._running():
            async with settled_async(self.scope):
                with self._captured():
                    self.value = await self.scope.returned_async(
                        await program(*self.args, **self.kwargs)
                    )

    def _captured(self) -> AbstractContextManager[None]:
        return captured(self.scope, inputs_of(self.args, self.kwargs))

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - raised where the stream is read
            self.error = error
        finally:
            self.ended = True
            if self._deadline is not None:
                self._deadline.cancel()
            self.channel.close()

    def start(self, *, on_loop: bool = False) -> None:
        """Start the program in a thread; an async one as a task, if its reader is on a loop."""
        if (limit := self.config.timeout) is not None:
            self._must_end_at = time.monotonic() + limit
            self._deadline = timers.at(self._must_end_at, lambda: self._too_late(limit))
        if on_loop and self.is_async:
            self.start_task(self.run_async)
        else:
            self.start_thread(self.run)

    def _too_late(self, limit: float) -> None:
        """The total timeout, in which no time counts that the program waits for an answer."""
        asked = self.scope.run.asked
        if asked is not None and asked.when_resumed(lambda: self._too_late(limit)):
            return
        left = self._must_end_at - time.monotonic() + (asked.waited if asked is not None else 0.0)
        if left > 0:
            self._deadline = timers.at(time.monotonic() + left, lambda: self._too_late(limit))
            return
        partial = self.scope.run.partial()
        received = sum(map(len, partial.values()))
        self.expire(errors.TotalTimeout(limit, received=received, partial=partial))

    def expire(self, timeout: StreamTimeout) -> None:
        """End the program; where it does not end (a tool that blocks), end its stream without it."""
        if self.ended:
            return
        self._stop(timeout)
        timers.at(time.monotonic() + grace(timeout.limit), self._end_without_program)

    def _end_without_program(self) -> None:
        if self.ended:
            return
        reason, self._is_overdue = self.scope.reason, True
        if self.scope.parent is None and reason is not None:
            self._is_overdue = self.scope.run.fail(self.scope, reason)
        if self._is_overdue:  # else it has just ended by itself, and closes its channel
            self.channel.close()

    def leave(self) -> None:
        """The reader has gone: stop the program unless it has ended."""
        self.channel.abandon()
        if not self.ended:
            self.left = True
            self._stop()

    def cancel(self) -> None:
        """Stop the program unless it has ended; its last events can still be read."""
        if not self.ended:
            self.left = True
            self._stop()
            timers.at(time.monotonic() + CANCEL_GRACE_S, self._end_without_program)

    def _stop(self, reason: StreamTimeout | None = None) -> None:
        self.scope.cancel(reason)
        super().cancel()

    def raise_error(self) -> None:
        """Raise what ended the program, unless it succeeded and was read to its end."""
        if self.ended and self.error is None and not (self.left or self._is_overdue):
            return
        unwound = isinstance(self.error, (Unwind, asyncio.CancelledError))
        ours = self.scope.reason or self.scope.stopped or timeout_behind(self.error)
        if ours is not None and not self.left:
            raise ours from (None if unwound or ours is self.error else self.error)
        if self.left or unwound:
            what = "stream was left" if self.left else "program's task was cancelled"
            raise errors.StreamCancelled(
                f"the {what} before the program ended, so there is no result"
            )
        if isinstance(self.error, (StopIteration, StopAsyncIteration)):
            message = f"the program raised {type(self.error).__name__}"
            raise RuntimeError(message) from self.error  # noqa: TRY004 - as it is, it ends a loop
        if self.error is not None:
            raise self.error

    def _put_or_fail(self, event: Event) -> None:
        """With ``overflow="fail"`` a reader that is too slow ends the program."""
        try:
            self.channel.put(event)
        except errors.ChannelOverflow as error:
            self.scope.cancel(error)

    def text(self, field: str) -> str:
        if self.view is None:
            raise errors.StreamllError("this stream keeps no text (keep_text=False)")
        in_program = in_full(field, output_fields(self.program))
        return self.view.text(self.qualified_name(in_program))

    def declared(self, field: str) -> str:
        """``field`` with its predictor's own name in the program, unless predictors are made later.

        Raises:
            ConfigurationError: it is no name.
            UnknownFieldError: no predictor has it.
            AmbiguousFieldError: it names a module in which several predictors have it.
        """
        FieldSelection([field])
        if fields := output_fields(self.program):
            check_field(field, type(self.program).__name__, fields)
        return in_full(field, fields)

    def qualified_name(self, field: str) -> str:
        """``field`` with its predictor's name in the run, which is longer for inner programs."""
        predictor, dot, name = field.rpartition(".")
        return f"{self._names.get(predictor, predictor)}{dot}{name}"


def _selection_of_others(program: Any, receivers: tuple[Receiver, ...]) -> FieldSelection:
    """What to stream for a reader who wants no tokens: all that others want."""
    if _want_tokens(receivers):
        return FieldSelection("*")
    own = own_options(program)
    if own is not None and own.selection and (own.on_token or _want_tokens(own.sinks or ())):
        return own.selection
    return FieldSelection(())


def _want_tokens(receivers: tuple[Receiver, ...]) -> bool:
    return any(not getattr(receiver, "passive", False) for receiver in receivers)
