"""X0a: ``watch(web=True)`` as a cell's last line is the page in the cell; others may not frame it."""

from __future__ import annotations

import dspy
import httpx
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

import streamll
from serve.viewer.conftest import Server, wait_text
from streamll.serve.viewer import web_view

NOTEBOOK = '<!doctype html><link rel="icon" href="data:,"><h3>In [1]: streamll.watch(web=True)</h3>'


def test_the_page_is_shown_in_a_cell(practice, open_page, site):
    dspy.configure(lm=practice.lm())
    practice.script({"answer": "Paris"})
    with streamll.watch(web=True) as watching:
        url, token = watching.url.split("#token=")
        cell = watching._repr_html_()
        assert f"ssh -L {httpx.URL(url).port}:127.0.0.1:" in cell
        assert url in repr(watching)
        assert token not in repr(watching)
        notebook = Server(
            Starlette(routes=[Route("/lab", lambda _: HTMLResponse(NOTEBOOK + cell))])
        )
        page = open_page(f"{notebook.url.replace('127.0.0.1', 'localhost')}/lab")
        frame = next(f for f in page.frames if f is not page.main_frame)
        frame.wait_for_selector("#runs", state="attached")
        dspy.Predict("question -> answer")(question="France?")
        frame.wait_for_selector("#runs li")
        frame.click("#runs button")
        wait_text(frame, "answer", "Paris")
        page.goto("about:blank")
        notebook.stop()
        framed = httpx.get(url, trust_env=False, timeout=60).headers
    web_view.shared_web_view().stop()
    assert "frame-ancestors 'self' http://localhost:* " in framed["content-security-policy"]
    assert " *" not in framed["content-security-policy"]
    assert "x-frame-options" not in framed
    url = f"{site(dspy.Predict('q -> a')).url}/"
    served = httpx.get(url, trust_env=False, timeout=60).headers
    assert "frame-ancestors 'none'" in served["content-security-policy"]
    assert served["x-frame-options"] == "DENY"


def test_what_is_watched_without_a_page_shows_no_frame():
    with streamll.watch(sinks=[]) as watching:
        assert watching._repr_html_() is None
        assert repr(watching).startswith("<streamll.watch: every program of this process is shown")
