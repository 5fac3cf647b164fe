"""Who begins to wait for a run to settle as the last token hook returns is not forgotten."""

from __future__ import annotations

import threading
from types import SimpleNamespace

from patience import BOUND

from streamll.capture.run.settling import Settling


class NoticedLock:
    """A run's lock that tells when a thread wants it."""

    def __init__(self, wanted):
        self._lock = threading.RLock()
        self._wanted = wanted

    def __enter__(self):
        self._wanted()
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


def test_a_waiter_that_comes_as_the_last_hook_returns_is_woken():
    in_hook, looked, passed = threading.Event(), threading.Event(), threading.Event()
    told = []

    def hook(event, scope):
        in_hook.set()
        assert looked.wait(BOUND)
        told.append(event)

    checking = SimpleNamespace(waits=lambda scope: False)
    run = SimpleNamespace(
        lock=NoticedLock(lambda: told and passed.set()),  # who tells has to wait for who looks
        loop=None,
        guarding=SimpleNamespace(checking=checking),
        call_token_hooks=hook,
        abandon_checks=lambda: None,
    )

    class Slow(Settling):
        def _is_settled(self, scope):
            settled = super()._is_settled(scope)
            if not settled and not looked.is_set():  # the last hook returns before this one waits
                looked.set()
                assert passed.wait(BOUND)
            return settled

    settling, scope = Slow(run), SimpleNamespace(parent=None)
    settling.will_tell("token", scope)

    def tell():
        settling.tell()
        passed.set()

    threading.Thread(target=tell, daemon=True).start()
    assert in_hook.wait(BOUND)
    waiting = threading.Thread(target=settling.wait, args=(scope,), daemon=True)
    waiting.start()
    waiting.join(BOUND)
    assert not waiting.is_alive()
