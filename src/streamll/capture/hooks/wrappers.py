"""What stands at the sites in ``places``: wrappers, which make replacements from originals.

Those of an LM call differ with DSPy: ``since_3_4`` and ``before_3_4``.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import dspy

from streamll.asking.approve import approve_each, asks
from streamll.capture.hooks.callbacks import CALLBACK
from streamll.capture.hooks.evaluations import reported
from streamll.capture.hooks.tracebacks import FramesHidden
from streamll.capture.inside_dspy import ACTIVE_CALL_ID, overriding, setting
from streamll.capture.run import options
from streamll.capture.run.enter import acall_captured, call_captured, raise_in_optimizer
from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.options import check_fields, declare_options, declared_options
from streamll.capture.run.scope import QUIET_KEY, SCOPE_KEY, current_scope, is_quiet
from streamll.context import carrier
from streamll.core.errors import ConfigurationError, Unwind, logger

Function = Callable[..., Any]


def without_our_stream() -> AbstractContextManager[None]:
    """Inside, DSPy does not see our ``send_stream``, for which it would stream by itself.

    A plugin's ``forward`` sees it, in a tap, but not the LM calls that it makes.
    """
    scope = current_scope()
    ours = scope.send_stream if scope is not None else None
    if ours is None or getattr(setting("send_stream"), "innermost", None) is not ours:
        return nullcontext()
    return overriding("send_stream", None)


def captured_call(original: Function) -> Function:
    """Of a ``__call__`` where a captured call begins."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with FramesHidden():
            try:
                return call_captured(original, self, args, kwargs)
            except Unwind:
                raise_in_optimizer()
                raise

    return call


def captured_acall(original: Function) -> Function:
    """Of an ``acall`` where a captured call begins."""

    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        with FramesHidden():
            try:
                return await acall_captured(original, self, args, kwargs)
            except Unwind:
                raise_in_optimizer()
                raise

    return acall


def tool_call(original: Function) -> Function:
    """Of ``dspy.Tool``'s calls: one that a person is to allow."""

    @functools.wraps(original)
    def call(self: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is not None and scope.needs_approval(str(self.name)):
            self = approve_each(self)
        with FramesHidden():
            return original(self, **kwargs)

    return call


def tool_call_executed(original: Function) -> Function:
    """Of ``execute``, which calls a tool's function past the ``dspy.Tool``."""

    @functools.wraps(original)
    def execute(self: Any, functions: Any = None) -> Any:
        name = self.name
        if functions is None:  # DSPy would look into its caller's frame, which is this one
            caller = sys._getframe(1)  # noqa: SLF001
            functions = {name: caller.f_locals.get(name) or caller.f_globals.get(name)}
        scope = current_scope()
        if scope is not None and scope.needs_approval(name):
            functions = _asking(name, functions)
        with FramesHidden():
            return original(self, functions)

    return execute


def _asking(name: str, functions: Any) -> Any:
    """The function of this name that DSPy would choose of these, and that asks first."""
    if isinstance(functions, dict):
        tool = functions.get(name)
        if not callable(tool) or isinstance(tool, dspy.Tool):  # whose calls ask by themselves
            return functions
        return {name: approve_each(dspy.Tool(tool, name=name)).func}
    tools = functions if isinstance(functions, list) else ()
    tool = next((each for each in tools if each.name == name), None)
    return functions if tool is None else {name: approve_each(tool).func}


def source_run(original: Function) -> Function:
    """Of ``CodeAct.forward``, which runs its tools' source in an interpreter, where nothing can ask."""

    @functools.wraps(original)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        for name, tool in self.tools.items():
            if asks(tool.func) or (scope is not None and scope.needs_approval(str(name))):
                raise ConfigurationError(
                    f"nobody could be asked before a call of {name!r}: {type(self).__name__} runs "
                    "the source of its tools in an interpreter, past approve; give the tools to a "
                    "dspy.ReAct"
                )
        with FramesHidden():
            return original(self, *args, **kwargs)

    return forward


class _Overlay:
    """An object with some attributes in place of its own."""

    def __init__(self, beneath: Any, **attributes: Any) -> None:
        self._beneath = beneath
        vars(self).update(attributes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beneath, name)


class _QuickProtocol(type):
    """Stands for a protocol in ``isinstance``. What lacks a member is none, which is known at once.

    ``typing`` collects the members again for each check, which takes ten times as long.
    """

    def __new__(cls, protocol: Any) -> _QuickProtocol:
        return super().__new__(cls, protocol.__name__, (), {"protocol": protocol})

    def __init__(cls, protocol: Any) -> None:
        super().__init__(protocol.__name__, (), {})
        cls.members = [name for name in vars(protocol) if not name.startswith("_")]
        cls.protocol = protocol

    def __instancecheck__(cls, instance: Any) -> bool:
        has_all = all(hasattr(instance, name) for name in cls.members)
        return has_all and isinstance(instance, cls.protocol)


def dspy_of_callbacks(dspy: Any) -> Any:
    """The module ``dspy`` as ``dspy.utils.callback`` sees it, which asks ``dspy.settings.get``.

    It also asks of each call whether it is one of a ``CodeInterpreter``, a protocol.
    """

    def get(key: str, default: Any = None) -> Any:
        value = dspy.settings.get(key, default)
        if key != "callbacks" or CALLBACK in value:
            return value
        is_captured = setting(SCOPE_KEY) is not None or options.watching is not None
        return [*value, CALLBACK] if is_captured else value

    own: dict[str, Any] = {"settings": _Overlay(dspy.settings, get=get)}
    if (protocol := getattr(dspy, "CodeInterpreter", None)) is not None:
        own["CodeInterpreter"] = _QuickProtocol(protocol)
    return _Overlay(dspy, **own)


def listener_here() -> Any:
    """The ``LMCall`` that is being made here."""
    scope = current_scope()
    frame = scope.run.frames.get(ACTIVE_CALL_ID.get() or "") if scope is not None else None
    if frame is None or frame.kind != "lm":
        return None
    return next(iter(frame.lm_calls), None)  # none if the callback failed at its start


def evaluated(original: Function) -> Function:
    def evaluate(self: Any, *args: Any, **kwargs: Any) -> Any:
        with FramesHidden(), overriding(QUIET_KEY, True):  # noqa: FBT003
            return call_captured(original, self, args, kwargs)

    return evaluate


def context_carried(original: Function) -> Function:
    def execute(self: Any, function: Callable[[Any], Any], data: Any) -> Any:
        carried = carrier()
        for_each = reported(function)

        @functools.wraps(function)
        def under_context(item: Any) -> Any:
            with carried():
                return for_each(item)

        with overriding(QUIET_KEY, is_quiet()):  # for its threads, which get no context variables
            return original(self, under_context, data)

    return execute


class CallLocalFields:
    """``self._streamll_stream_fields``: which fields this very call streams.

    Set inside ``forward`` it holds for that call alone, however many calls of the module run at
    once; set outside a call it is the instance's own declaration. ``[]`` streams none.
    """

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        for declared in (_scope_of(instance), declared_options(instance)):
            if declared is not None and declared.selection is not None:
                return declared.selection.listed()
        return None

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
            text = "%s is not instrumented, so its _streamll_stream_fields has no effect"
            logger.warning(text, type(instance).__name__)
            return
        declare_options(instance, dataclasses.replace(options, selection=selection, checked=True))


def _scope_of(instance: Any) -> Any:
    """The scope of the call of ``instance`` that is running here."""
    scope = current_scope()
    enclosing = scope.enclosing() if scope is not None else ()
    return next((each for each in enclosing if each.instance is instance), None)
