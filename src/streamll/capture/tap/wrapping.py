"""Methods and functions of other libraries, wrapped where they offer no place to listen, and put back."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


class Place(NamedTuple):
    """One method that ``owner`` itself defines, or without one a function's name in ``module``."""

    module: str
    owner: str | None
    name: str
    wrapper: Wrapper


class Wrappings:
    """A few places, wrapped once by ``install`` however often it is called.

    What a version of the library lacks stays as it is: the wrappers here add, they are not
    relied upon. A method that somebody else has wrapped after us is left alone by ``uninstall``;
    our wrapper inside it does nothing outside a captured call.
    """

    def __init__(self, *places: Place) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._wrapped: dict[tuple[Any, str], tuple[Callable[..., Any], Callable[..., Any]]] = {}

    def install(self) -> None:
        with self._lock:
            for place in self._places:
                owner = _owner(place)
                if owner is None or (owner, place.name) in self._wrapped:
                    continue
                original = owner.__dict__[place.name]
                wrapper = place.wrapper(original)
                setattr(owner, place.name, wrapper)
                self._wrapped[owner, place.name] = (original, wrapper)

    def uninstall(self) -> None:
        with self._lock:
            for (owner, name), (original, wrapper) in list(self._wrapped.items()):
                if owner.__dict__.get(name) is wrapper:
                    setattr(owner, name, original)
                    del self._wrapped[owner, name]


def _owner(place: Place) -> Any:
    """The class or module that defines the name; ``None`` where there is none."""
    with contextlib.suppress(ImportError):
        module = importlib.import_module(place.module)
        owner = module if place.owner is None else getattr(module, place.owner, None)
        if place.name in getattr(owner, "__dict__", ()):
            return owner
    return None
