"""X11: a reader that accepts nothing is disconnected when ``stall_seconds`` says so."""

from __future__ import annotations

import asyncio

import pytest

from streamll.serve.web.limits import Limits
from streamll.serve.web.responses import TimedSend, disconnected, race


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only where everybody sleeps, and then at once."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        super()._run_once()


@pytest.mark.parametrize("begins", [0.0, 0.1, 7.0, 14.9, 15.1, 29.0, 44.99])
def test_a_client_that_freezes_is_disconnected_in_time(begins):
    loop = VirtualLoop()

    async def main() -> None:
        async def send(message) -> None:
            await asyncio.Event().wait()

        timed = TimedSend(send, Limits(stall_seconds=30.0))
        watching = asyncio.create_task(timed.watch())
        await asyncio.sleep(begins)
        sending = asyncio.create_task(timed.send({"type": "http.response.body"}))
        await watching
        sending.cancel()

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert loop.now == pytest.approx(begins + 30.0)


@pytest.mark.parametrize("suspensions", range(6))
def test_a_response_ends_though_its_client_leaves_while_a_heartbeat_is_sent(suspensions):
    """Before Python 3.12 ``asyncio.wait_for`` forgets that it was cancelled."""
    loop = VirtualLoop()

    async def main() -> bool:
        gone = asyncio.Event()

        async def send(message) -> None:
            gone.set()
            for _ in range(suspensions):
                await asyncio.sleep(0)

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        async def work() -> None:
            await asyncio.Event().wait()

        timed = TimedSend(send, Limits(heartbeat_seconds=0.1), {"type": "http.response.body"})
        racing = asyncio.ensure_future(race(work(), disconnected(receive), timed.watch()))
        await asyncio.wait({racing}, timeout=60)
        ended = racing.done()
        racing.cancel()
        return ended

    try:
        assert loop.run_until_complete(main())
    finally:
        loop.close()
