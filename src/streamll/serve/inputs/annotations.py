"""What a type annotation admits: text, DSPy's media, a history, messages. Does not import dspy.

A program that is annotated with one of DSPy's types has imported it.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from typing import Annotated, Any, Union, get_args, get_origin

from streamll.serve.inputs.messages import MediaKind

MEDIA: dict[MediaKind, str] = {"image": "Image", "audio": "Audio", "file": "File"}
"""DSPy's type for each kind of attachment."""

_CONVERSATIONS = frozenset({"messages", "conversation", "chat"})


def dspy_type(name: str) -> type | None:
    """DSPy's type of this name, if DSPy has been imported and has it."""
    found = getattr(sys.modules.get("dspy"), name, None)
    return found if isinstance(found, type) else None


def bare(annotation: Any) -> Any:
    """What an ``Annotated``, a ``NewType`` or an alias (``type Photo = …``) stands for."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    if get_origin(annotation) is None and not inspect.isclass(annotation):
        for name in ("__supertype__", "__value__"):
            if hasattr(annotation, name):
                return bare(getattr(annotation, name))
    return annotation


def alternatives(annotation: Any) -> list[Any]:
    """The members of a union, without ``None``; anything else is its own only alternative."""
    annotation = bare(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return [each for arg in get_args(annotation) for each in alternatives(arg)]
    return [] if annotation in (None, type(None)) else [annotation]


def admits_none(annotation: Any) -> bool:
    """Whether ``None`` is one of the values: such an input may be left out."""
    annotation = bare(annotation)
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


def media_of(annotation: Any) -> tuple[MediaKind | None, Any, bool]:
    """Which kind of attachment it takes, as which type, and whether it takes any number of them."""
    for each in alternatives(annotation):
        many = get_origin(each) in (list, tuple, typing.Sequence) and bool(get_args(each))
        for cls in alternatives(get_args(each)[0]) if many else [each]:
            for kind, name in MEDIA.items():
                if is_a(cls, dspy_type(name)):
                    return kind, cls, many
    return None, None, False


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
