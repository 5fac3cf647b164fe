"""Style names and their look: escape sequences (ECMA-48 SGR) for a terminal, words for a notebook.

Only the sixteen named colours, so that the user's theme applies. ``NO_COLOR`` leaves bold and
italic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from streamll.terminal.drawing import Line

STYLES = {
    "run": "bold",
    "module": "bold",
    "tool": "magenta",
    "trace": "blue",
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
    "custom": "dim",
    "citation": "dim",
    "result": "dim",
}


class Palette:
    """``STYLES`` as escape sequences for one terminal."""

    def __init__(self, console: Console) -> None:
        from rich.color import ColorSystem
        from rich.style import Style

        system = ColorSystem.STANDARD if console.color_system else None
        marked = {}
        for style, definition in STYLES.items():
            parsed = Style.parse(definition)
            if console.no_color:
                parsed = parsed.without_color
            rendered = parsed.render("\0", color_system=system)
            before, _, after = rendered.partition("\0")
            marked[style] = (before, after)
        self._marks = marked

    def encode(self, line: Line) -> str:
        """The line as text with escape sequences."""
        parts = []
        for style, text in line:
            before, after = self._marks.get(style, ("", ""))
            parts.append(f"{before}{text}{after}")
        return "".join(parts)
