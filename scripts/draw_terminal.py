"""Draw what ``streamll.watch()`` shows of an agent, as an SVG made from a real run on a terminal.

    python scripts/draw_terminal.py > docs/pictures/terminal.svg

The run is ``examples/react_watch.py``, answered by a practice model. Its times differ from run to run,
everything else is the same: ``tests/test_docs.py`` compares the picture with a run of its own.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

EXAMPLE = Path(__file__).parent.parent / "examples" / "react_watch.py"
COLUMNS, ROWS = 68, 50
MOVES = re.compile(r"\x1b\[\??[0-9;]*[A-HJ-ZK-la-ln-z]")  # every sequence but colours

FRAME = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>A ReAct agent in the terminal: turns, tool calls, fields and totals</title>
<style>
.{unique_id}-matrix {{
  font: {char_height}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  line-height: {line_height}px;
}}
.{unique_id}-title {{ font: bold 17px ui-sans-serif, "Segoe UI", Helvetica, Arial, "DejaVu Sans", sans-serif }}
{styles}
</style>
<defs>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def run_on_a_terminal(*command: str, columns: int = COLUMNS, **environment: str) -> str:
    """All that a command writes to a terminal of its own; raises if it fails."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment},
    ) as process:
        os.close(theirs)
        written = bytearray()
        with suppress(OSError):  # Linux's end of file on a terminal
            while data := os.read(ours, 65536):
                written += data
        os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return written.decode()


def last_frame(written: str) -> str:
    """The finished run as it stays on the terminal, with its colours."""
    begin = written.rindex("\x1b", 0, written.rindex("●"))
    frame = written[begin:].replace("\r", "").partition("\n\x1b[K\n")[0]
    return MOVES.sub("", frame)


def picture(frame: str) -> str:
    """The frame in a terminal's window."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text("$ python react_watch.py", style="dim"))
    console.print(Text.from_ansi(frame))
    svg = console.export_svg(title="streamll.watch()", code_format=FRAME, unique_id="t")
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def drawn(**environment: str) -> str:
    """The picture of a run that is made now."""
    return picture(last_frame(run_on_a_terminal(sys.executable, str(EXAMPLE), **environment)))


if __name__ == "__main__":
    print(drawn(STREAMLL_PACE="0.01"), end="")
