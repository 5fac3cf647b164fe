"""The listener of one LM call, and the guard that keeps it out of the program's way.

A tap talks to one ``CallListener`` per LM call, however many attempts and candidates that call
takes. ``Guarded`` stands between them: a listener's exceptions are logged and go no further, because
capturing must never change a program. The one thing that may pass is ``Unwind``, a
``BaseException``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partialmethod
from typing import Any, Protocol

from streamll.capture.deltas import CitationDelta, Delta, ProviderChunk
from streamll.capture.tap.wire.reply import WireReply

logger = logging.getLogger("streamll.capture")


class CallListener(Protocol):
    """One LM call. ``begin``, ``check``, ``must_pause`` and the pauses may raise ``Unwind``.

    ``begin`` opens each attempt; ``done`` or ``failed`` closes it, exactly one of them. A second
    ``begin`` after ``done`` is the next candidate, after ``failed`` it is a retry.
    """

    @property
    def streaming(self) -> bool:
        """False: no text is wanted. The call runs as it is, and ``hear`` is not called."""

    def begin(self) -> None:
        """One attempt's request is about to be sent. Raises ``Unwind`` if the run was cancelled."""

    def sent(self, reply: WireReply) -> None:
        """The request leaves now; before that LiteLLM may have been imported, for seconds.

        ``reply`` is what comes of it: it tells at any time what the provider has said of usage.
        """

    def hear(self, delta: Delta) -> None:
        """More of the reply; empty text for more that is not shown."""

    def must_pause(self) -> bool:
        """Whether to ``pause`` before reading on (backpressure); asked after each chunk.

        Raises ``Unwind`` if the run was cancelled.
        """

    def check(self) -> None:
        """Raise ``Unwind`` if the run was cancelled."""

    def pause(self) -> None:
        """Wait, in this thread, until the reader has room."""

    async def pause_async(self) -> None:
        """The same for the event loop."""

    def connected(self, shutdown: Callable[[], None]) -> None:
        """From now on ``shutdown``, called from any thread, ends a blocked read at once."""

    def disconnected(self) -> None:
        """The last ``shutdown`` has nothing left to end."""

    def waiting(self, reason: str) -> None:
        """The request waits: for a ``"connection"`` when the LM's pool is exhausted."""

    def done(self, response: object | None) -> None:
        """The attempt gave a candidate: an lm15 ``Response`` or a DSPy ``CallResult``."""

    def failed(self, error: BaseException) -> None:
        """The attempt raised; DSPy decides what happens next."""


class Guarded:
    r"""A listener whose exceptions are logged; a tap calls nothing but this.

    A provider may cut a surrogate pair of a JSON escape in two (``\ud83d`` in one frame,
    ``\ude00`` in the next). Half a pair is not text yet, so it is held back until the other half
    has arrived, or the reply is over.
    """

    __slots__ = ("_hear", "_held", "_listener", "_must_pause", "_reported")

    def __init__(self, listener: CallListener) -> None:
        self._listener = listener
        self._hear = listener.hear
        self._must_pause = listener.must_pause
        # High surrogates, by the kind of delta and, of tool calls, the number.
        self._held: dict[tuple[Any, ...], str] = {}
        self._reported = False

    @property
    def streaming(self) -> bool:
        try:
            return bool(self._listener.streaming)
        except Exception as error:  # noqa: BLE001 - a listener must not break the program
            self._report(error)
            return False

    def hear(self, deltas: Iterable[Delta]) -> bool:
        """Pass the deltas on. Returns whether to ``pause`` before reading on."""
        for delta in deltas:
            whole: Delta | None = delta
            if type(delta) is not str or self._held or "\ud800" <= delta[-1:] <= "\udbff":
                whole = self._joined(delta)
            if whole is not None:
                try:
                    self._hear(whole)
                except Exception as error:  # noqa: BLE001
                    self._report(error)
        try:
            return self._must_pause()
        except Exception as error:  # noqa: BLE001
            self._report(error)
            return False

    def _joined(self, delta: Delta) -> Delta | None:
        """``delta`` with the half that was held back before it, without the one it ends with."""
        if isinstance(delta, (CitationDelta, ProviderChunk)):
            return delta
        kind: type[Any] = type(delta)
        facts: tuple[Any, ...] = () if isinstance(delta, str) else delta[:-1]  # of a tool call
        place = (kind, *facts[:1])
        text = self._held.pop(place, "") + (delta if isinstance(delta, str) else delta[-1])
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._held[place] = text[:-1], text[-1]
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        if not text and not any(facts[1:]):
            return None
        return text if isinstance(delta, str) else kind(*facts, text)

    def begin(self) -> None:
        self._held = {}
        self._guard("begin")

    def done(self, response: object | None) -> None:
        held, self._held = self._held, {}
        for (kind, *number), half in held.items():  # that stayed alone, as the program will see it
            self._guard("hear", kind(*number, None, None, half) if number else kind(half))
        self._guard("done", response)

    def _guard(self, method: str, *arguments: Any) -> None:
        try:
            getattr(self._listener, method)(*arguments)
        except Exception as error:  # noqa: BLE001
            self._report(error)

    sent = partialmethod(_guard, "sent")
    failed = partialmethod(_guard, "failed")
    check = partialmethod(_guard, "check")
    pause = partialmethod(_guard, "pause")
    connected = partialmethod(_guard, "connected")
    disconnected = partialmethod(_guard, "disconnected")
    waiting = partialmethod(_guard, "waiting")

    async def pause_async(self) -> None:
        try:
            await self._listener.pause_async()
        except Exception as error:  # noqa: BLE001
            self._report(error)

    def _report(self, error: Exception) -> None:
        """Log the exception, once per call and without the text that was being delivered."""
        if not self._reported:
            self._reported = True
            logger.error(
                "A listener of an LM call raised %s; the program goes on.",
                type(error).__name__,
                exc_info=error,
            )
