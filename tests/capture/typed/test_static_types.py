"""X5: a type checker knows what ``items`` and ``partials`` give."""

from __future__ import annotations

import subprocess
import sys

CODE = """
from collections.abc import AsyncIterator, Iterator
from typing import Any

from pydantic import BaseModel
from typing_extensions import assert_type

from streamll import AsyncStream, Stream
from streamll.typed import Partial


class Finding(BaseModel):
    title: str


async def read(events: Stream, later: AsyncStream) -> None:
    as_iterator: Iterator[Finding] = events.items("findings", as_type=Finding)
    as_async_iterator: AsyncIterator[Finding] = later.items("findings", as_type=Finding)
    assert_type(next(events.items("findings", as_type=Finding)), Finding)
    assert_type(next(events.items("findings")), Any)
    assert_type(next(events.partials("findings", list[Finding])), Partial[list[Finding]])
    assert_type(next(events.partials("findings", list[Finding])).value, list[Finding])
    assert_type(await anext(later.items("findings", as_type=Finding)), Finding)
    assert_type(await anext(later.partials("findings")), Partial[Any])
"""


def test_a_type_checker_knows_the_elements(tmp_path):
    (tmp_path / "reading.py").write_text(CODE)
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports"),
            *(
                "--follow-imports=silent",
                "--cache-dir",
                str(tmp_path),
                str(tmp_path / "reading.py"),
            ),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
