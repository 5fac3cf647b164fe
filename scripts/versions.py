"""Runs a part of the tests on other versions of what streamll stands on.

``versions.py [--quick] [NAME …]``

``dspy-3.1`` and so on have the last release of that DSPy, ``lowest`` the oldest release of every
dependency that pyproject.toml allows, ``newest`` the newest of all. Each is installed into
``.cache/versions/NAME``; without a name all of them are.

The tests are those that depend on the version. For each DSPy: what is replaced in it and what it
lacks, who is called by whom, tokens, typed fields, tools, cache, retries, leaving early, the drop-in
for ``streamify``, a chat's messages as inputs, and of the strict comparisons of docs/invisible.md a
part. For the lowest and the newest also what uses the other dependencies: the terminal, the command
line, the server, SQLite, and Redis and RabbitMQ where they are. Of the server the lowest has only tests
that do without the clients in
``NEWER``. ``--quick`` has what no version may lack: the hooks, what holds on every DSPy, streams, and
of the comparisons a few. It takes 40 seconds of one core for each. Two are tested at a time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".cache" / "versions"
MINORS = ("3.1", "3.2", "3.3", "3.4")
NAMES = (*(f"dspy-{minor}" for minor in MINORS), "lowest", "newest")

CAPTURE = (
    "tests/asking",
    "tests/capture/hooks",
    "tests/capture/run",
    "tests/capture/streamify/test_listeners.py",
    "tests/capture/streamify/test_status_messages.py",
    "tests/capture/typed/test_typed_native.py",
    "tests/capture/typed/test_typed_stream.py",
    "tests/capture/test_every_dspy.py",
    "tests/capture/test_instrument.py",
    "tests/capture/test_stream.py",
    "tests/capture/test_watch.py",
    "tests/capture/test_invisible.py",
    "tests/capture/test_invisible_programs.py",
    "tests/serve/inputs/test_conversation.py",
)
QUICK = (
    "tests/capture/hooks",
    "tests/capture/test_every_dspy.py",
    "tests/capture/test_stream.py",
    "tests/capture/test_invisible.py",
    "tests/capture/test_invisible_programs.py",
)
OTHERS = (
    "tests/cli/test_command_line.py",
    "tests/flow",
    "tests/sinks",
    "tests/streams",
    "tests/terminal",
)
SERVER = ("tests/serve/formats", "tests/serve/routes", "tests/serve/test_app.py")
OLD_SERVER = (
    "tests/serve/log/test_run_log.py",
    "tests/serve/web/test_security.py",
    "tests/serve/viewer/test_viewer_access.py",
    "tests/serve/viewer/test_viewer_connection.py",
)
BROKERS = (
    "tests/brokers/contract/test_bad_input.py",
    "tests/brokers/contract/test_contract.py",
    "tests/brokers/test_url_options.py",
)
SELECTED = {
    "lowest": (*CAPTURE, *OTHERS, *BROKERS, *OLD_SERVER),
    "newest": (*CAPTURE, *OTHERS, *BROKERS, *SERVER),
}
COMPARED = (
    "not (test_a_tap_changes_nothing or test_capture_changes_nothing)"
    " or text- or thinking- or always or 429- or Predict- or ReAct- or falls or typed"
)
"""Of the comparisons: what is asked, answered and done, about once each."""
COMPARED_QUICKLY = (
    "not (test_a_tap_changes_nothing or test_capture_changes_nothing)"
    " or text- or 429- or Predict- or ReAct-"
)

NEWER = ("ag-ui-protocol", "anthropic", "fastapi", "google-genai", "httpx2", "mcp", "openai")
"""Clients that some tests read the wires with. They need newer versions than streamll's lowest."""


def project() -> Mapping[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def constraints(name: str) -> list[str]:
    """What the resolver is to keep to."""
    if name == "newest":
        return []
    if name != "lowest":
        return [f"dspy=={name.removeprefix('dspy-')}.*"]
    own = project()["project"]
    extras = own["optional-dependencies"].values()
    every = [*own["dependencies"], *(each for names in extras for each in names)]
    bounds = (re.match(r"([\w-]+)(?:\[\w+\])?>=([\w.]+)", each) for each in every)
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]


def test_requirements(name: str) -> list[str]:
    """What the tests need, besides streamll."""
    group = [each for each in project()["dependency-groups"]["test"] if "streamll" not in each]
    return [each for each in group if name != "lowest" or not each.startswith(NEWER)]


def tests(name: str, quick: bool) -> Sequence[str]:
    """The files and folders that depend on these versions."""
    return QUICK if quick else SELECTED.get(name, CAPTURE)


def install(name: str, quick: bool) -> Path:
    """The interpreter of an environment with these versions."""
    folder = HOME / name
    python = folder / "bin" / "python"
    kept_to = HOME / f"{name}.txt"
    HOME.mkdir(parents=True, exist_ok=True)
    kept_to.write_text("\n".join(constraints(name)) + "\n", "utf-8")
    uv = [sys.executable, "-m", "uv", "--quiet"]
    if not python.exists():
        subprocess.run([*uv, "venv", "--python", sys.executable, folder], check=True)
    into = ["--upgrade", "--python", python, "--constraints", kept_to, "--editable", ".[all]"]
    if not quick:
        into.append("--compile-bytecode")  # or several processes compile the same at once
    subprocess.run([*uv, "pip", "install", *into, *test_requirements(name)], cwd=ROOT, check=True)
    return python


def check(name: str, quick: bool, workers: int) -> tuple[bool, str]:
    """Install and test it: whether it is green, and that in words."""
    began = time.monotonic()
    try:
        python = install(name, quick)
    except subprocess.CalledProcessError:
        return False, "FAILED to install"  # uv has said why
    ready = time.monotonic()
    log = HOME / f"{name}.log"
    print(f"{name} is installed, and tested: {log.relative_to(ROOT)}", flush=True)
    own = ["--basetemp", HOME / name / "tmp"]  # pytest's usual one is shared with other runs
    options = ["-q", "-n", str(workers), "-p", "no:cacheprovider", "--disable-warnings", *own]
    chosen = ["-k", COMPARED_QUICKLY if quick else COMPARED]
    with log.open("w", encoding="utf-8") as shown:
        done = subprocess.run(
            [python, "-m", "pytest", *options, *chosen, *tests(name, quick)],
            cwd=ROOT,
            # Where a DSPy lacks something, tests of it are skipped. Many tests start processes.
            env={**os.environ, "CI": "", "PYTHONDONTWRITEBYTECODE": ""},
            stdout=shown,
            stderr=subprocess.STDOUT,
            check=False,
        )
    ended = time.monotonic()
    said = log.read_text("utf-8").rstrip()
    print(f"== {name}\n{said}", flush=True)
    word = "green" if done.returncode == 0 else "FAILED"
    told = f"{word}, installed in {ready - began:.0f} s, tested in {ended - ready:.0f} s"
    counts = [line for line in said.splitlines() if re.search(r" in [\d.]+s\b", line)]
    return done.returncode == 0, f"{told}: {counts[-1] if counts else 'no test ran'}"


def main(arguments: list[str]) -> int:
    quick = "--quick" in arguments
    names = [each for each in arguments if each != "--quick"] or list(NAMES)
    if unknown := set(names) - set(NAMES):
        print(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
        return 2
    # Two in one process each are quicker than one in two, as each process imports DSPy.
    workers = 0 if len(names) > 1 else 2
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda name: check(name, quick, workers), names))
    print("\n".join(f"{name:10}{told}" for name, (_, told) in zip(names, results, strict=True)))
    return 0 if all(green for green, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
