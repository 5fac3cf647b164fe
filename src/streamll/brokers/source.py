"""``Source``: the reading side of a broker, and what one is asked for.

A source reads one log and keeps its own position in it, so that ``connect`` after a failure
resumes behind what ``read`` returned last. It knows neither events nor handlers; those are the
business of ``consumer``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec

from streamll.brokers.failures import Diagnosis

READ_TIMEOUT_S = 0.25
"""The longest a read waits for entries, by default; ``stop()`` may have to wait as long."""

READ_BATCH_ENTRIES = 256
"""The most entries one read returns."""


CLAIM_CHECK_S = 1.0
"""How often, at least, a member looks for what silent members hold."""


class Entry(msgspec.Struct, kw_only=True):
    """One entry of a log. ``cursor`` is its position; ``deliveries`` counts how often the group was
    given it, this time included; ``receipt`` is the source's own. ``place`` is for ``was_trimmed`` where
    a cursor is long.
    """

    cursor: str
    body: bytes
    deliveries: int = 1
    receipt: Any = None
    place: str = ""


class SourceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to read of a log, and as whom.

    Attributes:
        target: the log's name.
        start: ``"new"``, ``"beginning"``, or a cursor to read behind.
        run_id: only this run's entries are wanted; a source with an index returns no others.
        waits: False: a read returns nothing as soon as, and not before, all has been read that the log
            had when it was connected to. What is written later is not read.
        read_timeout: the longest a read waits for entries, in seconds.
        group: the consumer group that shares the log; ``member`` is this reader's name in it.
        claim_after: seconds without ``extend_claim`` after which an entry goes to another member.
    """

    target: str
    start: str = "new"
    run_id: str | None = None
    waits: bool = True
    read_timeout: float = READ_TIMEOUT_S
    group: str | None = None
    member: str = ""
    claim_after: float = 30.0

    @property
    def claim_interval(self) -> float:
        """Seconds from one look for what silent members hold to the next."""
        return min(self.claim_after / 3, CLAIM_CHECK_S)


class Source(ABC):
    """Reads one log. Every method but ``close`` raises when the broker fails.

    A subclass implements the abstract methods; ``acknowledge``, and ``extend_claim`` where claims
    expire, if the broker has groups; the others where it can do better than the defaults here.
    """

    name: str
    """Where it reads from, for people: without credentials."""

    @abstractmethod
    def diagnose(self, error: BaseException) -> Diagnosis:
        """Why the broker failed, without credentials or payload."""

    @abstractmethod
    async def connect(self) -> None:
        """Connect, or connect again, and continue behind the last entry that was read."""

    @abstractmethod
    async def read(self) -> list[Entry]:
        """The next entries in order; none after ``read_timeout`` without any."""

    @abstractmethod
    async def close(self) -> None: ...

    async def exists(self) -> bool:
        """Whether the log has been written to, or is ready for that. Creates nothing; connected or not."""
        return True

    async def acknowledge(self, entry: Entry) -> None:  # noqa: B027 - a default
        """The group has handled the entry. No effect if the broker has taken it back before."""

    async def extend_claim(self, entries: Sequence[Entry]) -> None:  # noqa: B027 - a default
        """This member is still busy with these entries: they must not be given to another.

        Entries that another member has claimed meanwhile stay with that one.
        """

    async def was_trimmed(self, after: str, entry: str) -> bool:
        """Whether entries between these two may have been deleted.

        ``after`` is a cursor or ``"beginning"``; ``entry`` is the cursor of what was read behind it
        (instead of an entry's cursor its ``place``, if it has one).
        A log is trimmed at its old end, so nothing is missing behind an entry that is still there.
        """
        return False

    async def overview(self, runs: int) -> list[bytes]:
        """The entries that show what the latest ``runs`` runs are: bodies in the log's order.

        Of each run the first and the last entry, and the latest entries outside any run. Without
        an index only the log's latest entries (``overview.LOOK_BACK_ENTRIES``) are searched.
        """
        return []

    async def lag(self) -> int | None:
        """Entries the group has not acknowledged; ``None`` without a group, or if unknown."""
        return None

    def skip(self, receipt: object) -> None:  # noqa: B027 - a default
        """The reader already has the entries of this ``Transport.send`` receipt, which a sink of
        this process wrote: if they come next, they need not be read.
        """
