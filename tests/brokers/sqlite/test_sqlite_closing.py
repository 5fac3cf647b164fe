"""A source is closed while its thread still reads, as happens when a server stops."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading

from profiles import thorough

from streamll.brokers.source import SourceOptions
from streamll.brokers.sqlite.file import connect
from streamll.brokers.sqlite.source import SQLiteSource

ROUNDS = thorough(400)


def test_a_source_may_be_closed_during_a_read(tmp_path):
    log = connect(f"{tmp_path}/log.db")
    log.executemany(
        "INSERT INTO streamll_entries (target, written_at, body) VALUES (?, 0, ?)",
        [("t", b"x" * 1000)] * 1000,
    )
    options = SourceOptions(target="t", start="beginning")

    async def open_and_close():
        source = SQLiteSource(f"sqlite:///{tmp_path}/log.db", options)
        await source.connect()
        begun = threading.Event()

        def read():
            begun.set()
            with contextlib.suppress(sqlite3.OperationalError):  # "not connect" any more
                while True:
                    source._after = 0
                    source._locked(source._read)

        reader = threading.Thread(target=read)
        reader.start()
        begun.wait(60)
        await source.close()
        reader.join(60)
        assert not reader.is_alive()

    for _ in range(ROUNDS):
        asyncio.run(open_and_close())
    log.close()
