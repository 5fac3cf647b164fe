"""Which runs a permit covers, by what the log says of them."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from streamll.core.errors import NoSuchRun
from streamll.core.positions import Position
from streamll.serve.log.index import brief
from streamll.serve.permits import Permit, Right, RunFacts, facts_of
from streamll.serve.runner import Runner
from streamll.serve.web.requests import HTTPRefusal

KEPT_FACTS = 10_000
"""Of so many runs it is remembered what they are; of others the log is asked again."""

FORBIDDEN = 403


class Rights:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._known: dict[str, RunFacts] = {}

    async def check(self, permit: Permit, run_id: str, right: Right = "see") -> None:
        """Raise unless the permit has this right to this run, which has to be seen for any.

        Raises:
            NoSuchRun: the log has no such run, or this permit does not see it; that takes the
                same time, so that nobody can tell one from the other.
            HTTPRefusal: 403, it may be seen and no more.
            LogAway: the log cannot be read.
        """
        if not await self.may(permit, run_id, "see"):
            await self._facts(_unknown())  # raises NoSuchRun, as slowly as for any unknown id
        if right != "see" and not await self.may(permit, run_id, right):
            raise HTTPRefusal(FORBIDDEN, f"you may not {right} this run")

    async def may(self, permit: Permit, run_id: str, right: Right) -> bool:
        """Whether the permit has this right; ``NoSuchRun``, ``LogAway`` if the run is not there."""
        if getattr(permit, right) == "all":
            return True
        return permit.may(right, await self._facts(run_id))

    async def first_seen(
        self, permit: Permit, runs: Iterable[Mapping[str, Any]]
    ) -> Mapping[str, Any] | None:
        """The first of a chat's runs that the permit sees; it takes as long to find none as in a
        chat without runs.
        """
        any_run = None
        for any_run in runs:
            with contextlib.suppress(NoSuchRun):
                if await self.may(permit, str(any_run["run_id"]), "see"):
                    return any_run
        if any_run is not None:
            await self._runner.runs_of(_unknown())
        return None

    def sees(self, permit: Permit, run_id: str) -> bool:
        """Whether the permit sees a run of the index."""
        facts = self._runner.run_log.index.facts(run_id)
        return permit.see == "all" or (facts is not None and permit.may("see", facts))

    def note(self, run_id: str, facts: RunFacts) -> None:
        """What a run is that the log may not have yet."""
        self._known[run_id] = facts
        if len(self._known) > KEPT_FACTS:
            del self._known[next(iter(self._known))]

    async def _facts(self, run_id: str) -> RunFacts:
        known = self._known.get(run_id) or self._runner.run_log.index.facts(run_id)
        if known is None:
            known = await self._logged(run_id)
            if known is None:
                await self._runner.expect(run_id)
                known = await self._logged(run_id)
            if known is None:
                raise NoSuchRun
            self.note(run_id, known)
        return known

    async def _logged(self, run_id: str) -> RunFacts | None:
        history = self._runner.run_log.history(Position(run_id))
        async with contextlib.aclosing(history) as batches:
            async for items in batches:
                event = items[0].event
                return facts_of(run_id, event, brief(event.context))
        return None


def _unknown() -> str:
    """An id that no run has."""
    return secrets.token_hex(16)
