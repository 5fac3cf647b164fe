"""The page of a server that has people: each sees their own runs, and is told what they may not do."""

from __future__ import annotations

import dspy
from viewer.conftest import hear_said, wait_said

from serve.serving import frames
from streamll.serve import Permit, bearer_token
from streamll.testing import Reply

PERMITS = {
    "anna": Permit("anna"),
    "bert": Permit("bert"),
    "reader": Permit("reader", see="all", start="none", stop="none"),
}


def test_the_page_shows_a_persons_runs_and_says_what_is_not_permitted(practice, site, open_page):
    practice.respond(lambda request: Reply({"answer": "word " * 40}, hold_after=8))
    server = site(
        dspy.Predict("question -> answer"), auth=lambda asked: PERMITS.get(bearer_token(asked))
    )
    with server.client(headers={"authorization": "Bearer anna"}) as client:
        run = client.post("/runs", json={"inputs": {"question": "q"}}).json()
        with client.stream("GET", run["events"]) as response:
            next(each for each in frames(response) if each.event["event_type"] == "token")
    other = open_page(f"{server.url}/#token=bert")
    other.wait_for_selector("#no-runs:not([hidden])")
    page = open_page(f"{server.url}/#token=reader&run={run['run_id']}")
    hear_said(page)
    page.locator("#stop").click()
    wait_said(page, "It goes on: you may not stop this run.")
    assert page.get_attribute("#status", "data-status") == "running"
    assert other.locator("#runs li").count() == 0
