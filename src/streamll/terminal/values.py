"""Typed fields while they are written, as lines: a table that fills, a tree that grows.

A list of flat objects is drawn as a table, any other value with parts as a tree, a single value
as itself; what has not arrived yet as a dot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from streamll.core.events import FieldPartial
from streamll.core.jsonable import plain
from streamll.core.partials import PartialValue
from streamll.terminal import text as tx

PENDING_CELL = "·"
COLUMN_GAP = "  "
MIN_COLUMN = 4
MAX_CELL = 40
MAX_COLUMNS = 12
INDENT = "  "
DRAWN_ELEMENTS = 200
"""Elements of a long list that are drawn while it grows; no screen is higher."""


@dataclass(slots=True, eq=False)
class DrawnValue:
    """A typed field's value as lines of some width; has the interface of ``WrappedText``."""

    _value: PartialValue = field(default_factory=PartialValue)
    _lines: list[str] | None = None
    _width: int = 0

    def feed(self, event: FieldPartial) -> None:
        """Apply a change; it is drawn when the lines are next read."""
        self._value.apply(event)
        self._lines = None

    def append(self, text: str) -> None:
        """The raw text of the field is ignored: its value is shown."""

    def replace(self, text: str) -> None:
        """So is a correction: the corrected value has come before it."""

    @property
    def value(self) -> Any:
        """The value so far, in plain lists, dictionaries and values."""
        return plain(self._value.value)

    @property
    def length(self) -> int:
        return 0 if self._value.value is None else 1

    def ending(self, length: int) -> str:
        """The last ``length`` characters, for a view of one line."""
        return tx.compact(self.value, 10 * length)[-length:]

    def lines(self, width: int) -> list[str]:
        """The lines at ``width`` columns; not to be modified."""
        if self._lines is None or width != self._width:
            self._width = width
            self._lines = (self._drawn(width) if self.length else []) or [""]
        return self._lines

    def _drawn(self, width: int) -> list[str]:
        """The whole value; of a long list that still grows, only the end."""
        value = self._value.value
        if isinstance(value, list) and len(value) > DRAWN_ELEMENTS and not self._value.is_complete:
            earlier = tx.amount(len(value) - DRAWN_ELEMENTS, "earlier element")
            return [tx.head(f"… {earlier}", width), *drawn(plain(value[-DRAWN_ELEMENTS:]), width)]
        return drawn(self.value, width)


def is_structured(value: object) -> bool:
    """Whether a value has parts to draw."""
    return isinstance(value, (list, dict, tuple, set)) or any(
        hasattr(type(value), mark) for mark in ("model_dump", "__dataclass_fields__")
    )


def drawn(value: Any, width: int) -> list[str]:
    """A plain value as lines of at most ``width`` columns."""
    lines = table(value, width) if is_table(value) else tree(value)
    return [tx.head(line, width) for line in lines]


def is_table(value: Any) -> bool:
    """Whether it is a list of objects with single values only."""
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        return False
    is_flat = not any(has_parts(cell) for row in value for cell in row.values())
    return is_flat and 0 < len(dict.fromkeys(chain(*value))) <= MAX_COLUMNS


def has_parts(value: Any) -> bool:
    return isinstance(value, (dict, list)) and bool(value)


def table(rows: Sequence[dict[str, Any]], width: int) -> list[str]:
    """One line per object; the longest cells are cut if the columns do not fit."""
    columns = list(dict.fromkeys(chain(*rows)))
    grid = [
        [_single(row[name], MAX_CELL) if name in row else PENDING_CELL for name in columns]
        for row in rows
    ]
    numeric = [all(isinstance(row.get(name, 0), (int, float)) for row in rows) for name in columns]
    heads = [tx.one_line(name, MAX_CELL) for name in columns]
    sizes = _sizes(heads, grid, width)
    rule = ["─" * size for size in sizes]
    return [table_row(cells, sizes, numeric) for cells in (heads, rule, *grid)]


def _sizes(heads: list[str], grid: list[list[str]], width: int) -> list[int]:
    """Each column as wide as its widest cell; the widest columns narrowed until all fit."""
    sizes = [max(map(tx.cells, column)) for column in zip(heads, *grid, strict=True)]
    room = width - len(COLUMN_GAP) * (len(sizes) - 1)
    while sum(sizes) > room and max(sizes) > MIN_COLUMN:
        sizes[sizes.index(max(sizes))] -= 1
    return sizes


def table_row(cells: Sequence[str], sizes: Sequence[int], numeric: Sequence[bool]) -> str:
    """Cells padded to the ``sizes`` of their columns; longer ones are cut."""
    padded = []
    for cell, size, right in zip(cells, sizes, numeric, strict=True):
        shown = tx.head(cell, size)
        blanks = " " * (size - tx.cells(shown))
        padded.append(blanks + shown if right else shown + blanks)
    return COLUMN_GAP.join(padded).rstrip()


def tree(value: Any, indent: str = "") -> Iterator[str]:
    """``key: value`` lines, deeper parts indented, list items after a dash."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _branch(f"{indent}{tx.one_line(key, MAX_CELL)}:", part, indent + INDENT)
    elif isinstance(value, list) and value:
        for part in value:
            first, *others = tree(part, indent + INDENT)
            yield f"{indent}- {first[len(indent) + len(INDENT) :]}"  # aligned after its dash
            yield from others
    else:
        yield indent + _single(value)


def _branch(label: str, part: Any, indent: str) -> Iterator[str]:
    if not has_parts(part):
        yield f"{label} {_single(part)}".rstrip()
    elif isinstance(part, list) and not any(isinstance(each, (dict, list)) for each in part):
        yield f"{label} {', '.join(_single(each) for each in part)}"
    else:
        yield label
        yield from tree(part, indent)


def _single(value: Any, limit: int = 500) -> str:
    return tx.one_line(value, limit) if isinstance(value, str) else tx.compact(value, limit)
