"""X11: a reader that accepts nothing is disconnected when ``stall_seconds`` says so."""

from __future__ import annotations

import asyncio

import pytest

from streamll.serve.web.limits import Limits
from streamll.serve.web.responses import TimedSend


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
