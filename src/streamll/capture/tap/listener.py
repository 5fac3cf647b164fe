"""Who hears one LM call, and a guard that keeps the hearer out of the program's way.

``CallListener`` is what a tap talks to: one listener per LM call, however many attempts and
candidates that call takes. ``Guarded`` stands between the tap and a listener: whatever the
listener does wrong is logged and stays here, because capturing must never change a program.
The one thing that may pass is ``Unwind``, from ``begin``, ``check`` and the two pauses.

``tell`` and ``tell_outputs`` give a listener a reply that was not streamed, in one piece.

This module knows nothing of providers, engines or sockets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

logger = logging.getLogger("streamll.capture")


class CallListener(Protocol):
    """One LM call. Methods never raise, but ``begin``, ``check`` and the pauses may ``Unwind``.

    ``begin`` opens each attempt; ``done`` or ``failed`` closes it, exactly one of them. A second
    ``begin`` after ``done`` is the next candidate, after ``failed`` it is a retry.
    """

    @property
    def streaming(self) -> bool:
        """False: nobody wants text. The call runs as it is, only begin/done/failed are reported."""

    @property
    def full(self) -> bool:
        """True while the tap should ``pause`` before it reads on (backpressure)."""

    def begin(self) -> None:
        """One attempt's request is about to be sent. Raises Unwind when the run was cancelled."""

    def text(self, text: str) -> None: ...

    def chunk(self, chunk: Any) -> None:
        """The engine made a chunk of what comes next, as DSPy's own streaming shows it.

        ``None``: this engine makes no chunks, and DSPy shows none of what comes next.
        """

    def thinking(self, text: str) -> None: ...

    def refusal(self, text: str) -> None: ...

    def tool_call(self, index: int, id: str | None, name: str | None, arguments: str) -> None:  # noqa: A002
        """``id`` and ``name`` come with a call's first fragment; ``arguments`` is a fragment."""

    def citation(self, text: str | None, title: str | None, url: str | None) -> None: ...

    def check(self) -> None:
        """Called after each chunk. Raises Unwind when the run was cancelled."""

    def pause(self) -> None:
        """Wait, in this thread, until the reader has room."""

    async def pause_async(self) -> None:
        """The same for the event loop."""

    def connected(self, shutdown: Callable[[], None]) -> None:
        """From now on ``shutdown``, called from any thread, ends a blocked read at once."""

    def disconnected(self) -> None:
        """The last ``shutdown`` has nothing left to end."""

    def waiting(self, reason: str) -> None:
        """The request waits for something: ``"connection"`` when the LM's pool is exhausted."""

    def done(self, response: object | None) -> None:
        """The attempt gave a candidate: an lm15 ``Response`` or a DSPy ``CallResult``."""

    def failed(self, error: BaseException) -> None:
        """The attempt raised; DSPy decides what happens next."""


