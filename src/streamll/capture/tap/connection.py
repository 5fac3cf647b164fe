"""lm15's connections, taken for the length of a reply's body.

lm15's transports hand a body on as an iterator: a packet wakes the task that reads it, through
a dozen coroutines and generators. With one token per packet that is most of what a token costs. So
once the head has been read, the bytes go from the connection into an ``Intake`` directly: on an
event loop in the callback that receives them, while the call's task sleeps until the body is over,
has failed, or has to pause; in a thread from ``recv``. Then lm15 has its connection back, read as
far as it would have read it, and does with it what it always does.

Opening, sending, the head, the pool and its limits are lm15's. What its iterator would work with is
known from that iterator's variables; where they are others than known here, the iterator is used.
"""

# ruff: noqa: SLF001 - lm15 hands out its connections to nobody

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from time import monotonic
from typing import Any

from streamll.capture.inside_dspy import READ_ERROR, READ_TIMEOUT, read_timeout_hint
from streamll.capture.tap.intake import Intake
from streamll.capture.tap.interrupt import Grace
from streamll.capture.tap.listener import Guarded
from streamll.capture.tap.wire.reply import WireReply

_READ_BYTES = 64 * 1024  # at once, as lm15
_KNOWN = None not in (READ_ERROR, READ_TIMEOUT, read_timeout_hint)


# --- in a thread ----------------------------------------------------------------------------------


def read_body(reply: Any, reader: WireReply, to: Guarded) -> bool:
    """Read the body of a reply of lm15's transport; False, and nothing read, if that is unknown."""
    if not _KNOWN:
        return False
    try:
        known = reply._chunks.gi_frame.f_locals
        first, timeout, give_back = known["initial"], known["read_timeout"], known["on_finish"]
        connection, intake = known["conn"].sock, Intake(known["decoder"], reader, to)
    except (AttributeError, KeyError):
        return False
    try:
        _read(connection, timeout, first, intake)
        reply._complete = intake.decoder.complete
    finally:
        give_back()
    return True


def _read(connection: Any, timeout: float, first: bytes, intake: Intake) -> None:
    connection.settimeout(timeout)
    with Grace(intake.reader) as grace:
        eventful = intake.feed(first) if first else intake.over
        while True:
            while eventful and intake.paused:
                intake.to.pause()
                grace.set(None)
                eventful = intake.go_on()
            if eventful:
                if intake.over:
                    return
                grace.set(intake.reader.grace, again=intake.said)
            packet = _received(connection, timeout)
            eventful = intake.feed(packet) if packet else intake.eof()


def _received(connection: Any, timeout: float) -> bytes:
    try:
        packet: bytes = connection.recv(_READ_BYTES)
    except TimeoutError as error:  # before Python 3.11 no TimeoutError
        raise _too_late(timeout) from error
    except OSError as error:
        raise _failed(error) from error
    return packet


def _too_late(timeout: float) -> Exception:
    error: Exception = READ_TIMEOUT(f"read timed out mid-body: {read_timeout_hint(timeout)}")
    return error


def _failed(error: OSError) -> Exception:
    failed: Exception = READ_ERROR(f"read failed: {error}")
    return failed


# --- on an event loop -----------------------------------------------------------------------------


def body_of(reply: Any, reader: WireReply, to: Guarded) -> Body | None:
    """The body of a reply of lm15's async transport; ``None`` if that is unknown."""
    if not _KNOWN:
        return None
    try:
        known = reply._chunks.ag_frame.f_locals
        connection = known["conn"]
        if connection.writer.transport.get_protocol() is None:  # uvloop's, once it is closed
            return None
        return Body(
            reply,
            connection.reader,
            connection.writer.transport,
            known["read_timeout"],
            known["head"].leftover,
            Intake(known["decoder"], reader, to),
        )
    except (AttributeError, KeyError):
        return None


