"""Events in a file: they are read back as written, and a full disk affects nothing else."""

from __future__ import annotations

import io
import logging
import os
import sys

import pytest

from streamll.core.errors import WireError
from streamll.core.events import Identity, RunStart, Status, StreamllEvent, TokenEvent
from streamll.sinks import JSONLSink, read_jsonl

EVENTS = [
    RunStart(seq=0, timestamp=1.5, identity=Identity(run_id="run"), program="QA"),
    TokenEvent(seq=1, timestamp=2.5, identity=Identity(run_id="run"), field="answer", token="こ\n"),
    StreamllEvent(event_type="docs.found", data={"n": 3}),
]


def put_all(sink, events=EVENTS):
    for event in events:
        sink.put(event)
    assert sink.catch_up(60)


def test_what_was_written_is_read_back(tmp_path):
    path = tmp_path / "events.jsonl"
    sink = JSONLSink(path)
    put_all(sink)
    assert list(read_jsonl(path)) == EVENTS, "readable before the sink is stopped"
    sink.stop()


def test_a_file_is_appended_to_unless_a_new_one_is_asked_for(tmp_path):
    path = tmp_path / "events.jsonl"
    for append, count in [(True, 3), (True, 6), (False, 3)]:
        sink = JSONLSink(str(path), append=append)
        put_all(sink)
        sink.stop()
        assert len(list(read_jsonl(path))) == count


def test_events_after_stop_open_the_file_again(tmp_path):
    path = tmp_path / "events.jsonl"
    sink = JSONLSink(path, append=False)
    put_all(sink)
    sink.stop()
    put_all(sink)
    sink.stop()
    assert list(read_jsonl(path)) == EVENTS * 2


@pytest.mark.parametrize("file", [io.StringIO(), io.BytesIO()], ids=["text", "binary"])
def test_a_file_object_of_either_kind_stays_open(file):
    sink = JSONLSink(file)
    put_all(sink)
    sink.stop()
    assert len(file.getvalue().splitlines()) == 3
    assert not file.closed


def test_a_missing_folder_raises_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        JSONLSink(tmp_path / "missing" / "events.jsonl")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_is_logged_once_and_counted(caplog):
    sink = JSONLSink("/dev/full")
    with caplog.at_level(logging.WARNING, "streamll"):
        put_all(sink)
        put_all(sink)
        assert len(caplog.records) == 1
        assert "a run.start event: OSError: No space left on device" in caplog.text
    assert sink.statistics().failed == 6
    assert sink.stop()


def test_a_closed_file_is_logged_once_and_counted(tmp_path, caplog):
    file = (tmp_path / "events.jsonl").open("w")
    sink = JSONLSink(file)
    put_all(sink)
    file.close()
    put_all(sink)
    put_all(sink)
    assert [r for r in caplog.records if r.name == "streamll"] == caplog.records[:1]
    statistics = sink.statistics()
    assert (statistics.handled, statistics.failed) == (3, 6)
    sink.stop()


def test_a_closed_pipe_is_logged_once_and_counted(caplog):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb", buffering=0) as file:
        sink = JSONLSink(file)
        put_all(sink)
        assert "BrokenPipeError: Broken pipe" in caplog.text
        assert sink.statistics().failed == 3
        sink.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_line_cut_by_a_full_disk_does_not_spoil_the_next(tmp_path, monkeypatch):
    """The disk is real; only its free space is limited, by the size a file may have."""
    import resource
    import signal

    path = tmp_path / "events.jsonl"
    sink = JSONLSink(path)
    put_all(sink)
    written = path.stat().st_size
    signal_before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit_before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (written + 10, limit_before[1]))
    try:
        put_all(sink)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit_before)
        signal.signal(signal.SIGXFSZ, signal_before)
    assert path.stat().st_size == written + 10
    assert sink.statistics().failed == 3
    put_all(sink)
    sink.stop()
    assert list(read_jsonl(path, skip_damaged=True)) == EVENTS * 2
    with pytest.raises(WireError, match=r"events\.jsonl, line 4"):
        list(read_jsonl(path))


def test_only_unwritten_lines_count_as_failed(tmp_path):
    """Of a batch of three, the file takes one and a half."""

    class Reluctant(io.FileIO):
        full = False

        def write(self, data):
            if self.full:
                raise OSError(28, "No space left on device")
            self.full = True
            first = bytes(data).index(b"\n") + 1
            return super().write(bytes(data)[: first + 5])

    path = tmp_path / "events.jsonl"
    sink = JSONLSink(path)
    sink._file.close()
    sink._file = Reluctant(path, "a")
    sink.handle_batch(list(EVENTS))
    assert sink.statistics().failed == 2
    sink.stop()
    assert list(read_jsonl(path, skip_damaged=True)) == EVENTS[:1]


def test_anything_in_an_event_can_be_written(tmp_path):
    path = tmp_path / "events.jsonl"
    sink = JSONLSink(path)
    put_all(sink, [Status(message="\ud800"), StreamllEvent(event_type="x", data={"o": object()})])
    sink.stop()
    assert len(list(read_jsonl(path))) == 2
    assert sink.statistics().failed == 0
