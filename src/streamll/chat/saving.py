"""A session as one JSON document, with a schema version.

It holds messages and branches. Models are left out, since their keys do not belong in a file.
Within version 1 keys are only added, and a reader ignores those that it does not know.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from streamll.chat.messages import Message
from streamll.core.errors import SessionFormatError, StreamllError

T = TypeVar("T")

SCHEMA = "streamll.session"
VERSION = 1


class SavedBranch(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str
    name: str
    order: list[str]
    parent: str | None = None


class SavedSession(msgspec.Struct, kw_only=True):
    schema: str = SCHEMA
    version: int = VERSION
    id: str
    created_at: float
    messages: list[Message]
    branches: list[SavedBranch]


class _Head(msgspec.Struct):
    schema: str = ""
    version: int = 0


def encode(saved: SavedSession) -> bytes:
    """The document. Raises ``StreamllError`` for a value that JSON cannot hold, or that could not be
    read again: it would replace a file that can.
    """
    try:
        data = msgspec.json.encode(saved, enc_hook=_refuse)
        msgspec.json.decode(data, type=SavedSession)
    except UnicodeEncodeError:
        raise StreamllError(
            "a text with a lone surrogate, which is no character, cannot be saved"
        ) from None
    except msgspec.ValidationError as error:
        raise StreamllError(
            f"this session cannot be saved, as it could not be read: {error}"
        ) from error
    return data


def _refuse(value: object) -> object:
    raise StreamllError(
        f"a {type(value).__name__} cannot be saved; messages hold plain data (texts, numbers, "
        "lists, mappings)"
    )


def decode(data: bytes | str) -> SavedSession:
    """What ``encode`` wrote. Raises ``SessionFormatError`` that says what is wrong with it."""
    head = _decoded(data, _Head, "this is no saved session")
    if head.schema != SCHEMA:
        raise SessionFormatError(f"this is no saved session: its schema is {head.schema!r}")
    if head.version != VERSION:
        raise SessionFormatError(
            f"this session has format version {head.version}; version {VERSION} can be read here"
        )
    saved = _decoded(data, SavedSession, "this saved session is damaged")
    if damage := _damage(saved):
        raise SessionFormatError(f"this saved session is damaged: {damage}")
    return saved


def _decoded(data: bytes | str, kind: type[T], problem: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise SessionFormatError(f"{problem}: {error}") from error


def _damage(saved: SavedSession) -> str | None:
    """What is inconsistent in a document, which no saved session can be."""
    known = {message.id for message in saved.messages}
    if len(known) < len(saved.messages):
        return "two messages have one id"
    names: set[str] = set()
    for branch in saved.branches:
        if branch.name in names:
            return f"two branches have the name {branch.name!r}"
        names.add(branch.name)
        if missing := [id_ for id_ in branch.order if id_ not in known]:
            return f"branch {branch.name!r} names message {missing[0]}, which is not there"
        if len(set(branch.order)) < len(branch.order):
            return f"branch {branch.name!r} has a message twice"
    return None


def write(path: Path, data: bytes) -> None:
    """Replace the file atomically, so that a crash leaves the old one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
