"""The partial form of a type: the type of its values while they are being written.

Every member of a model, dataclass or ``TypedDict`` is optional, at every depth, and constraints on
length and the like are dropped. Numbers, literals, dates and other scalars keep their type, since
they appear only when they are complete. Validators of the original are not run.

``events.partials(field, as_type)`` returns values of the partial form; a type checker sees the
original type, with members that may be missing.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Annotated, Any, ForwardRef, Union, get_args, get_origin

import pydantic
from typing_extensions import get_type_hints, is_typeddict

LISTS = (list, set, frozenset, tuple, Sequence, MutableSequence, Iterable)
_OBJECTS = (dict, Mapping, MutableMapping)


_Models = dict[Any, tuple[str, type[pydantic.BaseModel] | None]]
"""The forms of one pass, by the original, with their names; recursive types refer to these."""


def partial_form(annotation: Any) -> Any:
    """The partial form of ``annotation``, for ``pydantic.TypeAdapter``."""
    models: _Models = {}
    form = _form(annotation, models)
    made = {name: model for name, model in models.values() if model is not None}
    for model in made.values():
        model.model_rebuild(_types_namespace=made)
    return form


def _form(annotation: Any, models: _Models) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _form(arguments[0], models)
    if origin in (Union, types.UnionType):
        return _union(_form(each, models) for each in arguments)
    if origin in LISTS or annotation in LISTS:
        items = [_form(each, models) for each in arguments if each is not ...]
        return types.GenericAlias(list, (_union(items) if items else Any,))
    if origin in _OBJECTS and len(arguments) == 2:  # noqa: PLR2004
        return types.GenericAlias(dict, (arguments[0], _form(arguments[1], models)))
    members = _members(annotation)
    return annotation if members is None else _model(annotation, members, models)


def _model(annotation: Any, members: Mapping[str, tuple[Any, Any]], models: _Models) -> Any:
    if annotation in models:
        name, model = models[annotation]
        return model if model is not None else ForwardRef(name)
    name = f"Partial{getattr(annotation, '__name__', 'Object')}{len(models) or ''}"
    models[annotation] = (name, None)
    fields: dict[str, Any] = {
        member: (
            _union((_form(kind, models), type(None))),
            pydantic.Field(default=None, validation_alias=alias),
        )
        for member, (kind, alias) in members.items()
    }
    config = pydantic.ConfigDict(populate_by_name=True, arbitrary_types_allowed=True)
    model = pydantic.create_model(name, __config__=config, **fields)
    models[annotation] = (name, model)
    return model


def _union(forms: Iterable[Any]) -> Any:
    return Union[tuple(forms)]  # noqa: UP007


def _members(annotation: Any) -> Mapping[str, tuple[Any, Any]] | None:
    """Type and alias of an object's members; ``None`` if the type has no named members."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        if "__root__" in annotation.model_fields or issubclass(annotation, pydantic.RootModel):
            return None
        return {
            name: (info.annotation, info.validation_alias or info.alias)
            for name, info in annotation.model_fields.items()
        }
    if is_typeddict(annotation):
        return {name: (kind, None) for name, kind in get_type_hints(annotation).items()}
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        hints = get_type_hints(annotation)
        return {
            field.name: (hints[field.name], None)
            for field in dataclasses.fields(annotation)
            if field.init
        }
    return None
