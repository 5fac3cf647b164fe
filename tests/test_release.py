"""The way to a release: entries become a changelog, and the checklist stops where something is wrong."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import changes
import pytest
import release
import try_wheel
import versions

DATE = dt.date(2030, 1, 2)
CHANGELOG = """# Changelog

## [2.0.0] - unreleased

Words about it.

### Added

- Old.

## [1.0.0] - 2029-01-01

### Added

- First.
"""


def entry(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_entries_go_below_their_kind_in_the_version_that_is_pending(tmp_path):
    told = changes.entries(
        [entry(tmp_path, "a.added.md", "New\nthing.\n"), entry(tmp_path, "b.fixed.md", "Mended.")]
    )
    written = changes.with_release(CHANGELOG, "2.0.0", DATE, told)
    assert written == CHANGELOG.replace("unreleased", "2030-01-02").replace(
        "### Added\n\n- Old.\n", "### Added\n\n- New thing.\n- Old.\n\n### Fixed\n\n- Mended.\n", 1
    )


def test_a_version_that_is_not_there_yet_comes_first(tmp_path):
    told = changes.entries([entry(tmp_path, "a.removed.md", "Gone.")])
    written = changes.with_release(CHANGELOG, "2.1.0", DATE, told)
    assert re.findall(r"^## \[(.*)\]", written, re.MULTILINE) == ["2.1.0", "2.0.0", "1.0.0"]
    assert "## [2.1.0] - 2030-01-02\n\n### Removed\n\n- Gone.\n\n## [2.0.0]" in written


@pytest.mark.parametrize("name", ["added.md", "a.new.md", "a.md"])
def test_a_file_that_names_no_kind_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"NAME\.KIND\.md"):
        changes.entries([entry(tmp_path, name, "What?")])


def test_the_entries_of_this_checkout_can_be_told():
    assert all(changes.entries([path]) for path in changes.files())


def test_a_development_version_is_no_release(capsys, monkeypatch):
    monkeypatch.setattr(release, "version", lambda: "1.2.3.dev0")
    assert release.walk(None) == 1
    assert "1.2.3.dev0 is no release" in capsys.readouterr().out


def test_a_release_without_its_changelog_is_stopped(capsys, monkeypatch):
    monkeypatch.setattr(release, "version", lambda: "97.0.0")
    monkeypatch.setattr(changes, "files", list)
    assert release.walk(None) == 1
    assert "no dated section for 97.0.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    "manifest", release.MANIFESTS, ids=lambda path: "/".join(path.parts[-3:-1])
)
def test_a_javascript_package_has_the_version_of_the_project(manifest):
    text = manifest.read_text("utf-8")
    assert text == release.with_version(text, release.version()), "scripts/release.py --prepare"
    places = 1 if manifest.parent.name == "client" else 2
    assert release.with_version(text, "97.1.2.dev0").count("97.1.2") == places


def test_the_first_block_of_the_readme_is_what_the_wheel_is_tried_with():
    assert "streamll.watch()" in try_wheel.first_block()


def test_the_lowest_versions_are_the_lower_bounds_of_the_project():
    lowest = versions.constraints("lowest")
    assert any(re.fullmatch(r"dspy==3\.\d+", each) for each in lowest)
    assert any(each.startswith("starlette==") for each in lowest)
    assert versions.constraints("newest") == []
    assert versions.constraints("dspy-3.2") == ["dspy==3.2.*"]


def test_every_test_that_versions_are_checked_with_exists():
    assert all((versions.ROOT / path).exists() for path in (*versions.CAPTURE, *versions.OTHERS))
