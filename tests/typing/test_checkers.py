"""X5: mypy and pyright read the public names as a user's project does, with everything on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PUBLIC = HERE / "public_names.py"


def checked(*command: str) -> str:
    """What a checker says that finds something; empty where it finds nothing."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=HERE, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout + done.stderr


def mypy(path: Path, cache: Path) -> str:
    options = ("--strict", "--ignore-missing-imports", "--follow-imports=silent")
    return checked("mypy", *options, "--config-file=", "--cache-dir", str(cache), str(path))


def pyright(path: Path, folder: Path) -> str:
    """In the form that comes as wheels, with its own node, and checks like the original."""
    config = folder / "pyrightconfig.json"
    settings = {
        "include": [str(path)],
        "typeCheckingMode": "standard",
        "extraPaths": [str(Path(__file__).parents[2] / "src")],
        "pythonVersion": "3.10",
    }
    config.write_text(json.dumps(settings))
    return checked("basedpyright", "--project", str(config), "--pythonpath", sys.executable)


def test_mypy_finds_nothing_in_the_use_of_public_names(tmp_path):
    assert mypy(PUBLIC, tmp_path) == ""


def test_pyright_finds_nothing_in_the_use_of_public_names(tmp_path):
    assert pyright(PUBLIC, tmp_path) == ""


WRONG = """
import streamll

def wrong(program: object) -> None:
    with streamll.stream(lambda: 1, fields=3)() as events:  # a list of names
        token: int = next(events.tokens("answer"))
    streamll.StreamConfig(overflow="never")
"""


def test_both_find_what_is_wrong(tmp_path):
    """So that the tests above do not pass because a checker sees nothing but ``Any``."""
    path = tmp_path / "wrong.py"
    path.write_text(WRONG)
    for told in (mypy(path, tmp_path), pyright(path, tmp_path)):
        assert all(f"wrong.py:{line}" in told for line in (5, 6, 7)), told
