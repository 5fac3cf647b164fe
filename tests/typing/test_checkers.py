"""X5: mypy and pyright read the public names as a user's project does, with everything on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PUBLIC = HERE / "public_names.py"
CACHE = HERE.parents[1] / ".cache" / "mypy-public-names"


def checked(*command: str) -> str:
    """What a checker says that finds something; empty where it finds nothing."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=HERE, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout + done.stderr


WRONG = """
import streamll

def wrong(program: object) -> None:
    with streamll.stream(lambda: 1, fields=3)() as events:  # a list of names
        token: int = next(events.tokens("answer"))
    streamll.StreamConfig(overflow="never")
"""


def mypy(paths: list[str], folder: Path) -> str:
    options = ("--strict", "--ignore-missing-imports", "--follow-imports=silent")
    # The cache is not in ``folder``: what it has read of DSPy is good for the next run as well.
    return checked("mypy", *options, "--config-file=", "--cache-dir", str(CACHE), *paths)


def pyright(paths: list[str], folder: Path) -> str:
    """In the form that comes as wheels, with its own node, and checks like the original."""
    config = folder / "pyrightconfig.json"
    settings = {
        "include": paths,
        "typeCheckingMode": "standard",
        "extraPaths": [str(Path(__file__).parents[2] / "src")],
        "pythonVersion": "3.10",
    }
    config.write_text(json.dumps(settings))
    return checked("basedpyright", "--project", str(config), "--pythonpath", sys.executable)


@pytest.mark.timeout(1000)  # they read all of DSPy, on a busy machine for minutes
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_nothing_is_wrong_with_the_public_names_and_what_is_wrong_is_found(checker, tmp_path):
    """The second, so that a checker does not find nothing because it sees nothing but ``Any``."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    told = checker([str(PUBLIC), str(wrong)], tmp_path)
    assert PUBLIC.name not in told, told
    assert all(f"{wrong.name}:{line}" in told for line in (5, 6, 7)), told
