"""Reads one typed field from a program's events: its partial values, or its list items.

The readers are synchronous: events in, values out. ``TypedReading`` puts them into a stream.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, overload

import pydantic

from streamll.capture.run.frames import predictors_of
from streamll.capture.typed.claims import holds
from streamll.capture.typed.field import is_prose
from streamll.capture.typed.partial_form import LISTS, partial_form
from streamll.core.errors import ConfigurationError
from streamll.core.events import (
    CALLS,
    Event,
    FieldCorrected,
    FieldEnd,
    FieldPartial,
    FieldStart,
    LMSuperseded,
    TokenEvent,
)
from streamll.core.parsing.values.builder import COMPLETE, PARTIAL, Pointer
from streamll.core.partials import Partials, PartialValue, copied, part_of
from streamll.flow.bridge import Mapped
from streamll.flow.dual import DualIterator

T = TypeVar("T")


class TypedForm:
    """Makes values of a type; what cannot be made is the last that could, ``None`` before that.

    A value that is still being written is never an error of its own: the program decides.
    """

    def __init__(self, as_type: Any) -> None:
        self._validate = pydantic.TypeAdapter(as_type).validate_python
        self._last: Any = None

    def __call__(self, value: Any) -> Any:
        with contextlib.suppress(pydantic.ValidationError):
            self._last = self._validate(value)
        return self._last


class Partial(Generic[T]):
    """A field's value so far. It grows in place: copy what you keep.

    ``event`` is the event that led to it: a small change (``event.pointer``,
    ``event.value``), or the whole value.
    """

    __slots__ = ("_form", "_value", "event", "is_final")

    def __init__(
        self, value: PartialValue, event: Event, form: TypedForm | None, *, is_final: bool
    ) -> None:
        self._value = value
        self._form = None if is_final else form
        self.event = event
        self.is_final = is_final
        """Whether this is the program's own value, which is of its type."""

    @property
    def value(self) -> T:
        """All that is certain so far, as lists, dictionaries and plain values.

        With ``as_type`` it is an object of the partial form, in which every member may be ``None``;
        each access makes a new one, at the cost of the value's length. What is not valid as
        this type is left out: it is then the last value that was. The last one is the program's
        own.
        """
        value: Any = self._value.value
        return value if self._form is None else self._form(value)  # type: ignore[no-any-return]

    @property
    def state(self) -> str:
        """``"pending"``, ``"partial"`` or ``"complete"``."""
        return self._value.state()

    def state_of(self, *pointer: str | int) -> str:
        """The state of a part: ``state_of(0, "name")``; pending while it is not there."""
        return self._value.state(*pointer)

    def __repr__(self) -> str:
        return f"Partial({self._value.value!r}, state={self.state!r})"


class PartialReader(Generic[T]):
    """Reads the partial values of one field from events."""

    def __init__(self, field: str, annotation: Any, as_type: Any = None) -> None:
        self._field = field
        self._reads_text = is_prose(annotation)
        self._values = Partials()
        self._ended: set[tuple[str | None, int]] = set()  # what follows is the program's value
        self._form = None if as_type is None else TypedForm(partial_form(as_type))

    def read(self, event: Event) -> Partial[T] | None:
        """The field's value after this event; ``None`` if the event does not concern it."""
        if isinstance(event, FieldEnd) and is_of(event, event.field, self._field):
            self._ended.add((event.call_id, event.attempt))
        change = self._change_of_text(event) if self._reads_text else event
        if isinstance(change, FieldPartial) and not is_of(change, change.field, self._field):
            return None
        value = self._values.feed(change)
        if value is None:
            return None
        is_final = self._reads_text or (event.call_id, event.attempt) in self._ended
        return Partial(value, event, self._form, is_final=is_final)

    def _change_of_text(self, event: Event) -> Event:
        """Plain text has no ``field.partial`` events; its tokens and its end are the changes."""
        if not isinstance(event, (FieldStart, TokenEvent, FieldEnd, FieldCorrected)):
            return event
        text, state, append = "", PARTIAL, False
        if isinstance(event, (TokenEvent, FieldEnd)):
            append = self._values.of(event, event.field) is not None
        if isinstance(event, TokenEvent):
            if append and not event.token:  # the closing one: the field's end follows
                return event
            text = event.token
        elif isinstance(event, FieldCorrected):
            text, state = event.text, COMPLETE
        elif isinstance(event, FieldEnd):
            if not event.complete:
                return event
            state = COMPLETE
        return FieldPartial(
            identity=event.identity, field=event.field, value=text, state=state, append=append
        )


