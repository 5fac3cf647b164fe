"""The viewer's page: a document, a style sheet, and its scripts as the one that browsers load."""

from __future__ import annotations

import re
from pathlib import Path

STATIC = Path(__file__).parent / "viewer" / "static"
_SCRIPT = re.compile(r'<script src="([a-z]+\.js)" defer></script>\n')


def document(script: str) -> str:
    """The page, with ``script``, an element or nothing, in place of those of its scripts."""
    page = _index()
    first = _SCRIPT.search(page)
    assert first is not None
    return page[: first.start()] + script + _SCRIPT.sub("", page[first.end() :])


def program(*before: str) -> str:
    """The page's scripts in their order, after the files ``before`` of ``STATIC``."""
    names = [*before, *_SCRIPT.findall(_index())]
    return "\n".join((STATIC / name).read_text("utf-8") for name in names)


def _index() -> str:
    return (STATIC / "index.html").read_text("utf-8")
