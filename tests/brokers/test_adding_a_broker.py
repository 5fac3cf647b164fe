"""What ``brokers/__init__`` says of adding a broker is enough: one package and one line."""

from __future__ import annotations

import asyncio

import pytest

from brokers.sample_runs import BOUND, check_order, ends, make_run, plain, read_log
from streamll.brokers.copying import copy_log
from streamll.brokers.opening import BROKERS
from streamll.consumer import EventConsumer, position
from streamll.core.errors import ConfigurationError
from streamll.sinks import open_sink


@pytest.fixture
def url(monkeypatch, tmp_path):
    monkeypatch.setitem(BROKERS, "folder", ("brokers.folder", "Folder"))
    return f"folder://{tmp_path}"


@pytest.fixture
def runs(url):
    runs = [make_run(f"r{n}", [f"{n}.{i} " for i in range(20)]) for n in range(3)]
    sink = open_sink(url)
    for events in zip(*runs, strict=True):
        for event in events:
            sink.put(event)
    assert sink.stop(BOUND)
    assert sink.statistics().handled == sum(map(len, runs))
    return runs


def test_events_are_read_as_they_were_written(url, runs):
    read = read_log(url, None, ends(3))
    check_order(read)
    assert [plain(e) for e in read if e.run_id == "r1"] == [plain(event) for event in runs[1]]


def test_a_run_is_resumed_inside(url, runs):
    rest = read_log(url, None, ends(1), start=position(runs[2][10]))
    assert [event.seq for event in rest] == list(range(11, len(runs[2])))


def test_unreadable_entries_are_skipped_and_handlers_run(url, runs, tmp_path):
    (tmp_path / "events" / "000000000.json").write_bytes(b"not an envelope")
    seen = []
    consumer = EventConsumer(url, start="beginning")
    consumer.on("run.end", lambda event: (seen.append(event), consumer.stop_soon())[0])
    asyncio.run(asyncio.wait_for(consumer.run(), BOUND))
    assert seen
    assert consumer.statistics().malformed == 1


def test_a_log_is_copied_to_another_broker(url, runs, tmp_path):
    copied = asyncio.run(copy_log(url, f"sqlite:///{tmp_path}/copy.db"))
    assert copied.events == sum(map(len, runs))
    check_order(read_log(f"sqlite:///{tmp_path}/copy.db", None, ends(3)))


def test_a_group_on_a_broker_without_groups_is_refused(url):
    with pytest.raises(ConfigurationError, match="has no groups: leave out group='billing'"):
        EventConsumer(url, group="billing")
