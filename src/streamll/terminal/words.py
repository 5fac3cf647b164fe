"""How the facts of a run are worded, the same in both views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamll.core import events as ev
from streamll.core.run_view import CANCELLED, ENDED, FAILED, RunView
from streamll.terminal import text as tx

STOPPED = ("Unwind", "CancelledError")
"""What calls end with when their program is stopped."""

ENDINGS = {ENDED: "done in", FAILED: "failed after", CANCELLED: "cancelled after"}


def closing(state: str, totals: ev.Totals, view: RunView) -> list[str]:
    """``done in 1.2 s``, ``48 tokens``, ``first token 0.31 s``, ``41 tokens/s``, ``$0.0001``."""
    parts = [f"{ENDINGS[state]} {tx.seconds(totals.duration)}"]
    if tokens := tokens_used(totals, view.token_count):
        parts.append(tokens)
    if totals.cache_read_tokens:
        parts.append(f"{tx.amount(totals.cache_read_tokens, 'token')} cached")
    if totals.time_to_first_token is not None:
        parts.append(f"first token {tx.seconds(totals.time_to_first_token)}")
    if (rate := view.tokens_per_second) is not None:
        parts.append(f"{rate:,.0f} tokens/s" if rate >= 10 else f"{rate:.1f} tokens/s")  # noqa: PLR2004
    if totals.lm_calls > 1:
        parts.append(f"{totals.lm_calls} model calls")
    if totals.cost:
        parts.append(tx.dollars(totals.cost))
    return parts


def tokens_used(totals: ev.Totals, shown: int) -> str:
    """``48 tokens (9 reasoning)``, ``≈48 tokens`` where nothing was said, and nothing for none.

    The estimate is what it has reported of a part, or the pieces of text that were shown if that
    is more.
    """
    if (known := totals.completion_tokens) is not None:
        thought = totals.reasoning_tokens
        parts = f" ({thought:,} reasoning)" if thought else ""
        return tx.amount(known, "token") + parts if known else ""
    reported = sum(usage.completion_tokens or 0 for usage in totals.usage)
    estimate = max(reported, shown)
    return f"≈{tx.amount(estimate, 'token')}" if estimate else ""


def outcome(event: ev.Event) -> str:
    """How the call ended whose last event this is; stopped with its program, it did not fail."""
    kind = getattr(event, "error_type", None)
    return CANCELLED if kind in STOPPED else FAILED if kind else ENDED


def error(event: ev.Event) -> str:
    """``ValueError: no such city``, the error an event reports; empty if it reports none.

    A message that is empty or repeats the type adds nothing to it.
    """
    kind = tx.one_line(getattr(event, "error_type", None) or "")
    if kind in STOPPED:
        return ""
    message = tx.one_line(getattr(event, "message", "")) if kind else ""
    return message if message.startswith(kind) else ": ".join(filter(None, (kind, message)))


def step_name(name: str, path: tuple[str, ...]) -> str:
    """A module's name below its parent's: ``generate.predict`` in ``generate`` is ``predict``."""
    if len(path) > 1 and name.startswith(f"{path[-2]}."):
        name = name[len(path[-2]) + 1 :]
    return tx.one_line(name, 80)


def arguments(event: ev.ToolStart) -> str:
    """The arguments of a tool call as Python writes them; for an interpreter, its code."""
    if event.kind == "interpreter":
        return tx.one_line(str((event.arguments or {}).get("code") or ""), 200)
    return tx.arguments(event.arguments)


def superseded(event: ev.LMSuperseded) -> str:
    """Why the text of an attempt no longer counts, and who is asked now."""
    if event.next_model:
        return f"{tx.one_line(event.reason, 80)}, asking {tx.one_line(event.next_model, 80)}"
    if event.reason == "fallback":
        return "the reply did not parse, asking again as JSON"
    return f"{tx.one_line(event.reason, 80)}, asking again"


def waiting(event: ev.LMWaiting) -> str:
    """What a request waits for, as it follows the word ``waiting``."""
    if event.model:
        return f"for {tx.one_line(event.model, 80)} instead"
    delay = f", {tx.seconds(event.delay)}" if event.delay is not None else ""
    what = {"connection": "for a free connection", "retry": "before a retry"}
    return what.get(event.reason, f"for: {tx.one_line(event.reason, 80)}") + delay


def percent(score: float) -> str:
    return f"{score:.4g}%"


def evaluation(event: ev.EvaluateStart) -> str:
    """``QA on 50 examples by exact_match``."""
    name, metric = tx.one_line(event.name, 80), tx.one_line(event.metric, 80)
    return f"{name} on {tx.amount(event.total, 'example')} by {metric}"


def example(event: ev.EvaluateExample) -> str:
    """``3 of 50: 1 · 66.67% so far``, with the error instead of the score where it failed."""
    what = error(event) or ("no score" if event.score is None else f"{event.score:.4g}")
    mean = "" if event.mean is None else f" · {percent(event.mean)} so far"
    return f"{event.done} of {event.total}: {what}{mean}"


def result(event: ev.EvaluateEnd) -> list[str]:
    """``66.67%``, ``50 examples`` or ``2 of 50 examples failed``."""
    count = tx.amount(event.done, "example")
    count = f"{event.failed} of {count} failed" if event.failed else count
    return [*([percent(event.score)] if event.score is not None else []), count]


def compilation(event: ev.CompileStart) -> str:
    """``QA with MIPROv2 on 200 examples``."""
    on = f" on {tx.amount(event.total, 'example')}" if event.total is not None else ""
    return f"{tx.one_line(event.name, 80)} with {tx.one_line(event.optimizer, 80)}{on}"


def candidate(event: ev.CompileCandidate) -> str:
    """``5: 61.5% on 50 examples · best so far 66.67% (3)``; numbered from 1."""
    own = f"{event.index + 1}: {percent(event.score)} on {tx.amount(event.total, 'example')}"
    return f"{own} · best so far {percent(event.best)} ({event.best_index + 1})"


def compiled(event: ev.CompileEnd) -> list[str]:
    """``12 candidates``, ``best 66.67%``; nothing of an optimizer that evaluates none."""
    if event.best is None:
        return []
    return [tx.amount(event.candidates, "candidate"), f"best {percent(event.best)}"]


def citation(event: ev.Citation) -> str:
    parts = (event.title, event.url, None if event.title else event.text)
    return " ".join(tx.one_line(part, 200) for part in parts if part)


def part(event: ev.ReplyPart) -> str:
    """A part of a reply that is not text: what it is and where."""
    size = None if event.size is None else tx.amount(event.size, "byte")
    parts = (event.kind, event.media_type, event.url, size)
    return " ".join(tx.one_line(each, 200) for each in parts if each)


def guarded(event: ev.Guarded) -> str:
    """``card numbers · drop · answer``; ``mask``, as most do, is not said."""
    where = (event.outcome if event.outcome != "mask" else None, event.field)
    return " · ".join(tx.one_line(each, 80) for each in (event.name, *where) if each)


_KEPT = {"mask": "masked", "drop": "dropped", "replace": "replaced", "stop": "stopped by"}


def kept_back(counts: Mapping[tuple[str, str], int]) -> str:
    """``masked: emails ×2, names · dropped: keys``, of how often which action of which rule."""
    rules: dict[str, list[str]] = {}
    for (action, rule), count in counts.items():
        times = f" ×{count}" if count > 1 else ""
        rules.setdefault(action, []).append(tx.one_line(rule, 80) + times)
    return " · ".join(
        f"{_KEPT.get(action, tx.one_line(action, 80))}: {', '.join(names)}"
        for action, names in rules.items()
    )


def question(event: ev.Question) -> str:
    """What is asked, with the arguments of the call that is to be allowed."""
    said = tx.one_line(event.text)
    if event.tool is not None:
        said += f" {tx.one_line(event.tool)}({tx.arguments(event.arguments) or '…'})"
    return said


def answer(event: ev.Answer) -> str:
    """What a person said, or why nobody did."""
    given = tx.compact(event.value) if event.value is not None else ""
    who = f"by {tx.one_line(event.by)}" if event.by else ""
    how = "" if event.outcome == "answered" else tx.one_line(event.outcome)
    waited = f"after {tx.seconds(event.waited)}"
    return " ".join(filter(None, (how, given, who, waited)))


def gap(event: ev.StreamGap) -> str:
    return f"{tx.amount(event.count, 'event')} lost here ({tx.one_line(event.reason, 80)})"


def own_data(event: ev.StreamllEvent) -> Mapping[str, Any]:
    """A custom event's own data, without the context."""
    return event.data.own if isinstance(event.data, ev.EventData) else event.data


def custom(event: ev.StreamllEvent) -> str:
    shown = {k: v for k, v in own_data(event).items() if k not in ("trace", "trace_id")}
    return f"{tx.one_line(event.event_type, 80)} {tx.arguments(shown)}".rstrip()
