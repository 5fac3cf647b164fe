"""The smallest sink: one file per entry, in a folder per log."""

from __future__ import annotations

from pathlib import Path

from streamll.brokers.sink import BrokerSink, Transport, fill

SCHEME = "folder://"
TARGET = "events"
DEAD_LETTERS = ".dead"


class FolderSink(BrokerSink):
    def __init__(self, url: str, *, target: str = TARGET, **options) -> None:
        super().__init__(**options)
        self.root = Path(url.removeprefix(SCHEME))
        self.target = target
        self.destination = f"{SCHEME}{self.root}"

    def _connect(self) -> FolderTransport:
        return FolderTransport(self)


class FolderTransport(Transport):
    def __init__(self, sink: FolderSink) -> None:
        self._sink = sink

    def send(self, entries) -> None:
        for entry in entries:
            log = self._sink.root / fill(self._sink.target, entry.run_id, entry.context)
            log.mkdir(parents=True, exist_ok=True)
            number = len(list(log.glob("*.json")))
            written = log / "next"
            written.write_bytes(entry.body)
            written.rename(log / f"{number:09}.json")

    def close(self) -> None: ...
