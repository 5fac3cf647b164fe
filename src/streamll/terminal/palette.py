"""Style names and their look: escape sequences (ECMA-48 SGR) for a terminal, words for a notebook.

Only the sixteen named colours, so that the user's theme applies. ``NO_COLOR`` leaves bold and
italic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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


def encoder(console: Console) -> Callable[[Line], str]:
    """What writes a line with the escape sequences of ``STYLES`` on this terminal."""
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
