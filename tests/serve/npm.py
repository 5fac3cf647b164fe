"""npm packages for tests: installed once into the checkout's ``.cache``, never committed."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = {"ai": "6.0.326", "@ag-ui/client": "1.0.0"}
AI = {
    "5.0.0": {"ai": "5.0.0"},
    "5": {"ai": "5.0.277"},
    "6": PACKAGES,
    "7": {"ai": "7.0.173", "node": "22.23.3"},
}
"""Each major version of Vercel's package, and the first of all, which ends a stream that has a key it
does not know. Version 7 needs Node 22, which npm has."""
OLDEST_AI = {
    "5.0.92": {"ai": "5.0.92"},
    "6.0.0": {"ai": "6.0.0"},
    "7.0.70": {"ai": "7.0.70", "node": "22.23.3"},
}
"""The oldest that can read what is made for their major version."""
REACT = {
    "ai": "6.0.325",
    "@ai-sdk/react": "3.0.328",
    "react": "19.3.1",
    "react-dom": "19.3.1",
    "esbuild": "0.28.2",
}
"""What an application with React is bundled of; a folder of its own, since few tests need it."""


AGUI_0 = {"@ag-ui/client": "0.0.59"}
"""The last client of AG-UI before 1.0."""


def packages(wanted: dict[str, str] = PACKAGES, folder: str = "npm") -> Path:
    """The folder in ``.cache`` whose ``node_modules`` has the packages that are ``wanted``."""
    place = ROOT / ".cache" / folder
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = json.dumps({"private": True, "dependencies": wanted})
        manifest, ready = place / "package.json", place / ".ready"
        if not ready.exists() or ready.read_text() != said:
            shutil.rmtree(place / "node_modules", ignore_errors=True)
            manifest.write_text(said)
            command = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
            subprocess.run(command, cwd=place, check=True, timeout=240)
            ready.write_text(said)
    return place


def ai_packages(version: str) -> Path:
    """The folder whose ``node_modules`` has this version of Vercel's package, a key of ``AI``."""
    wanted = {**AI, **OLDEST_AI}[version]
    return packages() if wanted is PACKAGES else packages(wanted, f"npm-ai-{version}")


def node_in(place: Path) -> str:
    """The Node that the packages there need: their own, if they bring one."""
    own = place / "node_modules" / ".bin" / "node"
    return str(own) if own.exists() else "node"


def run_node(script: str, given: object, timeout: float = 240, place: Path | None = None) -> object:
    """Run a module's source with ``given`` as JSON on standard input; its JSON output.

    ``place``: the folder of the packages it imports; by default that of ``PACKAGES``.
    """
    place = place or packages()
    answer = subprocess.run(
        [node_in(place), "--input-type=module", "-e", script],
        cwd=place,
        input=json.dumps(given),
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)
