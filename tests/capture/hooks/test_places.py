"""The tables of what is patched: complete, printed in the documentation, true of this DSPy.

``python tests/capture/hooks/test_places.py`` writes them into docs/invisible.md.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from streamll.capture.hooks import places
from streamll.capture.inside_dspy import PRIVATE_NAMES
from streamll.patching import PatchTable, SiteState
from streamll.testing import record_sites

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "invisible.md"
BEGIN, END = "<!-- generated from the tables -->\n", "<!-- end of the tables -->\n"

TABLES = {**places.TABLES, **record_sites.TABLES}
INTRODUCTIONS = {
    "Calls of a program": "From the first `instrument`, `stream`, `streamify` or `watch` on:",
    "One LM call, DSPy 3.4": "At the same time, where this DSPy's engines can be streamed:",
    "DSPy's own provider client (lm15), DSPy 3.4": "At the same time:",
    "One LM call, DSPy 3.1 to 3.3": "At the same time, in place of the last two tables:",
    "HTTP clients below LiteLLM": "From the first captured call through LiteLLM on, of those installed:",
    "Recording and replaying": "While a `record` or `replay` is running:",
    "Recording and replaying, DSPy 3.4": "At the same time:",
}
PUBLIC = re.compile(
    r"dspy(\.streaming|\.lm15|\.adapters\.types(\..*)?|\.adapters\.xml_adapter|\.utils\.dummies"
    r"|\.utils\.callback|\.utils\.exceptions|\.clients)?"
)
"""Modules of DSPy that its documentation names, or that hold such classes."""


def rendered() -> str:
    parts = []
    for title, table in TABLES.items():
        parts.append(f"### {title}\n\n{INTRODUCTIONS[title]}\n")
        parts.append("| replaced | why | lost without it |\n|---|---|---|")
        parts += [f"| `{site}` | {site.why} | {site.lost} |" for site in table.sites]
        parts.append("")
    parts.append("### Private names that are read\n")
    parts.append("| name | in DSPy since | lost without it |\n|---|---|---|")
    parts += [f"| `{each}` | {each.since} | {each.lost} |" for each in PRIVATE_NAMES]
    return "\n".join(parts) + "\n"


def test_the_documentation_prints_the_tables():
    text = PAGE.read_text("utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == rendered()


HERE = {**places.tables_here(), **record_sites.tables_here()}


@pytest.mark.parametrize("table", HERE.values(), ids=HERE)
def test_this_dspy_has_every_site(table: PatchTable):
    table.install()
    states = {str(site): state for site, state in table.states()}
    table.uninstall()
    if sys.version_info < (3, 11):
        replaced_since = "dspy._vendor.lm15.transports._async.wait_for"
        assert states.pop(replaced_since, SiteState.NOT_NEEDED) is SiteState.NOT_NEEDED
    optional = {str(site) for site in table.sites if site.optional}
    assert {states[name] for name in optional} <= {SiteState.ON, SiteState.NOT_NEEDED}
    needed = {state for name, state in states.items() if name not in optional}
    assert needed <= {SiteState.ON, SiteState.NOT_INSTALLED}
    off = {SiteState.OFF, SiteState.NOT_INSTALLED, SiteState.NOT_NEEDED}
    assert {state for _, state in table.states()} <= off


@pytest.mark.parametrize("private", PRIVATE_NAMES, ids=str)
def test_this_dspy_has_every_private_name(private):
    assert private.find() is not None or not private.expected


def test_every_site_says_why_and_what_is_lost_once():
    for table in TABLES.values():
        assert all(site.why and site.lost for site in table.sites)
        assert len({str(site) for site in table.sites}) == len(table.sites)


def private_modules_imported() -> set[str]:
    found = set()
    for path in (ROOT / "src" / "streamll").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
                found.add(node.module)
            elif isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
    return {name for name in found if name.split(".")[0] == "dspy" and not PUBLIC.fullmatch(name)}


def test_every_private_module_that_is_imported_is_listed():
    listed = tuple(private.module for private in PRIVATE_NAMES)
    assert [name for name in private_modules_imported() if not name.startswith(listed)] == []


if __name__ == "__main__":
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + rendered() + END + rest.partition(END)[2], "utf-8")