class Body(asyncio.Protocol):
    """The protocol of a connection while a body is read from it, in place of asyncio's streams.

    What goes on happens in the callbacks of the event loop. The call's task, in ``read``, is woken
    at the end and where the listener has no room.
    """

    def __init__(
        self,
        reply: Any,
        reader: asyncio.StreamReader,
        transport: Any,
        timeout: float,
        first: bytes,
        intake: Intake,
    ) -> None:
        self._reply = reply
        self._reader = reader
        self._transport = transport
        self._streams = transport.get_protocol()  # asyncio's, for which lm15 takes it
        self._intake = intake
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._feed = intake.feed
        self._context = contextvars.copy_context()  # the call's: callbacks have none of their own
        self._run = self._context.run
        self._waiting: deque[bytes | None] = deque((first,) if first else ())
        """Packets that have not been read, and None for the end of the connection."""
        self._ended = False
        self._error: BaseException | None = None
        self._expired = False  # the grace is over
        self._woken: asyncio.Future[None] | None = None
        self._heard_at = monotonic()
        self._grace: float | None = None
        self._grace_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def read(self) -> None:
        """Read to the end. Raises what lm15's own reading would raise. May be cancelled."""
        intake = self._intake
        self._transport.set_protocol(self)
        try:
            self._arm(self._timeout)
            self._take_over()
            while self._error is None and not self._expired:
                if intake.paused:
                    await self._make_room()
                elif intake.over:
                    self._reply._complete = intake.decoder.complete
                    return
                else:
                    self._woken = self._loop.create_future()
                    await self._woken
            if self._error is not None:
                raise self._error
            intake.reader.give_up()
        finally:
            self._give_back()

    def _take_over(self) -> None:
        """Read what has come already: with the head, or after it."""
        while packet := _buffered(self._reader):
            self._waiting.append(packet)
        if self._reader.at_eof():
            self._end()
        self._run(self._go_on)

    async def _make_room(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()
        await self._intake.to.pause_async()
        self._heard_at = monotonic()  # until now nobody listened
        self._grace = None
        self._run(self._go_on)
        if not self._intake.paused:
            self._resume()

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _give_back(self) -> None:
        """Leave the connection as lm15's own reading would have left it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._streams)
        if unread := b"".join(filter(None, self._waiting)):
            self._reader.feed_data(unread)
        self._resume()
        for variable, value in self._context.items():  # what a hook has set stays set
            if variable.get(None) is not value:
                variable.set(value)

    # --- called by the event loop -----------------------------------------------------------------

    def data_received(self, packet: bytes) -> None:
        self._heard_at = monotonic()
        if self._intake.paused or self._waiting:
            self._waiting.append(packet)
            return
        try:
            eventful = self._run(self._feed, packet)
        except BaseException as error:  # noqa: BLE001
            self._raised(error)
        else:
            if eventful:
                self._look()

    def eof_received(self) -> bool | None:
        stays_open: bool | None = self._streams.eof_received()
        self._end()
        return stays_open

    def connection_lost(self, error: Exception | None) -> None:
        self._streams.connection_lost(error)
        if error is not None and not self._intake.over:
            self._lost(error)
        self._end()

    def _lost(self, error: Exception) -> None:
        if isinstance(error, OSError):
            failed = _failed(error)
            failed.__cause__ = error
            self._fail(failed)
        else:
            self._fail(error)

    def pause_writing(self) -> None:
        self._streams.pause_writing()

    def resume_writing(self) -> None:
        self._streams.resume_writing()

    # --- reading ----------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Read what waits, until the listener has no room."""
        intake, waiting = self._intake, self._waiting
        try:
            eventful = intake.paused and intake.go_on()
            while waiting and not intake.over and not (eventful and intake.paused):
                packet = waiting.popleft()
                eventful = intake.eof() if packet is None else intake.feed(packet)
        except BaseException as error:  # noqa: BLE001
            self._raised(error)
        else:
            if eventful:
                self._look()

    def _raised(self, error: BaseException) -> None:
        self._fail(error)
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise error

    def _look(self) -> None:
        """More than text has come."""
        grace = self._intake.reader.grace
        if self._intake.paused or self._intake.over:
            self._wake()
        elif grace != self._grace or self._intake.said:
            self._grace = grace
            if grace is not None:
                self._grace_until = monotonic() + grace
                self._arm(grace)

    def _end(self) -> None:
        """The other end says no more."""
        if not self._ended:
            self._ended = True
            self._waiting.append(None)
            if not self._intake.paused:
                self._run(self._go_on)

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    # --- time -------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._check_time)

    def _check_time(self) -> None:
        """Packets only note when they came, so that they need no timer of their own."""
        now = monotonic()
        until = self._heard_at + self._timeout if self._grace is None else self._grace_until
        if self._intake.paused or self._intake.over:
            self._arm(self._timeout)
        elif now < until:
            self._arm(until - now)
        elif self._grace is None:
            self._fail(_too_late(self._timeout))
        else:
            self._expired = True
            self._wake()


def _buffered(reader: asyncio.StreamReader) -> bytes:
    """What a stream has received and nobody has read. Raises what it failed with."""
    reading = reader.read(_READ_BYTES)
    try:
        reading.send(None)
    except StopIteration as read:
        packet: bytes = read.value
        return packet
    except OSError as error:
        raise _failed(error) from error
    reading.close()
    return b""
