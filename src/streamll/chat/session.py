"""Sessions: messages, branches that order them, and models to talk to, by name."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from streamll.chat.messages import Message, SystemContent, new_id
from streamll.chat.saving import SavedBranch, SavedSession, decode, encode, write
from streamll.core.errors import DuplicateNameError, StreamllError, UnknownNameError
from streamll.flow.limits import Limits

if TYPE_CHECKING:
    from streamll.chat.model import iModel

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Things of one kind by name, in the order in which they were registered."""

    def __init__(self, kind: str) -> None:
        self._kind = kind  # as error messages call it
        self._things: dict[str, T] = {}

    def register(self, thing: T, name: str | None = None, *, replace: bool = False) -> T:
        """Keep ``thing`` under ``name`` (default: its own). Registering it again does nothing.

        Raises:
            DuplicateNameError: something else has that name; ``replace=True`` replaces it.
            StreamllError: it has no name, and none was given.
        """
        key: Any = name or getattr(thing, "name", None)
        if not isinstance(key, str) or not key:
            raise StreamllError(f"{thing!r} has no name; pass one: register(…, name=…)")
        known = self._things.get(key)
        if known is not None and known is not thing and not replace:
            raise DuplicateNameError(
                f"there is a {self._kind} named {key!r} already ({known!r}); "
                "give this one another name, or pass replace=True"
            )
        self._things[key] = thing
        return thing

    def unregister(self, name: str) -> T:
        """Remove the thing of that name and return it. Raises ``UnknownNameError``."""
        thing = self[name]
        del self._things[name]
        return thing

    def list_names(self) -> list[str]:
        """The names, in the order in which they were registered."""
        return list(self._things)

    def __getitem__(self, name: str) -> T:
        try:
            return self._things[name]
        except KeyError:
            names = list(self._things)
            others = f"; there are {', '.join(names)}" if names else ", and no other"
            close = get_close_matches(str(name), names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UnknownNameError(
                f"there is no {self._kind} named {name!r}{others}{hint}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._things))

    def __len__(self) -> int:
        return len(self._things)

    def __repr__(self) -> str:
        return f"<Registry of {self._kind}s: {', '.join(self._things) or 'empty'}>"


class Branch:
    """Message ids in order, under a name; the session has the messages. Thread-safe.

    Made by ``Session.create_branch`` and ``fork``. ``turns`` admits one conversation turn at a
    time, first come, first served.

    Args:
        name: its name in the session.
        id: a unique text; by default a new one.
        order: the ids of its messages.
        parent: the name of the branch it was forked from.
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
        self.turns = Limits(max_concurrent=1)
        self._ids = dict.fromkeys(order)  # an ordered set; adding and copying are atomic

    @property
    def order(self) -> list[str]:
        """A copy of the ids."""
        return list(self._ids)

    def append(self, message_id: str) -> None:
        """Add ``message_id``. For the session, which has checked that it may be added."""
        self._ids[message_id] = None

    def __iter__(self) -> Iterator[str]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._ids

    def __repr__(self) -> str:
        return f"<Branch {self.name!r}, {len(self)} messages>"


BranchLike = Branch | str


class Session:
    """Conversations that share messages. Safe to use from any number of threads and tasks.

    ``messages`` maps ids to messages (read-only; ``add_message`` adds), ``branches`` and
    ``services`` (the models) are registries by name.

    Args:
        id: a unique text; by default a new one.
        created_at: seconds since the epoch; by default now.
    """

    def __init__(self, *, id: str | None = None, created_at: float | None = None) -> None:  # noqa: A002
        self.id = id or new_id()
        self.created_at = time.time() if created_at is None else created_at
        self.services: Registry[iModel] = Registry("model")
        self.branches: Registry[Branch] = Registry("branch")
        self._messages: dict[str, Message] = {}
        self.messages: Mapping[str, Message] = MappingProxyType(self._messages)
        self._lock = threading.RLock()

    def add_message(
        self, message: Message, branches: BranchLike | Iterable[BranchLike] | None = None
    ) -> Message:
        """Add a message to the session and to the end of each of ``branches``.

        Raises:
            UnknownNameError: no such branch.
            StreamllError: it is on one of them already, or another message has its id.
            TypeError: it is no ``Message``.
        """
        if not isinstance(message, Message):
            raise TypeError(f"add_message takes a Message, not {type(message).__name__}")
        wanted = [branches] if isinstance(branches, (Branch, str)) else list(branches or ())
        with self._lock:
            targets = [self.branch(branch) for branch in wanted]
            known = self._messages.get(message.id)
            if known is not None and known is not message and known.content != message.content:
                raise StreamllError(f"another message has the id {message.id} already")
            for branch in targets:
                if message.id in branch:
                    raise StreamllError(f"branch {branch.name!r} has message {message.id} already")
            self._messages.setdefault(message.id, message)
            for branch in targets:
                branch.append(message.id)
        return message

    def history(self, branch: BranchLike) -> list[Message]:
        """A branch's messages in order. Raises ``UnknownNameError``."""
        return [self._messages[id_] for id_ in self.branch(branch).order]

    def branch(self, which: BranchLike) -> Branch:
        """The branch named ``which``; a branch of this session is returned as it is.

        Raises:
            UnknownNameError: no such branch.
            StreamllError: a branch of another session.
        """
        if isinstance(which, str):
            return self.branches[which]
        if self.branches[which.name] is not which:
            raise StreamllError(f"{which!r} belongs to another session")
        return which

    def create_branch(self, name: str | None = None, *, system: str | None = None) -> Branch:
        """An empty branch, or one that begins with a ``system`` message.

        Raises:
            DuplicateNameError: there is a branch of that name.
        """
        with self._lock:
            branch = self.branches.register(Branch(name or self._free_name("branch")))
            if system is not None:
                content = SystemContent(system_message=system)
                self.add_message(Message(content=content), branches=branch)
        return branch

    def fork(
        self, branch: BranchLike, name: str | None = None, *, until: Message | str | None = None
    ) -> Branch:
        """A new branch that begins as a copy of ``branch``, whole or up to ``until``.

        ``until`` (a message or its id) is the last message that both have. The default ``name``
        is that of ``branch`` with a number: ``main-2``.

        Raises:
            UnknownNameError: no such branch. DuplicateNameError: there is a branch ``name``.
            StreamllError: ``until`` is not on ``branch``.
        """
        with self._lock:
            source = self.branch(branch)
            order = source.order
            if until is not None:
                last = until.id if isinstance(until, Message) else until
                if last not in order:
                    raise StreamllError(f"branch {source.name!r} has no message {last}")
                order = order[: order.index(last) + 1]
            name = name or self._free_name(source.name)
            return self.branches.register(Branch(name, order=order, parent=source.name))

    def _free_name(self, stem: str) -> str:
        numbers = itertools.count(len(self.branches) + 1)
        return next(name for n in numbers if (name := f"{stem}-{n}") not in self.branches)

    def to_json(self) -> bytes:
        """Messages and branches; models are not saved.

        Raises:
            StreamllError: a message holds a value that JSON cannot, or one that could not be read again.
        """
        with self._lock:
            branches = [
                SavedBranch(id=b.id, name=b.name, order=b.order, parent=b.parent)
                for b in self.branches.values()
            ]
            messages = list(self._messages.values())
        return encode(
            SavedSession(
                id=self.id, created_at=self.created_at, messages=messages, branches=branches
            )
        )

    @classmethod
    def from_json(cls, data: bytes | str) -> Session:
        """The session of which ``data`` is the ``to_json``. Raises ``SessionFormatError``."""
        saved = decode(data)
        session = cls(id=saved.id, created_at=saved.created_at)
        session._messages.update((message.id, message) for message in saved.messages)
        for b in saved.branches:
            session.branches.register(Branch(b.name, id=b.id, order=b.order, parent=b.parent))
        return session

    def save(self, path: str | Path) -> None:
        """Write ``to_json`` to the file ``path``, atomically. Raises ``OSError`` as well."""
        write(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Session:
        """What ``save`` wrote to ``path``. Raises ``SessionFormatError`` and ``OSError``."""
        return cls.from_json(Path(path).read_bytes())

    def __repr__(self) -> str:
        return (
            f"<Session, {len(self._messages)} messages, branches: "
            f"{', '.join(self.branches) or 'none'}>"
        )
