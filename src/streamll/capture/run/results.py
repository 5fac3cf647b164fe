"""What a call returns, masked, for guards with ``result=True``.

Text is masked wherever it is: in lists, mappings, dataclasses, structs and pydantic models, which
validate what has been masked. What has no room for a mask (a number, a choice, a model that refuses
it, an object of another kind) is left as it is if nothing in it is forbidden, and else ends the call.
Each text counts as a whole; of a field, the guards are those of its name.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dspy
import msgspec
import pydantic

from streamll.core.errors import GuardStopped
from streamll.guards import Guard
from streamll.guards.text import ExactRules, Rules
from streamll.guards.values import told_apart

LISTS = (list, tuple, set, frozenset)
MakeRules = Callable[[tuple[Guard, ...]], Rules]


def guarded_result(value: Any, guards: Iterable[Guard], rules: MakeRules = ExactRules) -> Any:
    """``value`` as guards with ``result=True`` leave it: itself where they find nothing, or a copy.

    ``rules`` makes of guards what finds what they forbid.

    Raises:
        GuardStopped: one of them forbids something that cannot be masked, or stops at anything.
    """
    ours = tuple(guard for guard in guards if guard.result)
    if not ours:
        return value
    if isinstance(value, dspy.Prediction):
        return _example(value, lambda fields: _masked_fields(fields, ours, rules))
    return masked(value, _of_field(ours, None), rules=rules)


def masked(
    value: Any, guards: tuple[Guard, ...], field: str | None = None, rules: MakeRules = ExactRules
) -> Any:
    """``value``, which is in the ``field``, as all of these guards leave it; else likewise."""
    return _Masking(rules(guards), field).whole(value) if guards else value


def _masked_fields(
    fields: dict[str, Any], guards: tuple[Guard, ...], rules: MakeRules
) -> dict[str, Any]:
    """The same dict, if nothing in it is forbidden."""
    changed = {
        name: masked(value, _of_field(guards, name), name, rules) for name, value in fields.items()
    }
    return changed if _differs(changed.values(), fields.values()) else fields


def _of_field(guards: tuple[Guard, ...], name: str | None) -> tuple[Guard, ...]:
    """Those that are about this field. A result does not say which predictor's it is."""
    return tuple(
        guard
        for guard in guards
        if guard.fields is None or name in {each.rpartition(".")[2] for each in guard.fields}
    )


def _differs(changed: Iterable[Any], values: Iterable[Any]) -> bool:
    return any(new is not old for new, old in zip(changed, values, strict=True))


