"""Named things, with errors that list the names there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from streamll.core.errors import DuplicateNameError, StreamllError, UnknownNameError

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Things of one kind by name, in the order in which they were registered."""

    def __init__(self, kind: str) -> None:
        self._kind = kind  # as error messages call it
        self._things: dict[str, T] = {}

    def register(self, thing: T, name: str | None = None, *, replace: bool = False) -> T:
        """Keep ``thing`` under ``name`` (default: its own). Registering it again does nothing.

        Raises:
            DuplicateNameError: something else has that name; ``replace=True`` replaces it.
        """
        key: Any = name or getattr(thing, "name", None)
        if not isinstance(key, str) or not key:
            raise StreamllError(f"{thing!r} has no name; pass one: register(…, name=…)")
        known = self._things.get(key)
        if known is not None and known is not thing and not replace:
            raise DuplicateNameError(
                f"there is a {self._kind} named {key!r} already ({known!r}); "
                "give this one another name, or pass replace=True"
            )
        self._things[key] = thing
        return thing

    def unregister(self, name: str) -> T:
        """Remove the thing of that name and return it. Raises ``UnknownNameError``."""
        thing = self[name]
        del self._things[name]
        return thing

    def list_names(self) -> list[str]:
        return list(self._things)

    def __getitem__(self, name: str) -> T:
        try:
            return self._things[name]
        except KeyError:
            raise UnknownNameError(self._unknown(name)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._things))

    def __len__(self) -> int:
        return len(self._things)

    def _unknown(self, name: str) -> str:
        if not self._things:
            return f"there is no {self._kind} named {name!r}, and no other"
        close = get_close_matches(str(name), self._things, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"there is no {self._kind} named {name!r}; there are {', '.join(self._things)}{hint}"

    def __repr__(self) -> str:
        return f"<Registry of {self._kind}s: {', '.join(self._things) or 'empty'}>"
