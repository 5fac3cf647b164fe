"""Whole values under some rules: every text in them, however deep, keys and numbers included.

What contains nothing forbidden stays the same object. What does becomes a copy in plain values:
dictionaries, lists and texts; an object is then shown as JSON would show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import count
from typing import Any

from streamll.core.jsonable import render
from streamll.guards.rules import Guard
from streamll.guards.text import Form, Rules

ESCAPED: tuple[tuple[Form, str], ...] = (("json", "\\"), ("xml", "&"))
"""Forms in which some characters are written as others, and how these begin."""
MAX_DEPTH = 200
"""Nesting beyond which a value becomes the name of its type; so does one that contains itself."""


class ValueGuard:
    """Guards the values of one event; ``hits`` are the guards that have found something in them."""

    def __init__(self, rules: Rules) -> None:
        self.hits: list[Guard] = []
        self._rules = rules
        self._path: set[int] = set()

    @property
    def closed_by(self) -> Guard | None:
        """The guard that withholds all of the text it has found something in."""
        return next((guard for guard in self.hits if guard.action != "mask"), None)

    def text(self, text: str, form: Form = "plain") -> str:
        """A whole text: with masks, empty where it is dropped, another where it is replaced.

        One that may be written in JSON or XML, as prompts are in part, is read so as well.
        """
        note = self._rules.note(text)
        shown = self._as(form, text, note)
        if form == "plain" and not self._rules.only_texts:
            for written, sign in ESCAPED:
                if sign in shown:
                    shown = self._as(written, shown, note)
        return shown

    def _as(self, form: Form, text: str, note: str) -> str:
        shown, hits = self._rules.whole(text, form, note) if text else (text, [])
        for hit in hits:
            if hit.guard not in self.hits:
                self.hits.append(hit.guard)
            if hit.guard.action in ("drop", "replace"):
                return hit.guard.mask if hit.guard.action == "replace" else ""
        return text if shown == text else shown  # the same object, where nothing was found

    def value(self, value: Any) -> Any:
        """Any value: the same object, if nothing in it is forbidden."""
        kind = type(value)
        if kind is str:
            return self.text(value)
        if value is None or kind is bool:
            return value
        if id(value) in self._path or len(self._path) >= MAX_DEPTH:
            return f"<{kind.__name__}>"
        self._path.add(id(value))
        try:
            return self._inside(value)
        except Exception:  # noqa: BLE001 - a value that raises when it is read
            return f"<{kind.__name__}>"
        finally:
            self._path.discard(id(value))

    def _inside(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, (list, tuple, AbstractSet)):
            items = [self.value(item) for item in value]
            return items if _differ(items, value) else value
        if type(value) in (int, float):
            return self._in_place_of(value, str(value))
        if isinstance(value, (bytes, bytearray)):
            return self._in_place_of(value, value.decode("utf-8", "replace"))
        shown = render(value)
        guarded = self.value(shown)
        return value if guarded is shown else guarded

    def _mapping(self, value: Mapping[Any, Any]) -> Mapping[Any, Any]:
        keys = [self.key(key) for key in value]
        items = [self.value(item) for item in value.values()]
        if _differ(keys, value) or _differ(items, value.values()):
            return dict(zip(told_apart(keys, value), items, strict=True))
        return value

    def key(self, key: Any) -> Any:
        """A key of a mapping, by its text."""
        text = key if type(key) is str else str(getattr(key, "value", key))
        return self._in_place_of(key, text)

    def _in_place_of(self, value: Any, text: str) -> Any:
        if self._rules.only_texts and (text.isidentifier() or type(value) in (int, float)):
            return value
        shown = self.text(text)
        return value if shown is text else shown


class DistinctKeys:
    """The keys of one mapping. Those that masks have made alike get numbers: no value may be lost."""

    def __init__(self, unchanged: Iterable[Any] = ()) -> None:
        self._taken = set(unchanged)
        self._numbers: dict[str, Iterator[int]] = {}

    def add(self, key: str) -> str:
        """The next masked key, as it is shown."""
        shown = key
        while shown in self._taken:
            shown = f"{key} {next(self._numbers.setdefault(key, count(2)))}"
        self._taken.add(shown)
        return shown


def told_apart(keys: Iterable[Any], before: Iterable[Any]) -> list[Any]:
    """The keys of a mapping, masked and ``before``, each once."""
    pairs = list(zip(keys, before, strict=True))
    distinct = DistinctKeys(new for new, old in pairs if new is old)
    return [new if new is old else distinct.add(new) for new, old in pairs]


def _differ(guarded: list[Any], before: Any) -> bool:
    return any(new is not old for new, old in zip(guarded, before, strict=True))
