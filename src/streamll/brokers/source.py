"""What the brokers' sources share: an entry, where to begin, and the ``Source`` protocol.

A source reads one log and keeps its own place in it, so that ``connect`` after a failure goes on
where ``read`` had come to. It knows neither events nor handlers; ``consumer`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

READ_TIMEOUT_S = 0.25
"""The longest a read waits for something: what a stop has to wait for, too."""

READ_BATCH_ENTRIES = 256
"""Entries read at once."""


class Entry(msgspec.Struct, kw_only=True):
    """One entry of a log. ``cursor`` is its place, ``deliveries`` how often a group had it."""

    cursor: str
    body: bytes
    deliveries: int = 1
    receipt: Any = None


class SourceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a source is asked for.

    ``start`` is ``"new"``, ``"beginning"``, or a cursor to read behind. With ``run_id`` only that
    run is wanted, and a source that can find its entries quickly does. ``group`` shares the log
    among its members, of which ``member`` is one; an entry that a member has had for
    ``claim_after`` seconds without a sign of life goes to another. Who does not want to wait for
    what is not there yet says ``waits=False``; RabbitMQ cannot tell without waiting.
    """

    target: str
    start: str = "new"
    run_id: str | None = None
    waits: bool = True
    group: str | None = None
    member: str = ""
    claim_after: float = 30.0
    dead_letter: str | None = None
    max_deliveries: int = 5


class Source(Protocol):
    """Reads one log. All methods but ``close`` raise when the broker fails."""

    @property
    def name(self) -> str:
        """Where it reads, for people and without credentials."""

    def fatal_reason(self, error: BaseException) -> str | None:
        """What a person has to do about an error that trying again does not cure."""

    def describe(self, error: BaseException) -> str:
        """What went wrong, in a few words and without anything secret."""

    async def connect(self) -> None: ...

    async def read(self) -> list[Entry]:
        """Entries in order, or none after ``READ_TIMEOUT_S`` seconds without any (at once, if the options say
        so and the broker can tell).
        """

    def skip(self, receipt: object) -> None:
        """The reader has these entries, which a sink of this process wrote (what its transport
        returned says which): if they come next, they need not be read.
        """

    async def acknowledge(self, entry: Entry) -> None:
        """A group has done with the entry. Nothing happens where the broker took it back before."""

    async def extend_claim(self, entries: Sequence[Entry]) -> None:
        """The member is still busy with these: nobody else may claim them.

        What another has claimed meanwhile stays with him.
        """

    async def dead_letter(self, body: bytes) -> None:
        """Add a dead letter."""

    async def overview(self, runs: int) -> list[bytes]:
        """Bodies of entries, in order, that tell what the latest ``runs`` runs are.

        Of each run the first and the last, of what was said outside any run the latest. Where the
        log has no index, of the runs that its latest entries (``overview.LOOK_BACK_ENTRIES``) tell of.
        """

    async def lag(self) -> int | None:
        """Entries that wait to be read or acknowledged, if the broker can tell."""

    async def close(self) -> None: ...


def dead_letters(options: SourceOptions) -> str:
    """Where dead letters go: a log of its own beside the one that is read."""
    return options.dead_letter or f"{options.target}:dead"
