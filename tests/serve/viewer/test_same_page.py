"""Tests share a page of Chromium, and nothing that one of them leaves in it reaches the next."""

from __future__ import annotations

import dspy

LEFT = """() => { localStorage.left = sessionStorage.left = document.cookie = "left=1"; window.open("about:blank"); }"""
FOUND = """() => [localStorage.left ?? null, sessionStorage.left ?? null, document.cookie, innerWidth,
    matchMedia("(prefers-color-scheme: dark)").matches]"""


def test_a_page_that_was_used_before_is_as_good_as_new(browser, site):
    server = site(dspy.Predict("question -> answer"))
    with browser.page(
        media={"color_scheme": "dark"}, viewport={"width": 390, "height": 844}
    ) as page:
        heard = []
        page.on("console", lambda message: heard.append(message.text))
        page.goto(server.url)
        with page.context.expect_page():
            page.evaluate(LEFT)
        assert page.evaluate(FOUND) == ["left=1", "left=1", "left=1", 390, True]
        assert len(page.context.pages) == 2
    assert page.url == "about:blank"
    with browser.page() as again:
        assert again is page
        assert again.context.pages == [again]
        again.goto(server.url)
        again.evaluate("console.log('to nobody')")
        assert again.evaluate(FOUND) == [None, None, "", 1280, False]
        with browser.page() as other:
            assert other.context is not again.context
    assert "to nobody" not in heard
