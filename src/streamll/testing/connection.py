"""One client's connection: HTTP/1.1 by h11, the steps of a plan executed on the socket."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import h11

from streamll.testing.plan import HangUp, Head, Hold, Pause, Step, Write
from streamll.testing.recorded import RecordedRequest

READ_BYTES = 65_536


class HTTPRequest(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class HTTPExchange(NamedTuple):
    """A request's record, the steps of its reply, and a permit for every hold it may pass."""

    record: RecordedRequest
    steps: Iterable[Step]
    permits: asyncio.Semaphore


RequestHandler = Callable[[HTTPRequest], HTTPExchange]


@dataclass(eq=False)
class Connection:
    """Answers the requests of one connection one after the other (HTTP/1.1 keep-alive)."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    handler: RequestHandler
    log: Callable[[RecordedRequest], None] | None = None
    record: RecordedRequest | None = None

    def __post_init__(self) -> None:
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=1_048_576)
        # With this, drain() waits until the kernel has everything: one write is one packet, and
        # what is counted as sent has left this process.
        self.writer.transport.set_write_buffer_limits(high=0)

    async def serve(self) -> None:
        try:
            while (request := await self.read_request()) is not None:
                exchange = self.handler(request)
                self.record = exchange.record
                complete = await self.answer(exchange)
                if self.log is not None:
                    self.log(exchange.record)
                if not complete:
                    break
                if self.http.our_state is not h11.DONE:
                    self.record = None  # no keep-alive: this side closes
                    break
                self.http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            self.write_head(Head(error.error_status_hint, "text/plain", [], 0))
        except ConnectionError:
            pass
        finally:
            if self.record is not None:
                self.record.update(client_closed_at=time.monotonic())
            self.writer.close()

    def abort(self) -> None:
        """Drop the connection because the server stops; not recorded as closed by the client."""
        self.record = None
        self.writer.transport.abort()

    # --- in ---------------------------------------------------------------------------------

    async def read_request(self) -> HTTPRequest | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                if self.http.they_are_waiting_for_100_continue:
                    proceed = h11.InformationalResponse(status_code=100, headers=[])
                    self.writer.write(self.http.send(proceed))
                data = await self.reader.read(READ_BYTES)
                if not data:
                    return None
                self.http.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
                return HTTPRequest(
                    head.method.decode(), head.target.decode("latin-1"), headers, bytes(body)
                )

    async def client_leaves(self) -> None:
        """Return when the client closes the connection, also while nothing is written."""
        while data := await self.reader.read(READ_BYTES):
            self.http.receive_data(data)  # a pipelined request

    # --- out --------------------------------------------------------------------------------

    async def answer(self, exchange: HTTPExchange) -> bool:
        """Send the reply; False if it was cut short, so that the connection must close."""
        sending = asyncio.ensure_future(self.send(exchange))
        leaving = asyncio.ensure_future(self.client_leaves())
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return sending.result() if sending.done() else False
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def send(self, exchange: HTTPExchange) -> bool:
        """Execute the steps; False if one of them hangs up."""
        record = exchange.record
        due = time.monotonic()
        last = Write(b"")
        for step in exchange.steps:
            # One step late, so that the last bytes go out together with the end of the reply:
            # a client that closes as soon as it has everything has not closed early.
            await self.write(record, last)
            last = step if isinstance(step, Write) else Write(b"")
            if isinstance(step, Pause):
                # Due times, not durations, keep the average pace exact; a slow reader gets no burst.
                due = max(due, time.monotonic() - step.seconds) + step.seconds
                await asyncio.sleep(due - time.monotonic())
            elif isinstance(step, Head):
                record.status = step.status
                self.write_head(step)
                await self.writer.drain()
            elif isinstance(step, Hold):
                await self.hold(exchange, step)
                due = time.monotonic()
            elif isinstance(step, HangUp):
                self.hang_up(reset=step.reset)
                return False
        await self.write(record, last, ending=True)
        return True

    def write_head(self, head: Head) -> None:
        headers = [("content-type", head.content_type), *head.headers]
        if head.length is not None:
            headers.append(("content-length", str(head.length)))
        response = h11.Response(status_code=head.status, headers=headers)
        self.writer.write(self.http.send(response) or b"")

    async def write(self, record: RecordedRequest, step: Write, *, ending: bool = False) -> None:
        """Write to the socket. Counts first, so that the record never lags behind the client."""
        data = b""
        if step.data:
            data = self.http.send(h11.Data(data=step.data)) or b""
            record.update(
                first_byte_at=record.first_byte_at or time.monotonic(),
                bytes_sent=record.bytes_sent + len(step.data),
                frames_sent=record.frames_sent + step.frames,
                chunks_sent=record.chunks_sent + step.chunks,
            )
        if ending:
            data += self.http.send(h11.EndOfMessage()) or b""
            record.update(finished_at=time.monotonic())
        if data:
            self.writer.write(data)
            await self.writer.drain()
        if data and not ending:
            await asyncio.sleep(0)  # lets other connections run, and notices a client that left

    async def hold(self, exchange: HTTPExchange, step: Hold) -> None:
        exchange.record.update(held=True)
        while True:
            try:
                await asyncio.wait_for(exchange.permits.acquire(), step.comment_every)
            except asyncio.TimeoutError:
                await self.write(exchange.record, Write(b": keep-alive\n\n"))
            else:
                break
        exchange.record.update(held=False)

    def hang_up(self, *, reset: bool) -> None:
        self.record = None  # not closed by the client
        if reset:  # with this option, closing sends RST
            connection: socket.socket = self.writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
