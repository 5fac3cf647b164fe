"""The fields that one call streams, chosen by the module's own ``forward``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.options import check_fields, declare_options, declared_options
from streamll.capture.run.scope import current_scope
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
            options = declared_options(instance)
            selection = options.selection if options is not None else None
        return selection.listed() if selection is not None else None

    def __set__(self, instance: Any, names: Iterable[str] | None) -> None:
        selection = None if names is None else FieldSelection(names)
        if selection:
            check_fields(instance, selection)
        scope = _scope_of(instance)
        if scope is not None:
            scope.call_selection = selection
            return
        options = declared_options(instance)
        if options is None:
            logger.warning(
                "%s is not instrumented, so its _streamll_stream_fields has no effect",
                type(instance).__name__,
            )
            return
        declare_options(instance, replace(options, selection=selection, checked=True))


def _scope_of(instance: Any) -> Any:
    """The scope of the call of ``instance`` that is running here."""
    scope = current_scope()
    enclosing = scope.enclosing() if scope is not None else ()
    return next((each for each in enclosing if each.instance is instance), None)
