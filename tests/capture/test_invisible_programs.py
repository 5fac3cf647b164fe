"""X3: streaming never changes a program. Each program with and without capture, compared.

A row of ``program_table`` runs plainly, and then in each way of capturing it; every aspect of
what it did (``ASPECTS``) must be strictly equal. What cannot be equal is listed, with the reason,
in ``docs/invisible.md``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import warnings
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import dspy
import pytest
from driving import Calls, acall, call
from dspy.clients.base_lm import GLOBAL_HISTORY
from dspy.dsp.utils.settings import thread_local_overrides
from dspy_lines import without_waiting
from observing import SWITCH, VOLATILE, differences, own, written_out
from observing import comparable as as_data
from profiles import THOROUGH
from program_table import TABLE, Row
from programs import Heard

import streamll
from streamll.core.ordering import OrderCheck
from streamll.testing import PracticeServer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@dataclass
class Seen:
    """What a program did, as far as anybody outside can tell."""

    returned: Any = None  # predictions with their completions and usage
    error: Any = None
    requests: int = 0
    bodies: Any = None
    retries: list[Any] = field(default_factory=list)
    history: Any = None  # of the LM
    module_histories: Any = None
    all_history: Any = None  # of DSPy
    trace: Any = None
    cache: Any = None
    state: Any = None  # what the program would save
    logged: list[Any] = field(default_factory=list)
    warned: Any = None
    callbacks: list[Any] = field(default_factory=list)  # what the user's own were told
    settings: Any = None


ASPECTS = [each.name for each in fields(Seen)]
LITELLM_LOADS = "Pydantic will not protect items"
"""What Python warns of when LiteLLM makes its first request in a process."""


# --- the ways of capturing ----------------------------------------------------------------------


def plainly(row: Row, program: Any, drive: Any, heard: Heard) -> Any:
    return run(drive, program, row)


def instrumented(row: Row, program: Any, drive: Any, heard: Heard) -> Any:
    program = streamll.instrument(program, stream_fields="*", sinks=[heard])
    return run(drive, program, row)


def watched(row: Row, program: Any, drive: Any, heard: Heard) -> Any:
    with streamll.watch(sinks=[heard]):
        return run(drive, program, row)


def streamed(row: Row, program: Any, drive: Any, heard: Heard) -> Any:
    """Read from a thread. An asynchronous drive has an event loop of its own there."""
    if drive is call:
        performance = streamll.stream(program, sinks=[heard])(**row.inputs)
    else:
        performance = streamll.stream(run, sinks=[heard])(drive, program, row)
    with performance as events:
        return events.result()


def streamed_in_a_loop(row: Row, program: Any, drive: Any, heard: Heard) -> Any:
    """Read from an event loop, where the program is a task if it is asynchronous."""
    if drive is acall:
        performance = streamll.stream(program, sinks=[heard])(**row.inputs)
    else:
        performance = streamll.stream(drive, sinks=[heard])(program, row.inputs)

    async def read() -> Any:
        async with performance as events:
            return await events.result()

    return asyncio.run(read())


WAYS = [instrumented, watched, streamed, streamed_in_a_loop]


def run(drive: Any, program: Any, row: Row) -> Any:
    given = drive(program, dict(row.inputs))
    return asyncio.run(given) if inspect.iscoroutine(given) else given


# --- seeing -------------------------------------------------------------------------------------


def observe(server: PracticeServer, row: Row, way: Callable[..., Any], drive: Any) -> Seen:
    """Run a row in one way, with everything of DSPy's as in a new process."""
    seen = Seen()
    replies = iter(row.replies)
    server.respond(lambda request: said(next(replies, None), request))
    first = len(server.requests)
    GLOBAL_HISTORY.clear()  # full of other tests' calls, it would forget one for each new one
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    lm = server.lm(cache=True, num_retries=2, **row.lm)
    calls: list[Any] = []
    listening = [Calls(calls)] if row.listening else []
    given = {"trace": [], "callbacks": listening, "track_usage": True, **row.settings}
    dspy.configure(lm=lm, adapter=row.adapter(server), **given)
    heard = Heard()
    with watching_dspy(seen):
        program = row.program()
        try:
            seen.returned = comparable(way(row, program, drive, heard))
        except Exception as error:
            seen.error = comparable(error)
    requests = server.requests[first:]
    if way is not plainly:
        check_heard(row, heard, requests)
    look(seen, requests, lm, program, GLOBAL_HISTORY)
    seen.callbacks = comparable(calls)
    if row.concurrent:
        in_any_order(seen)
    return seen


def said(reply: Any, request: Any) -> Any:
    return reply(request) if callable(reply) else reply


