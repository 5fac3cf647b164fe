"""X10: the tokens of a run are those that the provider counted, however its calls end, or unknown.

Every end of a call, on every wire, by DSPy's own engine and through LiteLLM. What is expected is
read off the practice server: the counts of the replies that it has sent whole, and of the others
what its wire says before the end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from profiles import THOROUGH
from programs import Heard, Noticing

import streamll
from streamll.capture.policy import call
from streamll.core.run_view import RunView
from streamll.core.usage import COUNTS, NONE_USED, UNKNOWN, Sums, Tokens
from streamll.core.wire import decode, encode
from streamll.flow.config import StreamConfig
from streamll.testing import Fault, Reply, Usage

pytestmark = pytest.mark.since_3_4

WIRES = ("openai", "responses", "anthropic", "gemini")
ENGINES = ("native", "litellm")
COUNTED = Usage(
    input_tokens=120, output_tokens=40, cached_tokens=64, reasoning_tokens=9, cache_write_tokens=16
)
TEXT = {"answer": "Nine lives, they say, and no cat was ever asked."}
CUT_AFTER = 12
AT_ONCE = {"retry_delay": 0.0}


def whole(**options: Any) -> Reply:
    return Reply(TEXT, usage=COUNTED, **options)


def ending_early(**fault: Any) -> Reply:
    return whole(fault=Fault(**fault))


REFUSED = Reply(TEXT, fault=Fault(status=429, retry_after=0))


@dataclass
class End:
    """A way for a call to end.

    ``replies`` are scripted; ``sent`` says of each request what of its reply was sent: ``whole``,
    ``part`` of it, or ``nothing``. ``lm`` are options of the LM, ``config`` of the stream.
    """

    replies: list[Any]
    sent: str
    lm: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    leaves: bool = False
    fails: bool = False
    signature: str = "question -> answer"
    wires: tuple[str, ...] = WIRES
    engines: tuple[str, ...] = ENGINES
    without: str = ""
    fallback: str | None = None  # the wire of the model that is asked if the first one fails

    def plays(self, number: int) -> list[tuple[str, str]]:
        """All engines and wires if there is time; else each engine on the next wire, in turn."""
        played = []
        for turn, engine in enumerate(self.engines, number):
            wires = [wire for wire in self.wires if self.without != f"{engine} {wire}"]
            chosen = wires if THOROUGH else [wires[turn % len(wires)]]
            played += [(engine, wire) for wire in chosen]
        return played


CUT = ending_early(disconnect_after=CUT_AFTER)
LIMITS: dict[str, Any] = {"breaker": None, "max_retries": 2, "timeout": 300, **AT_ONCE}
ENDS = {
    "whole": End([whole()], "whole"),
    "in one piece although a stream was asked for": End([ending_early(plain_json=True)], "whole"),
    "with a reply that ends at its limit": End([whole(finish_reason="length")], "whole"),
    "cancelled": End([whole(hold_after=CUT_AFTER)], "part", leaves=True),
    "cut": End([CUT], "part", lm={"num_retries": 0}, fails=True),
    "cut, then superseded": End([CUT, whole()], "part whole", lm={"num_retries": 1}),
    "an error in the stream, then superseded": End(
        [ending_early(error_after=CUT_AFTER, error_type="overloaded_error"), whole()],
        "part whole",
        lm={"num_retries": 1},
    ),
    "refused, then superseded": End([REFUSED, whole()], "nothing whole", lm={"num_retries": 1}),
    "refused": End([REFUSED], "nothing", lm={"num_retries": 0}, fails=True),
    "restarted by a config": End([CUT, whole()], "part whole", config={"on_partial": "restart"}),
    "continued by a config": End(
        [
            ending_early(disconnect_after=20),
            Reply(" knows.\n\n[[ ## completed ## ]]", usage=COUNTED),
        ],
        "part whole",
        config={"on_partial": "continue"},
        wires=("openai", "responses", "anthropic"),
        engines=("native",),
    ),
    "a continuation that starts over": End(
        [ending_early(disconnect_after=20), whole()],
        "part whole",
        config={"on_partial": "continue"},
        wires=("openai", "anthropic"),
        engines=("native",),
    ),
    "silent until a timeout, then superseded": End(
        [ending_early(stall_after=CUT_AFTER), whole()],
        "part whole",
        config={"idle_timeout": 10.0, "retry_timeouts": True},  # a busy server makes no silence
        wires=("anthropic",),
    ),
    "given up after two attempts": End(
        [CUT, CUT], "part part", config={"on_partial": "restart", "max_retries": 1}, fails=True
    ),
    "failed, then answered by another model": End(
        [CUT, whole()],
        "part whole",
        config={"max_retries": 0},
        fallback="anthropic",
    ),
    "refused, then answered by another model": End(
        [REFUSED, whole()],
        "nothing whole",
        config={"max_retries": 0},
        fallback="openai",
    ),
    "n=2": End(
        [whole(), whole()],
        "whole",
        lm={"n": 2, "temperature": 1.0},
        without="litellm anthropic",  # it refuses
    ),
    "n=2, one of them cut": End(
        [whole(), CUT],
        "whole part",
        lm={"n": 2, "temperature": 1.0, "num_retries": 0},
        fails=True,
        wires=("anthropic", "responses"),
        engines=("native",),
    ),
    "parsed by the fallback alone": End([Reply("no field", usage=COUNTED), whole()], "whole whole"),
}
PLAYED = [
    pytest.param(name, wire, engine, id=f"{name} ({engine} {wire})")
    for number, (name, end) in enumerate(ENDS.items())
    for engine, wire in end.plays(number)
]


def counted(usage: Usage, wire: str) -> Tokens:
    """A whole reply as its wire reports it."""
    return Tokens(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        None if wire == "gemini" else usage.cache_write_tokens,
        None if wire == "anthropic" else usage.reasoning_tokens,
    )


def said_before_the_end(usage: Usage, wire: str, chunks: int) -> Tokens:
    """What a wire has reported of a reply of which ``chunks`` were sent."""
    if wire == "anthropic":
        whole = counted(usage, wire)
        return whole._replace(completion_tokens=None, reasoning_tokens=None)
    if wire == "gemini":
        return Tokens(usage.input_tokens, min(chunks, usage.output_tokens))
    return UNKNOWN


def expected(end: End, wire: str, requests: list[Any]) -> list[Tokens]:
    """What each request has used, by what was sent of its reply."""
    sent = end.sent.split()
    if len(requests) > len(sent):
        sent += [sent[-1]] * (len(requests) - len(sent))
    counts = []
    wires = dict.fromkeys(("practice-model",), wire) | {"another-model": end.fallback}
    for request, how in zip(requests, sent, strict=True):
        wire = wires[request.model]
        if how == "whole":
            assert request.status == 200
            counts.append(counted(request.usage, wire))
        elif how == "part":
            counts.append(said_before_the_end(request.usage, wire, request.chunks_sent))
        else:
            assert request.status >= 400
            counts.append(NONE_USED)
    return counts


def played(end: End, practice: Any, wire: str, engine: str, *, asynchronous: bool) -> Heard:
    settings = {"engine": "lm15" if engine == "native" else "litellm", **end.lm}
    if engine == "litellm":
        settings["max_retries"] = 0  # of the SDK beneath it
    adapter = dspy.ChatAdapter()
    heard = Noticing()
    options = None if end.config is None else {**LIMITS, **end.config}
    if options is not None and end.fallback is not None:
        options["fallbacks"] = [practice.lm(end.fallback, "another-model", engine="lm15")]
    config = None if options is None else StreamConfig(**options)
    program = dspy.Predict(end.signature)
    program.set_lm(practice.lm(wire, **settings))
    stream = streamll.stream(program, config=config, sinks=[heard])

    def read() -> Any:
        with stream(question="How many lives?") as events:
            for event in events:
                if end.leaves and event.event_type == "token":
                    practice.requests[-1].wait_held()
                    return None
            return events.result()

    async def aread() -> Any:
        async with stream(question="How many lives?") as events:
            async for event in events:
                if end.leaves and event.event_type == "token":
                    await asyncio.to_thread(practice.requests[-1].wait_held)
                    return None
            return await events.result()

    with dspy.context(adapter=adapter):
        if end.fails:
            with pytest.raises(Exception, match=r"."):
                asyncio.run(aread()) if asynchronous else read()
        else:
            asyncio.run(aread()) if asynchronous else read()
    heard.wait_for(lambda event: event.closes == "run")  # a program that was left ends by itself
    return heard


@pytest.mark.parametrize(
    "asynchronous", [False, True] if THOROUGH else [False], ids=lambda a: "a" * a
)
@pytest.mark.parametrize(("name", "wire", "engine"), PLAYED)
def test_the_tokens_are_those_the_provider_counted_or_unknown(
    practice, name, wire, engine, asynchronous, monkeypatch
):
    monkeypatch.setattr(call, "grace", lambda limit: 60)  # for the program to end a silent attempt
    end = ENDS[name]
    practice.script(*end.replies)
    heard = played(end, practice, wire, engine, asynchronous=asynchronous)
    requests = expected(end, wire, practice.requests)
    sums = Sums()
    for request, tokens in zip(practice.requests, requests, strict=True):
        sums.add(request.model, tokens)
    last = heard.events[-1]
    assert Tokens(*(getattr(last, each) for each in COUNTS)) == sums.tokens
    assert sum(usage.unreported for usage in last.usage) == sum(not t.known for t in requests)
    check_models(last, sums)
    view = RunView()
    for event in heard.events:
        view.feed(event)
    assert view.used() == {name: getattr(last, name) for name in view.used()}


class Priced(dspy.BaseLM):
    """An LM of somebody's own that reports its cost as it likes."""

    def __init__(self, cost: Any) -> None:
        super().__init__(model="own/model", cache=False)
        self.cost = cost

    def forward(self, prompt: Any = None, messages: Any = None, **_: Any) -> Any:
        text = "[[ ## answer ## ]]\nhi\n\n[[ ## completed ## ]]"
        message = SimpleNamespace(content=text, tool_calls=None, reasoning_content=None)
        choice = SimpleNamespace(message=message, finish_reason="stop", index=0)
        return SimpleNamespace(
            choices=[choice], model="own/model", _hidden_params={"response_cost": self.cost},
            usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("cost", "told"),
    [("0.5", 0.5), (Decimal("0.25"), 0.25), (1, 1.0), (True, None), ("?", None), (float("nan"), None)],
)  # fmt: skip
def test_a_cost_is_a_number_or_not_known(cost, told):
    """However it is reported, the program goes on, and its events can be read from a log."""
    qa = dspy.Predict("question -> answer")
    with dspy.context(lm=Priced(cost), adapter=dspy.ChatAdapter()):
        with streamll.stream(lambda: [qa(question="q"), qa(question="q")])() as events:
            seen = list(events)
            assert events.result()[0].answer == "hi"
    *calls, end = (
        decode(encode(each)) for each in seen if each.event_type in ("lm.end", "run.end")
    )
    assert [call.cost for call in calls] == [told, told]
    assert end.cost == (None if told is None else 2 * told)


def check_models(last: Any, sums: Sums) -> None:
    """What was reported is counted by model, also where the whole is not known."""
    names = (*COUNTS, "unreported")

    def by_model(usages: Any) -> dict[str, list[Any]]:
        return {
            usage.model.rpartition("/")[2]: [getattr(usage, name) for name in names]
            for usage in usages
        }

    assert by_model(last.usage) == by_model(sums.by_model)
