"""Events of every kind, each field with another value than its default: the golden file's content."""

from __future__ import annotations

from streamll.core.events import (
    Answer,
    Citation,
    CompileCandidate,
    CompileEnd,
    CompileStart,
    EvaluateEnd,
    EvaluateExample,
    EvaluateStart,
    EventData,
    FieldCorrected,
    FieldEnd,
    FieldPartial,
    FieldStart,
    Guarded,
    Identity,
    LMEnd,
    LMStart,
    LMSuperseded,
    LMWaiting,
    ModuleEnd,
    ModuleError,
    ModuleStart,
    Question,
    Refusal,
    ReplyPart,
    RunCancelled,
    RunEnd,
    RunError,
    RunStart,
    Status,
    StreamGap,
    StreamllEvent,
    Thinking,
    TokenEvent,
    ToolCallDelta,
    ToolEnd,
    ToolError,
    ToolStart,
    TraceEnd,
    TraceStart,
    UnknownEvent,
)
from streamll.core.usage import ModelUsage

IDENTITY = Identity(
    run_id="5f3c9a",
    path=("QA", "steps[0]", "predict"),
    predictor="steps[0].predict",
    call_id="call-2",
    parent_call_id="call-1",
    turn=1,
    attempt=2,
    candidate=3,
)
RUN = Identity(run_id="5f3c9a")
CONTEXT = {"conversation_id": "c-17", "user": {"tier": 2}}
TOTALS = {
    "duration": 2.5,
    "time_to_first_token": 0.25,
    "lm_calls": 2,
    "prompt_tokens": 40,
    "completion_tokens": 12,
    "cost": 0.0001,
}


def stamp(seq, identity=IDENTITY):
    return {
        "seq": seq,
        "timestamp": 1732090000.5 + seq,
        "identity": identity,
        "context": CONTEXT,
        "extra": {"region": "eu", "weights": [1, 2.5, None]},
    }


USED = {
    "cache_read_tokens": 30,
    "cache_write_tokens": 5,
    "reasoning_tokens": 8,
    "usage": (
        ModelUsage(model="openai/gpt", prompt_tokens=30, completion_tokens=7, unreported=1),
        ModelUsage(
            model="anthropic/claude",
            prompt_tokens=10,
            completion_tokens=5,
            cache_read_tokens=30,
            cache_write_tokens=5,
            reasoning_tokens=8,
            cost=0.0001,
        ),
    ),
}

CUSTOM = {"count": 3, "ids": ["a", "b"]}
NEWER = {"frame": 7, "image": {"width": 20}}