def check_heard(row: Row, heard: Heard, requests: list[Any]) -> None:
    """It was captured, or there would be nothing to compare."""
    OrderCheck().check_all(heard.events)
    assert heard.of("run.start")
    assert any(request.streaming for request in requests) != row.quiet


@contextmanager
def watching_dspy(seen: Seen) -> Any:
    """Record what DSPy logs, warns of and waits for; retries do not wait."""

    class Records(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.logged.append([record.name, record.levelname, record.getMessage()])

    handler, logger = Records(logging.INFO), logging.getLogger("dspy")
    overrides = thread_local_overrides.get()
    with warnings.catch_warnings(record=True) as warned, pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("always")
        without_waiting(patch, lambda *retry: seen.retries.append(list(retry)))
        logger.addHandler(handler)
        yield
        logger.removeHandler(handler)
    seen.warned = [
        [w.category.__name__, str(w.message)]
        for w in warned
        if w.category is not ResourceWarning and LITELLM_LOADS not in str(w.message)
    ]
    seen.settings = [
        thread_local_overrides.get() is overrides,
        sorted(dspy.settings.config),
        [type(c).__name__ for c in dspy.settings.callbacks],
        threading.current_thread().name,
    ]


def look(seen: Seen, requests: list[Any], lm: Any, program: Any, recorded: list[Any]) -> None:
    seen.requests = len(requests)
    seen.bodies = [{k: v for k, v in r.body.items() if k not in SWITCH} for r in requests]
    seen.history = [entry_of(entry) for entry in lm.history]
    seen.all_history = [entry_of(entry) for entry in recorded]
    seen.module_histories = {
        name: [entry_of(entry) for entry in module.history]
        for name, module in program.named_sub_modules()
    }
    seen.trace = [[comparable(each) for each in step] for step in dspy.settings.trace or []]
    records = dict(dspy.cache.memory_cache)
    seen.cache = {key: written_out(records[key]) for key in sorted(records)}
    seen.state = program.dump_state()


def entry_of(entry: Any) -> Any:
    rest = {k: as_data(v) for k, v in entry.items() if k not in {*VOLATILE, "response"}}
    return {**rest, "response": written_out(entry.get("response"))}


def comparable(value: Any) -> Any:
    """As plain data, with all that a program can read of it."""
    if isinstance(value, dict):
        return {str(key): comparable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [comparable(item) for item in value]
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    return [type(value).__name__, comparable(parts(value))]


def parts(value: Any) -> Any:
    if isinstance(value, dspy.Prediction):
        completions = value.completions.items() if value._completions else ()
        return [value.toDict(), dict(completions), value.get_lm_usage()]
    if isinstance(value, dspy.Module):
        return value.dump_state()
    if isinstance(value, BaseException):
        return [[kind.__name__ for kind in type(value).__mro__], str(value)]
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return own(value.model_dump())
    return getattr(value, "__name__", "")


def in_any_order(seen: Seen) -> None:
    """Which of several at once comes first is chance."""
    for name in ("bodies", "history", "all_history", "trace", "logged"):
        setattr(seen, name, sorted(getattr(seen, name), key=repr))
    seen.module_histories = {
        name: sorted(entries, key=repr) for name, entries in seen.module_histories.items()
    }


# --- the comparisons ----------------------------------------------------------------------------

CASES = [
    pytest.param(row, drive, id=f"{row.name}-{drive.__name__}")
    for number, row in enumerate(TABLE)
    for drive in (row.drives if THOROUGH else [row.drives[number % len(row.drives)]])
]
"""Each program sync and async, if there is time; else in turn."""


def ways_of(row: Row, drive: Any) -> list[Any]:
    """All if there is time; else one, in turn."""
    turn = zlib.crc32(f"{row.name}-{drive.__name__}".encode())
    return WAYS if THOROUGH else [WAYS[turn % len(WAYS)]]


@pytest.mark.parametrize(("row", "drive"), CASES)
def test_capture_changes_nothing(row, drive, practice):
    """X3: results, requests, retries, errors, histories, cache and warnings are the same."""
    plain = observe(practice, row, plainly, drive)
    unequal = {}
    for way in ways_of(row, drive):
        captured = observe(practice, row, way, drive)
        for aspect in ASPECTS:
            if told := differences(plain, captured, aspect):
                unequal[way.__name__, aspect] = told
    assert not unequal


def test_the_number_of_comparisons(capsys):
    """Every case above compares every aspect in each of its ways."""
    ways = sum(len(ways_of(*case.values)) for case in CASES)
    count = ways * len(ASPECTS)
    with capsys.disabled():
        told = f"{len(CASES)} cases, {ways} ways × {len(ASPECTS)} aspects"
        print(f"\n  {told}: {count} comparisons")
    assert count > (4_000 if THOROUGH else 1_000)
