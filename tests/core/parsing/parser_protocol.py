"""Feeds a reply to a parser and checks the parser's protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from oracle import FIELDS, Format

from streamll.core.parsing.base import Closed, Opened, Piece, Text


def pieces(form: Format, chunks: Iterable[str], fields=FIELDS) -> list[Piece]:
    parser = form.parser(fields)
    read = [piece for chunk in chunks for piece in parser.feed(chunk)]
    read += parser.finish()
    assert not parser.finish(), "a second finish() releases nothing"
    return read


def texts(read: Sequence[Piece]) -> dict[str, str]:
    """The text of each field; fields open once, one at a time, and close."""
    found: dict[str, list[str]] = {}
    current = None
    for piece in read:
        if isinstance(piece, Opened):
            assert current is None
            assert piece.field not in found
            current = piece.field
            found[current] = []
        elif isinstance(piece, Text):
            assert piece.field == current
            assert piece.text
            found[piece.field].append(piece.text)
        else:
            assert isinstance(piece, Closed)
            assert piece.field == current
            current = None
    assert current is None
    return {field: "".join(parts) for field, parts in found.items()}


def read(form: Format, chunks: Iterable[str], fields=FIELDS) -> dict[str, str]:
    return texts(pieces(form, chunks, fields))


def cut(text: str, sizes: Sequence[int]) -> list[str]:
    """``text`` in chunks of these sizes, over and over."""
    chunks = []
    at = turn = 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        chunks.append(text[at : at + size])
        at += size
        turn += 1
    return chunks
