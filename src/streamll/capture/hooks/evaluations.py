"""Evaluations and optimizers, as DSPy's callbacks tell of them, turned into events of the run.

An evaluation's examples are not told of: the function that ``Evaluate`` has its threads run for
each one is wrapped (``reported``). An optimizer's candidates are the evaluations inside it. No text is
streamed inside of either, unless asked for (``run.scope.is_quiet``).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from streamll.capture.inside_dspy import ACTIVE_CALL_ID
from streamll.capture.run.frames import Frame
from streamll.capture.run.progress import Compilation, Evaluation
from streamll.capture.run.run import as_mapping
from streamll.capture.run.scope import current_scope
from streamll.configuration import describe, included
from streamll.core import events as ev
from streamll.core.errors import logger

Inputs = dict[str, Any]


def name_of(thing: Any) -> str:
    """A program, metric or optimizer by its function's or class's name."""
    name = getattr(thing, "__name__", None)
    return name if isinstance(name, str) else type(thing).__name__


def start_evaluation(frame: Frame, inputs: Inputs) -> dict[str, Any]:
    """The evaluation begins in ``frame``; the fields of its ``EvaluateStart``."""
    evaluate = frame.instance
    given = {name: inputs.get(name) for name in ("metric", "devset")}
    metric = evaluate.metric if given["metric"] is None else given["metric"]
    examples = evaluate.devset if given["devset"] is None else given["devset"]
    failure_score = number_of(getattr(evaluate, "failure_score", 0.0))
    frame.progress = Evaluation(examples or (), failure_score)
    program = name_of(inputs.get("program"))
    frame.about = program
    return {"name": program, "metric": name_of(metric), "total": frame.progress.total}


def end_evaluation(frame: Frame, outputs: Any) -> dict[str, Any]:
    """The fields of its ``EvaluateEnd``, but for what every call has."""
    done = frame.progress
    with done.order:  # an example is told of before this end, or not at all
        done.is_over = True
    score = None if outputs is None else number_of(getattr(outputs, "score", outputs))
    return {"score": score, "done": done.done, "failed": done.failed}


def start_compilation(frame: Frame, inputs: Inputs) -> dict[str, Any]:
    """The optimizer begins in ``frame``; the fields of its ``CompileStart``."""
    frame.progress = Compilation()
    frame.about = name_of(inputs.get("student"))
    trainset: Any = inputs.get("trainset")
    total = len(trainset) if hasattr(trainset, "__len__") else None
    return {"name": frame.about, "optimizer": frame.name, "total": total}


def add_candidate(evaluation: Frame, score: float | None) -> None:
    """If it was an optimizer that evaluated, it was for a candidate."""
    frame = evaluation.parent
    while frame is not None and frame.kind not in ("compile", "evaluate"):
        frame = frame.parent
    if frame is None or frame.kind != "compile" or score is None:
        return
    total = evaluation.progress.total
    run = frame.scope.run
    with frame.progress.order:
        run.publish(
            ev.CompileCandidate, frame.scope, frame.identity(run.run_id), **frame.progress.add(score, total),
            score=score, total=total, duration=time.monotonic() - evaluation.started,
        )  # fmt: skip


def reported(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What an executor runs for each item: where these are an evaluation's examples, with an event."""
    scope = current_scope()
    frame = scope.run.frames.get(ACTIVE_CALL_ID.get() or "") if scope is not None else None
    if frame is None or frame.kind != "evaluate":
        return function

    @functools.wraps(function)
    def example(item: Any) -> Any:
        began = time.monotonic()
        token = ACTIVE_CALL_ID.set(frame.call_id)  # which older executors do not carry over
        try:
            outcome = function(item)
        except Exception as error:
            report(item, began, None, error)
            raise
        finally:
            ACTIVE_CALL_ID.reset(token)
        report(item, began, outcome, None)
        return outcome

    def report(*done: Any) -> None:
        try:
            _publish_example(frame, *done)
        except Exception:
            logger.exception("an example of an evaluation could not be reported")

    return example


def _publish_example(
    frame: Frame, example: Any, began: float, outcome: Any, error: Exception | None
) -> None:
    prediction, score = outcome if isinstance(outcome, tuple) else (None, None)
    score = number_of(score)
    name, message = describe(error) if error is not None else (None, "")
    own = {
        "total": frame.progress.total, "score": score, "duration": time.monotonic() - began,
        "error_type": name, "message": message,
        "inputs": included("inputs", example, lambda each: as_mapping(each.inputs())),
        "outputs": included("outputs", prediction, as_mapping),
    }  # fmt: skip
    run = frame.scope.run
    with frame.progress.order:
        done = frame.progress.add(example, score, failed=error is not None)
        if done is not None:
            identity = frame.identity(run.run_id)
            run.publish(ev.EvaluateExample, frame.scope, identity, **done, **own)


def number_of(score: Any) -> float | None:
    """A score as a number: of a ``Prediction`` its ``score``; ``None`` where it is none."""
    try:
        return None if score is None else float(score)
    except Exception:  # noqa: BLE001 - what a metric returns may raise anything
        return None
