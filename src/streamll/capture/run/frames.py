"""Frames: the calls a run is made of, and their names.

A frame is one DSPy call (module, tool, LM, interpreter step, evaluation, optimizer). Its ``path`` is the chain of names
from the run's root; a predictor's name is its ``namedpredictors_of()`` key in the root program.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import dspy

from streamll.capture.run.fields import is_within
from streamll.core.events import Identity

CONTAINERS = (dict, list, tuple)
MAX_ITEMS = 100
RECORDS = frozenset({"history", "callbacks", "trace", "traces", "train", "demos"})
"""Attributes of a module that record what it did rather than hold its parts."""


class DirectCall(NamedTuple):
    """A call of a ``forward`` itself: ours, and the call of DSPy's that it is made inside of."""

    call_id: str
    inside: str | None


DIRECT_CALL: ContextVar[DirectCall | None] = ContextVar("streamll_direct_call", default=None)


@dataclass(slots=True, eq=False)
class Frame:
    """One open call. Dropped by the run when the call has ended and its children have."""

    kind: str
    call_id: str
    instance: Any
    name: str
    parent: Frame | None
    scope: Any
    started: float
    path: tuple[str, ...] = ()
    predictor: str | None = None
    turn: int = 0
    turn_inside: int = 0  # of the predictor called last in here: tools that follow are of this turn
    attempt: int = 0
    children: Counter[str] = field(default_factory=Counter)  # number of calls so far, by name
    prompts: list[Any] = field(default_factory=list)  # rendered for the LM calls of this frame
    lm_calls: list[Any] = field(default_factory=list)  # this predictor call's LM calls, in order
    progress: Any = None  # a ``progress.Evaluation`` or ``Compilation``
    about: str = ""  # the program that is evaluated or compiled

    def __post_init__(self) -> None:
        self.path = (self.name,)
        if self.parent is not None:
            self.path = (*self.parent.path, self.name)
            self.predictor = self.parent.predictor

    def identity(self, run_id: str, *, attempt: int = 0) -> Identity:
        """The identity that all events of this call share."""
        return Identity(
            run_id=run_id,
            path=self.path,
            predictor=self.predictor,
            call_id=self.call_id,
            parent_call_id=self.parent.call_id if self.parent is not None else None,
            turn=self.turn,
            attempt=attempt,
        )


class ModuleNames:
    """The names of a program's modules, deep copies included.

    BestOfN and Refine run deep copies: a copied predictor is recognised by its ``stage``, which DSPy
    copies with it. Predictors that are copies of one another are told apart by their place in what
    was copied, or by the module that calls them. A module made during the run is named by its class,
    and its parts after it.
    """

    def __init__(self, program: Any) -> None:
        self._keys: dict[int, str] = {}  # id of a module → its path in the program
        self._stages: dict[str, list[str]] = {}  # a predictor's stage → its paths in the program
        self._kept: list[Any] = []  # ids are only unique while their objects live
        self._root = program
        if isinstance(program, dspy.Module):
            self._register(program, "")

    def _register(self, module: Any, prefix: str, caller: str = "") -> None:
        self._kept.append(module)
        new: dict[str, list[str]] = {}
        for key, inner in modules_of(module):
            name = prefix + key if key else prefix.removesuffix(".") or "self"
            if (stage := _stage(inner)) is not None:
                if originals := self._stages.get(stage):
                    name = _likely(originals, key, caller)
                else:
                    new.setdefault(stage, []).append(name)
            self._keys.setdefault(id(inner), name)
        self._stages |= new

    def _key(self, module: Any, caller: str = "") -> str:
        return self._known(module, caller) or self._add(module, type(module).__name__, caller)

    def _known(self, module: Any, caller: str = "") -> str | None:
        if (key := self._keys.get(id(module))) is not None:
            return key
        if not (originals := self._stages.get(_stage(module) or "")):
            return None
        if len(originals) > 1:  # ``caller`` is only known now
            self._kept.append(module)
            self._keys[id(module)] = _likely(originals, "", caller)
        return _likely(originals, "", caller)

    def _add(self, module: Any, key: str, caller: str = "") -> str:
        self._keys[id(module)] = key
        self._register(module, f"{key}.", caller)
        return key

    def claim(self, predictor: Any, name: str | None) -> str:
        """The name of ``predictor``; one that the program does not hold gets a name of its own."""
        if (key := self._known(predictor)) is not None:
            return key
        key = name or type(predictor).__name__
        while key in self._keys.values():
            key += "'"
        return self._add(predictor, key)

    def of(self, module: Any, caller: str = "") -> str:
        """The frame name of ``module``, called by ``caller``: its path in the program, or its class."""
        return type(module).__name__ if module is self._root else self._key(module, caller)

    def predictor(self, module: Any) -> str | None:
        """The ``namedpredictors_of()`` key of ``module``; ``None`` if it is not a predictor."""
        return self._key(module) if isinstance(module, dspy.Predict) else None

    def of_part(self, program: Any) -> dict[str, str]:
        """The names here of the predictors of ``program``, a part of this one, by their names there."""
        return {name: self._key(predictor) for name, predictor in predictors_of(program)}


