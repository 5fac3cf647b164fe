"""What a type annotation admits: text, DSPy's media, a history, messages. Does not import dspy.

A program that is annotated with one of DSPy's types has imported it.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from streamll.serve.inputs.messages import MediaKind

MEDIA: dict[MediaKind, str] = {"image": "Image", "audio": "Audio", "file": "File"}
"""DSPy's type for each kind of attachment."""

_CONVERSATIONS = frozenset({"messages", "conversation", "chat"})


def dspy_type(name: str) -> type | None:
    """DSPy's type of this name, if DSPy has been imported and has it."""
    found = getattr(sys.modules.get("dspy"), name, None)
    return found if isinstance(found, type) else None


def alternatives(annotation: Any) -> list[Any]:
    """The members of a union, without ``None``; anything else is its own only alternative."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [each for arg in get_args(annotation) for each in alternatives(arg)]
    return [] if annotation in (None, type(None)) else [annotation]


def admits_none(annotation: Any) -> bool:
    """Whether ``None`` is one of the values: such an input may be left out."""
    if get_origin(annotation) is Annotated:
        return admits_none(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return any(admits_none(arg) for arg in get_args(annotation))
    return annotation in (None, type(None))


def is_text(annotation: Any) -> bool:
    """Whether any text is a value."""
    return any(each in (str, Any, object) for each in alternatives(annotation))


def is_a(annotation: Any, kind: type | None) -> bool:
    """Whether it is a subclass of ``kind``; to Python 3.10 ``list[int]`` is a class, too."""
    is_class = inspect.isclass(annotation) and get_origin(annotation) is None
    return kind is not None and is_class and issubclass(annotation, kind)


def is_history(annotation: Any) -> bool:
    """Whether it is ``dspy.History``."""
    return any(is_a(each, dspy_type("History")) for each in alternatives(annotation))


def media_of(annotation: Any) -> tuple[MediaKind | None, bool]:
    """Which kind of attachment it takes, and whether it takes any number of them."""
    for each in alternatives(annotation):
        for kind, name in MEDIA.items():
            if is_a(each, dspy_type(name)):
                return kind, False
        if get_origin(each) in (list, tuple, typing.Sequence) and get_args(each):
            kind_inside, many = media_of(get_args(each)[0])
            if kind_inside is not None and not many:
                return kind_inside, True
    return None, False


def is_messages(name: str, annotation: Any) -> bool:
    """Whether it is a list of messages: items with ``role`` and ``content``, or dicts under a name
    that says so. ``messages`` without any annotation is one, too: ``dspy.LM`` has it so.
    """
    if annotation is Any:
        return name == "messages"
    for each in alternatives(annotation):
        item = (get_args(each) or (Any,))[0] if (get_origin(each) or each) is list else None
        for kind in () if item is None else alternatives(item):
            if {"role", "content"} <= set(_fields(kind)):
                return True
            if (get_origin(kind) or kind) is dict and (
                name in _CONVERSATIONS or name.endswith(("messages", "history"))
            ):
                return True
    return False


def _fields(kind: Any) -> dict[str, Any]:
    """The fields of a model, dataclass or ``TypedDict``, with their annotations."""
    fields = getattr(kind, "model_fields", None)
    if isinstance(fields, dict):
        return {name: field.annotation for name, field in fields.items()}
    if inspect.isclass(kind) and (dataclasses.is_dataclass(kind) or hasattr(kind, "__total__")):
        try:
            return typing.get_type_hints(kind)
        except (NameError, TypeError):
            return {}
    return {}


def media_inside_models(annotation: Any) -> str | None:
    """The name of a type of DSPy's that is a field of a model in this annotation, if there is any."""
    seen: set[int] = set()

    def inside(kind: Any, depth: int) -> Iterator[str]:
        for each in alternatives(kind):
            for name in MEDIA.values():
                if is_a(each, dspy_type(name)):
                    if depth:
                        yield name
                    return
            for arg in get_args(each):
                yield from inside(arg, depth)
            if id(each) not in seen:
                seen.add(id(each))
                for field in _fields(each).values():
                    yield from inside(field, depth + 1)

    return next(inside(annotation, 0), None)
