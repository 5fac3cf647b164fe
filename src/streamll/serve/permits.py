"""Whom a request is from, and which runs that person may see, start and stop. No I/O.

A run's owner is in the context of its events, under ``OWNER``: so every process that shares the log
knows it, also of runs from long ago. Servers set it, and refuse a client that tries to.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from streamll.core.errors import ConfigurationError, logger
from streamll.core.events import Event
from streamll.core.places import own_place

SERVERS_OWN = "streamll_"
"""Keys of a context that begin so are a server's to set."""
OWNER = "streamll_owner"
SERVED_AS = "streamll_program"
MAX_WHO_CHARACTERS = 200

Right = Literal["see", "start", "stop", "answer"]


class RunFacts(msgspec.Struct, frozen=True):
    """What a rule of a ``Permit`` is asked about.

    Attributes:
        run_id: the run; ``None`` for one that is about to be started.
        program: the name under which it is served; of a run that no server with ``auth`` has
            started, the program's own as its events have it, or ``None``.
        context: the numbers and short texts (up to 200 characters) of its context, which whoever
            started it may have chosen.
        owner: ``who`` has started it, or what the context of its events has as
            ``streamll_owner``. ``None``: nobody in particular.
    """

    run_id: str | None
    program: str | None
    context: Mapping[str, Any]
    owner: str | None


Rule = Literal["own", "all", "none"] | Callable[[RunFacts], bool]


class Permit(msgspec.Struct, frozen=True):
    """Who somebody is, and what that person may do with which runs: what ``auth`` returns.

    Each right is a rule: ``"own"``, ``"all"``, ``"none"``, or a function that is given the
    ``RunFacts`` of a run and returns ``True`` or ``False``. One that raises, or returns anything
    else, permits nothing. A run that somebody may not see is, for that person, not there.

    Attributes:
        who: a name that stays the same, of up to 200 characters; those who see a run see its
            owner's. ``None``: nobody in particular, whose runs are nobody's own.
        see: list, look at and read runs.
        start: start them; ``"own"`` is as good as ``"all"``, but not for nobody in particular.
        stop: stop runs that may be seen.
        answer: answer the questions of runs that may be seen.

    Raises:
        ConfigurationError: ``who`` is no name, or a right no rule.
    """

    who: str | None
    see: Rule = "own"
    start: Rule = "own"
    stop: Rule = "own"
    answer: Rule = "own"

    def __post_init__(self) -> None:
        named = isinstance(self.who, str) and 0 < len(self.who) <= MAX_WHO_CHARACTERS
        if self.who is not None and not named:
            what = f"a text of 1 to {MAX_WHO_CHARACTERS} characters, or None"
            raise ConfigurationError(f"who of a Permit is {what}")
        for right in ("see", "start", "stop", "answer"):
            rule = getattr(self, right)
            if not callable(rule) and rule not in ("own", "all", "none"):
                what = '"own", "all", "none" or a function of a run'
                raise ConfigurationError(f"{right} of a Permit is {what}, not {rule!r}")

    def may(self, right: Right, run: RunFacts) -> bool:
        """Whether this permits it of this run. Never raises."""
        rule: Rule = getattr(self, right)
        if isinstance(rule, str):
            own = self.who is not None and run.owner == self.who
            return rule == "all" or (rule == "own" and own)
        try:
            permitted: Any = rule(run)
        except Exception as error:  # noqa: BLE001 - whatever it is, it permits nothing
            place = own_place(error) or "outside the rule's own code"
            failure = f"{type(error).__name__} at {place}"
        else:
            if isinstance(permitted, bool):
                return permitted
            if inspect.iscoroutine(permitted):
                permitted.close()  # else Python warns that nobody has awaited it
            failure = f"it returned {type(permitted).__name__}, not True or False"
        logger.warning("the rule %r of a Permit failed, which permits nothing: %s", right, failure)
        return False


EVERYTHING = Permit(None, see="all", start="all", stop="all", answer="all")
"""Of the server's own tokens, and of anybody on this machine where there are none."""

ONE_RUN = Permit(None, see="all", start="none", stop="all", answer="none")
"""Of a token that is signed for one run, at the addresses of that run. Who may read a run may not
thereby answer its questions."""

ONE_RUN_AND_ANSWER = Permit(None, see="all", start="none", stop="all", answer="all")
"""Of a token that is signed for that, too."""


def facts_of(run_id: str, event: Event, context: Mapping[str, Any]) -> RunFacts:
    """What is known of a run by its first event; ``context`` is what of the event's may be shown."""
    owner, served_as = event.context.get(OWNER), event.context.get(SERVED_AS)
    return RunFacts(
        run_id,
        str(served_as or getattr(event, "program", None) or "") or None,
        context,
        owner if isinstance(owner, str) else None,
    )
