"""One run as lines of styled text, at some width and time.

The lines come in sections, so that ``layout`` can assign each the room there is. A line is a
list of ``(style, text)`` pairs; the texts are sanitized and fit the width. ``encoder`` writes them
with the escape sequences of a terminal (ECMA-48 SGR).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING

from streamll.core.run_view import FAILED, RUNNING
from streamll.terminal import text as tx
from streamll.terminal import words
from streamll.terminal.text import fold
from streamll.terminal.tree import NoteNode, RunTree, StepNode, TextNode

if TYPE_CHECKING:
    from rich.console import Console

Line = list[tuple[str, str]]

STYLES = {
    "run": "bold",
    "module": "bold",
    "tool": "magenta",
    "trace": "blue",
    "evaluate": "bold",
    "compile": "bold",
    "guide": "dim",
    "detail": "dim",
    "label": "cyan",
    "field": "",
    "thinking": "dim italic",
    "call": "magenta",
    "running": "cyan",
    "ended": "green",
    "ended closing": "",
    "failed": "red",
    "failed closing": "bold red",
    "cancelled": "yellow",
    "cancelled closing": "bold yellow",
    "status": "blue",
    "retry": "yellow",
    "warning": "yellow",
    "question": "yellow",
    "guard": "yellow",
    "custom": "dim",
    "citation": "dim",
    "result": "dim",
}
"""The look of each style. Only the sixteen named colours, so that the user's theme applies."""

MAX_WIDTH = 110
"""Text wider than this is hard to read; wider terminals keep a margin."""
MIN_TEXT_WIDTH = 16
"""Columns that are left for text, however deep a step is nested."""
MIN_WIDTH_FOR_LABELS = 46
"""Below this width, a label is above its text instead of beside it."""
MAX_LABEL_WIDTH = 18
BAR_WIDTH = 16


@dataclass(frozen=True)
class Glyphs:
    """The characters a view is drawn with."""

    spinner: str = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
    ended: str = "✓"
    failed: str = "✗"
    cancelled: str = "⊘"
    run: str = "●"
    branch: str = "├─ "
    last: str = "╰─ "
    through: str = "│  "
    cursor: str = "▌"
    more: str = "⋮"
    dot: str = " · "
    status: str = "› "
    retry: str = "↻ "
    question: str = "? "
    guard: str = "▒ "
    custom: str = "◦ "
    citation: str = "↗ "
    warning: str = "! "
    result: str = "→ "
    done: str = "━"
    left: str = "─"

    def state(self, step: StepNode, now: float) -> tuple[str, str]:
        if step.state == RUNNING:
            return ("running", self.spinner[int(now * 12.5) % len(self.spinner)])
        return step.state, getattr(self, step.state)


