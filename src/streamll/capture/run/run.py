"""A run: one outermost captured call, and the single place where its events get their order.

Every event of a run passes ``Run.publish``: under one lock it gets its sequence number and goes to
all receivers, so that each reader sees the run in the same order. Nothing in here waits.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from time import time as now
from typing import Any

import msgspec

from streamll.asking.questions import Questions
from streamll.capture.inside_dspy import ACTIVE_CALL_ID, context_outside
from streamll.capture.run.frames import Frame, ModuleNames
from streamll.configuration import Redact, configuration, describe, included
from streamll.context import get_context
from streamll.core import events as ev
from streamll.core.errors import GuardStopped, logger
from streamll.core.events import CALLS, Event, Identity
from streamll.core.ordering import failure_of
from streamll.core.usage import Sums

UNFINISHED = "Unfinished"
"""``error_type`` of a call that was still running when its run ended."""

CapturedCall = Any  # a ``run.scope.Scope``
Leaving = tuple[Event, CapturedCall]
OpenCall = Any  # a ``reply.lm_call.LMCall``
OpenText = Any  # a ``reply.attempt_fields.ReleasedText``; all three stand on this module


class Run:
    """Order, identity and totals of one outermost captured call of ``program``."""

    def __init__(self, program: Any) -> None:
        self.run_id = uuid.uuid4().hex
        self.names = ModuleNames(program)
        own_name = getattr(program, "__dict__", {}).get("__name__")
        kind = program if inspect.isroutine(program) else type(program)
        self.name: str = own_name or kind.__name__
        self.frames: dict[str, Frame] = {}
        self.roots: Counter[str] = Counter()  # calls without a parent so far, by name
        self.usage = Sums()
        self._started = time.monotonic()
        self._time_to_first_token: float | None = None
        self.closed = False
        self.has_cancelled_calls = False  # spares every token a look at all enclosing calls
        self.identity = Identity(run_id=self.run_id)
        self.lock = threading.RLock()
        self._redact = configuration.redact
        self._next_seq = itertools.count().__next__
        self._open_frames: dict[str, Frame] = {}  # whose start has been told, and no end
        self._open_fields: dict[int, tuple[OpenText, CapturedCall, Identity, str]] = {}  # likewise
        self._open_calls: dict[int, OpenCall] = {}
        self._open_traces: dict[str, tuple[ev.TraceStart, CapturedCall]] = {}
        self._connections: dict[int, tuple[CapturedCall, Callable[[], object]]] = {}
        self._failed_partial: Mapping[str, str] = ev.NOTHING
        self._failing: list[Callable[[Event], None]] = []  # receivers and token hooks that raise
        self.guarding: Any = None  # a ``guards.events.Guarding``, once a call has guards
        self._leaving = 0  # then: the next event's ``seq``
        self._is_leaving = False
        self.settling: Any = None  # then: a ``settling.Settling``
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop on which the outermost call is awaited, if it is one that is."""
        self.stopped_by: BaseException | None = None
        """The error with which the run has ended although its program has returned."""

    def guard(self, scope: CapturedCall) -> tuple[Any, ...]:
        """From now on events pass guards, as ``scope`` has some: their ``seq`` is given as they leave.

        Returns its guards, of equal ones the same object.
        """
        from streamll.capture.run.settling import Settling
        from streamll.guards.events import Guarding

        with self.lock:
            if self.guarding is None:
                self._leaving = self._next_seq()
                self._next_seq = lambda: self._leaving  # which it has, if it leaves at once
                self.guarding = Guarding(self._checking, lambda: configuration.include_limit)
                self.settling = Settling(self)
                *_, self._outermost = scope.enclosing()
            return self.guarding.known(scope.guards)  # type: ignore[no-any-return]

    def _checking(self) -> Any:
        """What asks checks about the events, for the first check there is."""
        from streamll.guards.checking import Checking
        from streamll.guards.checks import Inquiries

        inquiries = Inquiries(self.lock, context_outside, self.settling.tell_elsewhere)
        inquiries.loop = self.loop
        return Checking(inquiries, self._released, self._parent_of)

    def _parent_of(self, call_id: str) -> str | None:
        frame = self.frames.get(call_id)
        return None if frame is None or frame.parent is None else frame.parent.call_id

    def publish(
        self,
        kind: type[Event],
        scope: CapturedCall,
        identity: Identity,
        part: Frame | OpenText | None = None,
        /,
        **own: Any,
    ) -> Event | None:
        """Create an event and deliver it; ``None`` after the run's end.

        ``part``: the call or text that this event starts or ends, which the run's end closes in between.
        """
        with self.lock:
            if self.closed:
                return None
            if part is None:
                pass
            elif kind.opens in CALLS:
                self._open_frames[part.call_id] = part
            elif kind.closes in CALLS:
                self._open_frames.pop(part.call_id, None)
            elif kind.opens == "field":
                self._open_fields[id(part)] = part, scope, identity, own["field"]
            elif kind.closes == "field":
                self._open_fields.pop(id(part), None)
            event = kind(
                seq=self._next_seq(),
                timestamp=now(),
                identity=identity,
                context=get_context(),
                **own,
            )
            if isinstance(event, ev.LMEnd):  # here: no other's end, nor the run's, comes between
                self.usage.add_call(event)
            if self.guarding is None:
                self._deliver(event, scope)
                return event
            self._leave(self.guarding.feed(event, scope))
        self.settling.tell()
        return event

    def publish_token(
        self,
        scope: CapturedCall,
        identity: Identity,
        field: str,
        token: str,
        so_far: OpenText,
        finish_reason: str | None,
        cached: bool,
    ) -> None:
        """``publish`` for tokens, without its keyword arguments, which would cost a third more.

        It is counted here: the run's end, which tells the length, is before both or after.
        """
        with self.lock:
            if self.closed:
                return
            index, offset = so_far.tokens, so_far.length
            so_far.tokens += 1
            so_far.parts.append(token)
            so_far.length += len(token)
            context = get_context()
            place: tuple[str, int, int] | tuple[()] | None = None
            if (guarding := self.guarding) is not None and token:
                place = guarding.release(identity, field, token, context)
                if place:
                    token, index, offset = place
                elif place is not None:
                    return
            event = ev.TokenEvent(
                seq=self._next_seq(),
                timestamp=now(),
                identity=identity,
                context=context,
                field=field,
                token=token,
                token_index=index,
                offset=offset,
                finish_reason=finish_reason,
                cached=cached,
            )
            if guarding is None:
                self._deliver(event, scope)
            elif place:
                self._leaving += 1
                self._deliver(event, scope)
            else:
                self._leave(guarding.feed(event, scope))
        if guarding is not None and not place:
            self.settling.tell()
        elif scope.token_hooks and token:
            self.call_token_hooks(event, scope)

    def publish_change(
        self, kind: type[Event], scope: CapturedCall, identity: Identity, /, **own: Any
    ) -> None:
        """``publish`` for what takes text back, of which token hooks are told as well."""
        event = self.publish(kind, scope, identity, **own)
        if event is not None and self.guarding is None:
            self.call_token_hooks(event, scope)

    def publish_custom(self, event: Event, scope: CapturedCall) -> None:
        """Give a program's own event its place in the run."""
        with self.lock:
            if self.closed:
                return
            stamp: dict[str, Any] = {"context": get_context(), "identity": self.current_identity()}
            if isinstance(event, ev.StreamllEvent):
                stamp["data"] = ev.EventData(dict(event.data), stamp["context"])
            stamp |= {"seq": self._next_seq(), "timestamp": now()}
            event = msgspec.structs.replace(event, **stamp)
            if isinstance(event, ev.TraceStart):
                self._open_traces[event.trace_id] = (event, scope)
            elif isinstance(event, ev.TraceEnd):
                self._open_traces.pop(event.trace_id, None)
            if self.guarding is None:
                self._deliver(event, scope)
                return
            self._leave(self.guarding.feed(event, scope))
        self.settling.tell()

    def _leave(self, leaving: list[Leaving]) -> None:
        """Guarded events leave: give them their order, and stop the run if a guard says so."""
        is_nested, self._is_leaving = self._is_leaving, True
        for event, scope in leaving:
            if event.closes == "run":
                event = self._as_it_is_now(event)  # noqa: PLW2901
            if event.seq != self._leaving:
                event = msgspec.structs.replace(event, seq=self._leaving)  # noqa: PLW2901
            self._leaving += 1
            self._deliver(event, scope)
            if scope.token_hooks and self._is_for_token_hooks(event):
                self.settling.will_tell(event, scope)
        is_stopped = self._stop()
        self._is_leaving = is_nested
        if is_stopped:
            self.abandon_checks()

    def _stop(self) -> bool:
        """Stop the run if a guard has said so; False if it is stopped already."""
        found = self.guarding.stopped
        if found is None or self._outermost.reason is not None:
            return False
        partial = {**self.partial(), **self.guarding.text_of(found)}
        self._outermost.cancel(GuardStopped(found.name, found.field, partial))
        return True

    def _as_it_is_now(self, event: Event) -> Event:
        """The run's last event, once a guard has stopped the run or checks have held the event back."""
        self._stop()
        reason = self._outermost.reason
        too_late = self.closed or isinstance(reason, GuardStopped)
        if type(event) is ev.RunEnd and too_late and reason is not None:
            self.stopped_by = reason
            name, message = describe(reason)
            partial = getattr(reason, "partial", ev.NOTHING)
            totals = {each: getattr(event, each) for each in ev.Totals.__struct_fields__}
            return ev.RunError(error_type=name, message=message, partial=partial, **totals)
        if self.guarding.checking is None:
            return event
        if isinstance(event, (ev.RunError, ev.RunCancelled)) and event.partial:
            event = msgspec.structs.replace(event, partial=self.guarding.shown_of(event.partial))
        return event

    def _is_for_token_hooks(self, event: Event) -> bool:
        if isinstance(event, ev.TokenEvent):
            return bool(event.token)
        if isinstance(event, ev.LMSuperseded):
            return bool(self.guarding.has_begun(event.identity))
        return isinstance(event, ev.FieldCorrected)

    def _released(self) -> None:
        """A verdict has come."""
        self._leave(self.guarding.released())
        self.settling.wake()

    def abandon_checks(self) -> None:
        """What checks hold back leaves now, without what has no verdict."""
        if self.guarding is not None and self.guarding.checking is not None:
            with self.lock:
                self.guarding.checking.abandon()

    def begin_field(self, scope: CapturedCall, identity: Identity, field: str, form: str) -> None:
        """Tell guards in which form the tokens of a field are written that is about to start."""
        with self.lock:
            self.guarding.begin_field(identity, field, form, scope.guards)

    def finish_texts(self, scope: CapturedCall, identity: Identity) -> None:
        """Tell guards that a reply is complete."""
        if self.guarding is not None:
            with self.lock:
                self._leave(self.guarding.finish_texts(identity, scope, now()))
            self.settling.tell()

    @property
    def redact(self) -> Redact | None:
        """What is asked about its events: where a block is left meanwhile, still that of its beginning."""
        return self._redact if configuration.redact is None else configuration.redact

    def _deliver(self, event: Event, scope: CapturedCall) -> None:
        redact = self.redact
        approved = event if redact is None else configuration.approve(event, redact)
        if approved is not None:
            for put in scope.put_methods:
                try:
                    put(approved)
                except Exception as error:  # noqa: BLE001 - a receiver must not break the program
                    self._report(put, error)

    def _report(self, put: Callable[[Event], None], error: Exception) -> None:
        if put not in self._failing:
            self._failing.append(put)
            name = type(getattr(put, "__self__", put)).__name__
            logger.warning("sink %s raised %s (logged once per run)", name, type(error).__name__)

    def call_token_hooks(self, event: Event, scope: CapturedCall) -> None:
        """Tell the hooks of ``scope`` of an event; what they raise is logged."""
        for hook in scope.token_hooks:
            try:
                hook(event)
            except Exception:
                function = getattr(hook, "func", hook)
                if function not in self._failing:
                    self._failing.append(function)
                    logger.exception("on_token raised; the program goes on (logged once per run)")

    def saw_token(self) -> None:
        """A field's first token has come."""
        if self._time_to_first_token is None:
            self._time_to_first_token = time.monotonic() - self._started

    @functools.cached_property
    def questions(self) -> Questions:
        """What this run asks people; made with the first question."""
        return Questions(self)

    @property
    def asked(self) -> Questions | None:
        """The same, if it has asked any."""
        return vars(self).get("questions")

    def current_identity(self) -> Identity:
        """The identity of the call that is running in this context."""
        frame = self.frames.get(ACTIVE_CALL_ID.get() or "")
        return frame.identity(self.run_id) if frame is not None else self.identity

    def current_kind(self) -> str | None:
        """The kind of call that is running in this context, such as ``"tool"``."""
        frame = self.frames.get(ACTIVE_CALL_ID.get() or "")
        return None if frame is None else frame.kind

    def opened(self, call: OpenCall) -> None:
        self._open_calls[id(call)] = call

    def ended(self, call: OpenCall, *, failed: bool) -> None:
        self._open_calls.pop(id(call), None)
        if failed:
            self._failed_partial = call.partial()

    def connected(self, call: OpenCall, shutdown: Callable[[], object]) -> None:
        """Remember how to end what the call waits for: a read, or an answer."""
        self._connections[id(call)] = (call.scope, shutdown)
        if call.scope.is_cancelled:
            self.interrupt(call.scope)

    def disconnected(self, call: OpenCall) -> None:
        self._connections.pop(id(call), None)

    def interrupt(self, scope: CapturedCall) -> None:
        """End whatever is waited for inside ``scope``: reads of LM calls, answers."""
        for inner, shutdown in list(self._connections.values()):
            if inner.is_within(scope):
                shutdown()
        if self.closed and scope.parent is None and not self._is_leaving:
            self.abandon_checks()
            if self.settling is not None:
                self.settling.tell()

    def start(self, scope: CapturedCall, inputs: Any) -> None:
        self.publish(
            ev.RunStart, scope, self.identity, program=self.name, inputs=included("inputs", inputs)
        )

    def succeed(self, scope: CapturedCall, outputs: Any) -> None:
        self._close(scope, ev.RunEnd, outputs=included("outputs", outputs, as_mapping))

    def fail(self, scope: CapturedCall, error: BaseException) -> bool:
        """End the run with an error; False if it has ended already."""
        name, message = describe(error)
        partial = self.partial()
        if isinstance(error, GuardStopped) and error is scope.reason:  # else another run's
            partial = {**partial, **error.partial}  # of calls, too, that had ended by then
        return self._close(scope, ev.RunError, error_type=name, message=message, partial=partial)

    def cancel(self, scope: CapturedCall) -> None:
        self._close(scope, ev.RunCancelled, partial=self.partial())

    def partial(self) -> Mapping[str, str]:
        """What has been streamed without being completed, by ``predictor.field``."""
        merged = dict(self._failed_partial)
        for call in list(self._open_calls.values()):
            merged.update(call.partial())
        return merged

    def _close(self, scope: CapturedCall, kind: type[Event], /, **own: Any) -> bool:
        with self.lock:
            if (questions := self.asked) is not None:
                questions.end()
            if scope.is_cancelled or kind is ev.RunCancelled:
                self.abandon_checks()
            for call in reversed(list(self._open_calls.values())):
                call.abandon(UNFINISHED)
            for text, inner, identity, field in reversed(list(self._open_fields.values())):
                own_end = {"field": field, "length": text.length, "complete": False}
                self.publish(ev.FieldEnd, inner, identity, text, **own_end)
            for frame in reversed(list(self._open_frames.values())):
                self._close_frame(frame)
            for start, inner in reversed(list(self._open_traces.values())):
                self.publish(
                    ev.TraceEnd, inner, start.identity, name=start.name, trace_id=start.trace_id,
                    parent_trace_id=start.parent_trace_id,
                    duration=now() - start.timestamp, error_type=UNFINISHED,
                )  # fmt: skip
            totals = {
                "duration": time.monotonic() - self._started,
                "time_to_first_token": self._time_to_first_token,
                "waited": 0.0 if questions is None else questions.waited,
                **self.usage.of_run(),
            }
            is_first = self.publish(kind, scope, self.identity, **own, **totals) is not None
            self.closed = True
            self.frames.clear()
            self._open_frames.clear()
            self._open_fields.clear()
            self._connections.clear()
        if self.settling is not None:
            self.settling.tell()
        return is_first

    def _close_frame(self, frame: Frame) -> None:
        """Close a call that outlived the program (``dspy.Parallel`` leaves stragglers behind)."""
        what = "tool" if frame.kind == "interpreter" else frame.kind
        if what in CALLS:
            kind, own = failure_of(
                what, name=frame.about or frame.name, model=frame.name, kind=frame.kind,
                duration=time.monotonic() - frame.started, error_type=UNFINISHED,
                message="still running when the run ended", optimizer=frame.name,
            )  # fmt: skip
            if what == "lm" and frame.lm_calls:
                own |= frame.lm_calls[0].used(failed=True)
            self.publish(kind, frame.scope, frame.identity(self.run_id), **own)


def as_mapping(outputs: Any) -> Any:
    """A ``Prediction`` as a plain mapping; anything else as ``{"result": …}``."""
    items = getattr(outputs, "toDict", None)
    return items() if callable(items) else {"result": outputs}
