"""The runs under way in this process that have asked something, for whoever answers."""

from __future__ import annotations

from typing import Any

from streamll.core.errors import NoSuchQuestion

asked_here: dict[str, Any] = {}
"""Their ``Questions``, by the runs' ids."""


def question_of(run_id: str, question_id: str) -> Any:
    """The ``Question``; ``NoSuchQuestion`` if no run under way in this process has asked it."""
    questions = asked_here.get(run_id)
    if questions is None:
        raise NoSuchQuestion(f"no run {run_id!r} of this process has asked anything")
    return questions.find(question_id)
