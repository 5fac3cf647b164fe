"""What is logged of a program that raised: its error's type and where, and nothing it said.

An error's message may hold what a user asked. Where the logger ``streamll`` is at level DEBUG
(``streamll serve --debug``) the whole traceback is logged.
"""

from __future__ import annotations

import logging
import sysconfig
import traceback
from pathlib import Path

logger = logging.getLogger("streamll")

LIBRARIES = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")})

OURS = str(Path(__file__).parent.parent.parent)


def log_failure(program: str, run_id: str, error: BaseException) -> None:
    told = f"{type(error).__name__}{place_of(error)}"
    shown = error if logger.isEnabledFor(logging.DEBUG) else None
    logger.warning("run %s of %s failed: %s", run_id, program, told, exc_info=shown)


def place_of(error: BaseException) -> str:
    """Where the program was: the innermost line of its own code, or of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not each.filename.startswith((*LIBRARIES, OURS))]
    if not frames:
        return ""
    frame = (own or frames)[-1]
    return f" at {frame.filename}:{frame.lineno} in {frame.name}"
