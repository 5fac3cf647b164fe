"""What an LM call has used is in its run's totals as soon as readers are told of its end."""

from __future__ import annotations

import threading

import dspy
from patience import BOUND
from programs import left_behind

import streamll
from streamll.capture.run.scope import current_scope
from streamll.core import usage
from streamll.core.usage import Sums


def is_free(lock):
    """Whether another thread could come in now."""
    found = []

    def look():
        found.append(lock.acquire(blocking=False))
        if found[0]:
            lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


def test_a_run_that_ends_when_a_call_does_has_counted_it(lm, practice, monkeypatch):
    reached, ended, stragglers = threading.Event(), threading.Event(), []
    add_call = Sums.add_call

    def held(sums, call):
        is_ours = threading.current_thread() in stragglers
        if is_ours and is_free(current_scope().run.lock):
            reached.set()
            assert ended.wait(BOUND)
        add_call(sums, call)
        if is_ours:
            reached.set()

    monkeypatch.setattr(Sums, "add_call", held)
    seen = left_behind(stragglers, reached, ended)
    calls = [event for event in seen if event.event_type == "lm.end"]
    assert seen[-1].lm_calls == len(calls) == 1
    assert seen[-1].prompt_tokens == calls[0].prompt_tokens


def test_calls_that_end_at_once_are_all_counted(lm, practice, monkeypatch):
    """Two threads add: what one has added is not lost to the other."""
    first, second = threading.Event(), threading.Event()
    total, add_call, adding, added = usage._total, Sums.add_call, [], []

    def held(counts):
        found = total(counts)
        if threading.current_thread() in adding and added and not first.is_set():
            first.set()  # this one has read the sums, and not written them
            assert not is_free(current_scope().run.lock) or second.wait(BOUND)
        return found

    def noticed(sums, call):
        if current_scope() is None:  # a reader's sums
            add_call(sums, call)
            return
        adding.append(threading.current_thread())
        add_call(sums, call)
        adding.remove(threading.current_thread())
        if added:
            second.set()
        added.append(call)

    monkeypatch.setattr(usage, "_total", held)
    monkeypatch.setattr(Sums, "add_call", noticed)
    answer = dspy.Predict("question -> answer")

    class Three(dspy.Module):
        def forward(self):
            answer(question="before")  # so that there are sums to add to
            pairs = [(answer, {"question": each}) for each in ("one", "other")]
            return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)

    with streamll.stream(Three())() as events:
        seen = list(events)
    calls = [event for event in seen if event.event_type == "lm.end"]
    assert len(calls) == 3
    assert seen[-1].prompt_tokens == sum(call.prompt_tokens for call in calls)
