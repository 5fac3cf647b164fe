"""Checks of a run: what they have not let out is nowhere, and nothing but its readers waits for them."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from typing import Any

import dspy
import pytest
from dspy_lines import LM_ERROR, NO_FALLBACK
from patience import BOUND
from programs import QA, AsyncQA, Heard, Noticing

import streamll
from streamll.capture import running
from streamll.capture.run.run import Run
from streamll.capture.run.scope import current_scope
from streamll.capture.run.settling import Settling
from streamll.core.errors import GuardStopped, StreamCancelled, TotalTimeout
from streamll.core.events import LMEnd, ModuleEnd
from streamll.core.ordering import OrderCheck
from streamll.guards import Check, Pattern
from streamll.testing import Fault, Reply

REPLY = {"reasoning": "It scatters.", "answer": "One is good. Two is bad. Three is good."}
LONG = {**REPLY, "answer": REPLY["answer"] + " And so on." * 100}
SHOWN = "One is good. [-] Three is good."
SHORT = 0.02
"""A time limit that is to pass."""


class Gate:
    """A check that forbids what has "bad" in it, and waits where a text has ``word`` in it."""

    def __init__(self, word="Two"):
        self.word = word
        self.asked = []
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, text):
        self.asked.append(text)
        if self.word in text:
            self.reached.set()
            self.open.wait()
        return "bad" not in text


def check(function, **options):
    return Check(function, **{"mask": "[-]", "timeout": 60 * BOUND, **options})


forbids_bad = functools.partial(check, lambda text: "bad" not in text)


def legal(events):
    OrderCheck().check_all(events)
    return events


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.open.set()


class Judged(Noticing):
    def wait_for_first(self):
        """Until the first sentence is judged, for which a check has no need to wait."""
        self.wait_for(lambda event: getattr(event, "token", "") == "One is good. ")


class Twice(dspy.Module):
    def __init__(self):
        super().__init__()
        self.one = dspy.Predict("question -> answer")
        self.two = dspy.Predict("question -> answer")
        self.returned = threading.Event()

    def forward(self, question):
        self.one(question=question)
        second = self.two(question=question)
        self.returned.set()
        return second


def test_what_is_held_is_nowhere_and_other_calls_go_on(lm, practice, gate):
    heard, hooked = Judged(), []
    program = streamll.instrument(Twice(), on_token=lambda event: hooked.append(event.data))
    practice.script({"answer": REPLY["answer"]}, {"answer": "Something else. And more."})
    with streamll.stream(program, sinks=[heard], guards=[check(gate)])(question="Why?") as events:
        assert gate.reached.wait(BOUND)
        assert program.returned.wait(BOUND)  # the program does not wait
        heard.wait_for(lambda event: isinstance(event, ModuleEnd) and event.predictor == "two")
        heard.wait_for_first()
        assert heard.text("answer", predictor="one") == "One is good. "
        assert heard.text("answer", predictor="two") == "Something else. And more."
        assert not {"run.end"} & set(heard.types)
        gate.open.set()
        seen = legal(list(events))
    assert seen == heard.events
    assert heard.text("answer", predictor="one") == SHOWN
    call = next(each.call_id for each in seen if each.predictor == "one")
    ours = [each.event_type for each in seen if call in (each.call_id, each.parent_call_id)]
    assert ours[-3:] == ["field.end", "lm.end", "module.end"]
    (found,) = heard.of("guarded")
    assert (found.kind, found.field, found.offset) == ("check", "answer", len("One is good. "))
    told = [each["token"] for each in hooked]
    assert "".join(told) == "One is good. Something else. And more.[-] Three is good."


def test_the_end_of_a_call_waits(lm, practice, gate):
    heard, returned = Judged(), []
    program = streamll.instrument(Twice(), fields="*", sinks=[heard])
    practice.script({"answer": "First."}, {"answer": REPLY["answer"]})

    def call():
        with streamll.configure(guards=[check(gate)]):
            returned.append(program(question="Why?"))

    thread = threading.Thread(target=call)
    thread.start()
    assert program.returned.wait(BOUND)
    assert gate.reached.wait(BOUND)
    assert thread.is_alive()
    assert not returned
    assert "run.end" not in heard.types
    gate.open.set()
    thread.join(BOUND)
    assert returned[0].answer == REPLY["answer"]
    assert heard.types[-1] == "run.end"
    legal(heard.events)


class Telling(QA):
    async def aforward(self, question):
        self.returned = asyncio.Event()
        prediction = await self.generate.acall(question=question)
        self.returned.set()
        return prediction


def test_an_async_check_runs_on_the_programs_loop_which_it_does_not_block(lm, practice):
    loops, hooks = [], []

    async def main():
        async def judges(text):
            loops.append(asyncio.get_running_loop())
            if "Two" in text:
                await program.returned.wait()  # which waits for no verdict
            return "bad" not in text

        program = streamll.instrument(
            Telling(), on_token=lambda _: hooks.append(asyncio.get_running_loop())
        )
        practice.script(REPLY)
        async with streamll.stream(program, guards=[check(judges)])(question="Why?") as events:
            seen = [event async for event in events]
            await events.result()
        return asyncio.get_running_loop(), seen, events.text("answer")

    loop, seen, text = asyncio.run(main())
    legal(seen)
    assert text == SHOWN
    assert set(loops) == set(hooks) == {loop}


@pytest.mark.parametrize("is_async", [False, True])
def test_hooks_of_an_async_program_are_called_on_its_loop(lm, practice, is_async):
    """Also where the verdict comes from a thread; and all of them before the call has returned."""

    async def judges(text):
        return True

    async def main():
        loops = []
        hook = lambda _: loops.append(asyncio.get_running_loop())  # noqa: E731
        program = streamll.instrument(
            Telling(),
            fields="*",
            on_token=hook,
            guards=[check(judges if is_async else lambda _: True)],
        )
        practice.script(REPLY)
        await program.acall(question="Why?")
        return loops, asyncio.get_running_loop()

    loops, loop = asyncio.run(main())
    assert loops == [loop] * 4  # sentences


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"timeout": SHORT}, "[-]"),
        ({"timeout": SHORT, "when_late": "allow"}, "Two is late."),
    ],
)
def test_a_late_check(lm, practice, gate, options, shown):
    practice.script({**REPLY, "answer": "Two is late."})
    told = []  # of all text, though not on the thread that has looked at the clock
    hook = lambda event: told.append((event.data["token"], threading.current_thread().name))  # noqa: E731
    program = streamll.instrument(QA(), on_token=hook)
    guards = [check(gate, fields=["answer"], **options)]
    with streamll.stream(program, guards=guards)(question="Why?") as events:
        legal(list(events))
        assert events.text("answer") == shown
    assert "".join(text for text, _ in told) == REPLY["reasoning"] + shown
    assert "streamll timers" not in {name for _, name in told}


@pytest.mark.parametrize(
    ("options", "shown"),
    [({}, "[-] [-] [-]"), ({"when_failed": "allow"}, REPLY["answer"])],
)
def test_a_check_that_fails(lm, practice, options, shown):
    def fails(text):
        raise ValueError(text)

    practice.script(REPLY)
    guards = [check(fails, fields=["answer"], **options)]
    with streamll.stream(QA(), guards=guards)(question="Why?") as events:
        legal(list(events))
        assert events.text("answer") == shown
        assert events.text("reasoning") == REPLY["reasoning"]


@pytest.mark.parametrize(
    ("action", "text", "told"),
    [("drop", "One is good. ", ""), ("replace", "One is good. ", "[-]")],
)
def test_the_rest_is_taken_back(lm, practice, action, text, told):
    practice.script(REPLY)
    guards = [forbids_bad(action=action)]
    with streamll.stream(QA(), guards=guards)(question="Why?") as events:
        seen = legal(list(events))
        assert events.text("answer") == told
    assert "".join(each.token for each in seen if getattr(each, "token", "")).endswith(text)


def test_stop_ends_the_program(lm, practice):
    """Which is still reading: the reply is held at its end."""
    practice.script(Reply(LONG, hold_after=60))
    guards = [forbids_bad(action="stop", name="mine")]
    seen = []
    with streamll.stream(QA(), guards=guards)(question="Why?") as events:
        with pytest.raises(GuardStopped) as stopped:
            seen.extend(events)
    practice.release()
    _check_stopped(seen, stopped.value)


def _check_stopped(seen, error):
    error_event = seen[-1]
    assert error_event.event_type == "run.error"
    assert error_event.error_type == "GuardStopped"
    assert error.rule == "mine"
    for partial in (error_event.partial, error.partial):
        assert partial["generate.predict.answer"] == "One is good. "


def test_stop_also_ends_a_run_whose_program_has_returned(lm, practice, gate):
    program = Twice()
    heard = Judged()
    practice.script({"answer": "First."}, {"answer": REPLY["answer"]})
    streamll.instrument(
        program, fields="*", sinks=[heard], guards=[check(gate, action="stop", name="mine")]
    )
    raised = []

    def call():
        with pytest.raises(GuardStopped) as stopped:
            program(question="Why?")
        raised.append(stopped.value)

    thread = threading.Thread(target=call)
    thread.start()
    assert program.returned.wait(BOUND)
    gate.open.set()
    thread.join(BOUND)
    legal(heard.events)
    assert heard.events[-1].error_type == raised[0].__class__.__name__ == "GuardStopped"
    assert heard.events[-1].partial == raised[0].partial == {"two.answer": "One is good. "}


@pytest.mark.parametrize("has_returned", [True, False])
def test_stop_also_ends_a_run_that_is_about_to_end(lm, practice, gate, monkeypatch, has_returned):
    """The verdict comes when the program has returned, or is about to, and its run has not ended."""
    program, heard = Twice(), Judged()

    def stop(scope):
        gate.open.set()
        deadline = time.monotonic() + BOUND
        while scope.reason is None and time.monotonic() < deadline:
            time.sleep(0.001)

    def succeed(run, scope, outputs):
        stop(scope)
        original(run, scope, outputs)

    class Late(Twice):
        def forward(self, question):
            answer = super().forward(question)
            stop(current_scope())
            return answer

    original = Run.succeed
    if has_returned:
        monkeypatch.setattr(Run, "succeed", succeed)
    else:
        program = Late()
    practice.script({"answer": "First."}, {"answer": REPLY["answer"]})
    guards = [check(gate, action="stop", name="mine")]
    streamll.instrument(program, fields="*", sinks=[heard], guards=guards)
    with pytest.raises(GuardStopped) as stopped:
        program(question="Why?")
    legal(heard.events)
    assert heard.events[-1].error_type == "GuardStopped"
    assert heard.events[-1].partial == stopped.value.partial == {"two.answer": "One is good. "}


def test_stop_also_ends_a_run_whose_caller_is_about_to_wait(lm, practice, gate, monkeypatch):
    """The verdict comes when the run's end is held back, and nobody has begun to wait for it."""
    heard, wait, wait_async = Judged(), Settling.wait, Settling.wait_async
    guards = [check(gate, action="stop", name="mine")]

    def stop():
        gate.open.set()
        heard.wait_for(lambda event: event.closes == "run")

    def wait_late(settling, scope):
        stop()
        wait(settling, scope)

    async def wait_late_async(settling, scope):
        await asyncio.to_thread(stop)
        await wait_async(settling, scope)

    monkeypatch.setattr(Settling, "wait", wait_late)
    monkeypatch.setattr(Settling, "wait_async", wait_late_async)
    program, asynchronous = (
        streamll.instrument(each, fields="*", sinks=[heard], guards=guards)
        for each in (QA(), AsyncQA())
    )
    for call in (program, lambda question: asyncio.run(asynchronous.acall(question=question))):
        gate.open.clear()
        practice.script(REPLY)
        with pytest.raises(GuardStopped) as stopped:
            call(question="Why?")
        _check_stopped(legal(heard.events), stopped.value)
        heard.events.clear()


