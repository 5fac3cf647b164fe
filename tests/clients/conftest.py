"""The second browser, started once: what it shows is looked at in Chromium, that it does at all here too."""

from __future__ import annotations

import pytest
from firefox import launched


@pytest.fixture(scope="session")
def _firefox():
    with launched() as browser:
        yield browser


@pytest.fixture
def firefox(_firefox):
    """``firefox(url)``: a page in Firefox; an error in its scripts fails the test."""
    pages = []

    def open_(url):
        pages.append(_firefox.new_page(url))
        return pages[-1]

    yield open_
    for page in pages:
        page.close()
    problems, _firefox.problems = _firefox.problems, []
    assert problems == []
