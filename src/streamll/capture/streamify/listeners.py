"""Which field of which predictor to listen to, said the way DSPy says it.

A listener is a description: nothing in here changes while a program streams, so one listener may
serve any number of calls, one after another or at once. DSPy's own listeners are read likewise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import dspy
from dspy.streaming import StreamListener as DSPyStreamListener

from streamll.capture.run.fields import is_within, listing, unknown_field
from streamll.capture.run.frames import modules_of, output_fields
from streamll.core.errors import AmbiguousFieldError, UnknownFieldError


class StreamListener(DSPyStreamListener):  # type: ignore[misc]
    """Listen to one output field of a predictor; the arguments are DSPy's.

    Args:
        signature_field_name: the output field.
        predict: the predictor that has it, or a module with one such predictor inside (a
            ``ChainOfThought``, a ``ReAct``); it may be another copy's of the program. Needed
            where several predictors have the field.
        predict_name: its ``named_predictors()`` key, which tells predictors apart as well; what
            chunks say in ``predict_name``.
        allow_reuse: accepted for DSPy's sake; every listener may be used as often as you like.
        values: give responses a ``value``: what a typed field holds so far.
    """

    def __init__(
        self,
        signature_field_name: str,
        predict: Any = None,
        predict_name: str | None = None,
        allow_reuse: bool = False,
        *,
        values: bool = False,
    ) -> None:
        super().__init__(signature_field_name, predict, predict_name, allow_reuse)
        self.values = values

    def __repr__(self) -> str:
        return f"StreamListener({self.signature_field_name!r}, predict_name={self.predict_name!r})"


class Target(NamedTuple):
    """A listener that has found its predictor; ``None`` where the program has none yet."""

    field: str
    predictor: Any | None
    name: str | None
    values: bool = False

    @property
    def signature(self) -> Any:
        return self.predictor.signature if self.predictor is not None else None

    @property
    def annotation(self) -> Any:
        signature = self.signature
        return signature.output_fields[self.field].annotation if signature is not None else None


def targets(program: Any, listeners: Iterable[DSPyStreamListener]) -> tuple[Target, ...]:
    """What each listener listens to in ``program``.

    Raises:
        UnknownFieldError: the program has no such field; the message lists those it has.
        AmbiguousFieldError: several predictors have it; the message says how to choose.
    """
    predictors = {
        path or "self": module
        for path, module in (modules_of(program) if isinstance(program, dspy.Module) else ())
        if isinstance(module, dspy.Predict)
    }
    found = (
        _target(program, predictors, listener)._replace(values=getattr(listener, "values", False))
        for listener in listeners
    )
    return tuple(dict.fromkeys(found))


def _target(program: Any, predictors: dict[str, Any], listener: DSPyStreamListener) -> Target:
    field, name = listener.signature_field_name, listener.predict_name
    if listener.predict is None and not predictors:
        return Target(field, None, name)  # a function, or a program that makes its predictors later
    if listener.predict is None:
        candidates = {
            key: predictor
            for key, predictor in predictors.items()
            if has(predictor, field) and (name is None or is_within(key, name))
        }
        key, predictor = _only(candidates, field, program, name)
        return Target(field, predictor, key)
    inner = {
        _key(module, name, predictors) or path or name or "self": module
        for path, module in _predictors_of(listener.predict)
        if has(module, field)
    }
    key, predictor = _only(inner, field, listener.predict, None)
    return Target(field, predictors.get(key, predictor), name or key)


def _predictors_of(module: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(module, dspy.Module):
        raise TypeError(
            f"predict= takes a predictor or a module with one inside, not {type(module).__name__}"
        )
    return ((path, inner) for path, inner in modules_of(module) if isinstance(inner, dspy.Predict))


def _key(predictor: Any, name: str | None, predictors: dict[str, Any]) -> str | None:
    """What the program calls this predictor, or the one that it is a copy of."""
    for key, own in predictors.items():
        if own is predictor:
            return key
    copies = [key for key, own in predictors.items() if own.stage == predictor.stage]
    if len(copies) > 1 and name in copies:
        return name
    return copies[0] if copies else None


def has(predictor: Any, field: str) -> bool:
    return field in predictor.signature.output_fields


def _only(candidates: dict[str, Any], field: str, owner: Any, name: str | None) -> tuple[str, Any]:
    owned = output_fields(owner)
    if not candidates:
        wanted = field if name is None else f"{name}.{field}"
        raise UnknownFieldError(unknown_field(wanted, type(owner).__name__, owned))
    if len(candidates) > 1:
        keys = ", ".join(candidates)
        first = next(iter(candidates))
        raise AmbiguousFieldError(
            f"several predictors of {type(owner).__name__} have an output field {field!r}: {keys}. "
            f"Say which: StreamListener({field!r}, predict_name={first!r}). "
            f"Its output fields are: {listing(owned)}."
        )
    return next(iter(candidates.items()))