def test_a_reader_in_time_is_told_of_a_timeout_as_its_caller_is(lm, practice, gate, monkeypatch):
    """The total timeout passes when the run's end is held back, and nobody has begun to wait for it."""
    heard, wait = Judged(), Settling.wait

    def wait_late(settling, scope):
        heard.wait_for(lambda event: event.closes == "run")
        wait(settling, scope)

    monkeypatch.setattr(Settling, "wait", wait_late)
    practice.script(REPLY)
    config = streamll.StreamConfig(timeout=2)
    stream = streamll.stream(QA(), sinks=[heard], guards=[check(gate)], config=config)
    with stream(question="Why?") as events, pytest.raises(TotalTimeout):
        list(events)
    assert legal(heard.events)[-1].error_type == "TotalTimeout"


def test_what_is_held_when_the_reader_leaves_is_withheld(
    lm, practice, gate, new_threads, monkeypatch
):
    monkeypatch.setattr(running, "CANCEL_GRACE_S", BOUND)  # or its last events may not be read
    heard = Judged()
    practice.script(REPLY)
    stream = streamll.stream(QA(), sinks=[heard], guards=[check(gate)])
    with stream(question="Why?") as events:
        assert gate.reached.wait(BOUND)
        events.cancel()
        seen = []
        with pytest.raises(StreamCancelled):
            seen.extend(events)
        assert seen[-1].closes == "run"  # and nobody has waited for the check
    gate.open.set()
    legal(heard.events)
    assert heard.text("answer") in ("One is good. ", "")
    assert not heard.of("guarded")
    for thread in new_threads("streamll "):
        thread.join(BOUND)


