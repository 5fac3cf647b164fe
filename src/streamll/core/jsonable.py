"""Any Python value as something JSON can represent. Never raises.

``msgspec`` encodes the usual types and calls ``render`` for others. ``plain`` is slow and
thorough, for values that still cannot be encoded: unusual keys, lone surrogates, cycles.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

MAX_DEPTH = 40
"""Nesting beyond which a value becomes the name of its type, as one does that contains itself."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def render(value: Any) -> Any:
    """One step from an object towards JSON: its own plain form, else its ``str``."""
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for known, convert in _KNOWN:
        if isinstance(value, known):
            return convert(value)
    for method in ("model_dump", "toDict", "tolist", "isoformat"):
        if callable(getattr(type(value), method, None)):
            try:
                return getattr(value, method)()
            except Exception:  # noqa: BLE001, S112 - try the next method
                continue
    return _text(value)


def plain(value: Any, within: tuple[int, ...] = ()) -> Any:
    """The value in ``dict``, ``list``, ``str``, numbers and ``None`` only.

    ``within`` identifies what it is part of.
    """
    if value is None or type(value) in (bool, int, float):
        return value
    if type(value) is str:
        return _LONE_SURROGATE.sub("\ufffd", value)
    try:
        if not is_endless(value, within):
            return _plain_inside(value, (*within, id(value)))
    except Exception:  # noqa: BLE001, S110 - a value that raises when it is read
        pass
    return f"<{type(value).__name__}>"


def is_endless(value: object, within: tuple[int, ...]) -> bool:
    """Whether a value contains itself, or is nested deeper than anyone looks."""
    return len(within) >= MAX_DEPTH or id(value) in within


def as_text(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False)


def _plain_inside(value: Any, within: tuple[int, ...]) -> Any:
    if isinstance(value, Mapping):
        return {_key(key): plain(item, within) for key, item in value.items()}
    if isinstance(value, (list, tuple, AbstractSet)):
        return [plain(item, within) for item in value]
    return plain(render(value), within)


def _key(key: Any) -> str:
    text = render(key) if isinstance(key, (str, bool, type(None))) else _text(key)
    return _LONE_SURROGATE.sub("\ufffd", text)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a broken __str__ must not break the stream
        return f"<{type(value).__name__}>"


_KNOWN: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    ((bool, type(None)), {None: "null", True: "true", False: "false"}.get),  # only as keys
    (int, int),
    (float, float),
    (Mapping, dict),
    (BaseException, lambda error: f"{type(error).__name__}: {_text(error)}"),
    (enum.Enum, lambda member: member.value),
    (msgspec.Struct, msgspec.structs.asdict),
    ((AbstractSet, Sequence), list),
)
