"""Runs made up for tests of channels: events with true seq, token_index and offset."""

from __future__ import annotations

from streamll.core.events import (
    Identity,
    ModuleStart,
    RunEnd,
    RunStart,
    Status,
    StreamllEvent,
    TokenEvent,
)


class RunEvents:
    """One run with any number of calls, each streaming one field."""

    def __init__(self, run_id: str = "run") -> None:
        self.run_id = run_id
        self.seq = 0
        self.identity = Identity(run_id=run_id)
        self.calls: dict[str, list] = {}  # call_id -> [identity, tokens, length, text so far]

    def _stamp(self, identity=None):
        seq, self.seq = self.seq, self.seq + 1
        return {"seq": seq, "timestamp": float(seq), "identity": identity or self.identity}

    def start(self):
        return RunStart(**self._stamp(), program="QA")

    def end(self):
        return RunEnd(**self._stamp())

    def module(self):
        identity = Identity(run_id=self.run_id, call_id=f"module {self.seq}")
        return ModuleStart(**self._stamp(identity), name="QA")

    def status(self):
        return Status(**self._stamp(), message="Searching…")

    def custom(self):
        return StreamllEvent(**self._stamp(), event_type="docs.found", data={"n": 1})

    def token(self, text: str = "ab", call_id: str = "call", finish_reason=None):
        call = self.calls.setdefault(
            call_id, [Identity(run_id=self.run_id, call_id=call_id), 0, 0, ""]
        )
        event = TokenEvent(
            **self._stamp(call[0]),
            field="answer",
            token=text,
            token_index=call[1],
            offset=call[2],
            finish_reason=finish_reason,
        )
        call[1] += 1
        call[2] += len(text)
        call[3] += text
        return event

    def tokens(self, count: int, call_id: str = "call"):
        return [self.token(f"{index} ", call_id) for index in range(count)]


def drain(channel) -> list:
    """Everything there is to read now."""
    items = []
    while not channel.empty:
        items.append(channel.get(timeout=0))
    return items


def accounted(statistics) -> bool:
    return statistics.received == (
        statistics.delivered
        + statistics.buffered
        + statistics.merged
        + statistics.dropped
        + statistics.discarded
    )