class Guarded:
    r"""A listener whose mistakes go to the log; the tap calls nothing but this.

    A provider may cut a surrogate pair of a JSON escape in two (``\ud83d`` in one frame,
    ``\ude00`` in the next). Half a pair is not text yet, so ``text`` and ``thinking`` keep it
    back until the other half is there, or the reply is over and it is all there is.
    """

    __slots__ = (
        "_check", "_complained", "_half_text", "_half_thought", "_listener", "_text", "_thinking",
    )  # fmt: skip

    def __init__(self, listener: CallListener) -> None:
        self._listener = listener
        self._check = listener.check
        self._text = listener.text
        self._thinking = listener.thinking
        self._half_text = ""
        self._half_thought = ""
        self._complained = False

    @property
    def streaming(self) -> bool:
        try:
            return bool(self._listener.streaming)
        except Exception as error:  # noqa: BLE001 - a listener must not break the program
            self._complain(error)
            return False

    # --- what the model says ---

    def text(self, text: str) -> None:
        if self._half_text or "\ud800" <= text[-1:] <= "\udbff":
            text, self._half_text = _join_halves(self._half_text + text)
            if not text:
                return
        try:
            self._text(text)
        except Exception as error:  # noqa: BLE001
            self._complain(error)

    def thinking(self, text: str) -> None:
        if self._half_thought or "\ud800" <= text[-1:] <= "\udbff":
            text, self._half_thought = _join_halves(self._half_thought + text)
            if not text:
                return
        try:
            self._thinking(text)
        except Exception as error:  # noqa: BLE001
            self._complain(error)

    def chunk(self, chunk: Any) -> None:
        self._quietly(self._listener.chunk, chunk)

    def refusal(self, text: str) -> None:
        self._quietly(self._listener.refusal, text)

    def tool_call(self, index: int, id: str | None, name: str | None, arguments: str) -> None:  # noqa: A002
        self._quietly(self._listener.tool_call, index, id, name, arguments)

    def citation(self, text: str | None, title: str | None, url: str | None) -> None:
        self._quietly(self._listener.citation, text, title, url)

    # --- the call ---

    def begin(self) -> None:
        self._half_text = self._half_thought = ""
        self._quietly(self._listener.begin)

    def check(self) -> None:
        self._quietly(self._listener.check)

    def wants_pause(self) -> bool:
        """``check``, and whether to ``pause`` before the next read."""
        try:
            self._check()
            full = self._listener.full
        except Exception as error:  # noqa: BLE001
            self._complain(error)
            return False
        return full

    def pause(self) -> None:
        self._quietly(self._listener.pause)

    async def pause_async(self) -> None:
        try:
            await self._listener.pause_async()
        except Exception as error:  # noqa: BLE001
            self._complain(error)

    def connected(self, shutdown: Callable[[], None]) -> None:
        self._quietly(self._listener.connected, shutdown)

    def disconnected(self) -> None:
        self._quietly(self._listener.disconnected)

    def waiting(self, reason: str) -> None:
        self._quietly(self._listener.waiting, reason)

    def settle(self) -> None:
        """The reply is over: a half that stayed alone goes out as the program will see it."""
        text, thought = self._half_text, self._half_thought
        self._half_text = self._half_thought = ""
        if text:
            self._quietly(self._text, text)
        if thought:
            self._quietly(self._thinking, thought)

    def done(self, response: object | None) -> None:
        self.settle()
        self._quietly(self._listener.done, response)

    def failed(self, error: BaseException) -> None:
        self._quietly(self._listener.failed, error)

    def _quietly(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except Exception as error:  # noqa: BLE001
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Once per call, and without the text that was being delivered."""
        if not self._complained:
            self._complained = True
            logger.error(
                "A listener of an LM call raised %s; the program goes on.",
                type(error).__name__,
                exc_info=error,
            )


def _join_halves(text: str) -> tuple[str, str]:
    """Text with its surrogate pairs joined, and the high half it ends with, if any."""
    half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    whole = text[: len(text) - len(half)]
    pairs = whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return pairs, half


def tell(listener: Guarded, response: Any) -> None:
    """A ``Response`` that was not streamed: each of its parts in one piece."""
    calls = 0
    for part in response.message.parts:
        kind = part.type
        if kind == "text":
            if part.text:
                listener.text(part.text)
        elif kind == "thinking":
            if part.text:
                listener.thinking(part.text)
        elif kind == "refusal":
            listener.refusal(part.text)
        elif kind == "citation":
            listener.citation(part.text, part.title, part.url)
        elif kind == "tool_call":
            listener.tool_call(calls, part.id, part.name, _json(part.input))
            calls += 1
        elif kind == "data":
            listener.text(_json(part.value))


def tell_outputs(listener: Guarded, outputs: Sequence[Any]) -> None:
    """Legacy outputs that were not streamed: candidate 0, in one piece."""
    if not outputs:
        return
    output = outputs[0] if isinstance(outputs[0], dict) else {"text": outputs[0]}
    if isinstance(thought := output.get("reasoning_content"), str) and thought:
        listener.thinking(thought)
    if isinstance(text := output.get("text"), str) and text:
        listener.text(text)
    for index, call in enumerate(output.get("tool_calls") or ()):
        function = _get(call, "function")
        arguments = _get(function, "arguments")
        listener.tool_call(
            index,
            _get(call, "id"),
            _get(function, "name"),
            arguments if isinstance(arguments, str) else _json(arguments),
        )
    for citation in output.get("citations") or ():
        if isinstance(citation, dict):
            listener.citation(citation.get("text"), citation.get("title"), citation.get("url"))


def _get(holder: Any, key: str) -> Any:
    return holder.get(key) if isinstance(holder, dict) else getattr(holder, key, None)


def _json(value: Any) -> str:
    """As DSPy writes it into an output, so that what is told is what the adapter reads."""
    import json

    return json.dumps(value, ensure_ascii=False)