def _likely(originals: list[str], key: str, caller: str) -> str:
    """Of which predictor the one at ``key`` in a copy is a copy."""
    placed = [name for name in originals if not key or f".{name}".endswith(f".{key}")]
    called = [name for name in placed if is_within(name, caller)]
    return (called or placed or originals)[0]


def _stage(module: Any) -> str | None:
    """A predictor's ``stage``, without calling a module's own ``__getattr__``."""
    stage = vars(module).get("stage")
    return stage if isinstance(stage, str) else None


def modules_of(program: Any) -> Iterator[tuple[str, Any]]:
    """A program's modules with their paths, as ``namedpredictors_of()`` writes them.

    DSPy's own ``named_sub_modules`` also walks histories, traces, demos and data, which is too slow
    to do for every call.
    """
    seen = {id(program)}
    queue: deque[tuple[str, Any]] = deque([("", program)])
    while queue:
        path, module = queue.popleft()
        yield path, module
        dot = f"{path}." if path else ""
        for name, value in list(vars(module).items()):
            if name not in RECORDS:
                for held in modules_in(f"{dot}{name}", value):
                    if id(held[1]) not in seen:
                        seen.add(id(held[1]))
                        queue.append(held)


def modules_in(path: str, value: Any, levels: int = 2) -> Iterator[tuple[str, Any]]:
    """The module that an attribute is, or those in its lists, tuples and dicts, two levels deep.

    Large containers are taken for data: one of more than ``MAX_ITEMS`` items counts only if one of
    the first is a module, and is not searched for further containers.
    """
    if isinstance(value, dspy.Module):
        yield path, value
    elif levels and isinstance(value, CONTAINERS):
        keyed: Any = value if isinstance(value, dict) else None
        kinds = CONTAINERS if len(value) <= MAX_ITEMS else ()
        first = list(islice(value if keyed is None else keyed.values(), MAX_ITEMS))
        if not kinds and not any(isinstance(item, dspy.Module) for item in first):
            return
        for key, item in list(enumerate(value) if keyed is None else keyed.items()):
            if isinstance(item, (dspy.Module, *kinds)):
                name = f"{path}[{key}]" if keyed is None else f"{path}['{key}']"
                yield from modules_in(name, item, levels - 1)


def output_fields(program: Any) -> dict[str, tuple[str, ...]]:
    """Output field names by predictor; empty where the program makes its predictors later."""
    return {name: tuple(p.signature.output_fields) for name, p in predictors_of(program)}


def predictors_of(program: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(program, dspy.Module):
        for path, module in modules_of(program):
            if isinstance(module, dspy.Predict):
                yield path or "self", module


def tools_of(program: Any) -> Iterator[str]:
    """The names of the tools that a program's modules hold."""
    for _, module in modules_of(program):
        own = vars(module)
        tools = own.get("tools", own.get("_user_tools"))  # the latter: those of ``RLM``
        if isinstance(tools, dict):
            yield from (name for name in tools if isinstance(name, str))
        elif isinstance(tools, (list, tuple)):
            names = (getattr(each, "name", getattr(each, "__name__", None)) for each in tools)
            yield from (name for name in names if isinstance(name, str))
