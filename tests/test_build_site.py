"""The builder of the documentation site finds what is broken. (``make docs`` builds the real one.)"""

from __future__ import annotations

import re
from pathlib import Path

import build_site
import pytest


def site(folder: Path, **pages: str) -> Path:
    for name, html in pages.items():
        (folder / f"{name}.html").write_text(html, "utf-8")
    return folder


GOOD = '<h1 id="top">x</h1><a href="other.html#here">x</a><a href="#top">x</a><a href="https://dspy.ai">x</a>'


def test_a_whole_site_has_no_problems(tmp_path):
    pages = site(tmp_path, index=GOOD, other='<p id="here"></p>')
    assert list(build_site.problems(pages)) == []


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<a href="gone.html">x</a>', "links to gone.html, which does not exist"),
        ('<a href="other.html#gone">x</a>', "links to other.html#gone, which has no such anchor"),
        ('<a href="#gone">x</a>', "links to #gone, which has no such anchor"),
        ('<img src="gone.png">', "links to gone.png, which does not exist"),
        ('<script src="https://cdn.example/x.js"></script>', "from another host"),
        ('<link rel="stylesheet" href="//fonts.example/x.css">', "from another host"),
        ('<link rel="preconnect" href="https://fonts.example">', "from another host"),
    ],
)
def test_what_is_broken_is_found(tmp_path, html, problem):
    pages = site(tmp_path, index=GOOD + html, other='<p id="here"></p>')
    (found,) = build_site.problems(pages)
    assert problem in found


@pytest.fixture
def together(tmp_path, monkeypatch):
    """The sources of the real site, put together elsewhere."""
    monkeypatch.setattr(build_site, "BUILD", tmp_path)
    build_site.put_together()
    return tmp_path / "docs"


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page(together):
    assert list(build_site.unlisted()) == []
    (together / "forgotten.md").write_text("# Forgotten\n")
    (together / "cookbook.md").unlink()
    assert [found.split()[0] for found in build_site.unlisted()] == ["cookbook.md", "forgotten.md"]


def test_links_lead_where_the_site_has_their_targets(together):
    home = (together / "index.md").read_text("utf-8")
    assert "](start.md)" in home
    assert 'src="pictures/terminal.svg"' in home
    assert "](benchmarks.md#measured)" in home
    assert "test_streamify_defects" not in home
    assert "](../examples.md#" not in home
    assert "](examples.md#react_watchpy)" in home
    assert "](../contributing.md)" not in home


def test_what_is_for_the_tests_alone_is_not_on_the_site(together):
    for page in together.rglob("*.md"):
        assert not re.search(r"^<!-- (run|replies|output)", page.read_text("utf-8"), re.MULTILINE)


def test_a_link_to_nothing_is_said_with_its_page(monkeypatch, tmp_path):
    monkeypatch.setattr(build_site, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("[a](docs/gone.md)\n")
    with pytest.raises(SystemExit, match=r"README.md links to docs/gone.md, which does not exist"):
        build_site.page("README.md")
