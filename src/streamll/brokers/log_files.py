"""Logs that are files: whether one is there, and a place for one that is not yet."""

from __future__ import annotations

import contextlib
from pathlib import Path

from streamll.brokers.sqlite import file


def check_log(url: str) -> None:
    """For readers that expect a log to be there, and must not create it.

    Raises:
        ConfigurationError: the URL names a file that is not there, or no log.
    """
    if url.startswith("sqlite:"):
        file.check_exists(url)


def create_parent_folder(url: str) -> None:
    """Create the folder of a log that is a file, for a reader that starts before any writer."""
    if url.startswith("sqlite:"):
        with contextlib.suppress(OSError):  # reported by the reader
            Path(file.path_of(url)).parent.mkdir(parents=True, exist_ok=True)
