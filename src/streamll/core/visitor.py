"""Dispatch by kind of event, as ``ast.NodeVisitor`` dispatches by kind of node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from streamll.core.events import KINDS, Event, StreamllEvent


class EventVisitor:
    """``visit`` calls the method named after the event's type.

    ``"module.start"`` goes to ``on_module_start``, an event of a user's own type to
    ``on_custom``. Kinds without a method are ignored.
    """

    handlers: ClassVar[Mapping[type[Event], Callable[..., Any]]] = {}

    def __init_subclass__(cls) -> None:
        names = {kind: "on_" + name.replace(".", "_") for name, kind in KINDS.items()}
        names[StreamllEvent] = "on_custom"
        cls.handlers = {kind: getattr(cls, n) for kind, n in names.items() if hasattr(cls, n)}

    def visit(self, event: Event, *more: Any) -> Any:
        """Whatever the event's method returns for ``(event, *more)``; else ``None``."""
        handler = self.handlers.get(type(event))
        return None if handler is None else handler(self, event, *more)
