"""Where in a program's own code an error was raised."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

NOT_OWN = (
    *{sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")},
    str(Path(__file__).parent.parent),
    "<frozen ",
)
"""Where code is that is not the program's."""


def own_place(error: BaseException) -> str:
    """``file:line in function``, the innermost; empty where no line of the program was reached."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not each.filename.startswith(NOT_OWN)]
    return "".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in own[-1:])
