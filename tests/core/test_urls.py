"""What is shown of a URL, right or wrong."""

from __future__ import annotations

import pytest

from streamll.core.urls import without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:6379/0?password=secret", "redis://host:6379/0"),
        ("redis+sentinel://:se/c?r@et@host", "redis+sentinel://…@"),
        ("redis://user:se/cr@et@host/0", "redis://host/0"),
        ("redis://host?password=sec@ret", "redis://…@"),
        ("redis:user:secret@host", "…@host"),
        ("//user:secret@host", "…@host"),
        ("localhost:8000/runs/x?token=secret&next=http://a", "localhost:8000/runs/x"),
        ("localhost:6379", "localhost:6379"),
        ("sqlite:///runs.db?keep_seconds=1", "sqlite:///runs.db"),
        ("", ""),
    ],
)
def test_neither_user_nor_password_nor_options_are_shown(url, shown):
    assert without_password(url) == shown
