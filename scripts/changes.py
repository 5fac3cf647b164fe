"""The changes since the last release, from the files in ``changes/``.

Without an argument they are printed; ``changes.py VERSION`` puts them into CHANGELOG.md under that
version, with today's date, and removes the files.
"""

from __future__ import annotations

import datetime as dt
import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHANGELOG = ROOT / "CHANGELOG.md"
KINDS = ("added", "changed", "fixed", "removed")
WIDTH = 115


def files(folder: Path = ROOT / "changes") -> list[Path]:
    return sorted(path for path in folder.glob("*.md") if path.name != "README.md")


def entries(paths: list[Path]) -> Mapping[str, str]:
    """The list of entries by kind. Raises ``ValueError`` for a file that is not named by one."""
    found = dict.fromkeys(KINDS, "")
    for path in paths:
        kind = path.name.removesuffix(".md").rpartition(".")[2]
        if kind not in KINDS or path.name == f"{kind}.md":
            raise ValueError(f"{path.name} is not NAME.KIND.md, with one of {', '.join(KINDS)}")
        text = " ".join(path.read_text("utf-8").split())
        found[kind] += textwrap.fill(
            f"- {text}", WIDTH, subsequent_indent="  ", break_long_words=False
        )
        found[kind] += "\n"
    return {kind: told for kind, told in found.items() if told}


def with_entries(section: str, told: Mapping[str, str]) -> str:
    """A version's section of the changelog, with further entries below the titles of their kinds."""
    for kind, lines in told.items():
        title = f"### {kind.title()}\n\n"
        if title in section:
            section = section.replace(title, title + lines, 1)
        else:
            section = f"{section.rstrip()}\n\n{title}{lines}\n"
    return section


def with_release(changelog: str, version: str, date: dt.date, told: Mapping[str, str]) -> str:
    """The changelog with ``told`` under ``version``, whose section may be there as unreleased."""
    starts = [each.start() for each in re.finditer(r"^## \[", changelog, re.MULTILINE)]
    first, end = [*starts, len(changelog), len(changelog)][:2]
    pending = f"## [{version}] - unreleased\n"
    if not changelog.startswith(pending, first):
        end, pending = first, ""
    section = changelog[first + len(pending) : end].lstrip("\n")
    section = with_entries(f"## [{version}] - {date:%Y-%m-%d}\n\n{section}", told)
    return f"{changelog[:first]}{section.rstrip()}\n\n{changelog[end:]}".rstrip() + "\n"


def main(arguments: list[str]) -> None:
    paths = files()
    told = entries(paths)
    if not arguments:
        print(with_entries("# Changes since the last release", told))
        return
    (version,) = arguments
    today = dt.datetime.now(dt.timezone.utc).date()
    changed = with_release(CHANGELOG.read_text("utf-8"), version, today, told)
    CHANGELOG.write_text(changed, "utf-8")
    for path in paths:
        path.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