def test_a_program_that_was_left_shows_nothing_more(lm, practice, gate):
    """Its reader has gone while the reply is still coming."""
    heard = Judged()
    practice.script(Reply(LONG, hold_after=60))
    stream = streamll.stream(QA(), sinks=[heard], guards=[check(gate)])
    with stream(question="Why?"):
        assert gate.reached.wait(BOUND)
        heard.wait_for_first()
    heard.wait_for(lambda event: event.event_type == "run.cancelled")
    practice.release()
    legal(heard.events)
    assert heard.text("answer") == "One is good. "
    assert heard.events[-1].partial["generate.predict.answer"] == "One is good. "


def test_leaving_a_run_that_checks_hold_ends_it(lm, practice, gate):
    heard, program = Judged(), Twice()
    practice.script({"answer": "First."}, {"answer": REPLY["answer"]})
    with streamll.stream(program, sinks=[heard], guards=[check(gate)])(question="Why?"):
        assert program.returned.wait(BOUND)
        assert gate.reached.wait(BOUND)
        heard.wait_for_first()
    heard.wait_for(lambda event: event.closes == "run")
    legal(heard.events)
    assert heard.text("answer", predictor="two") == "One is good. "


def test_a_run_that_fails_tells_what_it_has_shown(practice, gate):
    dspy.configure(lm=practice.lm(num_retries=0), adapter=NO_FALLBACK)
    practice.script(Reply(LONG, fault=Fault(error_after=60)))
    heard = Judged()
    with streamll.stream(QA(), sinks=[heard], guards=[check(gate)])(question="Why?") as events:
        assert gate.reached.wait(BOUND)
        practice.requests[0].wait_finished(BOUND)
        heard.wait_for_first()
        assert heard.text("answer") == "One is good. "
        gate.open.set()
        with pytest.raises(LM_ERROR):
            list(events)
    legal(heard.events)
    assert heard.text("answer").startswith(SHOWN)
    assert heard.events[-1].partial["generate.predict.answer"] == heard.text("answer")


