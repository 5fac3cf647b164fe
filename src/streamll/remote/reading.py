"""Reads one run of a server: asks again wherever a connection breaks off, and starts or stops the run.

Everything here runs on one event loop, its reader's or one in a thread (``flow.bridge``). What came is
yielded in batches, each event once and in order: after a break the server is asked for what comes
after the last event. What is not here: what the events say (``remote.stream``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any, NoReturn

import msgspec

from streamll.core.compact import CompactReader
from streamll.core.errors import (
    ConfigurationError,
    InvalidInputs,
    NoSuchRun,
    RunUnavailable,
    StreamllError,
    TokenRefused,
    logger,
)
from streamll.core.events import TERMINAL, Event
from streamll.core.jsonable import render
from streamll.core.positions import Position, position
from streamll.core.problems import Problem
from streamll.core.urls import without_password
from streamll.flow.retry import Backoff
from streamll.remote.inputs import inputs_as_json

BACKOFF = Backoff(attempts=1_000_000, base=0.1, factor=2.0, cap=5.0)
FIRST_PATIENCE_S = 5.0
"""How long a server is tried that has never answered: then the address is wrong rather than away."""
CONNECT_S = 10.0
SILENCE_S = 60.0
"""A connection on which nothing comes for so long is given up; a server sends heartbeats every 15 s."""
CANCEL_S = 5.0
"""How long a reader that leaves waits for its request to stop the run."""


LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
OF_SERVERS = frozenset({400, 404, 413, 415, 421})
"""What a server of streamll refuses, and would again: its ``error`` says why."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is read, and from where. Without ``run_id`` the run is started with ``body`` first."""

    url: str
    run_id: str | None = None
    body: Mapping[str, Any] | None = None
    token: str | None = None
    after: Position | None = None
    patience: float = 60.0
    http: Mapping[str, Any] = {}

    @property
    def shown(self) -> str:
        """The address, as errors name it."""
        return without_password(self.url)


