"""Functions of the caller's own around a question: before it, after its reply, on its failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from streamll.chat.question import Question
from streamll.chat.reply import Reply


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """Called once per question, streamed or not; ordinary functions or ``async`` ones.

    ``before(question)`` may change the question, and prevents it by raising. ``after(question,
    reply)`` and ``on_error(question, error)`` run at its end; what they raise is logged and does
    not reach the caller.
    """

    before: Callable[[Question], Any] | None = None
    after: Callable[[Question, Reply], Any] | None = None
    on_error: Callable[[Question, BaseException], Any] | None = None
