"""How calls are to be captured: what ``instrument`` and ``watch`` have declared."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import dspy

from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.frames import output_fields, tools_of
from streamll.capture.run.run import Run
from streamll.capture.run.scope import Scope
from streamll.capture.run.status import Statuses
from streamll.configuration import Receiver, configuration
from streamll.core.errors import ConfigurationError, warn_once
from streamll.core.events import Event
from streamll.guards import Guard
from streamll.guards.checks import inside_check

TokenHook = Callable[[Any], Callable[[Event], None]]
"""Of a module, what is called with its tokens."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CaptureOptions:
    """How a call is to be captured. ``checked``: an unknown field name is an error."""

    selection: FieldSelection | None = None
    sinks: tuple[Receiver, ...] | None = None
    on_token: TokenHook | None = None
    statuses: Statuses | None = None
    approve: frozenset[str] = frozenset()
    guards: tuple[Guard, ...] = ()
    checked: bool = True

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a saved program is saved without its listeners

    def __deepcopy__(self, memo: Any) -> CaptureOptions:
        return self

    def scope(self, run: Run, instance: Any, parent: Scope | None = None) -> Scope:
        if self.checked:
            self.check(instance)
        return Scope(
            run,
            instance,
            parent=parent,
            receivers=self._receivers(parent),
            declared=self._selection(instance, parent),
            token_hooks=() if self.on_token is None else (self.on_token(instance),),
            statuses=self.statuses,
            approve=self.approve,
            guards=self.guards if parent is not None else (*guards_of_run(), *self.guards),
        )

    def check(self, instance: Any) -> None:
        """Raise an error for a field or a tool that ``instance`` does not have."""
        if self.selection:
            check_fields(instance, self.selection)
        check_guards(instance, self.guards)
        if self.approve:
            check_tools(instance, self.approve)

    def _selection(self, instance: Any, parent: Scope | None) -> FieldSelection | None:
        """The fields declared for this call; ``None`` leaves it to enclosing declarations.

        ``stream(qa, fields=…)`` concerns the same call as ``qa``'s own declaration, and comes before
        it. Where only ``watch`` captures the call, its fields hold.
        """
        if parent is not None and parent.instance is instance and parent.selection is not None:
            return None
        if self.selection is None and parent is None and watching is not None:
            return watching.selection
        return self.selection

    def _receivers(self, parent: Scope | None) -> tuple[Receiver, ...]:
        if parent is not None:
            return self.sinks or ()
        receivers = (*receivers_of_run(), *(self.sinks or ()))
        if not receivers and self.sinks is None:
            from streamll.sinks.terminal import DEFAULT

            return (DEFAULT,)
        return receivers


def check_fields(program: Any, selection: FieldSelection) -> None:
    """Raise ``UnknownFieldError`` for an unknown name, unless predictors are made later."""
    if fields := output_fields(program):
        selection.check(type(program).__name__, fields)


def check_guards(program: Any, guards: Iterable[Guard]) -> None:
    """The same for the fields that guards are about."""
    for guard in guards:
        if guard.fields is not None:
            check_fields(program, FieldSelection(guard.fields))


NEARLY = 0.85
"""How alike a misspelt name is to the right one (``difflib``)."""


def check_tools(program: Any, names: frozenset[str]) -> None:
    """Raise ``ConfigurationError`` for a name that is nearly that of one of the program's tools.

    Any other that they do not have is logged: one of them, or the program's own code, may call a
    tool of that name.
    """
    known = {name.lower(): name for name in tools_of(program)}
    for name in names.difference(known.values(), "*") if known else ():
        close = get_close_matches(name.lower(), known, n=1, cutoff=NEARLY)
        there = ", ".join(known.values())
        tools = f"{type(program).__name__} has no tool {name!r} to approve; it has {there}"
        if close:
            raise ConfigurationError(f"{tools}. Did you mean {known[close[0]]!r}?")
        warn_once(f"{tools}; a person is asked only where a tool of that name is called inside")


def check_program(program: Any, taker: str) -> None:
    """Raise ``TypeError`` for what a call does not run, such as a class: that makes an instance."""
    if not callable(program):
        name = type(program).__name__
        raise TypeError(f"{taker} takes a dspy.Module or a function, not {name}")
    if isinstance(program, type):
        name = program.__name__
        raise TypeError(f"{name} is a class; give an instance of it: {name}(…)")
    is_function = inspect.isroutine(program) or isinstance(program, functools.partial)
    kind: Any = type(program)  # what it says of itself, its own ``__getattr__`` may make up
    runs = program if is_function else getattr(kind, "forward", kind.__call__)
    if inspect.isgeneratorfunction(runs) or inspect.isasyncgenfunction(runs):
        name = getattr(runs, "__qualname__", kind.__name__)
        raise TypeError(
            f"{name} is a generator, whose call runs nothing: return the result instead"
        )


watching: CaptureOptions | None = None


def watch_with(options: CaptureOptions | None) -> None:
    """Capture every program that nothing else captures (``watch``); ``None`` ends that."""
    global watching  # noqa: PLW0603
    watching = options


def receivers_of_run(program: Any = None) -> tuple[Receiver, ...]:
    """The sinks that get every event of a run, with those of ``program``, if that is outermost.

    None, inside a check: its inputs are the very text that is not to leave before it has answered.
    """
    if inside_check.get():
        return ()
    watched = watching.sinks if watching is not None else None
    own = own_options(program)
    return (*configuration.sinks, *(watched or ()), *((own.sinks if own else None) or ()))


def guards_of_run(program: Any = None) -> tuple[Guard, ...]:
    """The guards of every event of a run besides those of ``configure``, likewise."""
    own = own_options(program)
    return (
        *(watching.guards if watching is not None else ()),
        *(own.guards if own is not None else ()),
    )


# Not an attribute of the class: where that is pickled by value, unpickling would overwrite it.
# By id: a class need not be hashable.
_of_classes: dict[int, CaptureOptions] = {}


def declare_options(target: Any, options: CaptureOptions) -> None:
    """Capture the calls of a module, or of a class and its subclasses, from now on."""
    if isinstance(target, type):
        if id(target) not in _of_classes:
            weakref.finalize(target, _of_classes.pop, id(target)).atexit = False
        _of_classes[id(target)] = options
    else:
        target._streamll_capture = options  # noqa: SLF001 - the attribute is ours


def own_options(program: Any) -> CaptureOptions | None:
    return declared_options(program) if isinstance(program, dspy.Module) else None


def declared_options(instance: Any) -> CaptureOptions | None:
    """What ``instrument`` declared for this instance or its class.

    Does not call a module's own ``__getattr__``, which may raise anything.
    """
    own: CaptureOptions | None = vars(instance).get("_streamll_capture")  # None after unpickling
    if own is not None or not _of_classes:
        return own
    found = (_of_classes.get(id(kind)) for kind in type(instance).__mro__)
    return next((options for options in found if options is not None), None)
