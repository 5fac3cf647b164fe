"""Sinks deliver everything at process exit, and in each process after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import traceback

import pytest
import warm

from streamll.core.events import Status
from streamll.sinks import BaseSink, JSONLSink, read_jsonl

BOUND = 60


def run_script(body: str) -> subprocess.CompletedProcess:
    prelude = """
        import sys, threading, time
        from streamll.core.events import Status
        from streamll.sinks import BaseSink

        class Slow(BaseSink):
            def handle_event(self, event):
                time.sleep(0.01)
                sys.stdout.write(event.message + "\\n")
                sys.stdout.flush()
    """
    return warm.run(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )


def test_process_exit_flushes_sinks():
    done = run_script(
        """
        sink = Slow()
        import streamll.sinks.base as base
        base.EXIT_SECONDS = 60  # all of them, on a busy machine as well
        for n in range(20):
            sink.put(Status(message=str(n)))
        """
    )
    assert done.stdout.split() == [str(n) for n in range(20)]
    assert (done.returncode, done.stderr) == (0, "")


def test_process_exit_stops_sinks_after_all_is_handled():
    done = run_script(
        """
        class Closing(Slow):
            def stop(self):
                print("closed", flush=True)
                return True

        class Broken(Slow):
            def stop(self):
                raise OSError("no")

        for sink in (Closing(), Broken()):
            sink.put(Status(message="event"))
        """
    )
    assert sorted(done.stdout.split()) == ["closed", "event", "event"]
    assert "sink Broken: OSError in stop()" in done.stderr
    assert done.returncode == 0


def test_an_exception_ending_the_program_loses_no_events():
    done = run_script(
        """
        sink = Slow()
        for n in range(5):
            sink.put(Status(message=str(n)))
        raise SystemExit(3)
        """
    )
    assert done.stdout.split() == list("01234")
    assert done.returncode == 3


def test_a_hanging_handler_delays_exit_only_for_a_while():
    done = run_script(
        """
        import streamll.sinks.base as base
        base.EXIT_SECONDS = 8  # for both: a busy machine gets to the other one late

        class Hanging(BaseSink):
            def handle_event(self, event):
                threading.Event().wait()

        sinks = [Hanging(), Slow()]
        for sink in sinks:
            sink.put(Status(message="event"))
        """
    )
    assert done.stdout.split() == ["event"]
    assert "sink Hanging did not finish" in done.stderr
    assert done.returncode == 0


def test_what_is_lost_at_exit_is_said_once_though_its_sink_goes_on_trying():
    """And no sink is waited for twice."""
    done = run_script(
        """
        import streamll.sinks.base as base
        base.EXIT_SECONDS = 0.2

        class Retrying(BaseSink):
            def handle_batch(self, events):
                pass

            def due_in(self):
                return 0.001

            def stop(self, timeout=3600.0):
                return super().stop(timeout)

        class Hanging(BaseSink):  # meanwhile the other one tries a hundred times
            def handle_event(self, event):
                threading.Event().wait()

        sinks = [Retrying(), Hanging()]
        for sink in sinks:
            sink.put(Status(message="event"))
        """
    )
    lines = done.stderr.splitlines()
    assert [line.split(" did not finish before the exit")[0] for line in lines] == [
        "sink Retrying",
        "sink Hanging",
    ]
    assert done.returncode == 0


def test_putting_while_the_process_ends_is_harmless():
    done = run_script(
        """
        import atexit
        sink = Slow()
        atexit.register(lambda: sink.put(Status(message="from atexit")))
        """
    )
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_each_process_delivers_its_own_events(tmp_path):
    class Tagging(BaseSink):
        def handle_event(self, event):
            with (tmp_path / str(os.getpid())).open("a") as file:
                file.write(event.message + "\n")

    sink = Tagging()
    sink.put(Status(message="parent before"))
    pid = os.fork()
    if pid == 0:
        try:
            sink.put(Status(message="child"))
            os._exit(0 if sink.stop(60) and sink.statistics().received == 1 else 1)
        except BaseException:
            traceback.print_exc()
            os._exit(2)
    sink.put(Status(message="parent after"))
    assert sink.stop(60)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (tmp_path / str(pid)).read_text().split("\n")[:-1] == ["child"]
    own = (tmp_path / str(os.getpid())).read_text().split("\n")[:-1]
    assert own == ["parent before", "parent after"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_both_processes_append_whole_lines_to_one_file(tmp_path):
    path = tmp_path / "events.jsonl"
    sink = JSONLSink(path)
    pid = os.fork()
    for n in range(200):
        sink.put(Status(message=f"{'child' if pid == 0 else 'parent'} {n} {'x' * 200}"))
    done = sink.stop(60)
    if pid == 0:
        os._exit(0 if done else 1)
    assert done
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    messages = [event.message.split()[:2] for event in read_jsonl(path)]
    for who in ("child", "parent"):
        assert [int(n) for name, n in messages if name == who] == list(range(200))
