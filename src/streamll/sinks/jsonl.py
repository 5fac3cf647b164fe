"""Events in a file, one JSON object per line, in the format of ``core.wire``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from streamll.core.errors import WireError
from streamll.core.events import Event
from streamll.core.wire import decode, encode
from streamll.flow.buffer import Policy
from streamll.sinks.base import BaseSink


class JSONLSink(BaseSink):
    """Appends every event to a file; each batch is written at once.

    ``target`` is a path, or a file object (text or binary) that the caller closes. Several
    processes may append to one path: lines stay whole. A full disk or a closed file is logged
    once; lines that could not be written are counted in ``statistics().failed``.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | IO[Any],
        *,
        append: bool = True,
        buffer_size: int = 10_000,
        overflow: Policy = "coalesce",
    ) -> None:
        super().__init__(buffer_size=buffer_size, overflow=overflow)
        self._torn = False
        self._path: Path | None = None
        self._file: IO[Any] | None
        if isinstance(target, (str, os.PathLike)):
            self._path = Path(target)
            if not append:
                self._path.write_bytes(b"")
            self._file = _open(self._path)
        else:
            self._file = target

    def handle_batch(self, events: list[Event]) -> None:
        lines = [encode(event) + b"\n" for event in events]
        whole, written = b"".join(lines), 0
        try:
            if self._file is None:
                assert self._path is not None
                self._file = _open(self._path)
            if self._path is None:  # the caller's, of text or bytes
                self._file.write(whole.decode() if hasattr(self._file, "encoding") else whole)
                self._file.flush()
                return
            if self._torn:  # a line was cut off by a full disk: begin a new one
                self._file.write(b"\n")
                self._torn = False
            while written < len(whole):
                written += self._file.write(memoryview(whole)[written:])
        except (OSError, ValueError) as error:
            ends = list(accumulate(map(len, lines)))
            self._torn = self._torn or written not in (0, *ends)
            self.undelivered(error, events[sum(end <= written for end in ends) :])

    def stop(self, timeout: float = 10.0) -> bool:
        """Write everything put so far and close the file if the sink opened it.

        False if ``timeout`` seconds were not enough.
        """
        done = super().stop(timeout)
        if done and self._path is not None and self._file is not None:
            self._file.close()
            self._file = None
        return done


def _open(path: Path) -> IO[Any]:
    """Unbuffered, and always at the end of the file, whichever process appends to it."""
    return path.open("ab", buffering=0)


def read_jsonl(path: str | os.PathLike[str], *, skip_damaged: bool = False) -> Iterator[Event]:
    """The events of a file that ``JSONLSink`` wrote, one by one.

    Args:
        path: the file.
        skip_damaged: skip lines that are not events, such as one cut off by a full disk.

    Raises:
        WireError: a line is not an event; names file and line.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield decode(line)
            except WireError as error:
                if not skip_damaged:
                    raise WireError(f"{path}, line {number}: {error}") from error
