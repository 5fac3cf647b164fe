"""``streamll demo --web``: an agent in the page, without a program of one's own."""

from __future__ import annotations

import signal
import subprocess
import sys

import httpx
import warm

from serve.serving import events_of

CONTENT = {"tool.start", "tool.end", "lm.superseded", "field.partial", "trace.start", "status"}


def test_the_demo_shows_an_agent_with_all_that_the_page_can_show(open_page):
    process = warm.Popen(
        [sys.executable, "-m", "streamll", "demo", "--web", "--pace", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert "when the page is open" in process.stdout.readline()
        said = ""
        while "watch at " not in said:
            said += process.stderr.readline()
        url = said.partition("watch at ")[2].strip()
        page = open_page(url)
        page.wait_for_function("() => document.querySelectorAll('#runs li button').length === 2")
        page.wait_for_function("() => !document.querySelector('#runs .dot[data-status=running]')")
        assert page.locator("#runs .dot[data-status=ended]").count() == 2
        page.goto("about:blank")
        address, _, token = url.partition("/#token=")
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=60) as client:
            second, first = client.get("/runs").json()["runs"]
            assert first["title"] == "A rainy day in Lisbon, what shall we do?"
            assert first["context"] == second["context"] == {"conversation_id": "demo"}
            events = events_of(client, f"/runs/{first['run_id']}/events")
        assert {event["event_type"] for event in events} >= CONTENT
        calls = [event for event in events if event["event_type"] == "lm.start"]
        assert all(event["messages"] for event in calls)
        spoken = {event.get("predictor") for event in events if event["event_type"] == "token"}
        assert spoken >= {"plan.predict", "pack", "write"}
        assert process.stdout.readline() == "Done; Ctrl-C ends the page\n"
        process.send_signal(signal.SIGINT)
        rest, told = process.communicate(timeout=60)
        assert (process.returncode, rest) == (130, "")
        assert "Traceback" not in said + told
