"""X10: the page shows what the log has, not what its server has heard since it was started."""

from __future__ import annotations

import dspy
import httpx
import pytest
from viewer.conftest import shown_text, wait_text

from serve.runs import RUNS
from serve.serving import Server, wait_until
from streamll.brokers.opening import open_sink
from streamll.serve import Limits, create_app

QA = "question -> answer"


@pytest.fixture
def log(tmp_path):
    return f"sqlite:///{tmp_path}/log.db"


@pytest.fixture
def served(practice, log):
    """``served()``: a server on the log; the one before it has ended."""
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    servers = []

    def start(**options):
        for server in servers:
            server.stop()
        servers[:] = [Server(create_app(dspy.Predict(QA), log=log, **options))]
        return servers[0]

    yield start
    for server in servers:
        server.stop()


def test_after_a_restart_the_page_lists_and_shows_what_has_run(practice, served, open_page):
    practice.script({"answer": "Paris"}, {"answer": "Rome"})
    url = served().url
    for _ in range(2):
        asked = {"json": {"inputs": {"question": "q"}}, "trust_env": False, "timeout": 60}
        run = httpx.post(f"{url}/runs", **asked).json()
        httpx.get(f"{url}{run['events']}", trust_env=False, timeout=60)  # to its end
    page = open_page(served().url)
    page.wait_for_function("() => document.querySelectorAll('#runs li').length === 2")
    wait_text(page, "answer", "Rome")
    page.locator("#runs button").nth(1).click()
    wait_text(page, "answer", "Paris")
    page.goto("about:blank")


def test_a_run_whose_process_died_is_lost_and_ends_in_the_page(log, served, open_page):
    sink = open_sink(log)
    for event in RUNS["plain"]()[:5]:
        sink.put(event)
    assert sink.stop(60)
    page = open_page(served(limits=Limits(lost_seconds=1.0)).url)
    page.wait_for_selector('#runs .dot[data-status="lost"]')
    page.wait_for_function(
        "() => ['failed', 'lost'].includes(document.querySelector('#status').dataset.status)"
    )
    assert shown_text(page, "answer") == "Machine"
    wait_until(lambda: "gone" in page.text_content("#problem"))
    page.goto("about:blank")
