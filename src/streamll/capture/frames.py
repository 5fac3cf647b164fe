"""Frames: the calls a run is made of, and what they are called.

A frame is one DSPy call (module, tool, LM, interpreter step). Its ``path`` is the chain of names
from the run's root; a predictor's name is its ``named_predictors()`` key in the root program.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import dspy

from streamll.core.events import Identity


class Frame:
    """One open call. Dropped by the run when the call has ended and its children have."""

    __slots__ = (
        "attempt", "call_id", "children", "formats", "instance", "kind", "lm_calls", "name",
        "parent", "path", "predictor", "scope", "started", "superseded_by", "turn",
    )  # fmt: skip

    def __init__(
        self,
        kind: str,
        call_id: str,
        instance: Any,
        name: str,
        parent: Frame | None,
        scope: Any,
        started: float,
    ) -> None:
        self.kind = kind
        self.call_id = call_id
        self.instance = instance
        self.name = name
        self.parent = parent
        self.scope = scope
        self.started = started
        self.path: tuple[str, ...] = (*parent.path, name) if parent is not None else (name,)
        self.predictor: str | None = parent.predictor if parent is not None else None
        self.turn = 0
        self.attempt = 0
        self.children: Counter[str] = Counter()  # calls so far, by name: the next one's turn
        self.formats: list[Any] = []  # what the adapter rendered for the LM calls of this frame
        self.lm_calls: list[Any] = []  # this predictor call's LM calls, in order

    def identity(self, run_id: str, *, attempt: int = 0, candidate: int = 0) -> Identity:
        return Identity(
            run_id=run_id,
            path=self.path,
            predictor=self.predictor,
            call_id=self.call_id,
            parent_call_id=self.parent.call_id if self.parent is not None else None,
            turn=self.turn,
            attempt=attempt,
            candidate=candidate,
        )


class ModuleNames:
    """What the modules of a program are called, deep copies included.

    BestOfN and Refine run deep copies: a copied predictor is known by its ``stage``, which DSPy
    copies with it. A module made on the fly is called by its class, and what is in it after it.
    """

    def __init__(self, program: Any) -> None:
        self._keys: dict[int, str] = {}  # id of a module -> its path in the program
        self._stages: dict[str, str] = {}  # a predictor's stage -> its path in the program
        self._kept: list[Any] = []  # ids are only unique while their objects live
        self._root = program
        if isinstance(program, dspy.Module):
            self._register(program, "")

    def _register(self, module: Any, prefix: str) -> None:
        self._kept.append(module)
        # Both walks of DSPy, predictors first: they spell the keys of dicts differently.
        for path, inner in (*module.named_predictors(), *module.named_sub_modules()):
            key = (prefix + path.removeprefix("self.")).removesuffix(".self")
            stage = getattr(inner, "stage", None)
            if isinstance(stage, str):
                known = self._stages.setdefault(stage, key)
                key = known if prefix else key
            self._keys.setdefault(id(inner), key)

    def _key(self, module: Any) -> str:
        key = self._keys.get(id(module)) or self._stages.get(getattr(module, "stage", ""))
        if key is None:
            key = type(module).__name__
            self._keys[id(module)] = key
            self._register(module, f"{key}.")
        return key

    def of(self, module: Any) -> str:
        """The frame name of ``module``: its path in the program, or its class."""
        return type(module).__name__ if module is self._root else self._key(module)

    def predictor(self, module: Any) -> str | None:
        """The ``named_predictors()`` key of ``module``; ``None`` if it is not a predictor."""
        return self._key(module) if isinstance(module, dspy.Predict) else None


def output_fields(program: Any) -> dict[str, tuple[str, ...]]:
    """Output field names by predictor; empty where the program makes its predictors later."""
    if not isinstance(program, dspy.Module):
        return {}
    return {name: tuple(p.signature.output_fields) for name, p in program.named_predictors()}
