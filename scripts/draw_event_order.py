"""Draw the legal order of events as nested boxes, from the declarations that the code itself runs.

    python scripts/draw_event_order.py > docs/event-order.svg

Every box is something a run opens and closes; what stands in it comes only while it is open.
``tests/test_docs.py`` compares the picture in docs/ with what this script draws.
"""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from streamll.core.events import CALLS, KINDS, Event

LINE, PAD, CHARACTER = 20, 14, 7.9  # pixels: line height, padding, width of a character


class EventScope(NamedTuple):
    """Something a run opens and closes, and the event types around and inside it."""

    name: str
    inside: str  # the scope that must be open around it: "run", "call"; "" for the run itself
    opened_by: str
    closed_by: tuple[str, ...]
    contains: tuple[str, ...]  # event types that only come while it is open


def grammar() -> tuple[EventScope, ...]:
    """The order of events as the classes declare it: one ``EventScope`` for each thing that opens."""
    return tuple(_scope(kind) for kind in KINDS.values() if kind.opens)


def _scope(opening: type[Event]) -> EventScope:
    name = opening.opens
    within = {name, "call"} if name in CALLS else {name}
    kinds = KINDS.values()
    return EventScope(
        name,
        opening.inside,
        opening.event_type,
        tuple(k.event_type for k in kinds if k.closes == name),
        tuple(k.event_type for k in kinds if k.inside in within and not (k.opens or k.closes)),
    )


class Box(NamedTuple):
    """Lines of text in a frame, with further boxes below them."""

    title: str
    lines: list[str]
    inner: list[Box]

    @property
    def height(self) -> int:
        below = sum(box.height + PAD for box in self.inner)
        return PAD + LINE * (1 + len(self.lines)) + PAD // 2 + below

    @property
    def width(self) -> float:
        own = max(len(line) for line in (self.title, *self.lines)) * CHARACTER + 2 * PAD
        return max([own, *(box.width + 2 * PAD for box in self.inner)])


def boxes_inside(place: str) -> list[Box]:
    """A box for each thing that opens inside ``place``; calls of all kinds share one."""
    scopes = [scope for scope in grammar() if scope.inside == place]
    calls = [scope for scope in scopes if scope.name in CALLS]
    boxes = []
    if calls:
        common = set.intersection(*(set(scope.contains) for scope in calls))
        own = [line for scope in calls for line in _lines(scope, common)]
        inside = [kind for kind in calls[0].contains if kind in common]
        lines = [*own, "", "inside, in any order:", *_wrapped(inside)]
        boxes.append(Box("a call (calls nest)", lines, boxes_inside("call")))
    for scope in scopes:
        if scope not in calls:
            lines = [_way(scope.opened_by, scope.closed_by), *_wrapped(scope.contains)]
            boxes.append(Box(f"a {scope.name}", lines, boxes_inside(scope.name)))
    return boxes


def _lines(call: EventScope, common: set[str]) -> list[str]:
    """How a call of one kind begins and ends, and what comes inside of this kind alone."""
    alone = [f"    {kind}" for kind in call.contains if kind not in common]
    return [_way(call.opened_by, call.closed_by), *alone]


def _way(start: str, ends: tuple[str, ...]) -> str:
    return f"{start}  →  {' | '.join(ends)}"


def _wrapped(kinds: list[str] | tuple[str, ...], width: int = 64) -> list[str]:
    """The names, comma-separated, on as many lines as they take."""
    lines: list[str] = []
    for kind in kinds:
        if lines and len(lines[-1]) + len(kind) + 2 <= width:
            lines[-1] += f", {kind}"
        else:
            lines.append(kind)
    return lines


def drawn(box: Box, x: float, y: float, width: float) -> list[str]:
    """SVG elements of a box and those in it."""
    out = [f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{box.height}" rx="6"/>']
    baseline = y + PAD + LINE / 2
    out.append(f'<text x="{x + PAD:.0f}" y="{baseline:.0f}" class="title">{box.title}</text>')
    for number, line in enumerate(box.lines, 1):
        place = baseline + number * LINE
        out.append(f'<text x="{x + PAD:.0f}" y="{place:.0f}">{escape(line)}</text>')
    below = y + PAD + LINE * (1 + len(box.lines)) + PAD // 2
    for inner in box.inner:
        out += drawn(inner, x + PAD, below, width - 2 * PAD)
        below += inner.height + PAD
    return out


STYLE = """\
svg { color: #1f2328; background: #ffffff }
@media (prefers-color-scheme: dark) { svg { color: #e6edf3; background: #0d1117 } }
rect { fill: currentColor; fill-opacity: .04; stroke: currentColor; stroke-opacity: .5 }
text { fill: currentColor; font: 13px ui-monospace, Menlo, Consolas, monospace }
.title { font-weight: bold }"""


def picture() -> str:
    (run,) = boxes_inside("")
    width, height = run.width + 2 * PAD, run.height + 2 * PAD
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}"'
    return "\n".join(
        [
            f'{head} width="{width:.0f}" height="{height}">',
            f"<style>\n{STYLE}\n</style>",
            *drawn(run, PAD, PAD, run.width),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    print(picture(), end="")
