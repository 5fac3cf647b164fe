"""``partials`` and ``items``: typed fields of a stream, for ``for`` and ``async for``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, overload

from streamll.capture.run.enter import check_fields
from streamll.capture.run.fields import FieldSelection
from streamll.capture.typed.partials import (
    ItemReader,
    Partial,
    PartialReader,
    annotation_of,
    item_type_of,
)
from streamll.core.events import Event
from streamll.core.parsing.growth import Place

T = TypeVar("T")


class Streamed(Protocol):
    """What is needed of the run that is read."""

    program: Any

    def qualified_name(self, field: str) -> str: ...


def partial_reader(streamed: Streamed, field: str, as_type: Any) -> PartialReader[Any]:
    check_fields(streamed.program, FieldSelection([field]))
    annotation = annotation_of(streamed.program, field)
    return PartialReader(streamed.qualified_name(field), annotation, as_type)


def item_reader(streamed: Streamed, field: str, place: Place, as_type: Any) -> ItemReader[Any]:
    check_fields(streamed.program, FieldSelection([field]))
    if as_type is None and not place:
        as_type = item_type_of(annotation_of(streamed.program, field))
    return ItemReader(streamed.qualified_name(field), place, as_type)


class TypedReading:
    """Of a ``Stream``."""

    _program_run: Streamed

    def __iter__(self) -> Iterator[Event]:
        raise TypeError("a stream says how its events are read")

    @overload
    def partials(self, field: str) -> Iterator[Partial[Any]]: ...
    @overload
    def partials(self, field: str, as_type: type[T]) -> Iterator[Partial[T]]: ...
    def partials(self, field: str, as_type: Any = None) -> Iterator[Partial[Any]]:
        """The value of ``field`` each time something of it has become certain.

        Each is valid in all its parts: lists and objects as they open, text as it grows,
        numbers and words only when they are whole. The last one is the program's own value.

        Args:
            as_type: the field's type; values then are of its partial form (all members
                optional), and a type checker knows them.

        Raises:
            UnknownFieldError: no predictor has such a field.
        """
        reader = partial_reader(self._program_run, field, as_type)
        return (partial for event in self if (partial := reader.read(event)) is not None)

    @overload
    def items(self, field: str, *place: str | int) -> Iterator[Any]: ...
    @overload
    def items(self, field: str, *place: str | int, as_type: type[T]) -> Iterator[T]: ...
    def items(self, field: str, *place: str | int, as_type: Any = None) -> Iterator[Any]:
        """Each element of a list once, as soon as it is complete, as the field's type says.

        ``items("report", "findings")`` gives those of a list inside the field (plain values,
        unless ``as_type`` says what an element is).

        Raises:
            UnknownFieldError: no predictor has such a field.
        """
        reader = item_reader(self._program_run, field, place, as_type)
        return (item for event in self for item in reader.read(event))


class AsyncTypedReading:
    """Of an ``AsyncStream``."""

    _program_run: Streamed

    def __aiter__(self) -> AsyncIterator[Event]:
        raise TypeError("a stream says how its events are read")

    @overload
    def partials(self, field: str) -> AsyncIterator[Partial[Any]]: ...
    @overload
    def partials(self, field: str, as_type: type[T]) -> AsyncIterator[Partial[T]]: ...
    def partials(self, field: str, as_type: Any = None) -> AsyncIterator[Partial[Any]]:
        """See ``Stream.partials``."""
        reader = partial_reader(self._program_run, field, as_type)
        return self._map(lambda event: () if (p := reader.read(event)) is None else (p,))

    @overload
    def items(self, field: str, *place: str | int) -> AsyncIterator[Any]: ...
    @overload
    def items(self, field: str, *place: str | int, as_type: type[T]) -> AsyncIterator[T]: ...
    def items(self, field: str, *place: str | int, as_type: Any = None) -> AsyncIterator[Any]:
        """See ``Stream.items``."""
        return self._map(item_reader(self._program_run, field, place, as_type).read)

    async def _map(self, read: Callable[[Event], Sequence[Any]]) -> AsyncIterator[Any]:
        async for event in self:
            for value in read(event):
                yield value
