"""The record of one request to the practice server, and of its reply."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from streamll.testing.prompts import Prompt, PromptMessage, PromptTool
from streamll.testing.replies import Usage

T = TypeVar("T")
WAIT_S = 30.0
"""How long a test waits for what happens at once, unless the machine has much else to do."""
HEADERS_KEPT = frozenset(
    {"accept", "content-type", "user-agent", "anthropic-version", "anthropic-beta", "traceparent"}
)


class Asked(NamedTuple):
    """What a request asks for, besides its messages.

    ``as_array``: a stream as one JSON array. ``candidates``: how many. ``thinking``: to think
    aloud. ``calls_tools``: whether the tools that it offers may be called.
    """

    model: str = ""
    streaming: bool = False
    as_array: bool = False
    candidates: int = 1
    thinking: bool = False
    calls_tools: bool = True


NOTHING_ASKED = Asked()


@dataclass(eq=False, repr=False)
class RecordedRequest:
    """One request, recorded while it is answered; all times are ``time.monotonic()``.

    ``body`` is the parsed JSON; ``messages``, ``tools`` and ``schema`` (of a structured output)
    are read from it, in the same form for every wire, and ``prompt`` is what a DSPy adapter asks
    for. Only a few harmless headers are kept: credentials are never recorded. ``repr`` shows no
    prompt.

    ``status`` is ``None`` until a status line is sent. ``frames_sent``, ``chunks_sent`` (frames
    with content) and ``bytes_sent`` (of the body) count what was written to the socket, and never
    lag behind what the client has received. ``finished_at`` is when the last bytes were written,
    and stays ``None`` if that never happened. ``usage`` is what the whole reply counts as, even if only
    a part or, by ``status``, nothing of it is sent. ``client_closed_at`` is when the client closed the
    connection, which the server notices at once, also while the reply is held, stalled or silent.

    The ``wait_…`` methods wait for these without polling, and raise ``TimeoutError``. In
    asynchronous code: ``await asyncio.to_thread(request.wait_closed)``.
    """

    method: str
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    messages: Sequence[PromptMessage]
    prompt: Prompt
    tools: Sequence[PromptTool]
    schema: Mapping[str, Any]
    asked: Asked
    changed: threading.Condition
    release: Callable[[], None]
    """Resume a held, stalled or silent reply; one that is not held yet skips its next hold."""
    started_at: float = field(default_factory=time.monotonic)
    status: int | None = None
    frames_sent: int = 0
    chunks_sent: int = 0
    bytes_sent: int = 0
    held: bool = False
    first_byte_at: float | None = None
    finished_at: float | None = None
    client_closed_at: float | None = None
    usage: Usage | None = None

    def __repr__(self) -> str:
        state = "finished" if self.finished_at else "held" if self.held else "open"
        state = "closed by the client" if self.client_closed_at and not self.finished_at else state
        how = "streaming, " if self.streaming else ""
        return (
            f"<{self.method} {self.path} {self.status}: {how}"
            f"{self.chunks_sent} chunks, {self.bytes_sent} bytes, {state}>"
        )

    @property
    def streaming(self) -> bool:
        """Whether a stream is asked for."""
        return self.asked.streaming

    @property
    def model(self) -> str:
        """The model that is asked, as the request names it."""
        return self.asked.model

    @property
    def inputs(self) -> Mapping[str, str]:
        """The DSPy input fields in the prompt, e.g. ``request.inputs["question"]``."""
        return self.prompt.inputs

    @property
    def over(self) -> bool:
        """Whether the reply is complete or its connection is closed."""
        return self.finished_at is not None or self.client_closed_at is not None

    def update(self, **values: object) -> None:
        """Set the attributes ``values`` and notify the threads that wait for it."""
        with self.changed:
            vars(self).update(values)
            self.changed.notify_all()

    def wait_held(self, timeout: float = WAIT_S) -> None:
        """Wait up to ``timeout`` seconds until the reply is held.

        That is at ``hold_after``, or by a stalled or silent fault.
        """
        self.wait(lambda: self.held, timeout, "is not held")

    def wait_chunks(self, count: int, timeout: float = WAIT_S) -> None:
        """Wait up to ``timeout`` seconds until ``count`` chunks have been sent."""
        self.wait(lambda: self.chunks_sent >= count, timeout, f"has not sent {count} chunks")

    def wait_finished(self, timeout: float = WAIT_S) -> float:
        """Wait up to ``timeout`` seconds until the reply has been sent; returns when that was."""
        return self.wait(lambda: self.finished_at, timeout, "is not finished")

    def wait_closed(self, timeout: float = WAIT_S) -> float:
        """Wait up to ``timeout`` seconds until the client has closed the connection.

        Returns when that was.
        """
        return self.wait(lambda: self.client_closed_at, timeout, "is still open")

    def wait(self, condition: Callable[[], T | None], timeout: float, otherwise: str) -> T:
        """Wait at most ``timeout`` seconds for a condition on this request; returns its value.

        Raises ``TimeoutError``, which says that the reply ``otherwise``.
        """
        with self.changed:
            result = self.changed.wait_for(condition, timeout)
        if not result:
            raise TimeoutError(f"after {timeout:g} s the reply {otherwise}: {self!r}")
        return result
