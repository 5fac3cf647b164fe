"""Events of runs as capture makes them, written short."""

from __future__ import annotations

import itertools
import re
from typing import Any

import msgspec

from streamll.core import events as ev
from streamll.terminal import layout
from streamll.terminal.drawing import Glyphs, Line
from streamll.terminal.tree import RunTree


class Script:
    """The events of one run, in the making."""

    def __init__(self, program: str = "QA", run_id: str = "r1") -> None:
        self.run_id = run_id
        self.events: list[ev.Event] = []
        self._ids = itertools.count()
        self.say(ev.RunStart, ev.Identity(run_id=run_id), program=program)
        self.root = self.module(program, None)

    def say(self, kind: type[ev.Event], who: ev.Identity, /, **own: Any) -> None:
        self.events.append(kind(seq=len(self.events), identity=who, **own))

    def module(
        self, name: str, parent: ev.Identity | None, *, turn: int = 0, predictor: bool = True
    ) -> ev.Identity:
        who = self._call(name, parent, predictor=name if predictor else None, turn=turn)
        self.say(ev.ModuleStart, who, name=name)
        return who

    def tool(self, name: str, parent: ev.Identity, **own: Any) -> ev.Identity:
        who = self._call(name, parent)
        self.say(ev.ToolStart, who, name=name, **own)
        return who

    def _call(self, name: str, parent: ev.Identity | None, **own: Any) -> ev.Identity:
        return ev.Identity(
            run_id=self.run_id,
            call_id=f"{self.run_id}-{next(self._ids)}",
            parent_call_id=parent.call_id if parent else None,
            path=(*(parent.path if parent else ()), name),
            **own,
        )

    def ask(self, who: ev.Identity, model: str = "openai/gpt-4o-mini") -> None:
        lm = msgspec.structs.replace(who, call_id=f"{who.call_id}-lm", parent_call_id=who.call_id)
        self.say(ev.LMStart, lm, model=model)

    def answered(self, who: ev.Identity, **own: Any) -> None:
        lm = msgspec.structs.replace(who, call_id=f"{who.call_id}-lm", parent_call_id=who.call_id)
        own = {"model": "openai/gpt-4o-mini", "duration": 1.0, "streamed": True, **own}
        self.say(ev.LMEnd, lm, **own)

    def field(self, who: ev.Identity, name: str, text: str, *, end: bool = True) -> None:
        self.say(ev.FieldStart, who, field=name)
        for index, token in enumerate(re.findall(r"\s*\S+|\s+$", text)):
            self.say(ev.TokenEvent, who, field=name, token=token, token_index=index)
        if end:
            self.say(ev.FieldEnd, who, field=name, length=len(text))

    def done(self, who: ev.Identity, duration: float = 1.0) -> None:
        self.say(ev.ModuleEnd, who, name=who.path[-1], duration=duration)

    def end(self, kind: type[ev.Event] = ev.RunEnd, **own: Any) -> list[ev.Event]:
        own = {"duration": 1.2, "time_to_first_token": 0.3, "lm_calls": 1, **own}
        self.say(kind, ev.Identity(run_id=self.run_id), **own)
        return self.events


def chain_of_thought(
    run_id: str = "r1", reasoning: str = "Think.", answer: str = "Paris."
) -> list[ev.Event]:
    script = Script(run_id=run_id)
    generate = script.module("generate", script.root, predictor=False)
    predict = script.module("generate.predict", generate)
    script.ask(predict)
    script.field(predict, "reasoning", reasoning)
    script.field(predict, "answer", answer)
    script.answered(predict, completion_tokens=48, time_to_first_token=0.3, duration=1.2)
    for who in (predict, generate, script.root):
        script.done(who)
    return script.end(completion_tokens=48, cost=0.0001)


def shown(lines: list[Line]) -> str:
    return "\n".join("".join(text for _, text in line).rstrip() for line in lines)


def model_of(events: list[ev.Event]) -> RunTree:
    run = RunTree(events[0].run_id, 0.0)
    for event in events:
        run.apply(event, 0.0)
    return run


def whole(events: list[ev.Event], width: int = 80) -> str:
    return shown(layout.whole(model_of(events), width, 0.0, Glyphs()))


def live(
    runs: list[list[ev.Event]], width: int = 80, height: int = 24, now: float = 1.0
) -> list[str]:
    models = [model_of(events) for events in runs]
    return shown(layout.compose(models, width, height, now, Glyphs())).split("\n")
