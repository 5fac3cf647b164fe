"""A Gemini function call whose arguments come in pieces (``streamFunctionCallArguments``).

Each piece has the JSON path of a value and the value, or the next part of a string. Paths are of
names and positions: ``$.items[0].name``, ``$['odd name']``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

from streamll.capture.tap.wire.base import Confused

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]|\["([^"]*)"\]""")
_MAX_POSITION = 10_000  # of an array's element: a path is not to fill the memory


class PartialCall:
    """One call: the part it began with, and what has come of its arguments."""

    def __init__(self, part: dict[str, Any]) -> None:
        self._part = part
        self._arguments: dict[str, Any] = {}
        self._unfinished: str | None = None  # the path of a string that goes on

    def add(self, call: dict[str, Any]) -> None:
        """The next pieces. Raises ``Confused`` for a path that cannot be read."""
        if type(whole := call.get("args")) is dict:
            self._arguments.update(whole)
        for piece in call.get("partialArgs") or ():
            path = piece.get("jsonPath", "") if type(piece) is dict else ""
            value = _value(piece) if path else None
            self._put(_steps(path), value, goes_on=path == self._unfinished)
            self._unfinished = path if piece.get("willContinue") else None

    def part(self) -> dict[str, Any]:
        """The part of a plain reply."""
        call = self._part["functionCall"]
        kept = {k: v for k, v in call.items() if k not in ("partialArgs", "willContinue")}
        return {**self._part, "functionCall": {**kept, "args": self._arguments}}

    def _put(self, steps: list[str | int], value: Any, *, goes_on: bool) -> None:
        holder: Any = self._arguments
        for step, following in itertools.pairwise(steps):
            holder = _entered(holder, step, [] if type(following) is int else {})
        before = _at(holder, steps[-1])
        if goes_on and type(before) is str and type(value) is str:
            value = before + value
        _set(holder, steps[-1], value)


def _steps(path: str) -> list[str | int]:
    steps = list(_found(path))
    if not path.startswith("$") or not steps or type(steps[0]) is not str:
        raise Confused("a piece of an argument at an unknown place")
    return steps


def _found(path: str) -> Iterator[str | int]:
    at = 1
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or (step[2] and int(step[2]) > _MAX_POSITION):
            raise Confused("a piece of an argument at an unknown place")
        yield int(step[2]) if step[2] else next(name for name in step.groups() if name is not None)
        at = step.end()


def _value(piece: dict[str, Any]) -> Any:
    values = [value for key, value in piece.items() if key.endswith("Value") and key != "nullValue"]
    return values[0] if values else None


def _at(holder: Any, step: str | int) -> Any:
    if type(step) is int:
        return holder[step] if type(holder) is list and step < len(holder) else None
    return holder.get(step) if type(holder) is dict else None


def _set(holder: Any, step: str | int, value: Any) -> None:
    if type(step) is int and type(holder) is list:
        holder.extend([None] * (step + 1 - len(holder)))
    elif type(step) is not str or type(holder) is not dict:
        raise Confused("pieces of an argument that do not fit each other")
    holder[step] = value


def _entered(holder: Any, step: str | int, fresh: Any) -> Any:
    """What is inside ``holder`` at a step, made where there is nothing yet."""
    inside = _at(holder, step)
    if inside is None:
        inside = fresh
        _set(holder, step, inside)
    return inside
