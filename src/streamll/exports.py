"""Public names that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def names_in(table: Mapping[str, str]) -> list[str]:
    return sorted(name for names in table.values() for name in names.split())


def imported(module: str, what: str) -> Any:
    """The module, for ``what``; ``ConfigurationError`` where that needs an extra that is missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        from streamll.core.errors import needs_extra

        raise needs_extra(what, "serve") from None


def resolver(package: str, *tables: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` for the module ``package``.

    The tables say where names come from: a module of streamll, and the names in it, separated by
    blanks. Under ``""`` are names of modules.
    """
    homes = {
        name: module
        for table in tables
        for module, names in table.items()
        for name in names.split()
    }

    def get(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not home:
            return import_module(f"streamll.{name}")
        value = getattr(imported(f"streamll.{home}", name), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
