"""``partials`` and ``items``: typed fields of a stream, for ``for`` and ``async for``."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, overload

from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.options import check_fields
from streamll.capture.typed.partials import (
    ItemReader,
    Partial,
    PartialReader,
    annotation_of,
    item_type_of,
)
from streamll.core.events import Event
from streamll.core.parsing.values.builder import Pointer
from streamll.flow.bridge import Mapped
from streamll.flow.dual import DualIterator

T = TypeVar("T")


class Streamed(Protocol):
    """The parts of a ``ProgramRun`` that are used here."""

    program: Any

    def qualified_name(self, field: str) -> str: ...


def partial_reader(streamed: Streamed, field: str, as_type: Any) -> PartialReader[Any]:
    check_fields(streamed.program, FieldSelection([field]))
    annotation = annotation_of(streamed.program, field)
    return PartialReader(streamed.qualified_name(field), annotation, as_type)


def item_reader(streamed: Streamed, field: str, pointer: Pointer, as_type: Any) -> ItemReader[Any]:
    check_fields(streamed.program, FieldSelection([field]))
    if as_type is None and not pointer:
        as_type = item_type_of(annotation_of(streamed.program, field))
    return ItemReader(streamed.qualified_name(field), pointer, as_type)


class TypedReading(DualIterator[Event]):
    """A stream of events that can be read as typed values; ``async for`` on an ``AsyncStream``."""

    _program_run: Streamed

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
        """
        reader = partial_reader(self._program_run, field, as_type)
        return Mapped(self, lambda event: () if (p := reader.read(event)) is None else (p,))

    @overload
    def items(self, field: str, *pointer: str | int) -> Mapped[Any]: ...
    @overload
    def items(self, field: str, *pointer: str | int, as_type: type[T]) -> Mapped[T]: ...
    def items(self, field: str, *pointer: str | int, as_type: Any = None) -> Mapped[Any]:
        """Each element of a list once, as soon as it is complete, of the field's element type.

        ``items("report", "findings")`` reads a list inside the field; its elements are plain values
        unless ``as_type`` is given.

        Raises:
            UnknownFieldError: no predictor has such a field.
        """
        return Mapped(self, item_reader(self._program_run, field, pointer, as_type).read)
