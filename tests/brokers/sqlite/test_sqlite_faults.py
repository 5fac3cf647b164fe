"""SQLite's faults: a locked file, a missing folder, a full disk."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import textwrap
from pathlib import Path

import pytest
import warm

from brokers.backends import Backend
from brokers.blockable import LockedFileRoute, shorten_timeouts
from brokers.load import (
    BackgroundReader,
    check_complete,
    check_nothing_lost,
    in_background,
    paced_runs,
)
from brokers.sample_runs import BOUND, by_run, check_order, ends, read_log, text_of
from brokers.servers import wait_until
from streamll.core.events import Status
from streamll.sinks import SQLiteSink, open_sink


def url_of(file: Path) -> str:
    return f"sqlite:///{file}"


def test_events_wait_while_another_process_locks_the_file(tmp_path, monkeypatch, caplog):
    """X10: locked for longer than SQLite waits, in the middle of 20 runs; a reader reads on."""
    shorten_timeouts(monkeypatch)
    route = LockedFileRoute(Backend("sqlite", url_of(tmp_path / "log.db")))
    sink = open_sink(route.url)
    reader = BackgroundReader(route.url, "streamll:events")
    assert reader.consumer.wait_connected(BOUND)

    def lock() -> None:
        wait_until(lambda: reader.events, BOUND, "the runs have begun")
        route.block()
        wait_until(lambda: sink.statistics().failures >= 2, BOUND, "it has been given up twice")
        route.free()

    with in_background(lock) as over:
        runs = paced_runs(sink, until=over)
    assert sink.stop(BOUND)
    reader.wait_for_ends(len(runs))
    reader.stop()
    check_complete(reader.events, runs)
    check_nothing_lost(sink)
    assert "database is locked" in caplog.text


@pytest.mark.parametrize("what", ["a dangling link", "a file"])
def test_a_folder_that_appears_later_gets_everything(tmp_path, caplog, what):
    """X10: as where a disk is mounted late."""
    folder = tmp_path / "mounted"
    if what == "a file":
        folder.write_text("not yet")
    else:
        folder.symlink_to(tmp_path / "disk")
    sink = open_sink(url_of(folder / "log.db"))
    runs = paced_runs(sink, count=5, tokens=20)
    wait_until(lambda: sink.statistics().failures, BOUND, "it has been tried")
    assert sink.statistics().buffered > 0
    if what == "a file":
        folder.unlink()
    # The sink may try in this very moment, and makes a folder that is not there.
    (tmp_path / ("mounted" if what == "a file" else "disk")).mkdir(exist_ok=True)
    assert sink.stop(BOUND)
    check_complete(read_log(sink.destination, "streamll:events", ends(5)), runs)
    check_nothing_lost(sink)
    assert len([r for r in caplog.records if "cannot deliver" in r.getMessage()]) == 1


FULL = """
    import resource, signal, sys, threading, time
    sys.path.insert(0, {tests!r})
    from brokers.sample_runs import make_run
    from streamll.sinks import open_sink

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing beyond the limit is an error
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    sink = open_sink({url!r})
    runs = [make_run(f"r{{n}}", [f"{{n}}.{{i}} " * 20 for i in range(200)]) for n in range(20)]

    def play(run):
        for event in run:
            sink.put(event)
            time.sleep(0.002)

    for run in runs:  # they have begun, however late the sink's thread is behind the others
        sink.put(run.pop(0))
    assert sink.catch_up(60)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, unlimited))
    threads = [threading.Thread(target=play, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while not sink.statistics().failures:
        time.sleep(0.01)
    told = sink.statistics()
    assert told.failures > 0 and told.buffered > 0 and told.handled > 0, told
    print(told.last_error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
    assert sink.stop(60)
    told = sink.statistics()
    assert told.handled == told.received and not told.dropped, told
"""


@pytest.mark.skipif(os.name != "posix", reason="needs limits for file sizes")
def test_events_wait_while_the_disk_is_full(tmp_path):
    """X10: the files must not grow in the middle of 20 runs; with room again everything is there."""
    url = url_of(tmp_path / "log.db")
    tests = str(Path(__file__).parents[2])
    done = warm.run(
        [sys.executable, "-c", textwrap.dedent(FULL).format(tests=tests, url=url)],
        capture_output=True,
        text=True,
        timeout=3 * BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cannot deliver" in done.stderr
    assert "disk" in done.stdout
    read = read_log(url, "streamll:events", ends(20))
    check_order(read)
    for n, events in by_run(read).items():
        assert text_of(events) == "".join(f"{n[1:]}.{i} " * 20 for i in range(200))


def test_the_file_is_short_again_after_somebodys_long_transaction(tmp_path):
    """A foreign reader keeps the write-ahead log from being used again while it looks."""
    path = tmp_path / "log.db"
    sink = SQLiteSink(path)
    wal = path.with_name("log.db-wal")

    def write(count: int) -> None:
        for _ in range(count):
            sink.put(Status(message="x" * 1_000_000))
        assert sink.catch_up(BOUND)

    write(1)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM streamll_entries").fetchall()
        write(60)
        assert wal.stat().st_size > 50_000_000
        other.execute("COMMIT")
    write(20)
    write(20)
    assert wal.stat().st_size < 40_000_000
    assert sink.stop(BOUND)
