"""Which fields of which predictors to stream, described by ``StreamListener`` as in DSPy.

A listener is a description and keeps no state, so one may serve any number of calls, in sequence
or concurrently. DSPy's own listeners are accepted as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import dspy
from dspy.streaming import StreamListener as DSPyStreamListener

from streamll.capture.reply.chunks import reads_chunks
from streamll.capture.run.fields import is_within, listing, unknown_field
from streamll.capture.run.frames import output_fields, predictors_of
from streamll.capture.run.run import Run
from streamll.core.errors import AmbiguousFieldError, ConfigurationError, UnknownFieldError


class StreamListener(DSPyStreamListener):  # type: ignore[misc]
    """Stream one output field of a predictor; the arguments are DSPy's.

    Args:
        signature_field_name: the output field.
        predict: the predictor that has it, or a module with one such predictor inside (a
            ``ChainOfThought``, a ``ReAct``); it may belong to another copy of the program. Needed
            where several predictors have the field.
        predict_name: the predictor's ``named_predictors()`` key, which tells predictors apart as
            well; responses have it as ``predict_name``.
        allow_reuse: accepted for compatibility; every listener may be reused.
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
    """A listener with its predictor; ``None`` if the program makes its predictors later."""

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
    """The targets of the listeners in ``program``.

    Raises:
        UnknownFieldError: the program has no such field; the message lists those it has.
        AmbiguousFieldError: several predictors have it; the message says how to choose.
    """
    predictors = dict(predictors_of(program))
    found = (
        _target(program, predictors, listener)._replace(values=getattr(listener, "values", False))
        for listener in listeners
    )
    return tuple(dict.fromkeys(found))


def check_without_chunks(targets: Sequence[Target], masked_by: str) -> None:
    """Raise ``ConfigurationError`` where only the provider's raw chunks could be yielded."""
    if not targets:
        raise ConfigurationError(
            f"streamify without listeners yields raw chunks, which {masked_by} cannot mask; name the "
            "fields, as in stream_listeners=[StreamListener('answer')], or use streamll.stream"
        )
    for target in targets:
        if reads_chunks(target.annotation) and not issubclass(target.annotation, dspy.Reasoning):
            raise ConfigurationError(
                f"the listener of {target.field!r} reads {target.annotation.__name__} from raw "
                f"chunks, which {masked_by} cannot mask; leave it out, or use streamll.stream"
            )


def _target(program: Any, predictors: dict[str, Any], listener: DSPyStreamListener) -> Target:
    field, name, within = listener.signature_field_name, listener.predict_name, listener.predict
    if within is None:
        if not predictors:  # a function, or a program that makes its predictors later
            return Target(field, None, name)
        candidates = {
            key: predictor
            for key, predictor in predictors.items()
            if has(predictor, field) and (name is None or is_within(key, name))
        }
        key, predictor = _only(candidates, field, program, name)
        return Target(field, predictor, key)
    if not isinstance(within, dspy.Module):
        raise TypeError(
            f"predict= takes a predictor or a module with one inside, not {type(within).__name__}"
        )
    inner = {
        _key(predictor, name, predictors) or (path if path != "self" else name or path): predictor
        for path, predictor in predictors_of(within)
        if has(predictor, field)
    }
    key, predictor = _only(inner, field, within, None)
    return Target(field, predictors.get(key, predictor), name or key)


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


class TargetIndex:
    """The targets of one call, by the names that the run has for their predictors."""

    def __init__(self, run: Run, program: Any, targets: Iterable[Target]) -> None:
        if isinstance(program, dspy.Module):
            run.names.of(program)  # inside a larger program, the names of its parts begin with its
        self._names = run.names
        self._targets: dict[tuple[str | None, str], list[Target]] = {}
        for target in targets:
            known = target.predictor is not None
            name = run.names.claim(target.predictor, target.name) if known else None
            self._targets.setdefault((name, target.field), []).append(target)
        found = [(name, each) for (name, _), group in self._targets.items() for each in group]
        self._native = [pair for pair in found if reads_chunks(pair[1].annotation)]
        self.is_empty = not found
        self.has_values = any(target.values for _, target in found)

    def name_of(self, predictor: Any) -> str | None:
        return self._names.predictor(predictor)

    def find(self, predictor: str | None, field: str) -> Sequence[Target]:
        """The targets for a field; those without a predictor apply to every predictor."""
        return self._targets.get((predictor, field)) or self._targets.get((None, field)) or ()

    def native(self, predictor: Any) -> Sequence[Target]:
        """The targets whose values are read from this predictor's raw chunks."""
        if not self._native:
            return ()
        own = self.name_of(predictor)
        return [target for name, target in self._native if name == own]
