"""The smallest source: the cursor is the number of entries that have been read."""

from __future__ import annotations

import asyncio
from pathlib import Path

from brokers.folder.sink import SCHEME
from streamll.brokers.failures import Diagnosis
from streamll.brokers.source import READ_BATCH_ENTRIES, READ_TIMEOUT_S, Entry, Source


class FolderSource(Source):
    def __init__(self, url: str, options) -> None:
        self._log = Path(url.removeprefix(SCHEME)) / options.target
        self._start = options.start
        self._after: int | None = None
        self.name = str(self._log)

    def diagnose(self, error: BaseException) -> Diagnosis:
        return Diagnosis(f"{type(error).__name__}: {error}")

    async def connect(self) -> None:
        if self._after is None:
            starts = {"beginning": 0, "new": len(self._files())}
            self._after = starts[self._start] if self._start in starts else int(self._start)

    async def read(self) -> list[Entry]:
        new = self._files()[self._after :][:READ_BATCH_ENTRIES]
        if not new:
            await asyncio.sleep(READ_TIMEOUT_S)
        entries = []
        for file in new:
            self._after += 1
            entries.append(Entry(cursor=str(self._after), body=file.read_bytes()))
        return entries

    async def close(self) -> None: ...

    def _files(self) -> list[Path]:
        return sorted(self._log.glob("*.json"))
