"""A reader begins where its run does, and not at the log's beginning, on brokers without an index of runs."""

from __future__ import annotations

import asyncio

import msgspec

from serve.runs import plain, reasoned
from streamll.core.events import Identity
from streamll.core.positions import Position
from streamll.serve.log import run_log as module
from streamll.serve.log.places import BEGINNING, RunPlaces
from streamll.serve.log.run_log import RunLog
from streamll.sinks import open_sink

BOUND = 60


def test_a_run_begins_behind_the_entry_before_its_first():
    places = RunPlaces()
    places.hear("heard", "9")  # whatever is before 9 has not been read
    places.hear("new", "10")
    places.hear("heard", "11")
    assert places.before("new") == BEGINNING, "older runs were not looked for"
    places.found({"old": BEGINNING, "heard": "3"}, "8")
    assert [places.before(run) for run in ("old", "heard", "new")] == [BEGINNING, "3", "9"]
    assert places.before("unheard-of") == "11", "if anything of it comes, then behind that"
    places.hear("unheard-of", "12")
    places.hear(None, "13")
    places.hear("unheard-of", "14")
    assert places.before("unheard-of") == "11"


def test_a_survey_of_a_log_that_nothing_is_appended_to():
    places = RunPlaces()
    places.found({"old": "2"}, "8")
    assert (places.before("old"), places.before("unheard-of")) == ("2", "8")
    places.hear("new", "9")
    assert places.before("new") == "8"


def test_beyond_its_bound_the_oldest_are_searched_for_again():
    places = RunPlaces(kept=2)
    places.found({"a": "1", "b": "2", "c": "3"}, "4")
    assert [places.before(run) for run in "abc"] == [BEGINNING, "2", "3"]
    places.hear("d", "5")
    assert [places.before(run) for run in "abcd"] == [BEGINNING, BEGINNING, "3", "4"]


def test_runs_before_and_after_the_servers_start_are_read_from_their_place(server_of, monkeypatch):
    url = server_of("redis").new_part()
    sink = open_sink(url)
    began = []
    open_source = module.open_source

    def noting(url, options):
        began.append(options.start)
        return open_source(url, options)

    monkeypatch.setattr(module, "open_source", noting)

    def write(run, events):
        for event in events:
            sink.put(msgspec.structs.replace(event, identity=Identity(run_id=run)))
        assert sink.catch_up(BOUND)

    async def have(log, run, count):
        found = []
        deadline = asyncio.get_running_loop().time() + BOUND
        while len(found) < count:
            assert asyncio.get_running_loop().time() < deadline
            found = [item.event async for items in log.history(Position(run)) for item in items]
        return found

    async def main():
        for number in range(300):
            write(f"old{number}", plain())
        log = RunLog(url)
        await log.start()
        try:
            assert len(await have(log, "old299", len(plain()))) == len(plain())
            write("new", reasoned())
            assert len(await have(log, "new", len(reasoned()))) == len(reasoned())
            assert await have(log, "unheard-of", 0) == []
        finally:
            await log.close()

    try:
        asyncio.run(main())
    finally:
        sink.stop()
    told = [start for start in began if start != "new"]
    assert told.count(BEGINNING) == 1, "one survey, for all"
    places = [tuple(map(int, start.split("-"))) for start in told if start != BEGINNING]
    assert places == sorted(places)
    assert len(places) >= 2
