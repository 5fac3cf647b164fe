"""The documents are true: their code runs, their tables are complete, their links resolve."""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import draw_terminal
import pytest
import write_cli_reference

from streamll.configuration import CONTENT
from streamll.core import errors
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
def test_every_link_between_documents_resolves(document):
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        place = (document.parent / name).resolve() if name else document
        assert place.exists(), f"{named(document)} links to {target}"
        assert not anchor or anchor in anchors(place), f"{named(document)} links to {target}"


@pytest.mark.parametrize("folder", ["docs", "docs/decisions", "docs/reference"])
def test_the_index_of_a_folder_lists_every_page(folder):
    pages = {path.name for path in (ROOT / folder).glob("*.md")} - {"README.md"}
    listed = re.findall(r"\]\((\w[^)/]*\.md)\)", (ROOT / folder / "README.md").read_text("utf-8"))
    assert sorted(listed) == sorted(pages)


def test_nobody_is_told_to_install_the_earlier_project():
    """PyPI's ``streamll`` is another project: what is to be installed is a checkout or a wheel."""
    texts = [*DOCUMENTS, *(ROOT / "src").rglob("*.py"), *(ROOT / "examples").iterdir()]
    bare = re.compile(
        r"\b(pip|uv|pipx|uvx|poetry) (install|add|pip install) +(-\S+ +)*['\"]?streamll\b"
    )
    told = [
        named(path) for path in texts if path.is_file() and bare.search(path.read_text("utf-8"))
    ]
    assert told == []
    readme = (ROOT / "README.md").read_text("utf-8")
    assert readme.count("0.1.1") == 1


def measured_cpu(what: str) -> list[float]:
    """Its µs per chunk in ``bench/README.md``: burst sync, burst async, paced sync, paced async."""
    bench = (ROOT / "bench" / "README.md").read_text("utf-8")
    rows = re.findall(rf"^{re.escape(what)} +(?:sync|async) +([\d.]+) ", bench, re.MULTILINE)
    return [float(value) for value in rows[:4]]


def test_the_readmes_cpu_figures_are_those_of_the_benchmark():
    readme = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| CPU per chunk.*?\| (.*?) µs and (.*?) µs \| (.*?) µs and (.*?) µs \|$",
                      readme, re.MULTILINE)  # fmt: skip
    theirs = [figure for row in rows for figure in row[:2]]
    ours = [figure for row in rows for figure in row[2:]]
    for shown, what in ((theirs, "dspy.streamify"), (ours, "streamll.stream")):
        measured = measured_cpu(what)
        assert shown == [f"{value:.{0 if value >= 20 else 1}f}" for value in measured]
        assert len(shown) == 4


def test_the_readmes_counts_are_those_of_the_benchmark():
    """The count of wrong texts is made anew in ``test_streamify_defects.py``."""
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme.partition("| | `streamify` | streamll |\n|---|---|---|\n")[2].partition("\n\n")[
        0
    ]
    shown = [
        tuple(cell.strip() for cell in row.strip("|").split("|"))
        for row in table.splitlines()
        if not row.startswith("| CPU")
    ]
    bench = (ROOT / "bench" / "README.md").read_text("utf-8")
    block = bench.partition("## What goes wrong, counted")[2].partition("```text\n")[2]
    measured = [tuple(re.split("  +", row)) for row in block.partition("```")[0].splitlines()[2:]]
    in_short = {"an AdapterParseError": "an error"}
    assert shown == [tuple(in_short.get(cell, cell) for cell in row) for row in measured]
    assert len(shown) == 7


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


