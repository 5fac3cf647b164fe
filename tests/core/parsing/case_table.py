"""One row of a parser's table of cases, and how a row is checked."""

from __future__ import annotations

from typing import NamedTuple

from oracle import FIELDS, Format, final
from parser_protocol import read

from streamll.testing import chunkings

REFUSED = {"": "the adapter raises"}
TYPED = dict.fromkeys(FIELDS, False)


class Row(NamedTuple):
    """What a reply releases, and the adapter's values where they are others."""

    name: str
    reply: str
    released: dict[str, str]
    values: dict[str, str] | None = None


def check(form: Format, row: Row, *, well_formed: bool = True) -> None:
    """The row holds, however the reply is cut, and for every adapter of the format."""
    for chunks in chunkings(row.reply):
        assert read(form, chunks) == row.released, chunks
    assert form.well_formed(row.reply) is well_formed
    assert row.values is None or not well_formed
    values = row.released if row.values is None else row.values
    for adapter in form.adapters:
        assert final(adapter, row.reply) == (None if values is REFUSED else values)


def check_typed(form: Format, row: Row) -> None:
    """The same for fields that are not ``str``: their text is what the model wrote."""
    for chunks in chunkings(row.reply):
        assert read(form, chunks, TYPED) == row.released, chunks