class _Masking:
    """Masks values under the same guards. What contains nothing forbidden stays the same object."""

    def __init__(self, rules: Rules, field: str | None = None) -> None:
        self._rules = rules
        self._field = field
        self._path: set[int] = set()
        self._last: Guard | None = None
        self._has_loop = False

    def whole(self, value: Any) -> Any:
        try:
            changed = self.mask(value)
        except RecursionError:
            self._refuse()
        if changed is not value and self._has_loop:  # the copy still leads to what it is a copy of
            self._refuse()
        return changed

    def mask(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if type(value) is str:
            return self._text(value)
        if id(value) in self._path:
            self._has_loop = True
            return value
        self._path.add(id(value))
        try:
            return self._inside(value)
        finally:
            self._path.discard(id(value))

    def _text(self, text: str) -> str:
        shown, hits = self._rules.whole(text)
        for hit in hits:
            self._last = hit.guard
            if hit.guard.action == "stop":
                raise GuardStopped(hit.guard.name, self._field)
            if hit.guard.action in ("drop", "replace"):
                return hit.guard.mask if hit.guard.action == "replace" else ""
        return text if shown == text else shown

    def _inside(self, value: Any) -> Any:
        if hasattr(type(value), "masked_by"):  # it knows how: a reply of ``streamll.chat``
            return value.masked_by(self.mask)
        if isinstance(value, dspy.Example):
            return _example(value, self._mapping)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, LISTS):
            return self._list(value)
        parts = _parts_of(value)
        return self._whole(value) if parts is None else self._rebuilt(value, parts)

    def _rebuilt(self, value: Any, parts: Mapping[str, Any]) -> Any:
        """``value`` of its masked parts, if any differs."""
        changed = {name: self.mask(part) for name, part in parts.items()}
        if not _differs(changed.values(), parts.values()):
            return value
        return self._try(lambda changed: _of_parts(value, changed), changed)

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        before = [*value.keys(), *value.values()]
        changed = [self.mask(part) for part in before]
        if not _differs(changed, before):
            return value
        keys, values = changed[: len(value)], changed[len(value) :]
        if len({*keys}) < len(keys) and not all(type(key) is str for key in keys):
            self._refuse()
        pairs = zip(told_apart(keys, value), values, strict=True)
        return self._try(dict if isinstance(value, dict) else type(value), pairs)

    def _list(self, value: Any) -> Any:
        before = list(value)
        changed = [self.mask(item) for item in before]
        if not _differs(changed, before):
            return value
        make = getattr(type(value), "_make", type(value))  # of a named tuple
        return self._try(make, changed)

    def _whole(self, value: Any) -> Any:
        """Something that has no parts: a number, a date, a choice, any other object."""
        text = value if isinstance(value, str) else _as_text(value)
        if self._text(text) != text:
            self._refuse()
        return value

    def _try(self, make: Callable[[Any], Any], changed: Any) -> Any:
        try:
            return make(changed)
        except Exception:  # noqa: BLE001 - whatever its type raises: it does not take the mask
            self._refuse()

    def _refuse(self) -> Any:
        rule = "" if self._last is None else self._last.name
        raise GuardStopped(rule, self._field) from None


def _as_text(value: Any) -> str:
    try:
        return str(getattr(value, "value", value))
    except Exception:  # noqa: BLE001 - a program's values may raise anything
        return ""


def _example(example: Any, masked_fields: Callable[[dict[str, Any]], Any]) -> Any:
    """An ``Example`` or ``Prediction``, with the other completions that it may have."""
    own = vars(example)
    completions = own.get("_completions")
    others = None if completions is None else vars(completions)["_completions"]
    store, further = masked_fields(own["_store"]), others and masked_fields(others)
    if store is own["_store"] and further is others:
        return example
    copied = copy.copy(example)
    vars(copied)["_store"] = store
    if completions is not None:
        vars(copied)["_completions"] = copy.copy(completions)
        vars(vars(copied)["_completions"])["_completions"] = further
    return copied


def _parts_of(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, pydantic.BaseModel):
        return {**vars(value), **(value.model_extra or {})}
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in dataclasses.fields(value)]
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    return None


def _of_parts(value: Any, parts: dict[str, Any]) -> Any:
    """A value of the same type; raises what its type raises if it does not take these."""
    if isinstance(value, pydantic.BaseModel):
        return _model(value, parts)
    if isinstance(value, msgspec.Struct):  # ``replace`` alone would take anything
        return msgspec.convert(msgspec.structs.replace(value, **parts), type(value))
    taken = {each.name for each in dataclasses.fields(value) if each.init}
    return dataclasses.replace(value, **{n: part for n, part in parts.items() if n in taken})


def _model(model: pydantic.BaseModel, parts: dict[str, Any]) -> Any:
    """A model of its masked values, as its own validation takes them."""
    kind = type(model)
    if isinstance(model, pydantic.RootModel):
        return kind.model_validate(parts["root"])
    names = {name: info.alias or name for name, info in kind.model_fields.items()}
    names |= {
        name: info.validation_alias
        for name, info in kind.model_fields.items()
        if isinstance(info.validation_alias, str)
    }
    return kind.model_validate({names.get(name, name): part for name, part in parts.items()})
