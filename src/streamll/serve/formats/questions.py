"""A run's questions as clients of chat wires see them, and what these send back.

A client's id for a question names the run as well, so that an answer finds its way with nothing else.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from streamll.core.events import Answer, Question
from streamll.serve.formats.base import given

_APPROVAL = {"approved", "editedArgs", "reason"}
"""An approval as AG-UI recommends to ask for it."""


def public_id(run_id: str | None, question_id: str) -> str:
    return f"{run_id}:{question_id}"


def read_id(text: str) -> tuple[str, str]:
    """The run and the question that a client's id names; ``ValueError``."""
    run_id, colon, question_id = text.rpartition(":")
    if not (run_id and colon and question_id):
        raise ValueError(f"{text[:80]!r} is no question of a run here")
    return run_id, question_id


def shown(question: Question) -> dict[str, Any]:
    """What a client that has no form of its own for questions is told."""
    return given(
        run_id=question.run_id,
        question_id=question.question_id,
        text=question.text,
        schema=dict(question.schema),
        tool=question.tool,
        arguments=question.arguments,
        to=question.to,
        lapses_at=question.lapses_at,
    )


def outcome(answer: Answer) -> dict[str, Any]:
    """How a question has ended, for the same."""
    return {
        "run_id": answer.run_id,
        "question_id": answer.question_id,
        "outcome": answer.outcome,
        "value": answer.value,
        **given(by=answer.by),
    }


def interrupt(question: Question, tool_call_id: str | None) -> dict[str, Any]:
    """A question as an ``Interrupt`` of AG-UI."""
    schema = dict(question.schema)
    if question.tool is not None:
        schema = _approval_schema(schema)
    lapses = question.lapses_at
    expires = None if lapses is None else dt.datetime.fromtimestamp(lapses, dt.timezone.utc)
    return given(
        id=public_id(question.run_id, question.question_id),
        reason=_reason(question, tool_call_id),
        message=question.text,
        toolCallId=tool_call_id,
        responseSchema=schema,
        expiresAt=None if expires is None else expires.isoformat().replace("+00:00", "Z"),
        metadata={"streamll": given(tool=question.tool, arguments=question.arguments, to=question.to)},
    )  # fmt: skip


def _reason(question: Question, tool_call_id: str | None) -> str:
    if tool_call_id is not None:
        return "tool_call"
    boolean = question.tool is not None or question.schema.get("type") == "boolean"
    return "confirmation" if boolean else "input_required"


def _approval_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    arguments = dict(schema.get("properties", {})).get("arguments", {"type": "object"})
    properties = {
        "approved": {"type": "boolean"},
        "editedArgs": arguments,
        "reason": {"type": "string"},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": ["approved"],
        "additionalProperties": False,
    }


def approval(payload: Any) -> Any:
    """An answer to an approval of AG-UI as ``streamll.approve`` takes it; others as they are."""
    if not isinstance(payload, Mapping) or "approved" not in payload or payload.keys() - _APPROVAL:
        return payload
    return given(
        allow=payload["approved"],
        arguments=payload.get("editedArgs"),
        reason=payload.get("reason"),
    )
