"""The picture of the viewer in README and docs shows what the viewer shows today."""

from __future__ import annotations

import re
from pathlib import Path

import draw_viewer

from streamll.serve.viewer.web_view import shared_web_view

KEPT = Path(__file__).parents[3] / "docs" / "pictures" / "viewer.png"


MEASURED = re.compile(r"\d\d?:\d\d:\d\d( [AP]M)?|[\d.,]+ (ms|s|min)\b")


SPENT = re.compile(
    r"(model speaking|waiting (to ask|for its first token)|pauses between tokens|tools|"
    r"the program itself|first token … .*)$"
)
"""What the time went into, which is another thing on a busy machine."""


def without_times(text: str) -> list[str]:
    """The lines of a page; those that are a measured time, such as a timeline's, are left out."""
    lines = (MEASURED.sub("…", line).strip() for line in text.splitlines())
    return [line for line in lines if line not in ("", "…") and not SPENT.match(line)]


def test_the_picture_of_the_viewer_is_a_run_of_today(browser):
    _, now = draw_viewer.shown(browser)
    shared_web_view().stop()  # the next one to watch begins with an empty list
    kept = draw_viewer.text_in(KEPT.read_bytes())
    redraw = "python scripts/draw_viewer.py docs/pictures/viewer.png"
    assert len(kept.splitlines()) > 50
    assert without_times(now) == without_times(kept), redraw
