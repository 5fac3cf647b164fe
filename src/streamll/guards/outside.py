"""Events that belong to no run, under checks: they leave in their order, and nobody waits for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from streamll.core.events import Event, Guarded
from streamll.guards.checking import Checking
from streamll.guards.checks import Inquiries, inside_check
from streamll.guards.rules import Check, Guard

Send = Callable[[Event], None]


@dataclass(eq=False)
class _Sender:
    """What stands for a scope where there is none."""

    send: Send


class Outside:
    """The events outside of runs, for as long as the same guards are in force."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._guards: tuple[Guard, ...] = ()
        self._checks: tuple[Check, ...] = ()
        self._checking = self._begin()

    def _begin(self) -> Checking:
        checking = Checking(Inquiries(self._lock), lambda: self._leave(checking))
        return checking

    def put(self, event: Event, guards: tuple[Guard, ...], send: Send) -> None:
        """Have the event sent once the checks among ``guards`` have judged it.

        What a check itself reports goes nowhere: it may quote what it is about to forbid.
        """
        with self._lock:
            if guards is not self._guards:
                self._guards = guards
                self._checks = tuple(each for each in guards if isinstance(each, Check))
                self._checking = self._begin()
            if not (self._checks and inside_check.get()):
                self._checking.put(event, _Sender(send), self._checks)
                self._leave(self._checking)

    def _leave(self, checking: Checking) -> None:
        for event, sender in checking.take():
            if not isinstance(event, Guarded):  # which is an event of runs
                sender.send(event)


outside = Outside()

if hasattr(os, "register_at_fork"):  # the lock stays in the parent
    os.register_at_fork(after_in_child=outside.__init__)  # type: ignore[misc]
