"""What the facts of a run are called, the same in both views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamll.core import events as ev
from streamll.terminal import text as tx


class Meter:
    """What a run's LM calls used: the part of the closing line that ``run.end`` does not say."""

    __slots__ = ("counted", "generated", "generating")

    def __init__(self) -> None:
        self.counted = 0  # token events, for providers that report no usage
        self.generated = 0  # completion tokens of streamed calls …
        self.generating = 0.0  # … and the seconds between their first token and their end

    def lm_end(self, event: ev.LMEnd) -> None:
        if event.streamed and event.time_to_first_token is not None and event.completion_tokens:
            self.generated += event.completion_tokens
            self.generating += max(0.0, event.duration - event.time_to_first_token)

    def closing(self, event: ev.Totals) -> list[str]:
        """``1.2 s``, ``48 tokens``, ``first token 0.31 s``, ``41 tokens/s``, ``$0.0001``."""
        parts = [tx.seconds(event.duration)]
        tokens = event.completion_tokens or self.counted
        if tokens:
            parts.append(tx.amount(tokens, "token"))
        if event.time_to_first_token is not None:
            parts.append(f"first token {tx.seconds(event.time_to_first_token)}")
        if self.generating > 0 and self.generated > 1:
            rate = self.generated / self.generating
            parts.append(f"{rate:,.0f} tokens/s" if rate >= 10 else f"{rate:.1f} tokens/s")  # noqa: PLR2004
        if event.lm_calls > 1:
            parts.append(f"{event.lm_calls} model calls")
        if event.cost:
            parts.append(tx.dollars(event.cost))
        return parts


def step_name(name: str, path: tuple[str, ...]) -> str:
    """A module's name below its parent's: ``generate.predict`` in ``generate`` is ``predict``."""
    if len(path) > 1 and name.startswith(f"{path[-2]}."):
        name = name[len(path[-2]) + 1 :]
    return tx.one_line(name, 80)


def arguments(event: ev.ToolStart) -> str:
    """What a tool was called with, as it is written in a call; of an interpreter, its code."""
    if event.kind == "interpreter":
        return tx.one_line(str((event.arguments or {}).get("code") or ""), 200)
    return tx.arguments(event.arguments)


def superseded(reason: str) -> str:
    """Why an attempt's text counts no more."""
    if reason == "fallback":
        return "the reply did not parse, asking again as JSON"
    return f"{tx.one_line(reason, 80)}, asking again"


def waiting(event: ev.LMWaiting) -> str:
    """What a request waits for; comes after the word ``waiting``."""
    delay = f", {tx.seconds(event.delay)}" if event.delay is not None else ""
    what = {"connection": "for a free connection", "retry": "before a retry"}
    return what.get(event.reason, f"for: {tx.one_line(event.reason, 80)}") + delay


def citation(event: ev.Citation) -> str:
    parts = (event.title, event.url, None if event.title else event.text)
    return " ".join(tx.one_line(part, 200) for part in parts if part)


def part(event: ev.ReplyPart) -> str:
    """A part of a reply that is no text: what it is and where."""
    size = None if event.size is None else tx.amount(event.size, "byte")
    parts = (event.kind, event.media_type, event.url, size)
    return " ".join(tx.one_line(each, 200) for each in parts if each)


def gap(event: ev.StreamGap) -> str:
    return f"{tx.amount(event.count, 'event')} lost here ({tx.one_line(event.reason, 80)})"


def own_data(event: ev.StreamllEvent) -> Mapping[str, Any]:
    """A custom event's own data, without the context beneath it."""
    return event.data.own if isinstance(event.data, ev.EventData) else event.data


def custom(event: ev.StreamllEvent) -> str:
    shown = {k: v for k, v in own_data(event).items() if k not in ("trace", "trace_id")}
    return f"{tx.one_line(event.event_type, 80)} {tx.arguments(shown)}".rstrip()
