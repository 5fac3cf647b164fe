"""One server for all workers: whoever is killed neither takes it away nor leaves it behind."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest

from brokers import shared
from brokers.backends import unique_name
from brokers.sample_runs import BOUND
from brokers.servers import listens, wait_until

USER = """
import sys
from pathlib import Path
from brokers.shared import shared_server
with shared_server(Path(sys.argv[1]), sys.argv[2]) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def user(tmp_path):
    """``user("redis")``: a process that uses this run's server, and what it says first."""
    with contextlib.ExitStack() as until_the_end:

        def start(kind: str) -> tuple[subprocess.Popen, str]:
            process = subprocess.Popen(
                [sys.executable, "-c", USER, str(tmp_path / "shared"), kind],
                cwd=shared.TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            until_the_end.enter_context(process)
            until_the_end.callback(process.kill)
            return process, process.stdout.readline().strip()

        yield start


def gone(port: str) -> None:
    wait_until(lambda: not listens(int(port)), BOUND, "the server is stopped")


def test_a_killed_user_neither_stops_a_server_nor_leaves_it_behind(user):
    (first, port), (second, its) = user("redis"), user("redis")
    assert its == port
    first.kill()  # who started it
    first.wait(BOUND)
    third, its = user("redis")
    assert its == port
    second.kill()
    third.kill()
    gone(port)
    last, port = user("redis")  # and another can be started
    last.communicate("", timeout=BOUND)
    gone(port)


def test_parts_of_a_server_are_empty_and_names_differ(server_of):
    server = server_of("redis")
    assert len({server.new_part() for _ in range(3)} | {server.url}) == 4
    assert unique_name() != unique_name()
