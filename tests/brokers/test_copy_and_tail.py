"""``streamll tail`` and ``streamll copy``, as people type them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys

import pytest
import warm

from brokers.raw_log import raw_dead_letters
from brokers.sample_runs import BOUND, check_order, ends, make_run, plain, read_log
from brokers.servers import wait_until
from streamll.brokers.copying import has_run, log_exists
from streamll.cli.main import main
from streamll.core.errors import ConfigurationError
from streamll.sinks import open_sink

pytestmark = pytest.mark.usefixtures("patient_clients")


@pytest.fixture
def log(backend):
    sink = open_sink(backend.url, target=backend.target())
    sink.name = getattr(sink, "target", None) or getattr(sink, "stream_key", None) or sink.exchange
    yield sink
    sink.stop(60)


def write(sink, *runs):
    for run in runs:
        for event in run:
            sink.put(event)
    assert sink.stop(BOUND)


def test_tail_prints_a_run_and_exits_at_its_end(log, backend, capsys):
    write(log, make_run("r0", ["x"]), make_run("r1", ["Ma", "chine"]), make_run("r2", ["y"]))
    assert main(["tail", backend.url, "--target", log.name, "--run", "r1"]) == 0
    printed = capsys.readouterr().out
    assert '[TOKEN] answer: "Ma"' in printed
    assert '[TOKEN] answer: "chine"' in printed
    assert '"x"' not in printed


def test_tail_says_that_a_log_has_no_such_run(log, backend, capsys):
    write(log, make_run("r0", ["x"]))
    assert main(["tail", backend.url, "--target", log.name, "--run", "nosuch"]) == 1
    assert capsys.readouterr().err == "streamll: the log has no run 'nosuch'\n"


def test_replay_and_report_take_the_runs_of_a_log(log, backend, capsys, tmp_path):
    """The latest by default, named ones, or all; each event once, however often it was written."""
    runs = [make_run("r0", ["x"]), make_run("r1", ["Ma", "chine"]), make_run("r2", ["y"])]
    write(log, *runs)
    write(open_sink(backend.url, target=log.name), runs[1])
    place, page = [backend.url, "--target", log.name], tmp_path / "page.html"
    assert main(["report", *place, "-o", str(page)]) == 0
    told = "streamll: run r2, the latest of 3; --run ID or --all for others\n"
    assert capsys.readouterr().err == told
    assert ['"token":"y"' in page.read_text(), '"token":"Ma"' in page.read_text()] == [True, False]
    for wanted, texts in (
        (["--run", "r1", "--run", "r0"], ["x", "Ma", "chine"]),
        (["--all"], ["x", "Ma", "chine", "y"]),
    ):
        assert main(["replay", *place, *wanted, "--speed", "0"]) == 0
        lines = capsys.readouterr().out.splitlines()
        shown = [json.loads(line.rpartition(": ")[2]) for line in lines if "[TOKEN]" in line]
        assert shown == texts


@pytest.mark.parametrize("form", [["--json"], []])
def test_tail_into_a_closed_pipe_ends_and_writes_nothing(log, backend, form):
    """``tail … | head -2``, with much more to print than the pipe holds."""
    write(log, *(make_run(f"r{n}", ["some text"] * 500) for n in range(8)))
    command = ["tail", backend.patient_url, "--target", log.name, "--from", "beginning", *form]
    with warm.Popen(
        [sys.executable, "-m", "streamll", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline()
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(BOUND) == 1
        assert process.stderr.read().decode() == ""
    assert raw_dead_letters(backend, log.name) == []


def test_tail_ends_when_nobody_reads_it_although_nothing_comes(log, backend):
    write(log, make_run("r0", ["x"]))
    command = ["tail", backend.patient_url, "--target", log.name, "--from", "beginning"]
    with warm.Popen(
        [sys.executable, "-m", "streamll", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(BOUND) == 1
        assert process.stderr.read().decode() == ""


def test_tail_filters_and_prints_json(log, backend, capsys):
    write(log, make_run("r1", ["a", "b"], {"tenant": 7}))
    arguments = ["--run", "r1", "--type", "tok*", "--where", "tenant=7", "--where", "token=b"]
    assert main(["tail", backend.url, "--target", log.name, "--json", *arguments]) == 0
    [event] = map(json.loads, capsys.readouterr().out.splitlines())
    assert (event["seq"], event["token"], event["context"]) == (4, "b", {"tenant": 7})


@pytest.mark.parametrize("value", ["12345", 12345, "1.10", True, "true", None, "anna", {"a": 1}])
def test_tail_finds_a_value_as_text_and_as_json(value, tmp_path, capsys):
    sink = open_sink(f"sqlite:///{tmp_path}/a.db")
    write(sink, make_run("r1", ["a"], {"id": value}))
    given = value if isinstance(value, str) else json.dumps(value)
    arguments = ["--run", "r1", "--json", "--type", "run.end", "--where", f"id={given}"]
    assert main(["tail", f"sqlite:///{tmp_path}/a.db", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["context"] == {"id": value}


def test_tail_follows_a_log_until_ctrl_c(log, backend):
    write(log, make_run("r1", ["a"]))
    command = ["tail", backend.url, "--target", log.name, "--from", "beginning", "--json"]
    with warm.Popen(
        [sys.executable, "-m", "streamll", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        lines = [process.stdout.readline() for _ in range(7)]
        write(log, make_run("r2", ["b"]))
        lines += [process.stdout.readline() for _ in range(7)]
        process.send_signal(2)
        assert process.wait(BOUND) in (0, 130)
    assert [json.loads(line)["run_id"] for line in lines] == ["r1"] * 7 + ["r2"] * 7


def test_copy_moves_a_log_as_it_is(log, backend, tmp_path, capsys):
    runs = [make_run(f"r{n}", [f"{n}.{i} " for i in range(40)], {"n": n}) for n in range(3)]
    write(log, *runs)
    copy = f"sqlite:///{tmp_path}/copy.db"
    for _ in range(2):  # made twice, read once
        assert main(["copy", backend.url, copy, "--target", log.name]) == 0
    assert capsys.readouterr().out.startswith(f"{sum(map(len, runs))} events in ")
    read = read_log(copy, log.name, ends(3))
    check_order(read)
    expected = {event.event_id: plain(event) for run in runs for event in run}
    assert {event.event_id: plain(event) for event in read} == expected
    back = [copy, backend.url, "--target", log.name, "--to-target", f"{log.name}-back"]
    assert main(["copy", *back]) == 0
    assert len(read_log(backend.url, f"{log.name}-back", ends(3))) == len(read)


def test_a_copy_ends_where_the_log_did_also_one_into_the_log_itself(log, backend, capsys):
    write(log, make_run("r1", ["a"]))
    for events in (7, 14):
        assert main(["copy", backend.url, backend.url, "--target", log.name]) == 0
        assert capsys.readouterr().out.startswith(f"{events} events in ")


def test_copy_since(tmp_path, capsys):
    sink = open_sink(f"sqlite:///{tmp_path}/a.db")
    write(sink, make_run("r1", ["a"]))
    urls = [f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db"]
    assert main(["copy", *urls, "--since", "1h"]) == 0
    assert main(["copy", *urls, "--since", "2199-01-01"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("7 events")
    assert printed[1].startswith("0 events")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tail", "kafka://x"], "no broker has URLs like"),
        (["tail", "sqlite:///x.db", "--run", "r", "--from", "new"], "leave out --from"),
        (["tail", "sqlite:///x.db", "--where", "novalue"], "--where takes key=value"),
        (["copy", "sqlite:///x.db", "sqlite:///y.db", "--since", "soon"], "--since takes"),
        (["tail", "sqlite:///x.db"], "there is no file 'x.db'"),
        (["tail", "sqlite:///x.db", "--run", "r1"], "there is no file 'x.db'"),
        (["copy", "sqlite:///x.db", "sqlite:///y.db"], "there is no file 'x.db'"),
        (["tail", "sqlite:///notes.txt"], "'notes.txt' is no log of streamll's"),
        (["tail", "sqlite:///other.db"], "'other.db' is no log of streamll's"),
        (["copy", "sqlite:///other.db", "sqlite:///y.db"], "'other.db' is no log of streamll's"),
        (["tail", "sqlite:///x.db?keep=60"], "has no option 'keep'"),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(
    arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("not a database, and long enough to be read as one" * 9)
    with contextlib.closing(sqlite3.connect("other.db")) as other, other:
        other.execute("CREATE TABLE notes (text)")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(arguments) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_wait_until_is_bounded():
    with pytest.raises(AssertionError, match="never"):
        wait_until(lambda: False, 0.05, "never")


def test_copy_from_a_log_that_is_not_there_names_it_and_creates_nothing(backend, tmp_path, capsys):
    missing, copy = backend.target(), tmp_path / "copy.db"
    write(open_sink(backend.url, target=backend.target()), make_run("r1", ["a"]))
    for _ in range(2):  # it is not there the second time either
        assert main(["copy", backend.url, f"sqlite:///{copy}", "--target", missing]) == 2
        told = capsys.readouterr()
        assert f"has no log '{missing}'" in told.err
        assert told.out == ""
    assert not copy.exists()
    with pytest.raises(ConfigurationError, match=f"has no log '{missing}'"):
        asyncio.run(has_run(backend.url, missing, "r1"))
    assert not asyncio.run(log_exists(backend.url, missing))


def test_tail_of_a_log_that_is_not_there_says_what_it_waits_for(backend, tmp_path):
    target = backend.target()
    write(open_sink(backend.url, target=backend.target()), make_run("r0", ["x"]))
    command = ["tail", backend.patient_url, "--target", target, "--json", "--from", "beginning"]
    with warm.Popen(
        [sys.executable, "-m", "streamll", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert f"has no log '{target}' yet; waiting" in process.stderr.readline()
        write(open_sink(backend.url, target=target), make_run("r1", ["a"]))
        assert json.loads(process.stdout.readline())["run_id"] == "r1"
        process.send_signal(2)
        process.wait(BOUND)
