"""The live view in a notebook cell: one output that is updated, then stays.

IPython is never imported here; it is only used if it already runs the program.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from typing import Any

from streamll.terminal.drawing import STYLES, Line

WIDTH, HEIGHT = 100, 40
FRAMES_PER_S = 6  # each frame is a message to the browser

# Readable on white and on black.
_CSS = {
    "bold": "font-weight:600",
    "italic": "font-style:italic",
    "dim": "opacity:.6",
    "blue": "color:#3b82f6",
    "cyan": "color:#0891b2",
    "green": "color:#16a34a",
    "magenta": "color:#c026d3",
    "red": "color:#dc2626",
    "yellow": "color:#ca8a04",
}
_PRE = "margin:0;line-height:1.35;white-space:pre-wrap;font-family:monospace"


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this program: output can be HTML and be updated in place."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def as_html(lines: Sequence[Line]) -> str:
    """Lines as one block of preformatted text."""
    rows = []
    for line in lines:
        row = ""
        for style, text in line:
            css = ";".join(_CSS[word] for word in STYLES[style].split())
            row += f'<span style="{css}">{html.escape(text)}</span>' if css else html.escape(text)
        rows.append(row)
    return f'<pre style="{_PRE}">' + "\n".join(rows) + "</pre>"


def as_text(lines: Sequence[Line]) -> str:
    return "\n".join("".join(text for _, text in line) for line in lines)


class NotebookCanvas:
    """Shows frames as outputs of the cell that is running."""

    is_broken = False
    _handle: Any = None

    @property
    def is_open(self) -> bool:
        return self._handle is not None

    def close(self) -> None:
        if self.is_open:
            self._show([])
        self._handle = None

    def expect_frame(self, seconds: float | None) -> None:
        """Nothing to do: a cell's output stays in its place."""

    def draw(self, lines: Sequence[Line], staying: Sequence[Line] = ()) -> None:
        if staying:  # replaces the live output; running runs get a new one
            self._show(staying)
            self._handle = None
        if lines:
            self._show(lines)

    def _show(self, lines: Sequence[Line]) -> None:
        display = sys.modules["IPython.display"]
        bundle = {"text/html": as_html(lines), "text/plain": as_text(lines)}
        if self._handle is None:
            self._handle = display.display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
