"""Uses a wheel as somebody who has nothing else: ``try_wheel.py WHEEL [INTERPRETER …]``.

For each interpreter (this one, if none is named): an empty environment, the wheel in it, and from an
empty folder ``streamll doctor``, the demo, and the first block of the README around a program that
asks the practice model. Nothing of the checkout can be imported there. The wheel is installed with uv
where this interpreter has it, which takes seconds, and otherwise with pip.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
PROGRAM = """
import dspy
from streamll.testing import PracticeServer

with PracticeServer() as server:
    server.respond(lambda request: {"reasoning": "It scatters.", "answer": "Blue light is bent."})
    dspy.configure(lm=server.lm())
    answer = dspy.ChainOfThought("question -> answer")(question="Why is the sky blue?").answer
streamll.unwatch()
assert answer == "Blue light is bent."
"""


def first_block() -> str:
    """The first Python of the README."""
    found = re.search(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def run(*command: object, cwd: str | Path | None = None) -> str:
    """What the command prints. Raises ``RuntimeError``, with all of it, where it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "true"},
        capture_output=True,
        text=True,
        timeout=1800,  # for a command that hangs, not for a busy machine
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def environment(python: str, folder: Path, wheel: Path) -> Path:
    """The interpreter of an environment that has the wheel, and what that needs, alone."""
    own = folder / "bin" / "python"
    if find_spec("uv"):
        uv = (sys.executable, "-m", "uv", "--quiet")
        run(*uv, "venv", "--no-project", "--python", python, folder)
        run(*uv, "pip", "install", "--python", own, wheel)
    else:
        run(python, "-m", "venv", folder)
        run(own, "-m", "pip", "install", "--quiet", wheel)
    return own


def use(wheel: Path, python: str) -> str:
    """Install and use the wheel; returns what was used, in a line."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        own = environment(python, Path(folder) / "env", wheel)
        empty = Path(folder) / "empty"
        empty.mkdir()
        command = own.with_name("streamll")
        versions = run(command, "doctor", cwd=empty)
        if "Nothing is missing" not in versions:
            raise RuntimeError(versions)
        shown = run(command, "demo", cwd=empty)
        if "completed" not in shown or "tokens" not in shown:
            raise RuntimeError(f"the demo showed\n{shown}")
        (empty / "first.py").write_text(first_block() + PROGRAM, "utf-8")
        shown = run(own, "first.py", cwd=empty)
        if not all(f'"{word}' in shown for word in ("Blue", " light", " bent")):
            raise RuntimeError(f"the README's first block showed\n{shown}")
        used = dict(line.split()[:2] for line in versions.splitlines()[:2])
    seconds = time.monotonic() - began
    return f"Python {used['python']}: doctor, demo and the README's first block, {seconds:.0f} s"


def main(wheel: str, *interpreters: str) -> int:
    failed = 0
    for python in interpreters or (sys.executable,):
        try:
            print(use(Path(wheel).resolve(), python), flush=True)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"{python}: FAILED\n{error}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