ASCII = Glyphs(
    spinner="-\\|/", ended="+", failed="x", cancelled="/", run="*", branch="|- ", last="`- ",
    through="|  ", cursor="_", more=":", dot=" - ", status="> ", retry="~ ", custom="o ",
    citation="^ ", guard="# ", result="= ", done="#", left=".",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Section:
    """Some consecutive lines of a run. ``rank``: which section gets scarce room first."""

    rank: int
    height: int
    draw: Callable[[int], list[Line]]
    guide: str = ""


def _section(rank: int, lines: list[Line], guide: str = "") -> Section:
    """A section whose lines do not depend on the room."""
    return Section(rank, len(lines), lambda _: lines, guide)


# Ranks, highest priority first.
FIXED, ACTIVE_STEP, GROWING, BESIDE, OTHER_STEP, OTHER = range(6)


class Drawing:
    """One run at one width and time, as sections from top to bottom."""

    def __init__(self, run: RunTree, width: int, now: float, glyphs: Glyphs) -> None:
        self.run = run
        self.width = min(width, MAX_WIDTH)
        self.now = now
        self.glyphs = glyphs

    def sections(self) -> list[Section]:
        """The run; events outside any run have no first and last line."""
        body = list(self._contents(self.run.root, ""))
        if self.run.run_id is None:
            return body
        closing = [_section(FIXED, self._closing())] if self.run.ended else []
        return [_section(FIXED, [self._run_line()]), *body, *closing]

    def more(self, section: Section, missing: int) -> Line:
        """The line that replaces, from ``section`` on, the lines that do not fit."""
        text = f"{self.glyphs.more} {tx.amount(missing, 'more line')}"
        return fitted([("guide", section.guide), ("detail", text)], self.width)

    def _contents(self, step: StepNode, guide: str) -> Iterator[Section]:
        items = step.chain[-1].items
        guide = guide[: max(0, self.width - MIN_TEXT_WIDTH)]  # deeper steps are drawn at this depth
        steps = [number for number, item in enumerate(items) if isinstance(item, StepNode)]
        last_step = max(steps, default=-1)
        active = step.state == RUNNING
        inner = self.glyphs.through if last_step >= 0 else "  "
        labels = self._label_width(items, tx.cells(guide) + tx.cells(inner))
        for number, item in enumerate(items):
            beside = inner if number < last_step or last_step < 0 else "   "
            if isinstance(item, StepNode):
                yield from self._step(item, step, guide, number == last_step)
            elif isinstance(item, TextNode):
                yield self._text(item, guide + beside, labels, active=active)
            else:
                sign = getattr(self.glyphs, item.style, "")
                lines = self._folded(item.style, item.text, guide + beside, sign)
                yield _section(BESIDE if active else OTHER, lines, guide + beside)
        if kept_back := sum((each.kept_back for each in step.chain), Counter()):
            below = guide + (inner if last_step < 0 else "   ")
            lines = self._folded("guard", words.kept_back(kept_back), below, self.glyphs.guard)
            yield _section(BESIDE if active else OTHER, lines, below)

    def _step(
        self, step: StepNode, parent: StepNode, guide: str, is_last: bool
    ) -> Iterator[Section]:
        glyphs = self.glyphs
        branch = guide + (glyphs.last if is_last else glyphs.branch)
        below = guide + ("   " if is_last else glyphs.through)
        rank = ACTIVE_STEP if step.state == RUNNING else OTHER_STEP
        yield _section(rank, [self._step_line(step, branch)], below)
        yield from self._contents(step, below)
        if step.error and not (parent.state == FAILED and parent.error == step.error):
            lines = self._folded("failed", step.error, below + "  ")
            yield _section(BESIDE, lines, below)

    def _step_line(self, step: StepNode, branch: str) -> Line:
        sign = self.glyphs.state(step, self.now)
        line: Line = [("guide", branch), sign, (step.kind, f" {step.label}")]
        if step.kind == "tool":
            line.append(("detail", f"({step.arguments or '…'})"))
        details = [each for shown in step.chain for each in (shown.model, *shown.details)]
        if step.state == RUNNING:
            details.append(self._elapsed(step))
        elif step.duration is not None:
            details.append(tx.seconds(step.duration))
        return self._with_details(line, details, step, self._progress(step))

    def _progress(self, step: StepNode) -> Line:
        """How far an evaluation is, as a bar and in numbers."""
        if step.progress is None or not step.progress[1]:
            return []
        done, total = step.progress
        full = BAR_WIDTH * done // total
        bar: Line = [
            ("running", f"  {self.glyphs.done * full}"),
            ("guide", f"{self.glyphs.left * (BAR_WIDTH - full)} "),
        ]
        is_wide = self.width >= MIN_WIDTH_FOR_LABELS
        return [*(bar if is_wide else [("detail", "  ")]), ("detail", f"{done}/{total}")]

    def _run_line(self) -> Line:
        root = self.run.root
        line: Line = [(root.state, self.glyphs.run), ("run", f" {root.label}")]
        details = []
        if not self.run.ended:
            details.append(self._elapsed(root))
            if self.run.view.token_count:
                details.append(tx.amount(self.run.view.token_count, "token"))
        details += [each for shown in root.chain for each in (*shown.details, shown.model)]
        return self._with_details(line, details, root)

    def _with_details(
        self, line: Line, details: list[str], step: StepNode, beside: Line | None = None
    ) -> Line:
        """The line with as many details as fit; its label is cut if that is not enough."""
        *others, (label_style, label) = line
        beside = beside or []
        before = columns([*others, *beside])
        room = self.width - before - min(24, tx.cells(label))
        details = list(filter(None, details))
        while details and 2 + tx.cells(self.glyphs.dot.join(details)) > room:
            details.pop()
        written = f"  {self.glyphs.dot.join(details)}" if details else ""
        line[-1] = (label_style, tx.head(label, self.width - before - tx.cells(written)))
        line += [*beside, ("detail", written)]
        line += [("warning", f"  {shown.waiting}") for shown in step.chain if shown.waiting][:1]
        return fitted(line, self.width)

    def _elapsed(self, step: StepNode) -> str:
        return f"{max(0.0, self.now - step.started):.1f} s"

    def _label_width(self, items: Sequence[StepNode | TextNode | NoteNode], indent: int) -> int:
        """Columns for labels beside their texts; 0 if labels are above them."""
        if self.width - indent < MIN_WIDTH_FOR_LABELS:
            return 0
        labels = [item.label for item in items if isinstance(item, TextNode)]
        longest = max(map(tx.cells, labels), default=0)
        return longest + 2 if longest <= MAX_LABEL_WIDTH else 0

    def _text(self, text: TextNode, guide: str, labels: int, *, active: bool) -> Section:
        indent = tx.cells(guide) + (labels or 2)
        room = max(8, self.width - indent - 1)  # one column for the cursor
        lines = text.content.lines(room)
        height = len(lines) + (not labels) + bool(text.remark)
        finished = BESIDE if active else OTHER
        rank = GROWING if text.is_open and active else finished
        return Section(rank, height, partial(self._text_lines, text, lines, guide, labels), guide)

    def _text_lines(
        self, text: TextNode, lines: list[str], guide: str, labels: int, available: int
    ) -> list[Line]:
        """The last ``available`` lines, the label on or above the first of them."""
        remark: Line = [("guide", guide), ("label", " " * labels), ("retry", text.remark)]
        remarks = [remark] if text.remark and available > 1 else []
        above = not labels and (available > 1 or not text.content.length)
        count = max(1, available - len(remarks) - above)
        shown = lines[-count:]
        mark = "…" if len(shown) < len(lines) else ""
        while len(shown) > 1 and mark and not shown[0].strip():
            shown = shown[1:]
        drawn: list[Line] = []
        if above:
            label = tx.head(text.label, self.width - tx.cells(guide) - 1)
            drawn = [[("guide", guide), ("label", label + mark)]]
            if available == 1:
                return drawn
        for number, content in enumerate(shown):
            label = text.label + mark if labels and not number else ""
            label += " " * ((labels or 2) - tx.cells(label))
            ends = number == len(shown) - 1 and text.is_open and tx.cells(content) < self.width
            written = content if ends else content.rstrip()
            drawn.append([("guide", guide), ("label", label), (text.style, written)])
        if text.is_open:
            drawn[-1].append(("running", self.glyphs.cursor))
        elif not text.content.length:
            drawn[-1].append(("detail", "(empty)"))
        return [fitted(line, self.width) for line in [*drawn, *remarks]]

    def _folded(self, style: str, content: str, guide: str, sign: str = "") -> list[Line]:
        room = max(8, self.width - tx.cells(guide) - tx.cells(sign))
        signs = chain([sign], repeat(" " * len(sign)))
        return [
            fitted([("guide", guide), (style, before + part.rstrip())], self.width)
            for before, part in zip(signs, fold(content, room), strict=False)
        ]

    def _closing(self) -> list[Line]:
        """How the run ended, wrapped between its parts."""
        root, dot = self.run.root, self.glyphs.dot
        sign = self.glyphs.state(root, self.now)
        first, *others = self.run.closing
        lines = self._folded("failed", root.error, "  ") if root.error else []
        lines.append([sign, (f"{root.state} closing", f" {first}")])
        for part in others:
            if columns(lines[-1]) + tx.cells(dot + part) <= self.width:
                lines[-1].append(("detail", dot + part))
            else:
                lines.append([("detail", f"  {part}")])
        return lines

    # --- little room --------------------------------------------------------------------------------

    def condensed(self, height: int) -> list[Line]:
        """The run on a few lines: its current step, and the end of the text being written."""
        root = self.run.root
        step, text = _latest(root)
        line: Line = [(root.state, self.glyphs.run), ("run", f" {root.label}")]
        if step is not root:
            line.append((step.kind, f" {self.glyphs.status}{step.label}"))
        line += self._progress(step)
        line.append(("detail", f"  {self._elapsed(root)}"))
        if step.waiting:
            line.append(("warning", f"  {step.waiting}"))
        if text is not None and height == 1:
            line.append(("label", f"  {text.label}  "))
            room = self.width - columns(line) - 1
            if room > 8:  # noqa: PLR2004
                end = tx.one_line(text.content.ending(4 * room), 4 * room)
                line += [(text.style, tx.tail(end, room)), ("running", self.glyphs.cursor)]
        if text is None or height == 1:
            return [fitted(line, self.width)]
        labels = self._label_width([text], 2)
        section = self._text(text, "  ", labels, active=True)
        return [fitted(line, self.width), *section.draw(min(section.height, height - 1))]


def _latest(step: StepNode) -> tuple[StepNode, TextNode | None]:
    """The step and text being written, else the deepest running step."""
    for item in reversed(step.items):
        if isinstance(item, TextNode) and item.is_open:
            return step, item
        if isinstance(item, StepNode) and item.state == RUNNING:
            if item.progress is not None:  # rather than one of its examples
                return item, None
            inner, text = _latest(item)
            return (step if inner is item and item.inline else inner), text
    return step, None


def columns(line: Line) -> int:
    """Columns that a line takes at most."""
    return sum(tx.cells(text) for _, text in line)


def fitted(line: Line, width: int) -> Line:
    """The line cut to ``width`` columns."""
    used = 0
    for number, (style, text) in enumerate(line):
        size = tx.cells(text)
        if used + size > width:
            return [*line[:number], (style, tx.head(text, width - used))]
        used += size
    return line


def encoder(console: Console) -> Callable[[Line], str]:
    """What writes a line with the escape sequences of ``STYLES`` on this terminal.

    ``NO_COLOR`` leaves bold and italic.
    """
    from rich.color import ColorSystem
    from rich.style import Style

    system = ColorSystem.STANDARD if console.color_system else None
    templates = {}
    for name, definition in STYLES.items():
        style = Style.parse(definition)
        if console.no_color:
            style = style.without_color
        templates[name] = style.render("\0", color_system=system)

    def encode(line: Line) -> str:
        return "".join(templates[style].replace("\0", text) for style, text in line)

    return encode