class _Given:
    """What was given of one call's list."""

    __slots__ = ("is_read", "items", "next")

    def __init__(self) -> None:
        self.items: list[Any] = []  # as they were written
        self.restart()

    def restart(self) -> None:
        """Another attempt writes the list."""
        self.next = 0  # the index in this attempt
        self.is_read = False  # the attempt's list was read to its end


class ItemReader(Generic[T]):
    """Reads each element of a list once, when it is complete.

    A retry that writes the same elements again does not repeat them. Elements that it writes
    differently are yielded as well, since those yielded before cannot be withdrawn. The same holds
    for the program's elements where the list was not read to its end: DSPy may have repaired what
    was written. From an element on that is not valid as the element type, they wait for the
    program's value. ``is_declared``: the program's own elements are of this type; validators of
    the user's are not run on them again.
    """

    def __init__(
        self, field: str, pointer: Pointer, item_type: Any = None, *, is_declared: bool = False
    ) -> None:
        self._field = field
        self._is_declared = is_declared
        self._pointer = pointer
        self._partials: PartialReader[Any] = PartialReader(field, None)
        self._validate: Callable[[Any], T] = pydantic.TypeAdapter(
            Any if item_type is None else item_type
        ).validate_python
        self._given: dict[str | None, _Given] = {}  # by call: several may be under way at once
        self._has_found = False
        self._wrong: str | None = None  # why a call's final value has no list there

    def read(self, event: Event) -> Sequence[T]:
        """The elements that this event completes."""
        if isinstance(event, LMSuperseded) and event.call_id in self._given:
            self._given[event.call_id].restart()
        elif event.closes in CALLS:
            self._given.pop(event.call_id, None)
        partial = self._partials.read(event)
        if partial is None:
            return ()
        given = self._given.setdefault(event.call_id, _Given())
        return list(self._complete(partial, given))

    def ended(self) -> None:
        """Raise ``ConfigurationError`` if no call had a list there, and one could have none."""
        if self._wrong is not None and not self._has_found:
            where = ", ".join(map(repr, (self._field, *self._pointer)))
            raise ConfigurationError(f"items({where}) reads a list, and {self._wrong}")

    def _complete(self, partial: Partial[Any], given: _Given) -> Iterator[T]:
        items = part_of(partial.value, self._pointer, _MISSING)
        if isinstance(items, (set, frozenset)):  # the program's; it is not shown before
            items = list(items)
        is_final = partial.is_final
        if not isinstance(items, (list, tuple)):
            if is_final:
                self._wrong = self._wrong or _why_no_list(partial.value, self._pointer)
            return
        self._has_found = True
        if is_final and not given.is_read:
            given.next = 0
        while given.next < len(items):
            if not is_final and partial.state_of(*self._pointer, given.next) != COMPLETE:
                return
            item = items[given.next]
            known = given.items[given.next : given.next + 1]
            if known and (self._is_made_of(known[0], item) if is_final else known[0] == item):
                given.next += 1
                continue
            try:
                typed = item if is_final and self._is_declared else self._validate(item)
            except pydantic.ValidationError:
                if not is_final:
                    return
                typed = item
            given.items[given.next : given.next + 1] = [copied(item)]  # readers may change it
            given.next += 1
            yield typed
        given.is_read = partial.state_of(*self._pointer) == COMPLETE

    def _is_made_of(self, written: Any, item: Any) -> bool:
        """Whether the program's element is what was yielded for what was ``written``."""
        with contextlib.suppress(pydantic.ValidationError):
            return holds(written, item, whole=True) or holds(self._validate(written), item)
        return False


_MISSING = object()


def _why_no_list(value: Any, pointer: Pointer) -> str | None:
    """Why a final value can have no list at ``pointer``; ``None`` where it merely has none."""
    for key in pointer:
        if isinstance(key, str) and isinstance(value, (list, tuple)):
            return f"{key!r} is in a list, whose elements have numbers"
        part = part_of(value, (key,), _MISSING)
        if part is _MISSING:
            is_open = value is None or isinstance(value, (dict, list, tuple))
            if is_open or getattr(type(value), "model_config", {}).get("extra") == "allow":
                return None
            return f"{type(value).__name__} has no member {key!r}"
        value = part
    return None if value is None else f"this is of the type {type(value).__name__}"


