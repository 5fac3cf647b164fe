"""How the program-level invisibility tests drive a program: called, copied, compiled, at once."""

from __future__ import annotations

import asyncio
import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

QUESTIONS = [f"What is the capital of country {number}?" for number in range(6)]


def call(program: Any, inputs: dict[str, Any]) -> Any:
    return program(**inputs)


async def acall(program: Any, inputs: dict[str, Any]) -> Any:
    return await program.acall(**inputs)


def twice(program, inputs):
    return [program(**inputs), program(**inputs)]


async def atwice(program, inputs):
    return [await program.acall(**inputs), await program.acall(**inputs)]


def in_parallel(program, inputs):
    pairs = [(program, dspy.Example(question=q).with_inputs("question")) for q in QUESTIONS]
    return dspy.Parallel(num_threads=3, disable_progress_bar=True)(pairs)


def in_parallel_with_failures(program, inputs):
    pairs = [(program, {"question": q}) for q in QUESTIONS]
    parallel = dspy.Parallel(
        num_threads=1, disable_progress_bar=True, return_failed_examples=True, max_errors=5
    )
    return parallel(pairs)


def in_a_batch(program, inputs):
    examples = [dspy.Example(question=q).with_inputs("question") for q in QUESTIONS]
    return program.batch(examples, num_threads=3, disable_progress_bar=True)


async def asyncified(program, inputs):
    return await dspy.asyncify(program)(**inputs)


async def asyncified_together(program, inputs):
    run = dspy.asyncify(program)
    return await asyncio.gather(*(run(question=question) for question in QUESTIONS))


def syncified(program, inputs):
    return dspy.syncify(program)(**inputs)


async def gathered(program, inputs):
    return await asyncio.gather(*(program.acall(question=question) for question in QUESTIONS))


def deep_copied(program, inputs):
    return copy.deepcopy(program)(**inputs)


def saved_and_loaded(program, inputs):
    """The state as JSON, into another program and back; and the whole program."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.json"
        program.save(state)
        again = type(program)()
        again.load(state)
        whole = Path(folder) / "whole"
        program.save(whole, save_program=True)
        loaded = dspy.load(str(whole), allow_pickle=True)
        program.load(state)
        asked = [each(**inputs) for each in (program, again, loaded)]
        return [json.loads(state.read_text()), *asked]


def compiled(program, inputs):
    examples = [dspy.Example(question=q, answer="").with_inputs("question") for q in QUESTIONS[:3]]
    optimizer = dspy.BootstrapFewShot(
        metric=lambda example, prediction, trace=None: "country 1" not in example.question,
        max_bootstrapped_demos=2,
        max_labeled_demos=1,
    )
    better = optimizer.compile(program, trainset=examples)
    demos = {name: [dict(d) for d in p.demos] for name, p in better.named_predictors()}
    return [demos, better(**inputs)]


def evaluated(program, inputs):
    examples = [dspy.Example(question=q).with_inputs("question") for q in QUESTIONS]
    evaluate = dspy.Evaluate(
        devset=examples,
        metric=lambda example, prediction: len(prediction.answer) % 7,
        num_threads=2,
        display_progress=False,
    )
    result = evaluate(program)
    return [result.score, [(dict(e), p, s) for e, p, s in result.results]]


def compared(program, inputs):
    completions = dspy.ChainOfThought("question -> answer", n=3, temperature=1.0)(**inputs)
    return program(list(completions.completions), **inputs)


def counted(program, inputs):
    with dspy.track_usage() as tracker:
        prediction = program(**inputs)
    return [prediction, tracker.get_total_tokens()]


class Calls(BaseCallback):
    """A user's own callbacks: which were called, on what, with what."""

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        return lambda call_id, **values: self._calls.append([name, values])


def under_own_callbacks(program, inputs):
    calls: list[Any] = []
    with dspy.context(callbacks=[Calls(calls)]):
        return [program(**inputs), calls]


def with_own_callbacks(program, inputs):
    calls: list[Any] = []
    program.answer.callbacks.append(Calls(calls))
    dspy.settings.lm.callbacks.append(Calls(calls))
    return [program(**inputs), calls]
