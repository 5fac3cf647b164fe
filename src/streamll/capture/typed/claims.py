"""Whether what was shown of a value is what the program has.

Shown are plain values, as the model wrote them: lists and dictionaries, texts for dates and members
of an ``Enum``. The program has what pydantic made of them, after its validators.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import functools
from collections.abc import Mapping
from typing import Any

import pydantic

_PLAIN = (str, int, float, bool, type(None))
_READ_FROM_NUMBERS = (dt.date, dt.time, dt.timedelta, decimal.Decimal)
_COLLECTIONS = (list, tuple, set, frozenset, Mapping)


def holds(shown: Any, value: Any, *, whole: bool = False) -> bool:
    """Whether ``shown`` is ``value`` or the beginning of it: of its kind, with nothing else in it.

    ``whole``: no list or dictionary may have more than was shown of it. Members of other objects
    may always be missing, since those have defaults.
    """
    if isinstance(value, enum.Enum):
        return shown is value or holds(shown, value.value)
    if isinstance(value, pydantic.RootModel):
        return holds(shown, value.root, whole=whole) or shown == value
    if type(value) in _PLAIN:
        return type(shown) is type(value) and (shown == value or shown != shown)  # noqa: PLR0124 - NaN
    if isinstance(shown, dict) and (members := _members(value, shown)) is not None:
        is_all = not (whole and isinstance(value, Mapping)) or len(shown) == len(value)
        return is_all and all(
            key in members and holds(part, members[key], whole=whole) for key, part in shown.items()
        )
    if isinstance(shown, list) and isinstance(value, _COLLECTIONS):
        return isinstance(value, (list, tuple)) and _holds_items(shown, value, whole)
    return _is_read_as(shown, value)


def _holds_items(shown: list[Any], items: Any, whole: bool) -> bool:
    if len(shown) != len(items) if whole else len(shown) > len(items):
        return False
    return all(holds(*pair, whole=whole) for pair in zip(shown, items, strict=False))


def _members(value: Any, shown: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The members of an object by the names that were shown; ``None`` if it has none."""
    if isinstance(value, pydantic.BaseModel):
        return {**vars(value), **(value.model_extra or {})}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return _by_names(value, shown)
    return None


def _by_names(value: Mapping[Any, Any], shown: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parts of a dictionary by what was shown of its keys: a date may be written in many ways."""
    members = {_name(key): part for key, part in value.items()}
    kinds: set[Any] = {type(key) for key in value} - {str}
    for name in shown.keys() - members.keys():
        for kind in kinds:
            with contextlib.suppress(Exception):  # types of the user's own
                if (key := _reader(kind)(name)) in value:
                    members[name] = value[key]
    return members


def _name(key: Any) -> str:
    """A key of a dictionary as JSON has it."""
    return str(key.value if isinstance(key, enum.Enum) else key)


def _is_read_as(shown: Any, value: Any) -> bool:
    """A date, a path, an object as DSPy reads it: by what its type makes of what was shown."""
    kind: Any = type(value)
    try:
        if isinstance(shown, (int, float)) and isinstance(value, _READ_FROM_NUMBERS):
            return False
        return bool(shown == value or _reader(kind)(shown) == value)
    except Exception:  # noqa: BLE001 - types of the user's own
        return False


@functools.lru_cache(maxsize=64)
def _reader(kind: Any) -> Any:
    return pydantic.TypeAdapter(kind).validate_python
