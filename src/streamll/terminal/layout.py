"""Fits runs into the height of the terminal.

In the scrollback, runs are shown whole. In the live region, texts being written get room first,
then the latest finished ones; the rest is counted in one line. Several runs share the height, down
to one line each, and runs that do not fit are counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamll.terminal.drawing import FIXED, GROWING, OTHER, Drawing, Glyphs, Line, Section, fitted
from streamll.terminal.tree import RunTree

CONDENSED_HEIGHT = 4
"""At this height or below, the current step and text are shown instead of the tree."""


def whole(run: RunTree, width: int, now: float, glyphs: Glyphs) -> list[Line]:
    sections = Drawing(run, width, now, glyphs).sections()
    return [line for section in sections for line in section.draw(section.height)]


def within(drawing: Drawing, height: int) -> list[Line]:
    """At most ``height`` lines of a run."""
    sections = drawing.sections()
    wanted = sum(section.height for section in sections)
    if wanted > height and height <= CONDENSED_HEIGHT:
        return drawing.condensed(height)
    rooms = share(sections, height)
    missing = wanted - sum(rooms)
    lines: list[Line] = []
    for section, room in zip(sections, rooms, strict=True):
        if missing and room < section.height:
            lines.append(drawing.more(section, missing))
            missing = 0  # counted once, at the first gap
        if room:
            lines += section.draw(room)[-room:]
    return lines


def share(sections: Sequence[Section], height: int) -> list[int]:
    """The lines each section gets: all, or by rank and, within a rank, the last section first."""
    is_cut = sum(section.height for section in sections) > height
    left = height - is_cut  # one line for the count of missing lines
    rooms = [0] * len(sections)
    for rank in range(FIXED, OTHER + 1):
        ranked = [n for n in reversed(range(len(sections))) if sections[n].rank == rank]
        most = [left] * len(ranked)
        if rank == GROWING:
            most = level([sections[n].height for n in ranked], left)
        for n, room in zip(ranked, most, strict=True):
            rooms[n] = min(sections[n].height, room, left)
            left -= rooms[n]
    return rooms


def level(heights: Sequence[int], available: int) -> list[int]:
    """Equal shares, none larger than its height; what small ones leave goes to the others."""
    rooms = [0] * len(heights)
    order = sorted(range(len(heights)), key=lambda n: heights[n])
    for served, n in enumerate(order):
        rooms[n] = min(heights[n], available // (len(order) - served))
        available -= rooms[n]
    return rooms


def compose(
    runs: Sequence[RunTree], width: int, height: int, now: float, glyphs: Glyphs
) -> list[Line]:
    """All running runs, in at most ``height`` lines."""
    drawings = [Drawing(run, width, now, glyphs) for run in runs]
    lines: list[Line] = []
    if len(runs) > height:
        lines += [line for drawing in drawings[: height - 1] for line in drawing.condensed(1)]
        rest = f"{glyphs.more} and {len(runs) - height + 1} more running"
        return [*lines, fitted([("detail", rest)], width)]
    heights = [sum(each.height for each in drawing.sections()) for drawing in drawings]
    apart = sum(heights) + len(runs) - 1 <= height
    for drawing, room in zip(drawings, level(heights, height), strict=True):
        lines += [[], *within(drawing, room)] if apart and lines else within(drawing, room)
    return lines