def test_a_time_limit_ends_a_run_that_checks_hold(lm, practice, gate):
    config = streamll.StreamConfig(timeout=0.5)
    program = Twice()
    practice.script({"answer": "First."}, {"answer": REPLY["answer"]})
    stream = streamll.stream(program, config=config, guards=[check(gate)])
    with stream(question="Why?") as events, pytest.raises(streamll.TotalTimeout):
        events.result()


# --- what is asked --------------------------------------------------------------------------------


def test_each_sentence_is_asked_about_once(lm, practice):
    gate = Gate("nothing")
    practice.script(REPLY)
    seen = Heard()
    include = ["inputs", "outputs", "prompts", "errors"]
    with streamll.configure(include=include, sinks=[seen], guards=[check(gate)]):
        streamll.instrument(QA(), fields="*")(question="Why is it bad? Tell me.")
    legal(seen.events)
    assert len(gate.asked) == len(set(gate.asked))
    assert {"One is good.", "Two is bad.", "Three is good.", "Why is it bad?"} <= set(gate.asked)
    assert seen.events[0].inputs["question"] == "[-] Tell me."
    assert seen.events[-1].outputs["answer"] == SHOWN
    assert "is bad" not in repr(seen.events)


def test_what_other_guards_forbid_is_not_asked_about(lm, practice):
    gate = Gate("nothing")
    practice.script({"reasoning": "r", "answer": "Call 555-1234 now. Bye."})
    guards = [check(gate), Pattern(r"\d{3}-\d{4}", name="phone", mask="#")]
    with streamll.stream(QA(), guards=guards)(question="Why?") as events:
        seen = legal(list(events))
        assert events.text("answer") == "Call # now. Bye."
    assert "Call # now." in gate.asked
    assert [each.name for each in seen if each.event_type == "guarded"] == ["phone"]


