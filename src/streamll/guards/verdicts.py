"""Verdicts as rules: texts whose units checks have been asked about pass the rewriting by what was said.

``Asking`` collects what is to be asked, ``Verdicts`` are the rules once all of it is known. A text that
comes in pieces is cut into parts by a ``Source``; what is released of each is a ``JudgedText``'s.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, Protocol

from streamll.flow.waiting import LoopWaiter, ThreadWaiter, Waiter
from streamll.guards.checked import CheckedString, Part
from streamll.guards.checks import Inquiries, Inquiry
from streamll.guards.rules import Check, Guard
from streamll.guards.text import Form, GuardedText, Hit
from streamll.guards.values import ValueGuard

UNREADABLE = object()


class Piece(str):
    """A part of a text, as it passes the rewriting once it is judged."""

    __slots__ = ("part", "source")
    part: Part
    source: Source


class Source(Protocol):
    """A text that is cut into parts: a ``CheckedText``, or ``WrittenValue``."""

    hits: list[Hit]
    closed_by: Check | None

    def feed(self, text: str) -> list[Part]: ...
    def finish(self) -> list[Part]: ...
    def release(self, part: Part) -> str: ...


class JudgedText:
    """A text whose pieces have all been judged."""

    def __init__(self) -> None:
        self.hits: list[Hit] = []
        self.closed_by: Guard | None = None

    def feed(self, text: str) -> str:
        if not isinstance(text, Piece):
            return ""
        shown = text.source.release(text.part)
        self.hits += text.source.hits
        text.source.hits.clear()
        self.closed_by = text.source.closed_by
        return shown

    def finish(self) -> str:
        return ""


class Verdicts:
    """Checks as rules, where all that they need to know is known."""

    only_texts = True

    def __init__(self, inquiries: Inquiries, checks: tuple[Check, ...]) -> None:
        self._inquiries = inquiries
        self._checks = checks

    def begin(self, form: Form = "plain") -> GuardedText:
        return JudgedText()

    def note(self, text: str) -> str:
        return ""  # a check is asked about it like about the rest

    def whole(self, text: str, form: Form = "plain", note: str = "") -> tuple[str, list[Hit]]:
        value = _read(text) if form == "json" else UNREADABLE
        if value is UNREADABLE:
            return self._string(CheckedString(self._checks, self._inquiries, text))
        values = ValueGuard(self)
        shown = values.value(value)
        hits = [Hit(guard, 0) for guard in values.hits]
        return (text if shown is value else json.dumps(shown, ensure_ascii=False)), hits

    def _string(self, string: CheckedString) -> tuple[str, list[Hit]]:
        return string.release()


class Asking(Verdicts):
    """The same, asked for the first time: nothing changes, and the inquiries are collected."""

    def __init__(
        self, inquiries: Inquiries, found: list[Inquiry], checks: tuple[Check, ...]
    ) -> None:
        super().__init__(inquiries, checks)
        self._found = found

    def _string(self, string: CheckedString) -> tuple[str, list[Hit]]:
        self._found += string.inquiries
        return string.text, []


class WrittenValue:
    """The raw text of a value in JSON, as one part."""

    def __init__(self, checks: tuple[Check, ...], inquiries: Inquiries) -> None:
        self.hits: list[Hit] = []
        self.closed_by: Check | None = None
        self._checks = checks
        self._inquiries = inquiries
        self._pieces: list[str] = []

    def feed(self, text: str) -> list[Part]:
        self._pieces.append(text)
        return []

    def finish(self) -> list[Part]:
        text = "".join(self._pieces)
        self._pieces.clear()
        found: list[Inquiry] = []
        Asking(self._inquiries, found, self._checks).whole(text, "json")
        return [Part(text, 0, [], found)] if text else []

    def release(self, part: Part) -> str:
        shown, self.hits = Verdicts(self._inquiries, self._checks).whole(part.text, "json")
        closers = [hit.guard for hit in self.hits if hit.guard.action != "mask"]
        if not closers:
            return shown
        self.closed_by = closers[0]  # type: ignore[assignment]
        return ""


def _read(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return UNREADABLE


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these members, which must be all that is written."""
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ValueError("a key stands twice")
    return read


class Judging:
    """A value under checks, for whoever waits for them: ``walk(rules)`` is the value under such rules."""

    def __init__(self, inquiries: Inquiries, walk: Callable[[Any], Any]) -> None:
        self._inquiries = inquiries
        self._walk = walk
        self._asked: list[Inquiry] = []
        self._waiter: Waiter | None = None
        with inquiries.lock:
            walk(functools.partial(Asking, inquiries, self._asked))
            self._undecided = {each for each in self._asked if each.verdict is None}
            for each in self._undecided:
                each.then.append(self._decided)

    def _decided(self, inquiry: Inquiry) -> None:
        self._undecided.discard(inquiry)
        if not self._undecided and self._waiter is not None:
            self._waiter.wake()

    def _waits_with(self, waiter: Waiter) -> bool:
        with self._inquiries.lock:
            self._waiter = waiter
            return bool(self._undecided)

    def wait(self) -> None:
        """Wait until all verdicts are known."""
        if self._waits_with(waiter := ThreadWaiter()):
            waiter.wait(None)

    async def wait_async(self) -> None:
        """The same in a task."""
        if self._waits_with(waiter := LoopWaiter()):
            await waiter.wait(lambda _: None)

    def value(self) -> Any:
        """The value by these verdicts."""
        with self._inquiries.lock:
            self._inquiries.keep(self._asked)
            return self._walk(functools.partial(Verdicts, self._inquiries))
