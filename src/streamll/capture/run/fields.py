"""Which output fields stream: names, ``"predictor.name"`` or ``"*"``.

A declaration applies to the predictors beneath it, an inner one before an outer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from streamll.core.errors import AmbiguousFieldError, ConfigurationError, UnknownFieldError

OutputFields = Mapping[str, tuple[str, ...]]
"""Output field names by ``named_predictors()`` key."""


class FieldSelection:
    """A checked declaration. ``FieldSelection(())`` selects nothing."""

    __slots__ = ("_asked", "everything")

    def __init__(self, names: Iterable[str]) -> None:
        listed = [names] if isinstance(names, str) else list(names)
        for name in listed:
            if not isinstance(name, str) or not name:
                raise ConfigurationError(
                    f"fields are names of output fields, not {name!r}; for all fields use '*'"
                )
        self.everything = "*" in listed
        self._asked = sorted({name for name in listed if name != "*"})

    def __bool__(self) -> bool:
        return self.everything or bool(self._asked)

    @property
    def qualified(self) -> bool:
        """Whether predictors are named."""
        return any("." in name for name in self._asked)

    def wants(self, predictor: str | None, field: str) -> bool:
        return self.everything or any(_is_asked(each, predictor, field) for each in self._asked)

    def missing(self, met: Iterable[tuple[str | None, str]]) -> list[str]:
        """The names that none of these fields, each with its predictor, has."""
        return [name for name in self._asked if not any(_is_asked(name, *each) for each in met)]

    def listed(self) -> list[str]:
        """The names as they were given, sorted."""
        return ["*"] if self.everything else self._asked.copy()

    def check(self, program: str, fields: OutputFields) -> None:
        """Raise ``UnknownFieldError`` for a name that no predictor of ``program`` has."""
        for asked in self._asked:
            check_field(asked, program, fields)


def check_field(asked: str, program: str, fields: OutputFields) -> None:
    """Raise ``UnknownFieldError`` unless some predictor of ``program`` has the field ``asked``."""
    if not _fields_asked(asked, fields):
        raise UnknownFieldError(unknown_field(asked, program, fields))


def in_full(asked: str, fields: OutputFields) -> str:
    """``asked`` with its predictor's own name, where it gives that of a module around it.

    Raises:
        AmbiguousFieldError: several predictors in that module have the field.
    """
    found = _fields_asked(asked, fields) if "." in asked else ()
    if not found or asked in found:
        return asked
    if len(found) > 1:
        raise AmbiguousFieldError(
            f"several predictors have a field {asked!r}; ask for one of: {', '.join(found)}"
        )
    return found[0]


def _fields_asked(asked: str, fields: OutputFields) -> list[str]:
    return [
        f"{predictor}.{name}"
        for predictor, names in fields.items()
        for name in names
        if _is_asked(asked, predictor, name)
    ]


def _is_asked(asked: str, predictor: str | None, field: str) -> bool:
    owner, dot, name = asked.rpartition(".")
    return field == name and (not dot or (predictor is not None and is_within(predictor, owner)))


def is_within(predictor: str, owner: str) -> bool:
    """Whether ``predictor`` is ``owner`` or lies beneath it (``cot`` names ``cot.predict`` too)."""
    return predictor == owner or predictor.startswith((f"{owner}.", f"{owner}["))


def listing(fields: OutputFields) -> str:
    """The fields that exist, for error messages."""
    return "; ".join(f"{p}: {', '.join(names)}" for p, names in fields.items())


def unknown_field(name: str, program: str, fields: OutputFields) -> str:
    """The message for a field that ``program`` does not have, with the likely one."""
    known = sorted({field for names in fields.values() for field in names})
    close = get_close_matches(name.rpartition(".")[2], known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return (
        f"{program} has no output field {name!r}. Its output fields are: {listing(fields)}.{hint}"
    )
