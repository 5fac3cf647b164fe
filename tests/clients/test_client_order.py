"""What may come between two steps of ``@streamll/client``: one process of Node goes through the orders."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import build_clients
import pytest

CASES = Path(__file__).parent / "order_cases.mjs"
ANSWER = "one two three"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    place = tmp_path_factory.mktemp("order")
    module = build_clients.bundle(build_clients.CLIENTS / "client", place)
    given = json.dumps({"module": str(module)})
    command = ["node", CASES]
    answer = subprocess.run(command, input=given, capture_output=True, check=False, text=True)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_a_loop_after_one_that_was_broken_off_reads_on_though_the_run_has_ended(results):
    assert results["broken"] == [0, 1, 2, 3, 4, 5, 6]


def test_the_position_is_behind_what_a_loop_has_had_and_not_what_came_besides(results):
    behind = ["r:0", "r:2:4", "r:3:8", "r:5"]
    assert results["positions"] == [[position, position] for position in behind]


def test_a_reader_comes_back_behind_all_that_came_however_much_a_loop_has_had(results):
    assert results["lost"] == {"asked": [None, "r:3:8"], "had": [0, 1, 2, 3, 4, 5, 6]}


def test_a_run_that_is_closed_while_its_status_is_asked_for_stays_closed(results):
    assert results["closed"] == 20  # of an AbortError


def test_who_waits_for_the_id_of_a_run_that_has_none_is_told(results):
    assert results["unknown"]["refused"] == ["refused"] * 4
    assert results["unknown"]["closed"] == 20


def test_a_program_is_started_once_though_its_only_reader_leaves_at_once(results):
    assert (results["unknown"]["left"], results["unknown"]["posts"]) == (ANSWER, 1)


def test_a_callback_that_raises_is_reported_and_stops_no_reading(results):
    raising = results["raising"]
    calls = ["connecting", "open", "closed", "listener"]
    assert [raising[call] for call in calls] == [ANSWER] * 4
    assert raising["raised"] == calls
    assert raising["heard"] == "ended"


def test_a_websocket_on_which_nothing_comes_is_made_anew_and_is_no_failure(results):
    places = [None, "r:2:4", "r:2:4", "r:2:4"]
    assert results["silent"] == {"answer": ANSWER, "places": places, "waited": False}


def test_a_field_that_is_null_has_the_value_null(results):
    assert results["nothing"] == {"answer": None}


def test_what_is_undefined_takes_the_place_of_no_token_and_no_position(results):
    assert results["places"] == [["own", "r:1"]] * 2 + [["other", "r:2"]] * 2


def test_a_start_that_is_refused_for_now_has_started_nothing(results):
    """By a route of one's own as by the server's."""
    busy, away = (["busy", "not now", 3000], ["unavailable", "not now", 3000])
    assert results["refusals"] == [busy, busy, away, away]


def test_a_run_that_has_ended_listens_to_no_signal(results):
    assert results["signals"] == [20, 0, 0]


def test_a_loop_that_is_always_behind_forgets_what_it_has_had(results):
    """A thousand events together, of three thousand."""
    assert results["behind"] < 2000


def test_totals_that_a_server_does_not_know_are_left_out(results):
    assert results["totals"] == {"status": "ended", "duration": 1, "lm_calls": 1}
