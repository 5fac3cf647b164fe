"""One attempt of an LM call, as a block: reports its begin and its failure to the listener."""

from __future__ import annotations

from streamll.capture.tap import interrupt
from streamll.capture.tap.listener import Guarded
from streamll.core.errors import Unwind


class AttemptScope:
    """``with`` it: reports the attempt's begin to the listener and, where it raises, its failure.

    An error that cancelling has caused (an interrupted read looks like a lost connection) becomes
    ``Unwind``, which DSPy does not retry. While ``interruptible`` is entered, the attempt can be
    ended from outside.
    """

    def __init__(self, listener: Guarded) -> None:
        self.listener = listener
        self.interruptible = interrupt.InterruptScope(listener)

    def __enter__(self) -> None:
        self.listener.begin()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.interruptible.disconnected()
        if isinstance(error, Exception):
            try:
                self.listener.check()
            except Unwind as unwind:
                self.listener.failed(unwind)
                raise unwind from error
        if error is not None:
            self.listener.failed(error)