def test_texts_that_do_not_stream(lm, practice):
    gate = Gate("nothing")

    def program(question):
        streamll.status("A bad status. And a good one.")
        streamll.emit("found", text="Bad news: a bad one.", count=3)
        raise ValueError("A bad error")

    heard = Heard()
    with streamll.configure(include=["errors"]):
        stream = streamll.stream(program, guards=[check(gate)], sinks=[heard])
        with stream("?") as events, pytest.raises(ValueError, match="bad"):
            list(events)
    legal(heard.events)
    assert heard.of("status")[0].message == "[-] And a good one."
    assert heard.of("found")[0].data["text"] == "[-]"
    assert heard.of("found")[0].data["count"] == 3
    assert heard.events[-1].message == "[-]"
    only = check(gate, fields=["answer"])
    with streamll.stream(program, guards=[only])("?") as events, pytest.raises(ValueError):  # noqa: PT011
        assert next(each for each in events if each.event_type == "status").message.startswith("A")
        list(events)


def test_values_are_checked_by_their_texts(lm, practice):
    program = dspy.Predict("question -> notes: list[str], count: int")
    practice.script({"notes": ["Good one. Bad one.", "A bad one. Fine."], "count": 3})
    gate = Gate("nothing")
    with streamll.stream(program, guards=[check(gate)])(question="Why?") as events:
        partials, seen = [], []
        for event in events:
            seen.append(event)
            if event.event_type == "field.partial" and event.field == "notes":
                partials.append(event.value)
        assert events.text("notes") == '["Good one. Bad one.", "[-] Fine."]'
    legal(seen)
    assert partials[-1] == ["Good one. Bad one.", "[-] Fine."]
    assert "a bad" not in repr(seen)
    assert "3" not in gate.asked


def test_thinking_is_checked(practice):
    lm = practice.lm("anthropic", model="claude-sonnet-4-5")
    dspy.configure(lm=lm)
    practice.script(Reply({"answer": "Yes."}, thinking="I know. This is bad. So it is"))
    qa = dspy.Predict("question -> answer")
    with streamll.stream(qa, guards=[forbids_bad()])(question="Why?") as events:
        seen = legal(list(events))
    thought = "".join(each.text for each in seen if each.event_type == "thinking")
    assert thought == "I know. [-] So it is"


# --- what checks do -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_streamed", [False, True])
def test_what_a_check_calls_is_no_part_of_the_run(lm, practice, is_streamed):
    judge = streamll.instrument(dspy.Predict("text -> verdict"))
    asked = []

    def judges(text):
        asked.append(text)
        streamll.status(f"its own: {text}")
        if not is_streamed:
            return "good" in judge(text=text).verdict
        with streamll.stream(judge)(text=text) as events:
            return "good" in events.result().verdict

    def replies(request):
        is_judge = "verdict" in {field.name for field in request.prompt.fields}
        return {"verdict": "good"} if is_judge else {"reasoning": "It is.", "answer": "Yes. No."}

    practice.respond(replies)
    program, heard = QA(), Heard()
    with streamll.configure(sinks=[heard], guards=[check(judges)]):
        with streamll.stream(program)(question="Why?") as events:
            seen = legal(list(events))
            assert events.text("answer") == "Yes. No."
    assert sorted(asked) == ["It is.", "No.", "Yes."]
    assert "lm.end" in [each.event_type for each in seen]
    assert len([each for each in seen if isinstance(each, LMEnd)]) == 1
    assert len(heard.runs()) == 1
    assert "its own" not in repr(heard.events)
    assert len(judge.history) == len(asked)
    assert len(program.history) == 1


def test_two_runs_at_once(lm, practice, gate):
    practice.script(REPLY, REPLY)
    stream = streamll.stream(QA(), guards=[check(gate)])
    with stream(question="1") as first, stream(question="2") as second:
        assert gate.reached.wait(BOUND)
        gate.open.set()
        for events in (first, second):
            legal(list(events))
            assert events.text("answer") == SHOWN