SAMPLES = [
    RunStart(**stamp(0, RUN), program="QA", inputs={"question": "Où?"}),
    ModuleStart(**stamp(1), name="QA", inputs={"question": "Où?"}),
    ModuleEnd(**stamp(2), name="QA", duration=1.5, outputs={"answer": "Paris"}),
    ModuleError(**stamp(3), name="QA", duration=1.5, error_type="ValueError", message="no"),
    ToolStart(
        **stamp(4), name="PythonInterpreter", kind="interpreter", arguments={"code": "1 + 1"}
    ),
    ToolEnd(
        **stamp(5),
        name="PythonInterpreter",
        kind="interpreter",
        duration=0.5,
        result=[{"title": "Paris"}],
    ),
    ToolError(
        **stamp(6),
        name="PythonInterpreter",
        kind="interpreter",
        duration=0.5,
        error_type="OSError",
        message="down",
    ),
    LMStart(**stamp(7), model="openai/gpt", messages=[{"role": "user", "content": "Où?"}]),
    LMEnd(
        **stamp(8),
        model="openai/gpt",
        duration=1.25,
        prompt_tokens=40,
        completion_tokens=12,
        cost=0.0001,
        cached=True,
        streamed=True,
        time_to_first_token=0.25,
        finish_reason="stop",
        error_type="LMRateLimitError",
        chunks=6,
        time_to_first_chunk=0.125,
        time_per_output_chunk=0.5,
        chunk_gaps=((0.25, 4), (1.5, 1)),
    ),
    LMSuperseded(**stamp(9), reason="fallback"),
    LMWaiting(**stamp(10), reason="connection", delay=0.5),
    FieldStart(**stamp(11), field="answer"),
    TokenEvent(
        **stamp(12),
        field="answer",
        token="こんに\n\u2028\U0001f44b",
        token_index=4,
        offset=17,
        count=3,
        finish_reason="length",
        cached=True,
    ),
    FieldPartial(
        **stamp(13), field="tags", value=["a"], state="complete", pointer=("cities", 1), append=True
    ),
    FieldEnd(**stamp(14), field="answer", length=22, complete=False),
    FieldCorrected(**stamp(15), field="answer", text="Paris", value={"city": "Paris"}),
    Thinking(**stamp(16), text="Let me see", index=2),
    ToolCallDelta(**stamp(17), index=1, name="search", arguments='{"query": "Pa'),
    Citation(**stamp(18), text="Paris is", title="Atlas", url="https://example.org/paris"),
    Status(**stamp(19), message="Searching…"),
    TraceStart(**stamp(20), name="retrieval", trace_id="t-2", parent_trace_id="t-1"),
    TraceEnd(
        **stamp(21),
        name="retrieval",
        trace_id="t-2",
        duration=0.75,
        parent_trace_id="t-1",
        error_type="KeyError",
    ),
    StreamllEvent(**stamp(22), event_type="docs.found", data=EventData(CUSTOM, CONTEXT)),
    UnknownEvent(
        **{**stamp(23), "extra": {}}, event_type="frame.shown", data=EventData(NEWER, CONTEXT)
    ),
    StreamGap(**{**stamp(0, RUN), "seq": None}, count=5, reason="overflow"),
    RunEnd(**stamp(24, RUN), **TOTALS, outputs={"answer": "Paris"}),
    RunError(
        **stamp(25, RUN),
        **TOTALS,
        error_type="LMTimeoutError",
        message="timed out",
        partial={"predict.answer": "Par"},
    ),
    RunCancelled(**stamp(26, RUN), **TOTALS, partial={"predict.answer": "Par"}),
    Refusal(**stamp(27), text="I cannot"),
    ReplyPart(
        **stamp(28), kind="image", media_type="image/png", url="https://example.org/a", size=12
    ),
    LMEnd(
        **stamp(29),
        **USED,
        model="openai/gpt",
        duration=1.25,
        response_model="gpt-5.2",
        response_id="resp_1",
    ),
    RunEnd(**stamp(30, RUN), **TOTALS, **USED),
    RunError(**stamp(31, RUN), **TOTALS, **USED, error_type="LMTimeoutError", message="timed out"),
    RunCancelled(**stamp(32, RUN), **TOTALS, **USED),
    ModuleStart(**stamp(35), name="ReAct", kind="agent"),
    LMSuperseded(**stamp(33), reason="LMServerError", next_model="anthropic/claude"),
    LMWaiting(**stamp(34), reason="fallback", model="anthropic/claude"),
    EvaluateStart(**stamp(35), name="QA", metric="exact_match", total=50),
    EvaluateExample(
        **stamp(36),
        index=7,
        done=3,
        total=50,
        score=0.5,
        mean=66.67,
        duration=1.5,
        error_type="ValueError",
        message="no",
        inputs={"question": "Où?"},
        outputs={"answer": "Paris"},
    ),
    EvaluateEnd(
        **stamp(37),
        name="QA",
        duration=9.5,
        score=66.67,
        done=50,
        failed=2,
        error_type="ValueError",
        message="no",
    ),
    CompileStart(**stamp(38), name="QA", optimizer="MIPROv2", total=200),
    CompileCandidate(
        **stamp(39), index=4, score=61.5, total=50, best=66.67, best_index=2, duration=9.5
    ),
    CompileEnd(
        **stamp(40),
        name="QA",
        optimizer="MIPROv2",
        duration=99.5,
        candidates=12,
        best=66.67,
        error_type="ValueError",
        message="no",
    ),
    Question(
        **stamp(41),
        question_id="q-1",
        text="Allow send_mail?",
        schema={"type": "boolean"},
        tool="send_mail",
        arguments={"to": "ada@example.org"},
        to="ada",
        lapses_at=1732093600.5,
    ),
    Answer(
        **stamp(42),
        question_id="q-1",
        outcome="answered",
        value={"allow": True},
        by="ada",
        waited=12.5,
        answer_id="a-1",
    ),
    RunEnd(**stamp(43, RUN), **TOTALS, waited=12.5),
    RunError(**stamp(44, RUN), **TOTALS, waited=12.5, error_type="E", message="m"),
    RunCancelled(**stamp(45, RUN), **TOTALS, waited=12.5),
    Guarded(
        **stamp(46), name="card numbers", kind="pattern", outcome="drop", field="answer", offset=17
    ),
]
