"""``bench/chaos.py`` in short: parts are killed under load, and each run is counted; and what it would see."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from brokers import servers
from serve.nginx import binary
from support.profiles import THOROUGH

SCRIPT = Path(__file__).parents[3] / "bench" / "chaos.py"
SECONDS = 60 if THOROUGH else 8
LOAD = "--runs 2 --clients 2 --producers 2 --words 20 --warm-up 1 --lost-seconds 20 --every 1.2"
"""A run whose process lives must not be silent for so long, on a busy machine either."""


@pytest.mark.parametrize("kind", ["redis", *(["sqlite", "rabbitmq"] if THOROUGH else [])])
def test_whatever_is_killed_each_run_is_whole_or_lost_with_its_process(kind):
    try:
        binary()
        servers.redis_binary()
    except servers.Unavailable as problem:
        pytest.skip(str(problem))
    command = [sys.executable, str(SCRIPT), "--minutes", str(SECONDS / 60), "--broker", kind]
    done = subprocess.run(
        [*command, *LOAD.split(), "--seed", "902"], capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong: nothing" in done.stdout
    assert "killed: nothing" not in done.stdout


@pytest.fixture(scope="module")
def chaos():
    spec = importlib.util.spec_from_file_location("chaos", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def events(name="c0x1x0", words=3, end="run.end"):
    told = [{"event_type": "run.start", "seq": 0, "run_id": "r"}]
    offset = 0
    for number in range(words):
        token = f"{' ' * bool(number)}{name}w{number}"
        told.append(
            {
                "event_type": "token",
                "seq": number + 1,
                "run_id": "r",
                "token": token,
                "offset": offset,
            }
        )
        offset += len(token)
    return [*told, {"event_type": end, "seq": words + 1, "run_id": "r"}]


FAULTS = {
    "missing": lambda told: told.pop(2),
    "again": lambda told: told.insert(2, told[1]),
    "out of order": lambda told: told.insert(1, told.pop(2)),
    "an event of": lambda told: told[1].update(run_id="another"),
    "not the beginning of its text": lambda told: told[3].update(token=" c0x1x1w2"),
    "a wrong text": lambda told: told[-1].update(seq=3) or told.pop(3),
    "ended as run.cancelled": lambda told: told[-1].update(event_type="run.cancelled"),
    "behind its end": lambda told: told.append(told[-1] | {"seq": 5}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_would_be_seen(chaos, fault):
    told, reading = events(), chaos.Reading("r")
    FAULTS[fault](told)
    for event in told:
        reading.take(event)
    assert any(fault in each for each in reading.check(3)), reading.wrong


def test_a_right_run_and_a_lost_one_are_not_complained_of(chaos):
    for told in (events(), events(words=2, end="run.error")):
        told[-1]["error_type"] = "RunLost"
        reading = chaos.Reading("r")
        for event in told:
            reading.take(event)
        assert reading.check(3) == []
