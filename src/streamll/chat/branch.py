"""A branch: an order of messages with a name. The messages themselves are the session's."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from streamll.chat.messages import new_id
from streamll.flow.limits import Slots


class Branch:
    """Ids in order. Made by ``Session.create_branch`` and ``fork``; safe to use from any thread.

    ``order`` is a copy: what it was at that moment. ``turns`` lets one conversation turn at a
    time have the branch, first come, first served.
    """

    def __init__(
        self,
        name: str,
        *,
        id: str | None = None,  # noqa: A002
        order: Iterable[str] = (),
        parent: str | None = None,
    ) -> None:
        self.id = id or new_id()
        self.name = name
        self.parent = parent
        """The name of the branch it was forked from."""
        self.turns = Slots()
        self._lock = threading.Lock()
        self._order = list(order)
        self._known = set(self._order)

    @property
    def order(self) -> list[str]:
        with self._lock:
            return list(self._order)

    def append(self, message_id: str) -> None:
        """Called by the session, which knows that the message exists and is not here yet."""
        with self._lock:
            self._order.append(message_id)
            self._known.add(message_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._known

    def __repr__(self) -> str:
        return f"<Branch {self.name!r}, {len(self)} messages>"
