"""The guards of one scope, applied to what its events contain."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from streamll.core.events import NOTHING, Event, EventData
from streamll.guards.contents import ANY_VALUE, content_of
from streamll.guards.rules import Guard
from streamll.guards.text import ExactRules, Rules
from streamll.guards.values import ValueGuard, told_apart

SERVERS_OWN = frozenset({"streamll_owner", "streamll_program"})
"""What ``serve.permits`` puts into a run's context."""

MAX_CONTEXTS = 64
"""So many contexts of a run are remembered as they were guarded."""


class ScopeGuards:
    """The guards of a scope, as rules: for every text, and for those of a field."""

    def __init__(
        self, guards: tuple[Guard, ...], rules: Callable[[tuple[Guard, ...]], Rules] = ExactRules
    ) -> None:
        self._guards = guards
        always = tuple(guard for guard in guards if guard.fields is None)
        self._rules = rules
        self.everything: Rules | None = rules(always) if always else None
        self.clean: Mapping[str, Any] = NOTHING
        """The latest context in which nothing was found."""
        self._contexts: dict[int, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        self.of_field = functools.lru_cache(maxsize=1024)(self._of_field)

    def _of_field(self, predictor: str | None, field: str) -> Rules | None:
        """The rules for a field of a predictor; of one that is not known, of any."""
        ours = tuple(guard for guard in self._guards if is_about(guard, predictor, field))
        return self._rules(ours) if ours else None

    def contents(self, event: Event) -> tuple[Event, list[Guard]]:
        """The event with all that it contains guarded, its context apart, and what was found."""
        changed: dict[str, Any] = {}
        hits: list[Guard] = []
        for name in (*content_of(type(event)), "extra"):
            before = getattr(event, name)
            if before is None or before is NOTHING:
                continue
            if type(before) in (int, float, bool) and name not in ANY_VALUE:
                continue
            changed[name], found = self._content(name, before, event)
            if changed[name] is before:
                del changed[name]
            hits += found
        return (replace(event, **changed) if changed else event), list(dict.fromkeys(hits))

    def _content(self, name: str, value: Any, event: Event) -> tuple[Any, list[Guard]]:
        if name == "outputs" and isinstance(value, Mapping):
            return self.fields(value, event.predictor)
        if not isinstance(value, EventData):
            return self.value(value)
        own, hits = self.value(value.own)
        same = own is value.own and value.context is event.context
        return value if same else EventData(own, event.context), hits

    def value(self, value: Any) -> tuple[Any, list[Guard]]:
        """A value that belongs to no field."""
        if self.everything is None:
            return value, []
        values = ValueGuard(self.everything)
        return values.value(value), values.hits

    def fields(
        self, outputs: Mapping[str, Any], predictor: str | None
    ) -> tuple[Mapping[str, Any], list[Guard]]:
        """Values by the names of their fields."""
        guarded: dict[Any, Any] = {}
        hits: list[Guard] = []
        keys = list(outputs)
        if self.everything is not None:
            names = ValueGuard(self.everything)
            keys = told_apart(map(names.key, outputs), outputs)
            hits += names.hits
        for key, (name, value) in zip(keys, outputs.items(), strict=True):
            rules = self.of_field(predictor, name) if isinstance(name, str) else self.everything
            guarded[key] = value
            if rules is not None:
                values = ValueGuard(rules)
                guarded[key] = values.value(value)
                hits += values.hits
        pairs = zip(guarded.items(), outputs.items(), strict=False)
        same = all(a is c and b is d for (a, b), (c, d) in pairs)
        return (outputs, []) if same else (guarded, hits)

    def context(self, context: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Guard]]:
        """The context of an event; what was found in it is told once.

        What a server has put there stays: whose run it is decides who may see it.
        """
        if context is NOTHING or self.everything is None:
            return context, []
        if (known := self._contexts.get(id(context))) is not None:
            if known[1] is context:
                self.clean = context
            return known[1], []
        others = {name: v for name, v in context.items() if name not in SERVERS_OWN}
        guarded, hits = self.value(others)
        if guarded is others:
            guarded = context
        elif len(others) < len(context):
            guarded = {**{name: context[name] for name in context.keys() - others}, **guarded}
        if len(self._contexts) >= MAX_CONTEXTS:
            self._contexts.clear()
        self._contexts[id(context)] = context, guarded
        return guarded, hits


def is_about(guard: Guard, predictor: str | None, field: str) -> bool:
    """Whether a guard is about a field of this predictor; ``None``: one that is not known.

    An owner may be any part of the predictor's path: the program that declared the guard may be
    a part of another.
    """
    if guard.fields is None:
        return True
    path = "" if predictor is None else f".{predictor}.".replace("[", ".[")
    for asked in guard.fields:
        owner, _, name = asked.rpartition(".")
        if name == field and (not owner or not path or f".{owner}.".replace("[", ".[") in path):
            return True
    return False