def test_the_table_of_included_content_has_every_name():
    privacy = (ROOT / "docs" / "privacy.md").read_text("utf-8")
    table = privacy.partition("| `include=` |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r'^\| `"(\w+)"` \|', table, re.MULTILINE)) == CONTENT


# --- docs/troubleshooting.md ----------------------------------------------------------------------


@functools.cache
def messages_in(path: Path) -> list[str]:
    """Every text in a source file, with … for what is put into it."""
    texts = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [getattr(part, "value", None) for part in node.values]
            texts.append("".join(p if isinstance(p, str) else "…" for p in parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(re.sub(r"%[sd]", "…", node.value))
    return texts


def test_every_message_in_the_troubleshooting_is_one_of_ours():
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    cells = re.findall(r"^\| (`+…?.*?`) \|", page.partition("## Errors that")[2], re.MULTILINE)
    quoted = [text for cell in cells for text in re.findall(r"(`+)(.*?[^`])\1(?!`)", cell)]
    sources = {path: path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py")}
    assert len(quoted) > 30
    for _, text in quoted:
        if re.fullmatch(r"[A-Z]\w+", text):
            assert hasattr(errors, text), text
            continue
        fragments = text.strip().replace("'…'", "…").split("…")
        pattern = re.compile(".*".join(re.escape(each.strip()) for each in fragments), re.DOTALL)
        words = re.findall(r"[a-z]{3,}", text)  # only the files that have all of them are parsed
        assert any(
            pattern.search(message)
            for path, source in sources.items()
            if all(word in source for word in words)
            for message in messages_in(path)
        ), f"nothing says {text!r}"


# --- code ---------------------------------------------------------------------------------------
#
# The Python blocks of a document run in order, in one namespace, as a reader would type them.
# Comments that are not shown control it:
#
#   <!-- replies: [JSON] -->   the practice server's next replies
#   <!-- run: code -->         code that the document does not show
#   <!-- output -->            the next block is the output of the one before; … matches anything


class Part(NamedTuple):
    kind: str
    text: str
    line: int


def parts(document: str) -> Iterator[Part]:
    pattern = r"^<!-- (\w+):? ?(.*?)-->$|^```(\w+)\n(.*?)^```$"
    for found in re.finditer(pattern, document, re.MULTILINE | re.DOTALL):
        kind, text = (found[1], found[2]) if found[1] else (found[3], found[4])
        yield Part(kind, text, document.count("\n", 0, found.start(found.lastindex)))


def execute(part: Part, document: Path, namespace: dict) -> None:
    code = compile(
        "\n" * part.line + part.text,
        str(document),
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, namespace))
    else:
        exec(code, namespace)


def matches(expected: str, printed: str) -> bool:
    def trimmed(text: str) -> str:
        return "\n".join(line.rstrip() for line in text.strip().splitlines())

    pattern = ".*?".join(map(re.escape, trimmed(expected).split("…")))
    return re.fullmatch(pattern, trimmed(printed), re.DOTALL) is not None


WITH_CODE = [d for d in DOCUMENTS if "```python" in d.read_text("utf-8")]


@pytest.mark.parametrize("document", WITH_CODE, ids=named)
def test_the_code_of_a_document_runs_and_prints_its_output(
    document, practice, point_lms_at, capsys, tmp_path, monkeypatch, patient_sinks
):
    point_lms_at(practice)
    monkeypatch.chdir(tmp_path)  # for the files that a document's code writes
    namespace = {"__name__": "__main__", "practice": practice}
    printed, expecting = "", False
    for part in parts(document.read_text("utf-8")):
        place = f"{named(document)}:{part.line + 1}"
        if part.kind == "replies":
            practice.script(*json.loads(part.text))
        elif part.kind == "output":
            expecting = True
        elif part.kind in ("python", "run"):
            execute(part, document, namespace)
            printed = capsys.readouterr().out
        elif expecting:
            assert matches(part.text, printed), f"{place} is not what was printed:\n{printed}"
            expecting = False


def test_readme_and_testing_guide_have_code():
    assert {named(document) for document in WITH_CODE} >= {"README.md", "docs/testing.md"}


# --- docs/cli.md ----------------------------------------------------------------------------------


def test_the_reference_of_the_command_line_is_written_from_the_commands():
    now = (ROOT / "docs" / "cli.md").read_text("utf-8") == write_cli_reference.page()
    assert now, "python scripts/write_cli_reference.py > docs/cli.md"


# --- pictures -------------------------------------------------------------------------------------


def test_the_picture_of_the_terminal_is_a_run_of_its_own():
    kept = (ROOT / "docs" / "pictures" / "terminal.svg").read_text("utf-8")
    now = draw_terminal.drawn(STREAMLL_PACE="0.01")
    redraw = "python scripts/draw_terminal.py > docs/pictures/terminal.svg"
    assert without_times(now) == without_times(kept), redraw
    assert "http" not in kept.replace('xmlns="http://www.w3.org/2000/svg"', "")


def without_times(picture: str) -> str:
    """The texts of a picture, without blanks and measured times."""
    text = "\n".join(re.findall(r"<text[^>]*>(.*?)</text>", picture)).replace("&#160;", "")
    return re.sub(r"(&lt;)?[\d.,]+(ms|s|tokens/s)(?![a-z])", "…", text)


def test_the_picture_of_the_event_order_is_drawn_from_the_code():
    script = ROOT / "scripts" / "draw_event_order.py"
    drawn = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert (ROOT / "docs" / "event-order.svg").read_text("utf-8") == drawn.stdout
