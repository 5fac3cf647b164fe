"""X10: a run's entries are found whether they are in the index or not yet."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path

import pytest

from brokers.sample_runs import BOUND, make_run
from streamll.brokers.sqlite import run_index
from streamll.brokers.sqlite.file import connect
from streamll.brokers.sqlite.sink import TARGET, SQLiteSink
from streamll.core.wire import decode_batch


@pytest.fixture(autouse=True)
def index_often(monkeypatch):
    """The index is written for 50 entries at once."""
    monkeypatch.setattr(run_index, "UNINDEXED_ENTRIES", 50)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "log.db")


def write(*sinks, runs, target=TARGET):
    """The runs' events in turn, an entry each, shared among the sinks."""
    for number, parts in enumerate(zip(*runs, strict=True)):
        for event in parts:
            sink = sinks[number % len(sinks)]
            sink.put(event)
            assert sink.catch_up(BOUND)


def events_of(log, run_id, after=0, limit=7):
    """Read as a source does, a few entries at a time."""
    events = []
    while rows := run_index.entries_of(log, TARGET, run_id, after, limit):
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
        after = rows[-1][0]
        events += [event for _, body in rows for event in decode_batch(body)]
    return events


def test_every_run_is_read_completely_and_from_any_entry(path):
    runs = [make_run(f"r{number}", list("some text")) for number in range(12)]
    sink = SQLiteSink(path)
    write(sink, runs=runs)
    log = connect(path)
    [placed] = log.execute("SELECT upto FROM streamll_placed").fetchone()
    [last] = log.execute("SELECT max(id) FROM streamll_entries").fetchone()
    assert 0 < placed < last, "some are in the index, and some are not"
    for run in runs:
        assert [event.seq for event in events_of(log, run[0].run_id)] == [e.seq for e in run]
        for after in range(0, last, 5):
            behind = log.execute(
                "SELECT count(*) FROM streamll_entries WHERE run_id = ? AND id > ?",
                (run[0].run_id, after),
            ).fetchone()[0]
            assert len(events_of(log, run[0].run_id, after)) == behind
    assert events_of(log, "nobody") == []
    assert run_index.entries_of(log, "another log", "r1", 0, 10) == []
    sink.stop()


def test_the_documented_query_finds_a_run(path):
    document = Path(__file__).parents[3] / "docs" / "wire.md"
    query = re.search(r"```sql\n(.*?)```", document.read_text("utf-8"), re.DOTALL)[1]
    runs = [make_run(run_id, list("some text")) for run_id in ("a", "5f3c9a", *"bcdefghij")]
    sink = SQLiteSink(path)
    write(sink, runs=runs)
    sink.stop()
    found = [event.seq for _, body in connect(path).execute(query) for event in decode_batch(body)]
    assert found == [event.seq for event in runs[1]]


def test_two_writers_index_every_entry_once(path):
    runs = [make_run(f"r{number}", list("some text")) for number in range(12)]
    sinks = [SQLiteSink(path), SQLiteSink(path)]
    write(*sinks, runs=runs)
    log = connect(path)
    placed = log.execute("SELECT run_id, entry FROM streamll_places ORDER BY entry").fetchall()
    [upto] = log.execute("SELECT upto FROM streamll_placed").fetchone()
    entries = log.execute(
        "SELECT run_id, id FROM streamll_entries WHERE id <= ? ORDER BY id", (upto,)
    )
    assert placed == entries.fetchall()
    for run in runs:
        assert [event.seq for event in events_of(log, run[0].run_id)] == [e.seq for e in run]
    for sink in sinks:
        sink.stop()


def test_deleted_entries_leave_the_index(path):
    runs = [make_run(f"r{number}", list("some text")) for number in range(12)]
    sink = SQLiteSink(path)
    write(sink, runs=runs)
    sink.stop()
    later = SQLiteSink(path, keep_seconds=0.01)
    time.sleep(0.05)
    write(later, runs=[make_run("new", ["x"])])
    log = connect(path)
    assert events_of(log, "r1") == []
    old = log.execute("SELECT count(*) FROM streamll_places WHERE run_id LIKE 'r%'").fetchone()
    assert old == (0,)
    later.stop()


def test_a_log_of_an_earlier_schema_is_upgraded(path):
    """It has an index of SQLite's own, and nothing is put down."""
    runs = [make_run(f"r{number}", list("some text")) for number in range(12)]
    sink = SQLiteSink(path)
    write(sink, runs=runs[:6])
    sink.stop()
    with sqlite3.connect(path) as log:
        log.executescript(
            "DROP TABLE streamll_places; DROP TABLE streamll_placed; DROP INDEX streamll_outside;"
            "CREATE INDEX streamll_by_run ON streamll_entries (target, run_id, id);"
        )
    log.close()
    log = connect(path)
    assert [e.seq for e in events_of(log, "r3")] == [e.seq for e in runs[3]]
    sink = SQLiteSink(path)
    write(sink, runs=runs[6:])
    sink.stop()
    for run in runs:
        assert [event.seq for event in events_of(log, run[0].run_id)] == [e.seq for e in run]
    assert not log.execute("SELECT 1 FROM sqlite_master WHERE name = 'streamll_by_run'").fetchone()
