"""Timers fire in order, on one thread."""

from __future__ import annotations

import threading
import time

from streamll.flow.timers import Timers


def test_timers_fire_in_order_on_one_thread_and_none_after_being_cancelled():
    timers, fired, done = Timers(), [], threading.Event()
    now = time.monotonic()
    with timers._changed:  # none fires before all are there, however late this thread is
        for place in (3, 1, 2):
            timers.at(
                now + place * 0.02, lambda place=place: fired.append((place, threading.get_ident()))
            )
        timers.at(now + 0.03, lambda: fired.append("cancelled")).cancel()
        timers.at(now + 0.05, lambda: 1 / 0)  # what goes wrong in one is not another's business
        timers.at(now + 0.1, done.set)
    assert done.wait(60)
    assert [place for place, _ in fired] == [1, 2, 3]
    assert len({thread for _, thread in fired}) == 1
