"""Asking functions: where they run, what counts as a yes, and what is left when nobody waits."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes import LIMITS_S
from patience import BOUND

from streamll.core.errors import ConfigurationError
from streamll.guards import Check as AnyCheck
from streamll.guards.checked import CheckedString, CheckedText
from streamll.guards.checks import Inquiries, Threads, inside_check
from streamll.guards.values import ValueGuard
from streamll.guards.verdicts import Asking as Asked
from streamll.guards.verdicts import Verdicts

Check = functools.partial(AnyCheck, timeout=BOUND)
"""Late only where a test says when."""

SHORT = 0.02
"""A time limit that is to pass."""


class Asking:
    """The inquiries of one run, for whoever waits in a thread."""

    def __init__(self):
        self.lock = threading.RLock()
        self.inquiries = Inquiries(self.lock)

    def ask(self, check, text="text"):
        with self.lock:
            return self.inquiries.ask(check, text)

    def verdict(self, check, text="text"):
        return self.settled(self.ask(check, text)).verdict

    def settled(self, inquiry):
        done = threading.Event()
        with self.lock:
            if inquiry.verdict is not None:
                return inquiry
            inquiry.then.append(lambda _: done.set())
        assert done.wait(BOUND)
        return inquiry


@pytest.fixture
def asking():
    return Asking()


async def says_yes(text):
    await asyncio.sleep(0)
    return True


class Judge:
    async def __call__(self, text):
        return "bad" not in text


def raises(text):
    raise ValueError(text)


@pytest.mark.parametrize(
    ("function", "verdict"),
    [
        (lambda text: True, True),
        (lambda text: False, False),
        (says_yes, True),
        (functools.partial(says_yes), True),
        (lambda text: says_yes(text), True),
        (Judge(), True),
        (lambda text: None, False),
        (lambda text: 1, False),
        (lambda text: "yes", False),
        (raises, False),
    ],
)
def test_only_true_is_a_yes(asking, function, verdict):
    assert asking.verdict(Check(function)) is verdict
    assert not asking.inquiries.pending


@pytest.mark.parametrize("function", [raises, lambda text: 1])
def test_a_check_that_fails_may_let_out(asking, function, caplog):
    allows = Check(function, name="mine", when_failed="allow")
    with caplog.at_level(logging.WARNING, "streamll"):
        assert asking.verdict(allows, "secret 1") is True
        assert asking.verdict(allows, "secret 2") is True
    (logged,) = caplog.messages
    assert "mine" in logged
    assert "secret" not in logged


@pytest.mark.parametrize("when_late", ["forbid", "allow"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_check_that_is_late(asking, when_late, is_async, new_threads):
    gate, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def waits(text):
        begun.set()
        gate.wait(BOUND)
        return True

    async def waits_async(text):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    for limit in LIMITS_S:  # on a busy machine it has not begun within a short one
        check = Check(waits_async if is_async else waits, timeout=limit, when_late=when_late)
        assert asking.verdict(check) is (when_late == "allow")
        if begun.is_set():
            break
    gate.set()
    if is_async:
        assert ended.wait(BOUND)  # it was cancelled
    assert asking.verdict(check) is (when_late == "allow")  # that it said yes later changes nothing


def test_a_unit_is_asked_about_once(asking):
    asked = []

    def function(text):
        asked.append(text)
        return True

    check, other = Check(function), Check(function)
    first = asking.ask(check, "a")
    assert asking.ask(check, "a") is first
    for each in (check, check, other):
        assert asking.verdict(each, "a")
    assert asking.verdict(check, "b")
    assert sorted(asked) == ["a", "a", "b"]


def test_its_context_is_that_of_the_place_where_it_is_asked(asking):
    name = contextvars.ContextVar("name", default="")
    name.set("here")
    found = []

    def function(text):
        found.append((name.get(), inside_check.get()))
        name.set("changed")
        return True

    async def function_async(text):
        return function(text)

    assert asking.verdict(Check(function))
    assert asking.verdict(Check(function_async))
    assert found == [("here", True)] * 2
    assert (name.get(), inside_check.get()) == ("here", False)


def test_a_run_that_was_left_asks_no_more(asking):
    gate, begun, ended = threading.Event(), threading.Event(), threading.Event()

    async def waits(text):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    pending = [asking.ask(Check(lambda text: gate.wait(BOUND))), asking.ask(Check(waits))]
    assert begun.wait(BOUND)
    told = []
    for each in pending:
        each.then.append(told.append)
    asking.inquiries.close()
    assert set(told) == set(pending)
    assert all(each.verdict is False and each.is_withheld for each in pending)
    assert ended.wait(BOUND)
    gate.set()
    assert asking.ask(Check(says_yes)).is_withheld


def test_an_async_check_runs_on_the_loop_that_awaits_the_run(asking):
    loops = []

    async def function(text):
        loops.append(asyncio.get_running_loop())
        return True

    async def main():
        asking.inquiries.loop = asyncio.get_running_loop()
        inquiry = asking.ask(Check(function))
        await asyncio.to_thread(asking.settled, inquiry)
        await asyncio.to_thread(asking.verdict, Check(function), "from a thread")
        return asyncio.get_running_loop()

    loop = asyncio.run(main())
    assert loops[0] is loop
    assert loops[1] is not loop


def test_a_blocked_loop_blocks_no_verdict(asking):
    """The thread that waits may be that of the loop."""
    loops = []

    async def function(text):
        loops.append(asyncio.get_running_loop())
        return True

    async def main():
        asking.inquiries.loop = asyncio.get_running_loop()
        for limit in LIMITS_S:  # within a short one no other loop may begin on a busy machine
            if asking.verdict(Check(function, timeout=limit)):
                return asyncio.get_running_loop()
        return pytest.fail("no verdict")

    assert asyncio.run(main()) not in loops


def test_of_many_async_checks_a_few_run_at_once(asking):
    running, most = 0, 0

    async def function(text):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return True

    check = Check(function)
    inquiries = [asking.ask(check, str(number)) for number in range(100)]
    assert all(asking.settled(each).verdict for each in inquiries)
    assert most <= 16


def test_a_coroutine_that_nobody_awaits_any_more_is_closed(asking):
    ready, go = threading.Event(), threading.Event()

    def function(text):
        ready.set()
        go.wait(BOUND)
        return says_yes(text)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asking.ask(Check(function))
        assert ready.wait(BOUND)
        asking.inquiries.close()
        go.set()
        assert Asking().verdict(Check(function))


# --- threads --------------------------------------------------------------------------------------


def test_threads_are_few_and_end(new_threads):
    threads, gate = Threads(size=2, idle=SHORT), threading.Event()
    started = threading.Semaphore(0)

    def call():
        started.release()
        gate.wait(BOUND)

    for _ in range(5):
        threads.submit(call, pytest.fail)
    for _ in range(2):
        assert started.acquire(timeout=BOUND)
    assert not started.acquire(blocking=False)
    assert len(new_threads("streamll-check")) == 2
    gate.set()
    for thread in new_threads("streamll-check"):
        thread.join(BOUND)
    assert not new_threads("streamll-check")


def test_a_late_function_gives_up_its_place(new_threads):
    threads, gate = Threads(size=1, late=1, idle=SHORT), threading.Event()
    begun, refused = threading.Semaphore(0), threading.Event()

    def call():
        begun.release()
        gate.wait(BOUND)

    late = []
    for _ in range(2):  # the second one has the place of the first
        late.append(threads.submit(call, refused.set))
        assert begun.acquire(timeout=BOUND)
        threads.give_up(late[-1])
    threads.submit(call, refused.set)  # too many are stuck
    assert refused.wait(BOUND)
    gate.set()
    for thread in new_threads("streamll-check"):
        thread.join(BOUND)
    done = threading.Event()
    threads.submit(done.set, pytest.fail)
    assert done.wait(BOUND)


# --- texts ----------------------------------------------------------------------------------------


def released(asking, checks, pieces):
    """What goes out of a text in pieces, with what was found and who has closed it."""
    text = CheckedText(checks, asking.inquiries)
    with asking.lock:
        parts = [part for piece in pieces for part in text.feed(piece)]
        parts += text.finish()
    out = []
    for part in parts:
        for inquiry in part.inquiries:
            asking.settled(inquiry)
        out.append(text.release(part))
    return out, [(hit.guard.name, hit.offset) for hit in text.hits], text.closed_by


def forbids(word, **options):
    return Check(lambda text: word not in text, **{"mask": "[-]", **options})


@pytest.mark.parametrize(
    ("checks", "text", "out", "hits"),
    [
        ([forbids("bad")], "One. A bad one.  Two.", ["One. ", "[-] ", " Two."], [("check", 5)]),
        ([forbids("bad")], "bad. bad. ok", ["[-] ", "[-] ", "ok"], [("check", 0), ("check", 4)]),
        ([forbids("b", unit=2)], "aabbbbaa", ["aa", "[-]", "", "aa"], [("check", 2)]),
        (
            [forbids("two", name="s"), forbids("four", unit="line", name="l")],
            "One. Two two.\nThree. Four four.\nEnd.",
            ["One. ", "[-]\n", "[-]", "\n", "End."],
            [("s", 5), ("l", 9)],
        ),
        ([forbids("bad", action="drop")], "One. A bad. Two.", ["One. ", "", ""], [("check", 5)]),
        (
            [forbids("One"), forbids("bad", unit="field")],
            "One. Two. ",
            ["[-] ", "Two. "],
            [("check", 0)],
        ),
        ([forbids("One"), forbids("Two", unit="field", mask="x")], "One. Two.", ["[-]", ""], None),
    ],
)
def test_what_goes_out(asking, checks, text, out, hits):
    found = released(asking, checks, [text])
    joined = released(Asking(), checks, text)
    assert "".join(found[0]) == "".join(joined[0])
    assert found[1:] == joined[1:]
    assert [each for each in found[0] if each] == [each for each in out if each]
    if hits is not None:
        assert found[1] == hits


@given(
    st.lists(st.text(alphabet="abx. \n", max_size=6), max_size=8),
    st.lists(st.sampled_from(["sentence", "line", "field", 1, 3]), min_size=1, max_size=3),
)
def test_what_goes_out_does_not_depend_on_pieces(pieces, units):
    checks = [Check(lambda text: "x" not in text, unit=unit, mask="#") for unit in units]
    text = "".join(pieces)
    parts, hits, _ = released(Asking(), checks, pieces)
    whole, found, _ = released(Asking(), checks, [text])
    assert "".join(parts) == "".join(whole)
    assert hits == found
    assert "x" not in "".join(parts)
    if "x" not in text:
        assert "".join(parts) == text


def test_nothing_after_what_has_no_verdict(asking):
    gate = threading.Event()
    check = Check(lambda text: text != "Two." or gate.wait(BOUND))
    with asking.lock:
        text = CheckedText([check], asking.inquiries)
        one, two, three = text.feed("One. Two. Three. ")
    asking.settled(one.units[0].inquiry)
    asking.settled(three.units[0].inquiry)
    assert text.release(one) == "One. "
    asking.inquiries.close()
    assert (text.release(two), text.release(three)) == ("", "")
    assert text.closed
    assert not text.hits
    gate.set()


def test_a_whole_text(asking):
    with asking.lock:
        string = CheckedString([forbids("bad")], asking.inquiries, "One. A bad one.")
    for inquiry in string.inquiries:
        asking.settled(inquiry)
    assert string.release()[0] == "One. [-]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('["A bad one. Fine."]', '["[-] Fine."]'),
        ('{"a": "bad", "b": [1, "ok"]}', '{"a": "[-]", "b": [1, "ok"]}'),
        ('{"a": "bad", "a": "ok"}', "[-]"),  # of the members that a parser shows, none is
        ('["not closed. bad', '["not closed. [-]'),
    ],
)
def test_a_value_in_json(asking, text, shown):
    checks, found = (forbids("bad"),), []
    with asking.lock:
        Asked(asking.inquiries, found, checks).whole(text, "json")
    for inquiry in found:
        asking.settled(inquiry)
    assert Verdicts(asking.inquiries, checks).whole(text, "json")[0] == shown


def test_whole_texts_without_a_verdict_are_withheld(asking):
    asking.inquiries.close()
    values = ValueGuard(Verdicts(asking.inquiries, (Check(says_yes),)))
    assert values.value({"a": ["One. Two.", 3]}) == {"a": ["", 3]}
    assert not values.hits


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"function": "text"}, "function"),
        ({"unit": "word"}, "unit"),
        ({"unit": 0}, "unit"),
        ({"unit": True}, "unit"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"when_late": "open"}, "when_late"),
        ({"when_failed": None}, "when_failed"),
        ({"action": "hide"}, "action"),
    ],
)
def test_an_option_that_cannot_work_is_named(options, named):
    with pytest.raises(ConfigurationError, match=f"guard 'mine': {named} must be"):
        Check(**{"function": says_yes, "name": "mine", **options})


def test_two_checks_are_two():
    assert Check(says_yes) != Check(says_yes)
    assert len({Check(says_yes), Check(Judge())}) == 2
