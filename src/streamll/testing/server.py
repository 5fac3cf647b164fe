"""The practice LM server: real HTTP, the providers' wire formats, scripted replies."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from streamll.flow.bridge import Background
from streamll.testing import dialects
from streamll.testing.connection import Connection, HTTPExchange, HTTPRequest
from streamll.testing.cutting import Chunk
from streamll.testing.model.answering import MODEL, practise
from streamll.testing.plan import Step, plan
from streamll.testing.prepared import prepare
from streamll.testing.recorded import WAIT_S, RecordedRequest
from streamll.testing.replies import Fault, Reply, ReplyLike, as_reply
from streamll.testing.routing import route, without_wire
from streamll.testing.wires import WIRES, PracticeWire

if TYPE_CHECKING:
    import dspy

T = TypeVar("T")
Log = Callable[[RecordedRequest], None]
Responder = Callable[[RecordedRequest], ReplyLike | None]
Scripted = ReplyLike | Responder
BACKLOG_CONNECTIONS = 2048
STOP_TIMEOUT_S = WAIT_S
OPTIONS = ("pace", "chunk", "packets", "fault")
"""The options of a reply for which the server has a default."""


@dataclass(kw_only=True, eq=False, repr=False)
class PracticeServer:
    """An LM provider on this machine, for tests, demonstrations and benchmarks.

    It speaks OpenAI Chat Completions, OpenAI Responses, Anthropic Messages and Gemini, streamed or
    not, over real HTTP in a thread of its own. Replies come from ``script`` and ``respond``; where
    these give none, a small built-in model answers whatever output fields the prompt asks for.

    Options, all of them attributes that may be changed while the server runs:

    * ``pace``: seconds from one chunk to the next; a plain reply takes as long as all of them.
    * ``chunk``: how texts are cut: ``"token"``, a number of characters, or ``"whole"``.
    * ``packets``: send every frame in a write of its own, as providers do at their pace; the
      default joins the frames that are ready.
    * ``fault``: applies to every reply that has none of its own.
    * ``dialect``: ``"groq"``, ``"ollama"``, …: as that server speaks its wire (``DIALECTS`` of
      ``streamll.testing.dialects``). Raises ``ValueError`` for an unknown one, with the list.
    * ``log``: called on the server's thread with each request whose reply is over.

    ``host`` and ``port`` say where it listens; by default a free port of this machine. The
    server is meant for loopback. It neither checks nor records credentials.

    Examples:
        >>> with PracticeServer() as server:
        ...     server.script({"answer": "Paris"})
        ...     qa = dspy.Predict("question -> answer")
        ...     qa.set_lm(server.lm())
        ...     qa(question="What is the capital of France?").answer
        'Paris'
    """

    pace: float = 0.0
    chunk: Chunk = "token"
    packets: bool = False
    fault: Fault | None = None
    dialect: str | None = None
    log: Log | None = None
    host: str = "127.0.0.1"
    port: int = 0
    requests: list[RecordedRequest] = field(init=False, default_factory=list)
    _scripted: deque[Scripted] = field(init=False, default_factory=deque)
    _responder: Responder | None = field(init=False, default=None)
    _changed: threading.Condition = field(init=False, default_factory=threading.Condition)
    _connections: dict[Connection, asyncio.Task[Any]] = field(init=False, default_factory=dict)
    _running: Background | None = field(init=False, default=None)
    _listening: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        dialects.find(self.dialect)

    # --- where ------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """``http://host:port``; with ``port=0`` the port is known once the server runs."""
        return f"http://{self.host}:{self.port}"

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI clients and ``dspy.LM("openai/…", api_base=…)``."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """The base URL for Anthropic clients and ``dspy.LM("anthropic/…", api_base=…)``."""
        return self.url

    @property
    def gemini_url(self) -> str:
        """The base URL for Google's clients, which add the API's version."""
        return self.url

    def lm(self, wire: str = "openai", model: str = MODEL, **options: Any) -> dspy.LM:
        """A ``dspy.LM`` that asks this server; ``options`` are passed to ``dspy.LM``.

        ``wire`` is ``"openai"`` (Chat Completions), ``"responses"``, ``"anthropic"`` or
        ``"gemini"``.
        DSPy's cache is off unless ``cache=True``, since tests would answer one another. Before
        DSPy 3.4 there is no ``engine`` to choose, and the option is left out.
        """
        import dspy

        wires = {each.name: each for each in WIRES}
        if wire not in wires:
            raise ValueError(f"there is no wire {wire!r}, only {', '.join(wires)}")
        settings = {"cache": False, **wires[wire].lm_settings(self.url), **options}
        if not hasattr(dspy, "lm15"):
            settings.pop("engine", None)
        return dspy.LM(f"{wires[wire].provider}/{model}", **settings)

    # --- what to answer ---------------------------------------------------------------------

    def script(self, *replies: Scripted) -> None:
        """Add the next replies, in order: each a ``Reply`` or one of its short forms.

        A string is a reply's exact text, a mapping its output fields, and a ``Fault`` a reply of
        the built-in model with that fault. A function is called with the ``RecordedRequest`` and
        returns any of these, or ``None`` for the built-in model; it runs on the server's thread
        and must not block. Raises ``TypeError`` for anything else.

        Examples:
            >>> server.script("raw text", {"answer": "42"}, Fault(status=429, retry_after=0), "ok")
        """
        for reply in replies:
            if not callable(reply):
                as_reply(reply)  # raises in the caller's thread, not in the server's
        with self._changed:
            self._scripted.extend(replies)

    def respond(self, responder: Responder | None) -> None:
        """Answer every request for which nothing is scripted with ``responder``.

        It is a function of the request, or ``None`` for the built-in model:
        ``server.respond(lambda request: {"answer": f"re: {request.inputs['question']}"})``.
        """
        self._responder = responder

    def release(self) -> None:
        """Resume every reply that is held or will be held."""
        for request in self.requests[:]:
            if not request.over:
                request.release()

    # --- what happened ----------------------------------------------------------------------

    def wait_for(
        self, condition: Callable[[], T], timeout: float = WAIT_S, what: str = "the condition"
    ) -> T:
        """Wait until ``condition()`` is true, and return its value.

        It is checked whenever a request arrives or a reply progresses. Raises ``TimeoutError``
        after ``timeout`` seconds, which says ``what`` was waited for.
        """
        with self._changed:
            result = self._changed.wait_for(condition, timeout)
        if not result:
            raise TimeoutError(f"after {timeout:g} s still waiting for {what}: {self.requests}")
        return result

    def wait_for_requests(self, count: int = 1, timeout: float = WAIT_S) -> list[RecordedRequest]:
        """Wait for ``count`` requests; returns all requests so far.

        Raises ``TimeoutError`` after ``timeout`` seconds.
        """
        self.wait_for(lambda: len(self.requests) >= count, timeout, f"{count} requests")
        return self.requests[:]

    # --- running ----------------------------------------------------------------------------

    def __enter__(self) -> PracticeServer:  # noqa: PYI034 - Self needs Python 3.11
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start in a thread of its own; returns once connections are accepted.

        Raises ``RuntimeError`` if it is running already.
        """
        if self._running is not None:
            raise RuntimeError("this practice server is already running")
        self._listen()
        self._running = Background("practice-server", contextvars.Context())
        self._running.start_loop(self._serve)

    def stop(self) -> None:
        """Drop all connections and stop; ``requests`` can still be read."""
        if self._running is not None:
            self._running.cancel()
            self._running.join(STOP_TIMEOUT_S)
            self._running = None
            self._listening.close()  # its loop may not have begun

    def serve_forever(self, ready: Callable[[], None] = lambda: None) -> None:
        """Run in this thread until Ctrl-C; ``ready`` is called once connections are accepted."""
        self._listen()
        with contextlib.suppress(KeyboardInterrupt):
            ready()
            asyncio.run(self._serve())

    def _listen(self) -> None:
        """From now on connections wait in the socket's backlog until the loop runs."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        address = (self.host, self.port)
        self._listening = socket.create_server(address, family=family, backlog=BACKLOG_CONNECTIONS)
        self.port = self._listening.getsockname()[1]

    async def _serve(self) -> None:
        """Serve until the task is cancelled."""
        server = await asyncio.start_server(
            self._connected, sock=self._listening, backlog=BACKLOG_CONNECTIONS
        )
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for connection in self._connections:
                connection.abort()
            abort_accepted = getattr(server, "abort_clients", None)  # Python 3.13
            if abort_accepted is not None:  # includes connections that are not served yet
                abort_accepted()
            if self._connections:
                await asyncio.wait(self._connections.values(), timeout=1)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine: of one that is cancelled, asyncio logs a traceback before Python 3.12.
        connection = Connection(reader, writer, self._exchange, self.log)
        task = self._connections[connection] = asyncio.ensure_future(connection.serve())
        task.add_done_callback(lambda _: self._connections.pop(connection))

    # --- one request ------------------------------------------------------------------------

    def _exchange(self, request: HTTPRequest) -> HTTPExchange:
        loop, permits = asyncio.get_running_loop(), asyncio.Semaphore(0)

        def release() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(permits.release)

        record, wire = route(request, self._changed, release)
        with self._changed:
            self.requests.append(record)
            self._changed.notify_all()
        return HTTPExchange(record, self._steps(record, wire), permits)

    def _steps(self, record: RecordedRequest, wire: PracticeWire | None) -> Iterable[Step]:
        if wire is None:
            return without_wire(record)
        try:
            reply = self._reply_to(record)
            prepared = prepare(reply, record)
            dialect = dialects.find(self.dialect, wire.name)
            record.usage = prepared.usage
        except Exception as error:  # noqa: BLE001 - from the test's function or values: reply with it
            message = f"this reply cannot be made: {type(error).__name__}: {error}"
            reply = Reply("", fault=Fault(status=500, message=message))
            prepared, dialect = prepare(reply, record), dialects.ORDINARY
        return plan(reply, prepared, wire, dialect)

    def _reply_to(self, request: RecordedRequest) -> Reply:
        """The next scripted reply, else the responder's, else the model's; with all its options."""
        with self._changed:
            from_script = bool(self._scripted)
            scripted = self._scripted.popleft() if from_script else self._responder
        value = scripted(request) if callable(scripted) else scripted
        reply = Reply() if value is None else as_reply(value)
        if reply.text is None and reply.chunks is None and not (reply.tool_calls or reply.refusal):
            reply = replace(reply, **practise(request))
        options = {name: getattr(self, name) for name in OPTIONS if getattr(reply, name) is None}
        reply = replace(reply, **options)
        refused = reply.fault is not None and reply.fault.refuses(request.body)
        if from_script and scripted is not None and refused:
            with self._changed:
                self._scripted.appendleft(scripted)  # for the request without stream_options
        return reply
