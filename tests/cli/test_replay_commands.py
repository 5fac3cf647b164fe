"""X13: ``streamll replay`` and ``streamll report`` from the command line."""

from __future__ import annotations

import time

import dspy
import pytest

from streamll.cli.main import main
from streamll.cli.replay import events_of, play
from streamll.consumer import EventConsumer
from streamll.sinks.jsonl import JSONLSink
from streamll.testing import record
from streamll.testing.record_file import recorded_events


@pytest.fixture
def recording(practice, tmp_path):
    practice.script({"answer": "Paris, naturally."})
    dspy.configure(lm=practice.lm())
    with record(tmp_path / "run.jsonl") as path:
        dspy.Predict("question -> answer")(question="Which city lies on the Seine?")
    return path


def test_a_recording_plays_in_the_terminal(recording, capsys):
    assert main(["replay", str(recording), "--speed", "0"]) == 0
    assert '[TOKEN] answer: "Paris"' in capsys.readouterr().out


def test_events_are_played_at_their_recorded_pace(recording):
    events = list(recorded_events(recording))
    took = events[-1].timestamp - events[0].timestamp
    heard = []
    began = time.monotonic()
    play(events, lambda event: heard.append((time.monotonic() - began, event)), took / 0.4)
    assert [event for _, event in heard] == events
    for at, event in heard:
        assert at >= (event.timestamp - events[0].timestamp) * 0.4 / took - 0.01


def test_a_recording_plays_into_a_log(recording, tmp_path):
    log = f"sqlite:///{tmp_path}/log.db"
    assert main(["replay", str(recording), "--speed", "0", "--to", log]) == 0
    heard = []
    consumer = EventConsumer(log, start="beginning")

    @consumer.on("*")
    def keep(event):
        heard.append(event)
        if event.event_type == "run.end":
            consumer.stop()

    consumer.run_sync()
    text = "".join(event.token for event in heard if event.event_type == "token")
    assert text == "Paris, naturally."


def test_a_file_of_the_jsonl_sink_can_be_played(recording, tmp_path, capsys):
    path = tmp_path / "sink.jsonl"
    sink = JSONLSink(path)
    for event in recorded_events(recording):
        sink.put(event)
    sink.stop()
    assert main(["replay", str(path), "--speed", "0"]) == 0
    assert "Paris" in capsys.readouterr().out


@pytest.mark.parametrize(
    "cut", [b'{"v":1,"event_type":"tok', b'{"v":1,"event_type":"token","seq":"\xc3']
)
def test_a_file_whose_last_line_is_cut_plays_up_to_there(recording, tmp_path, capsys, cut):
    with recording.open("ab") as file:
        file.write(cut)
    assert main(["replay", str(recording), "--speed", "0"]) == 0
    shown = capsys.readouterr()
    assert "[TOKEN] answer" in shown.out
    number = len(recording.read_bytes().splitlines())
    assert shown.err == f"streamll: left out: {recording}, line {number}: cut off\n"
    assert main(["report", str(recording)]) == 0
    assert "cut off" in capsys.readouterr().err
    assert '"token":"Paris"' in (tmp_path / "run.html").read_text("utf-8")


def test_damaged_lines_are_left_out_and_counted(recording, capsys):
    first, *others = recording.read_bytes().splitlines(keepends=True)
    recording.write_bytes(
        b"".join([first, b'{"v":1,"even{"v":1}\n', b"[]\n", *others, b'{"v":2}\n'])
    )
    assert main(["replay", str(recording), "--speed", "0"]) == 0
    shown = capsys.readouterr()
    assert "[TOKEN] answer" in shown.out
    assert "line 2: not JSON" in shown.err
    assert shown.err.endswith(", and 2 more\n")


def test_a_file_without_any_event_is_refused(tmp_path, capsys):
    path = tmp_path / "notes.txt"
    path.write_text("not\nours\n")
    assert main(["replay", str(path)]) == 2
    assert f"{path}, line 1: not JSON" in capsys.readouterr().err


def test_report_writes_one_file_beside_the_recording(recording, tmp_path, capsys):
    assert main(["report", str(recording)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run.html")
    html = (tmp_path / "run.html").read_text("utf-8")
    assert '"token":"Paris"' in html
    assert "<link" not in html.replace('<link rel="icon" href="data:', "")
    assert " src=" not in html
    assert main(["report", str(recording), "-o", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").read_text("utf-8") == html


@pytest.mark.parametrize("command", ["replay", "report"])
def test_a_missing_or_empty_file_is_reported_in_one_line(command, tmp_path, capsys):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    for path, words in ((tmp_path / "none", "there is no file"), (empty, "has no events")):
        assert main([command, str(path)]) != 0
        told = capsys.readouterr().err
        assert words in told
        assert told.count("\n") == 1


def test_to_and_web_exclude_each_other(recording, capsys):
    assert main(["replay", str(recording), "--web", "--to", "sqlite:///x.db"]) != 0
    assert "choose one" in capsys.readouterr().err


def test_a_log_is_told_apart_from_a_file_by_its_url_or_by_what_is_in_it(
    recording, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    log, file = "sqlite:///log.db", "log.db"
    assert main(["replay", str(recording), "--to", log, "--speed", "0"]) == 0
    [run_id] = {event.run_id for event in recorded_events(recording)}
    for place in (log, file):
        assert main(["report", place]) == 0
        told = capsys.readouterr()
        assert (told.out, told.err) == (f"{run_id}.html\n", f"streamll: run {run_id}\n")
    assert events_of(log, [run_id]) == list(recorded_events(recording))


def test_what_no_log_or_file_can_do_is_told_in_one_line(recording, tmp_path, capsys):
    log = f"sqlite:///{tmp_path}/log.db"
    assert main(["replay", str(recording), "--to", log, "--speed", "0"]) == 0
    for arguments, code, told in (
        ([log, "--run", "none"], 1, "the log has no run 'none'"),
        ([str(recording), "--run", "none"], 1, "the file has no run 'none'"),
        ([log, "--run", "none", "--all"], 2, "--all and --run exclude each other; choose one"),
        ([str(recording), "--target", "x"], 2, f"--target is for a log, and {recording} is a file"),
        ([log, "--target", "other"], 2, "has no log 'other'"),
        ([f"sqlite:///{tmp_path}/none.db"], 2, "there is no file"),
        (["redis://127.0.0.1:1"], 1, "ConnectionError"),
    ):
        for command in ("replay", "report"):
            assert main([command, *arguments]) == code
            said = capsys.readouterr().err
            assert (told in said, said.count("\n")) == (True, 1), said


def test_what_tail_prints_of_a_run_can_be_played(recording, tmp_path, capsys):
    log, file = f"sqlite:///{tmp_path}/log.db", tmp_path / "tailed.jsonl"
    assert main(["replay", str(recording), "--to", log, "--speed", "0"]) == 0
    [run_id] = {event.run_id for event in recorded_events(recording)}
    assert main(["tail", log, "--run", run_id, "--json"]) == 0
    file.write_text(capsys.readouterr().out, "utf-8")
    assert list(recorded_events(file)) == list(recorded_events(recording))
