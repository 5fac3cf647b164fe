"""The documents say what is so: their code runs, their tables are complete, their links lead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamll.core.events import KINDS, SHARED_FIELDS, Event, own_fields

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")]
    if path.is_file()
]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_between_documents_leads_somewhere(document):
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        place = (document.parent / name).resolve() if name else document
        assert place.exists(), f"{named(document)} links to {target}"
        assert not anchor or anchor in anchors(place), f"{named(document)} links to {target}"


# --- docs/events.md -----------------------------------------------------------------------------

EVENTS = (ROOT / "docs" / "events.md").read_text("utf-8")


def test_the_table_of_events_has_every_kind_with_its_fields():
    rows = re.findall(r"^\| `([a-z_.]+)` \| `(\w+)` \| .+ \| (.*) \|$", EVENTS, re.MULTILINE)
    documented = {
        kind: (name, tuple(re.findall(r"`(\w+)`", fields))) for kind, name, fields in rows
    }
    assert documented == {kind: (cls.__name__, own_fields(cls)) for kind, cls in KINDS.items()}


def test_what_all_events_share_is_documented():
    section = EVENTS.partition("## What all events share")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    properties = {name for name, value in vars(Event).items() if isinstance(value, property)}
    assert documented == {*SHARED_FIELDS, *properties} - {"identity"}
