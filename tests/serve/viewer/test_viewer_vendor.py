"""The viewer's one file of other people's code is what its script builds."""

from __future__ import annotations

import build_viewer_vendor


def test_the_file_is_what_the_script_builds_and_safe_in_a_page():
    kept = build_viewer_vendor.TARGET.read_text("utf-8")
    assert kept == build_viewer_vendor.built(), "python scripts/build_viewer_vendor.py"
    for tag in ("<!--", "<script", "</script"):
        assert tag not in kept.lower()
    for owner in ("MarkedJS", "Christopher Jeffrey", "Ivan Sagalaev"):
        assert owner in kept
