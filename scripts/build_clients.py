"""Build the JavaScript packages in ``clients/js``, and the viewer's copy of the client.

    python scripts/build_clients.py            # everything: types checked, dist/*.tgz, the viewer's client.js
    python scripts/build_clients.py viewer     # only src/streamll/serve/viewer/static/client.js

Needs Node and npm. What it builds with is named in the packages' ``devDependencies`` and installed into
``.cache``; the viewer's copy is committed, so that nothing else needs Node.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CLIENTS = ROOT / "clients" / "js"
VIEWER = ROOT / "src" / "streamll" / "serve" / "viewer" / "static" / "client.js"
TARGET = "--target=es2022"
WRITTEN = "// Built from clients/js/client by scripts/build_clients.py: do not edit."
INSTALL = ("npm", "install", "--no-audit", "--no-fund", "--silent")


def packages() -> list[Path]:
    """The packages that have something to build, each behind those it needs."""
    names = json.loads((CLIENTS / "package.json").read_text("utf-8"))["workspaces"]
    return [CLIENTS / name for name in names if (CLIENTS / name / "src").is_dir()]


def wanted() -> dict[str, str]:
    """What the packages are built with, by name: pinned versions."""
    found: dict[str, str] = {}
    for manifest in [CLIENTS, *packages()]:
        found |= _manifest(manifest).get("devDependencies", {})
    return dict(sorted(found.items()))


def tools() -> Path:
    """The folder of the programs to build with, which are installed the first time."""
    said = json.dumps({"private": True, "dependencies": wanted()})
    place = ROOT / ".cache" / f"npm-clients-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / ".ready").exists():
            (place / "package.json").write_text(said)
            subprocess.run(INSTALL, cwd=place, check=True, timeout=240)
            (place / ".ready").touch()
        link = CLIENTS / "node_modules"  # where packages look for what they import
        if link.is_symlink() and link.resolve() != (place / "node_modules").resolve():
            link.unlink()
        if not link.exists():
            link.symlink_to(place / "node_modules")
    return place / "node_modules" / ".bin"


def build(package: Path) -> Path:
    """One package's ``dist``: its module and its declarations."""
    place = package / "dist"
    shutil.rmtree(place, ignore_errors=True)
    bundle(package, place)
    _run(tools() / "tsc", "-p", package, "--outDir", place)
    return place


def bundle(package: Path, place: Path) -> Path:
    """The module, of the package's own files; their types are not looked at."""
    module = place / "index.js"
    _bundled(package, f"--outfile={module}")
    return module


def minified(package: Path) -> bytes:
    """The module as an application would ship it, without the packages it needs."""
    return _bundled(package, "--minify")


def viewer() -> str:
    """The client for pages without modules: its names are in ``window.streamll``."""
    entry = CLIENTS / "client" / "src" / "viewer.ts"
    command = [tools() / "esbuild", entry, "--bundle", "--format=iife", TARGET, "--charset=utf8"]
    return f"{WRITTEN}\n{_run(*command).decode()}"


def pack(package: Path, place: Path) -> Path:
    """A package that has been built, as the archive that ``npm install`` takes."""
    place.mkdir(parents=True, exist_ok=True)
    said = _run("npm", "pack", "--json", "--pack-destination", place, cwd=package)
    described = json.loads(said)
    (about,) = described.values() if isinstance(described, dict) else described
    return place / about["filename"].replace("@", "").replace("/", "-")


def _bundled(package: Path, option: str) -> bytes:
    about = _manifest(package)
    outside = {**about.get("peerDependencies", {}), **about.get("dependencies", {})}
    return _run(
        tools() / "esbuild", next(package.glob("src/index.ts*")), "--bundle", "--format=esm", TARGET,
        "--jsx=automatic", *(f"--external:{name}" for name in outside), option,
    )  # fmt: skip


def _manifest(package: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((package / "package.json").read_text("utf-8"))
    return manifest


def _run(*command: object, cwd: Path = CLIENTS) -> bytes:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, check=False, timeout=240
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{(done.stdout + done.stderr).decode()}")
    return done.stdout


def main(what: str = "") -> None:
    VIEWER.write_text(viewer(), "utf-8")
    print(VIEWER.relative_to(ROOT))
    if what == "viewer":
        return
    for package in packages():
        build(package)
        print(pack(package, ROOT / "dist").relative_to(ROOT))


if __name__ == "__main__":
    main(*sys.argv[1:])
