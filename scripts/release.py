"""Walks through a release, up to the upload, which it never makes: ``release.py``.

``--prepare VERSION`` writes the version and its changelog, to be looked at and committed. Without it
the checklist is gone through, and the first point that fails ends it: the version and its changelog,
a clean tree, the checks and the tests, the wheel and the source archive, the wheel used alone in an
empty environment, and what an index would say of both. ``--tag v1.2.3`` is for the workflow that
publishes: the tests have run before it, and the tag must be the version's.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import changes
import try_wheel

ROOT = Path(__file__).parent.parent
PROJECT = ROOT / "pyproject.toml"
VERSION = re.compile(r'^version = "(.*)"$', re.MULTILINE)
MANIFESTS = [
    ROOT / folder / "package.json"
    for folder in ("clients/js/client", "clients/js/react", "examples/react")
]
"""The JavaScript packages, which have the project's version, and the example that installs them."""
PACKAGE_VERSION = re.compile(r'("version": "|"@streamll/\w+": "|/streamll-\w+-)\d+\.\d+\.\d+')
DIST = ROOT / "dist"


class NotReady(Exception):
    """A point of the checklist that does not hold."""


def output(*command: object) -> str:
    """What a command prints. Raises ``NotReady`` with it where the command fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise NotReady(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def version() -> str:
    found = VERSION.search(PROJECT.read_text("utf-8"))
    assert found is not None
    return found[1]


def with_version(manifest: str, new: str) -> str:
    """A ``package.json`` with this version of streamll's packages; one in development has the release's."""
    return PACKAGE_VERSION.sub(rf"\g<1>{new.partition('.dev')[0]}", manifest)


# --- the points, in order -------------------------------------------------------------------------


def version_is_final() -> None:
    if not re.fullmatch(r"\d+\.\d+\.\d+", version()):
        raise NotReady(f"{version()} is no release; make one with --prepare {version()[:5]}")


def changelog_is_written() -> None:
    if left := changes.files():
        raise NotReady(f"{left[0].name} is not in the changelog; --prepare puts it there")
    title = rf"^## \[{re.escape(version())}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(title, changes.CHANGELOG.read_text("utf-8"), re.MULTILINE):
        raise NotReady(f"CHANGELOG.md has no dated section for {version()}")


def tree_is_clean() -> None:
    if changed := output("git", "status", "--porcelain").splitlines():
        raise NotReady(f"{len(changed)} files differ from the last commit, first {changed[0]}")


def checks_pass() -> None:
    output("make", "check")
    output("make", "test")
    output("make", "versions")
    output("make", "docs")


def distributions_are_built() -> None:
    shutil.rmtree(DIST, ignore_errors=True)
    output("make", "wheel")
    names = sorted(path.name for path in DIST.iterdir())
    if [Path(name).suffix for name in names] != [".whl", ".gz"] or any(
        version() not in name for name in names
    ):
        raise NotReady(
            f"dist/ has {', '.join(names)}, not one wheel and one archive of {version()}"
        )


def wheel_is_usable() -> None:
    (wheel,) = DIST.glob("*.whl")
    print(f"      {try_wheel.use(wheel, sys.executable)}")


def index_would_take_them() -> None:
    folder = ROOT / ".cache" / "release"
    if not (folder / "bin" / "twine").exists():
        output(sys.executable, "-m", "venv", folder)
        output(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "twine>=6")
    output(folder / "bin" / "twine", "check", "--strict", *DIST.iterdir())


POINTS: dict[str, Callable[[], None]] = {
    "the version is a release's": version_is_final,
    "the changelog has it, with its date": changelog_is_written,
    "everything is committed": tree_is_clean,
    "checks, tests, versions and docs are green": checks_pass,
    "a wheel and a source archive are built": distributions_are_built,
    "the wheel works in an empty environment": wheel_is_usable,
    "an index would take both": index_would_take_them,
}


def prepare(new: str) -> None:
    """Write the version, that of the JavaScript packages, and the changelog."""
    text = PROJECT.read_text("utf-8")
    PROJECT.write_text(VERSION.sub(f'version = "{new}"', text, count=1), "utf-8")
    for manifest in MANIFESTS:
        manifest.write_text(with_version(manifest.read_text("utf-8"), new), "utf-8")
    changes.main([new])
    print(f"look at the changes, commit them as 'Release {new}', and run this again")


def walk(tag: str | None) -> int:
    for point, holds in POINTS.items():
        if tag is not None and holds is checks_pass:
            continue
        print(f"  … {point}", flush=True)
        try:
            holds()
        except (NotReady, RuntimeError) as error:
            print(f"  ✗ {error}")
            return 1
    if tag not in (None, f"v{version()}"):
        print(f"  ✗ the tag {tag} is not v{version()}")
        return 1
    print(f"\n{version()} is ready. What is left: git tag v{version()}, and push the tag;")
    print("the release workflow publishes it, once somebody approves.")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--prepare", metavar="VERSION")
    parser.add_argument("--tag")
    options = parser.parse_args()
    if options.prepare is not None:
        prepare(options.prepare)
        return 0
    return walk(options.tag)


if __name__ == "__main__":
    sys.exit(main())
