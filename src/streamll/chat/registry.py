"""Things by their names, with errors that say which names there are."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

from streamll.core.errors import DuplicateNameError, StreamllError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind (``what``), in the order in which they were registered."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._things: dict[str, T] = {}

    def register(self, thing: T, name: str | None = None, *, replace: bool = False) -> T:
        """Keep ``thing`` under ``name`` (default: its own). The same thing twice is once.

        Raises:
            DuplicateNameError: another has that name; ``replace=True`` takes its place.
        """
        called: Any = name or getattr(thing, "name", None)
        if not isinstance(called, str) or not called:
            raise StreamllError(f"{thing!r} has no name; pass one: register(…, name=…)")
        known = self._things.get(called)
        if known is not None and known is not thing and not replace:
            raise DuplicateNameError(
                f"there is a {self._what} named {called!r} already ({known!r}); "
                "give this one another name, or pass replace=True"
            )
        self._things[called] = thing
        return thing

    def unregister(self, name: str) -> T:
        """Forget the thing of that name, and return it. Raises ``UnknownNameError``."""
        thing = self[name]
        del self._things[name]
        return thing

    def get(self, name: str, default: T | None = None) -> T | None:
        return self._things.get(name, default)

    def list_names(self) -> list[str]:
        return list(self._things)

    def __getitem__(self, name: str) -> T:
        try:
            return self._things[name]
        except KeyError:
            raise UnknownNameError(self._unknown(name)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._things))

    def __len__(self) -> int:
        return len(self._things)

    def _unknown(self, name: str) -> str:
        if not self._things:
            return f"there is no {self._what} named {name!r}, and no other"
        close = get_close_matches(str(name), list(self._things), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"there is no {self._what} named {name!r}; there are {', '.join(self._things)}{hint}"

    def __repr__(self) -> str:
        return f"<Registry of {self._what}s: {', '.join(self._things) or 'empty'}>"
