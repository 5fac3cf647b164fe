"""Runs within the height there is.

Whole for what stays in the scrollback. In the live region, what is being written keeps its room,
then what was finished last; the rest is counted in one line. Many runs at once share the height,
down to one line each, and those that find no room are counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamll.terminal.drawing import (
    FIXED,
    GROWING,
    OTHER,
    Drawing,
    Glyphs,
    Line,
    Section,
    fitted,
)
from streamll.terminal.tree import RunTree

CONDENSED = 4
"""With so few lines, a tree says less than the place and the latest text."""


def whole(run: RunTree, width: int, now: float, glyphs: Glyphs) -> list[Line]:
    """Everything the run has said."""
    sections = Drawing(run, width, now, glyphs).sections()
    return [line for section in sections for line in section.draw(section.height)]


def notes(run: RunTree, width: int, now: float, glyphs: Glyphs) -> list[Line]:
    """What was said outside of any run, without a run around it."""
    drawing = Drawing(run, width, now, glyphs)
    return [line for section in drawing.body() for line in section.draw(section.height)]


def within(drawing: Drawing, height: int) -> list[Line]:
    """At most ``height`` lines of a run."""
    sections = drawing.sections()
    wanted = sum(section.height for section in sections)
    if wanted > height and height <= CONDENSED:
        return drawing.condensed(height)
    rooms = share(sections, height)
    missing = wanted - sum(rooms)
    lines: list[Line] = []
    told = not missing
    for section, room in zip(sections, rooms, strict=True):
        if not told and room < section.height:
            lines.append(drawing.more(section, missing))
            told = True
        if room:
            lines += section.draw(room)[-room:]
    return lines


def share(sections: Sequence[Section], height: int) -> list[int]:
    """The room of each section: all it needs, or by rank and, within a rank, the last first."""
    if sum(section.height for section in sections) <= height:
        return [section.height for section in sections]
    left = height - 1  # one line says how many are missing
    rooms = [0] * len(sections)
    for rank in range(FIXED, OTHER + 1):
        ranked = [n for n in reversed(range(len(sections))) if sections[n].rank == rank]
        if rank == GROWING:
            granted = level([sections[n].height for n in ranked], left)
        else:
            granted = greedy([sections[n].height for n in ranked], left)
        for n, room in zip(ranked, granted, strict=True):
            rooms[n] = room
        left -= sum(granted)
    return rooms


def greedy(heights: Sequence[int], available: int) -> list[int]:
    """Each gets what it wants until nothing is left."""
    rooms = []
    for height in heights:
        rooms.append(min(height, available))
        available -= rooms[-1]
    return rooms


def level(heights: Sequence[int], available: int) -> list[int]:
    """Even shares, none larger than its height; what the small ones leave goes to the others."""
    rooms = [0] * len(heights)
    order = sorted(range(len(heights)), key=lambda n: heights[n])
    for served, n in enumerate(order):
        rooms[n] = min(heights[n], available // (len(order) - served))
        available -= rooms[n]
    return rooms


def compose(
    runs: Sequence[RunTree], width: int, height: int, now: float, glyphs: Glyphs
) -> list[Line]:
    """All runs under way, in at most ``height`` lines."""
    if len(runs) == 1:
        return within(Drawing(runs[0], width, now, glyphs), height)
    lines: list[Line] = []
    if len(runs) > height:
        lines = [
            line
            for run in runs[: height - 1]
            for line in Drawing(run, width, now, glyphs).condensed(1)
        ]
        rest = f"{glyphs.more} and {len(runs) - height + 1} more running"
        return [*lines, fitted([("detail", rest)], width)]
    drawings = [Drawing(run, width, now, glyphs) for run in runs]
    heights = [drawing.height() for drawing in drawings]
    apart = sum(heights) + len(runs) - 1 <= height
    lines = []
    for drawing, room in zip(drawings, level(heights, height), strict=True):
        lines += [[], *within(drawing, room)] if apart and lines else within(drawing, room)
    return lines