class _Broken(Exception):
    """An attempt failed in a way that another one may not. ``retry_after``: seconds."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Reading:
    """The batches of a run's events, as an async iterable. ``cancel`` may be called from any thread."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.run_id = target.run_id
        self.cancelling = False
        self.asked: Future[None] = Future()
        """Done once the request to stop the run is on its way, or reading has ended without one."""
        self._after = target.after
        self._reached_end = False
        self._answered = False
        self._answer_token: str | None = None
        self.library = _http_library()
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Task[None] | None = None

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self._read()

    def cancel(self) -> None:
        """Ask the server to stop the run; now, or as soon as it is known."""
        self.cancelling = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
                self._loop.call_soon_threadsafe(self._send_cancel)

    def client_options(self, *, answers: bool = False) -> dict[str, Any]:
        """For a client of ``library``. ``answers``: it may use the token that does, if it has no other."""
        token = self.target.token or (self._answer_token if answers else None)
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        timeout = self.library.Timeout(SILENCE_S, connect=CONNECT_S)
        options = {"timeout": timeout, **self.target.http}
        return {**options, "headers": {**headers, **options.get("headers", {})}}

    async def _read(self) -> AsyncGenerator[list[Event], None]:
        async with self.library.AsyncClient(**self.client_options()) as self._client:
            try:
                if self.run_id is None:
                    self.run_id = await self._start()
                self._loop = asyncio.get_running_loop()
                if self.cancelling:
                    self._send_cancel()
                async with contextlib.aclosing(self._follow()) as batches:
                    async for batch in batches:
                        yield batch
            finally:
                self._has_asked()
                if self._stopping is not None:
                    await asyncio.wait({self._stopping}, timeout=CANCEL_S)
                    self._stopping.cancel()

    # --- events ---------------------------------------------------------------------------------

    async def _follow(self) -> AsyncGenerator[list[Event], None]:
        """All that comes, over as many connections as it takes."""
        tries = _Tries(self)
        while not self._reached_end:
            began = time.monotonic()
            try:
                async with contextlib.aclosing(self._connection()) as batches:
                    async for batch in batches:
                        tries.succeeded()
                        self._reach(batch)
                        yield batch
                reason = _Broken("the server has ended the stream before the run's end")
            except _Broken as broken:
                reason = broken
            except self.library.TransportError as error:
                reason = _Broken(_told(error))
            if time.monotonic() - began > BACKOFF.cap:
                tries.succeeded()
            if not self._reached_end:
                await tries.wait(reason)

    def _reach(self, batch: list[Event]) -> None:
        for event in reversed(batch):
            if event.seq is not None and event.run_id is not None:
                self._after = position(event)
                break
        self._reached_end = batch[-1].event_type in TERMINAL

    async def _connection(self) -> AsyncGenerator[list[Event], None]:
        """What one connection brings."""
        query = {"compact": "1"} | ({} if self._after is None else {"after": str(self._after)})
        frames, reader = Frames(), CompactReader()
        async with self._client.stream("GET", f"{self._run_url}/events", params=query) as response:
            if response.status_code == HTTPStatus.NO_CONTENT:
                self._answered = self._reached_end = True
                return
            if response.status_code != HTTPStatus.OK:
                await response.aread()
                self._refuse(response)
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise RunUnavailable(
                    f"{without_password(self._run_url)}/events is no streamll server's: it sends {kind!r}"
                )
            self._answered = True
            async for chunk in response.aiter_bytes():
                batch: list[Event] = []
                for frame in frames.feed(chunk):
                    event = reader.read(frame)
                    if event.event_type == "stream.error":
                        if batch:
                            yield batch
                        raise _Broken(
                            f"{event.data.get('error_type')}: {event.data.get('message')}"
                        )
                    batch.append(event)
                if batch:
                    yield batch

    @property
    def _run_url(self) -> str:
        return f"{self.target.url}/runs/{self.run_id}"

    # --- requests -------------------------------------------------------------------------------

    async def _start(self) -> str:
        """Start the run. Asked again only where the server cannot have started it."""
        tries, url = _Tries(self), f"{self.target.url}/runs"
        given = self.target.body or {}
        told = {**given, "inputs": msgspec.Raw(inputs_as_json(given["inputs"]))}
        body = msgspec.json.encode(told, enc_hook=render)
        while True:
            try:
                response = await self._client.post(
                    url, content=body, headers={"content-type": "application/json"}
                )
            except (self.library.ConnectError, self.library.ConnectTimeout) as error:
                await tries.wait(_Broken(_told(error)))
                continue
            except self.library.TransportError as error:
                raise RunUnavailable(
                    f"{without_password(url)} broke off ({_told(error)}): whether the run was "
                    "started is not known"
                ) from error
            self._answered = True
            if response.status_code == HTTPStatus.ACCEPTED:
                told = response.json()
                self._answer_token = told.get("answer_token")  # an older server gives none
                return str(told["run_id"])
            try:
                self._refuse(response, starting=True)
            except _Broken as broken:
                await tries.wait(broken)

    def _send_cancel(self) -> None:
        if not self.asked.done() and not self._reached_end:
            self._stopping = asyncio.ensure_future(self._cancel())
            self._has_asked()

    def _has_asked(self) -> None:
        if not self.asked.done():
            self.asked.set_result(None)

    async def _cancel(self) -> None:
        tries = _Tries(self)
        while not self._reached_end:
            try:
                response = await self._client.delete(self._run_url)
                if response.is_success:
                    return
                self._refuse(response)
            except _Broken as broken:
                reason = broken
            except self.library.TransportError as error:
                reason = _Broken(_told(error))
            except StreamllError as error:
                logger.warning("the run %s was not stopped: %s", self.run_id, error)
                return
            try:
                await tries.wait(reason)
            except RunUnavailable:  # as whoever reads the run is told
                return

    def _refuse(self, response: Any, *, starting: bool = False) -> NoReturn:
        """Raise what an answer says that is no stream."""
        status, url = response.status_code, without_password(str(response.request.url))
        told: Mapping[str, Any] = {}
        with contextlib.suppress(ValueError):
            told = told if not isinstance(found := json.loads(response.content), dict) else found
        message = str(told.get("error", "")) or f"status {status}"
        if status in LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            later = response.headers.get("retry-after", "")
            raise _Broken(f"{status}: {message}", float(later) if later.isdecimal() else None)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise TokenRefused(f"{url} refuses the token ({message}): pass a valid token=")
        if starting and status == HTTPStatus.BAD_REQUEST:
            problems = told.get("problems") or [{"place": "", "message": message}]
            raise InvalidInputs([Problem(each["place"], each["message"]) for each in problems])
        if status == HTTPStatus.NOT_FOUND and not starting:
            raise NoSuchRun(f"{url}: {message}")
        if status in OF_SERVERS:
            raise ConfigurationError(f"{url}: {message}")
        raise RunUnavailable(f"{url} answers {status}, which is no streamll server's: {message}")


class _Tries:
    """Attempts in a row that failed, and how long to wait before the next."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.succeeded()

    def succeeded(self) -> None:
        self._failures, self._since = 0, 0.0

    async def wait(self, broken: _Broken) -> None:
        """Wait for the next attempt; ``RunUnavailable`` once it has been long enough."""
        reading, now = self._reading, time.monotonic()
        self._since = self._since or now
        self._failures += 1
        delay = BACKOFF.delay(self._failures, broken.retry_after) or BACKOFF.cap
        patience = reading.target.patience
        if not reading._answered:  # noqa: SLF001
            patience = min(patience, FIRST_PATIENCE_S)
        if now - self._since >= patience:
            read = reading._after  # noqa: SLF001
            on = "" if read is None else f"; to read on later, pass after={str(read)!r}"
            raise RunUnavailable(
                f"{reading.target.shown} could not be read for {patience:g} s ({broken}){on}"
            )
        await asyncio.sleep(min(delay, max(0.0, self._since + patience - now)))


class Frames:
    """Cuts an event stream (WHATWG HTML, "Server-sent events") into the data of its frames."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            elif not line.rstrip(b"\r") and self._data:
                yield b"\n".join(self._data)
                self._data = []


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _http_library() -> Any:
    """What is there: DSPy's own dependencies bring one of the two."""
    try:
        import httpx
    except ImportError:
        try:
            import httpx2
        except ImportError:
            raise ConfigurationError("streamll.connect needs httpx: pip install httpx") from None
        return httpx2
    return httpx