class TypedReading(DualIterator[Event]):
    """A stream of events that can be read as typed values; ``async for`` on an ``AsyncStream``."""

    _program_run: Any  # a ``ProgramRun``

    @overload
    def partials(self, field: str) -> Mapped[Partial[Any]]: ...
    @overload
    def partials(self, field: str, as_type: type[T]) -> Mapped[Partial[T]]: ...
    def partials(self, field: str, as_type: Any = None) -> Mapped[Partial[Any]]:
        """The value of ``field`` each time more of it has become certain.

        Every value is valid in all its parts: lists and objects from their opening on, text as it
        grows, numbers and literals only when they are complete. The last one is the program's own.

        Args:
            as_type: the field's type; values are then of its partial form (all members optional),
                and type checkers know them.

        Raises:
            UnknownFieldError: no predictor has such a field.
            AmbiguousFieldError: several predictors have it in the module that ``field`` names.
            StreamllError: where it is read: another reading has had it.
        """
        reader: PartialReader[Any] = PartialReader(*self._declared(field), as_type)
        return Mapped(self, lambda event: () if (p := reader.read(event)) is None else (p,))

    @overload
    def items(self, field: str, *pointer: str | int) -> Mapped[Any]: ...
    @overload
    def items(self, field: str, *pointer: str | int, as_type: type[T]) -> Mapped[T]: ...
    def items(self, field: str, *pointer: str | int, as_type: Any = None) -> Mapped[Any]:
        """Each element of a list once, as soon as it is complete, of the field's element type.

        Where a retry writes another element, or DSPy repairs one, that one is yielded as well.

        ``items("report", "findings")`` reads a list inside the field, at ``pointer`` (keys and
        indices); its elements are plain values unless ``as_type`` is given.

        Raises:
            UnknownFieldError: no predictor has such a field.
            AmbiguousFieldError: several predictors have it in the module that ``field`` names.
            ConfigurationError: the field is declared as a text or a number; ``pointer`` has
                neither keys nor indices; at the end of reading: there is no list at ``pointer``.
            StreamllError: where it is read: another reading has had it.
        """
        name, annotation = self._declared(field)
        for key in pointer:
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                raise ConfigurationError(f"a pointer has keys and indices, not {key!r}")
        is_class = isinstance(annotation, type) and get_origin(annotation) is None
        if not pointer and is_class and issubclass(annotation, (str, int, float)):
            raise ConfigurationError(
                f"{field!r} is declared as {annotation.__name__}, and items reads a list; partials "
                "and tokens read other values"
            )
        is_declared = as_type is None and not pointer
        if is_declared:
            as_type = item_type_of(annotation)
        reader: ItemReader[Any] = ItemReader(name, pointer, as_type, is_declared=is_declared)
        return Mapped(self, reader.read, reader.ended)

    def _declared(self, field: str) -> tuple[str, Any]:
        """The field's qualified name, and its type."""
        run = self._program_run
        declared = run.declared(field)
        return run.qualified_name(declared), annotation_of(run.program, declared)


def is_of(event: Event, field: str, asked: str) -> bool:
    """Whether the event is about the field ``asked``, a bare or a qualified name."""
    return asked in (field, f"{event.predictor}.{field}")


def annotation_of(program: Any, field: str) -> Any:
    """The declared type of an output field; ``None`` if it is unknown or ambiguous."""
    owner, _, name = field.rpartition(".")
    found = {
        id(info.annotation): info.annotation
        for key, predictor in predictors_of(program)
        if owner in ("", key) and (info := predictor.signature.output_fields.get(name))
    }
    return next(iter(found.values())) if len(found) == 1 else None


def item_type_of(annotation: Any) -> Any:
    """The declared type of the elements of a list, also of one that may be ``None``."""
    if get_origin(annotation) is Annotated:
        return item_type_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        lists = [each for each in get_args(annotation) if each is not type(None)]
        return item_type_of(lists[0]) if len(lists) == 1 else None
    arguments = [each for each in get_args(annotation) if each is not ...]
    is_list = get_origin(annotation) in LISTS
    return arguments[0] if is_list and len(arguments) == 1 else None