def test_an_inner_stream_has_all_its_events(lm, practice, gate):
    inner = dspy.Predict("question -> answer")
    practice.script({"answer": REPLY["answer"]})

    def program(question):
        with streamll.stream(inner)(question=question) as events:
            assert gate.reached.wait(BOUND)
            threading.Timer(SHORT, gate.open.set).start()
            events.result()
            return events.text("answer")

    with streamll.stream(program, guards=[check(gate)])("Why?") as events:
        seen = legal(list(events))
        assert events.result() == SHOWN
    assert seen


@pytest.mark.parametrize("is_async", [False, True])
def test_a_result_is_checked_where_that_is_asked_for(lm, practice, is_async):
    guards = [forbids_bad(result=True, fields=["answer"])]
    program = streamll.instrument(Telling() if is_async else QA(), guards=guards, sinks=[Heard()])
    practice.script(REPLY)
    result = asyncio.run(program.acall(question="Why?")) if is_async else program(question="Why?")
    assert (result.answer, result.reasoning) == (SHOWN, REPLY["reasoning"])


def test_a_sync_call_on_a_loop_does_not_wait_for_that_loop(lm, practice):
    async def judges(text):
        return "bad" not in text

    async def main():
        practice.script(REPLY)
        guards = [check(judges)]
        return streamll.instrument(QA(), fields="*", sinks=[heard], guards=guards)(question="Why?")

    heard: Any = Heard()
    asyncio.run(main())
    legal(heard.events)
    assert heard.text("answer") == SHOWN


def test_streamify_yields_what_checks_let_out(lm, practice, gate):
    practice.script(REPLY)
    gate.open.set()
    with streamll.configure(guards=[check(gate)]):
        listener = streamll.StreamListener("answer")
        stream = streamll.streamify(QA(), stream_listeners=[listener], async_streaming=False)
        *chunks, prediction = list(stream(question="Why?"))
    assert "".join(each.chunk for each in chunks if hasattr(each, "chunk")) == SHOWN
    assert prediction.answer == REPLY["answer"]


def test_an_event_outside_of_runs_waits_as_well(gate):
    heard = Judged()
    with streamll.configure(sinks=[heard], guards=[check(gate)]):
        streamll.status("One. Two is bad.")
        streamll.status("Three.")
        assert gate.reached.wait(BOUND)
        assert not heard.events
    gate.open.set()
    heard.wait_for(lambda event: event.message == "Three.")
    assert [event.message for event in heard.events] == ["One. [-]", "Three."]


class Many(dspy.Module):
    def __init__(self):
        super().__init__()
        self.one = dspy.Predict("question -> answer")
        self.two = dspy.ChainOfThought("question -> notes: list[str], answer")

    def forward(self, question):
        asked = dspy.Example(question=question).with_inputs("question")
        pairs = [(each, asked) for each in (self.one, self.two)] * 3
        with streamll.trace("all"):
            return dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)


@pytest.mark.parametrize("is_async", [False, True])
def test_many_calls_at_once_stay_in_a_legal_order(lm, practice, is_async):
    text = " ".join(f"This is {'rotten' if number % 4 == 3 else 'good'}." for number in range(12))
    reply = {"reasoning": text, "notes": [text, "Good.\nRotten? rotten"], "answer": text}
    practice.respond(
        lambda request: {field.name: reply[field.name] for field in request.prompt.fields}
    )

    async def judges_async(text):
        await asyncio.sleep(0)
        return "rotten" not in text

    guards = [
        check(judges_async if is_async else lambda text: "rotten" not in text),
        check(lambda text: "otte" not in text, unit=9, fields=["two.predict.answer"], mask="."),
    ]
    with streamll.configure(include=["inputs", "outputs"]):
        with streamll.stream(Many(), guards=guards)(question="Why?") as events:
            seen = legal(list(events))
    assert "rotten" not in repr(seen)
    assert {each.kind for each in seen if each.event_type == "guarded"} == {"check"}
    ends = [each for each in seen if each.event_type == "module.end" and each.predictor == "one"]
    assert len(ends) == 3
    for end in ends:
        tokens = [e for e in seen if e.event_type == "token" and e.call_id == end.call_id]
        shown = "".join(each.token for each in tokens)
        assert shown == end.outputs["answer"] == text.replace("This is rotten.", "[-]")
