"""The fields that one call streams, chosen by the module's own ``forward``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streamll.capture.run.enter import Capture, check_fields, declare, declared
from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.scope import Scope, current_scope
from streamll.configuration import logger


class CallLocalFields:
    """``self._streamll_stream_fields``: which fields this very call streams.

    Set inside ``forward`` it holds for that call alone, however many calls of the module run at
    once; set outside a call it is the instance's own declaration. ``[]`` streams none.
    """

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        scope = _scope_of(instance)
        selection = scope.selection if scope is not None else None
        if selection is None:
            capture = declared(instance)
            selection = capture.selection if capture is not None else None
        return selection.listed() if selection is not None else None

    def __set__(self, instance: Any, names: Iterable[str] | None) -> None:
        selection = None if names is None else FieldSelection(names)
        if selection:
            check_fields(instance, selection)
        scope = _scope_of(instance)
        if scope is not None:
            scope.switched = selection
            return
        capture = declared(instance)
        if capture is None:
            logger.warning(
                "%s is not instrumented, so its _streamll_stream_fields has no effect",
                type(instance).__name__,
            )
            return
        declare(
            instance,
            Capture(
                selection=selection,
                sinks=capture.sinks,
                on_token=capture.on_token,
                statuses=capture.statuses,
            ),
        )


def _scope_of(instance: Any) -> Scope | None:
    """The scope of the call of ``instance`` that is running here."""
    scope = current_scope()
    while scope is not None and scope.instance is not instance:
        scope = scope.parent
    return scope
