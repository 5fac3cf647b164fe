"""Tools that ask a person first."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import inspect
import json
from typing import Any, get_type_hints

import dspy
import msgspec
import pytest

import streamll
import streamll.guards
from serve.npm import run_node
from streamll.core.errors import ConfigurationError, NobodyToAsk, WrongAnswer
from streamll.core.ordering import OrderCheck

sent = []


def send_mail(to: str, copies: int = 1, on: dt.date | None = None) -> str:
    """Send a mail."""
    sent.append((to, copies, on))
    return f"sent to {to}"


async def send_mail_async(to: str, copies: int = 1) -> str:
    """Send a mail."""
    await asyncio.sleep(0)
    return send_mail(to, copies)


@pytest.fixture(autouse=True)
def nothing_sent():
    sent.clear()


def turn(name, **arguments):
    return {"next_thought": "I see.", "next_tool_name": name, "next_tool_args": arguments}


@pytest.fixture
def agent(practice):
    """``agent(tool)``: a ReAct agent that sends one mail and says what it saw."""
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())

    def answer(request):
        text = request.messages[-1].text
        if "next_tool_name" not in request.messages[0].text:
            return {"reasoning": "Done.", "answer": text}
        if "observation_0" in text:
            return turn("finish")
        return turn("send_mail", to="ada@example.org", copies=2)

    practice.respond(answer)
    return lambda *tools: dspy.ReAct("question -> answer", tools=list(tools))


def run(program, answer, *, on_loop=False, **options):
    seen = []

    def see(events, event):
        seen.append(event)
        if event.event_type == "question":
            events.answer(event, answer)

    async def read():
        async with streamll.stream(program, **options)(question="x") as events:
            async for event in events:
                see(events, event)
            return events.value

    if on_loop:
        return seen, asyncio.run(read())
    with streamll.stream(program, **options)(question="x") as events:
        for event in events:
            see(events, event)
        return seen, events.value


ANSWERS = [
    (True, [("ada@example.org", 2, None)], "sent to ada@example.org"),
    ({"allow": True, "arguments": {"copies": 5}}, [("ada@example.org", 5, None)], "sent to ada"),
    (
        {"allow": False, "reason": "Ada is away"},
        [],
        "The call of send_mail was refused: Ada is away",
    ),
    (False, [], "The call of send_mail was refused"),
]


@pytest.mark.parametrize("on_loop", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("said", "mails", "observed"), ANSWERS)
def test_an_agent_goes_on_with_what_a_person_decided(agent, said, mails, observed, on_loop):
    """A sync and an async tool; the agent sees the refusal as the tool's result."""
    tool = dspy.Tool(send_mail_async, name="send_mail") if on_loop else send_mail
    seen, value = run(agent(streamll.approve(tool)), said, on_loop=on_loop)
    assert sent == mails
    assert observed in value.trajectory["observation_0"]
    question = next(event for event in seen if event.event_type == "question")
    assert (question.tool, question.arguments) == (
        "send_mail", {"to": "ada@example.org", "copies": 2},
    )  # fmt: skip
    assert question.path[-1] == "send_mail"  # inside the tool's call
    OrderCheck().check_all(seen)


@pytest.mark.parametrize("names", [["send_mail"], "*"])
@pytest.mark.parametrize("on_loop", [False, True], ids=["sync", "async"])
def test_the_tools_of_an_agent_one_cannot_edit(agent, names, on_loop):
    """``instrument(approve=…)``; an async agent calls a sync tool on its event loop."""
    program = agent(send_mail)
    _, value = run(program, answer=True, on_loop=on_loop)
    assert len(sent) == 1
    streamll.instrument(program, approve=names, sinks=[])
    seen, value = run(program, {"allow": False, "reason": "No."}, on_loop=on_loop)
    assert len(sent) == 1
    assert value.trajectory["observation_0"] == "The call of send_mail was refused: No."
    asked = [event.tool for event in seen if event.event_type == "question"]
    assert asked == (["send_mail"] if names == ["send_mail"] else ["send_mail", "finish"])


def test_a_function_stays_a_function():
    asks = streamll.approve(send_mail, when=lambda to, copies=1, on=None: copies > 1)

    class Sends(dspy.Module):
        def forward(self, **_):
            return [asks("ada"), asks("bob", 2), asks(to="eve", copies=3)]

    _, value = run(Sends(), {"allow": True, "arguments": {"on": "2027-01-02", "to": "joe"}})
    assert sent == [
        ("ada", 1, None), ("joe", 2, dt.date(2027, 1, 2)), ("joe", 3, dt.date(2027, 1, 2)),
    ]  # fmt: skip
    assert value == ["sent to ada", "sent to joe", "sent to joe"]
    assert dspy.Tool(asks).args == dspy.Tool(send_mail).args
    assert asks.__doc__ == "Send a mail."


def test_wrong_changes_are_named_and_the_question_stays_open():
    class Sends(dspy.Module):
        def forward(self, **_):
            return streamll.approve(send_mail)("ada")

    with streamll.stream(Sends())() as events:
        for event in events:
            if event.event_type == "question":
                for said, place in [
                    ("yes", "answer"),
                    ({"arguments": {}}, "answer"),
                    ({"allow": True, "arguments": {"copies": "many"}}, "answer.arguments.copies"),
                    ({"allow": True, "arguments": {"cc": "bob"}}, "answer.arguments"),
                    ({"allow": True, "arguments": {"on": "soon"}}, "answer.arguments.on"),
                ]:
                    with pytest.raises(WrongAnswer) as refused:
                        events.answer(event, said)
                    assert refused.value.problems[0].place == place
                events.answer(event, value=True)
        assert events.value == "sent to ada"


def test_what_is_not_to_be_shown_is_in_no_event():
    class Sends(dspy.Module):
        def forward(self, **_):
            return streamll.approve(send_mail, show=False)("a-secret-address")

    seen, _ = run(Sends(), {"allow": True, "arguments": {"to": "another-secret"}})
    assert sent == [("another-secret", 1, None)]
    assert "secret" not in repr(seen)


CARD, HIDDEN = "4111111111111111", "[card]"
ORDER = {
    "card": CARD,
    "lines": [{"name": "tea", "note": f"with {CARD}"}, {"name": "cup", "note": ""}],
}
EDITS = [  # by a page that sends back all that it has, as it has them
    ({}, ORDER),
    ({"card": "7"}, {**ORDER, "card": "7"}),
    (
        {"lines": [{"name": "tea", "note": f"with {HIDDEN}"}, {"name": "jug", "note": ""}]},
        {**ORDER, "lines": [ORDER["lines"][0], {"name": "jug", "note": ""}]},
    ),
    ({"lines": [{"name": "tea", "note": ""}]}, {**ORDER, "lines": [{"name": "tea", "note": ""}]}),
]


def mask(event):
    part = {"question": "arguments", "answer": "value"}.get(event.event_type)
    if part is None:
        return event
    shown = json.loads(json.dumps(getattr(event, part)).replace(CARD, HIDDEN))
    return msgspec.structs.replace(event, **{part: shown})


@pytest.mark.parametrize("masks", ["guards", "redact"])
@pytest.mark.parametrize(("edit", "ordered"), EDITS)
def test_what_comes_back_as_it_was_shown_is_not_changed(masks, edit, ordered):
    """A mask is what the person has seen of an argument, and not what they want it to be."""
    got, asked = [], []

    def order(when: dt.date, details: dict[str, Any]) -> None:
        got.append((when, details))

    class Orders(dspy.Module):
        def forward(self, **_):
            streamll.approve(order)(dt.date(2027, 1, 2), copy.deepcopy(ORDER))

    if masks == "redact":
        streamll.configure(redact=mask)
    guards = [streamll.guards.card_numbers(mask=HIDDEN)] if masks == "guards" else []
    with streamll.stream(Orders(), guards=guards)() as events:
        for event in events:
            if event.event_type == "question":
                asked.append(event.arguments)
                details = {**event.arguments["details"], **edit}
                changed = {**event.arguments, "details": details}
                events.answer(event, {"allow": True, "arguments": changed})
            elif event.event_type == "answer":
                told = event.value.get("arguments", {})
    assert [asked[0]["when"], asked[0]["details"]["card"]] == ["2027-01-02", HIDDEN]
    assert got == [(dt.date(2027, 1, 2), ordered)]
    assert sorted(told) == (["details"] if edit else [])
    assert CARD not in repr(told)


def test_true_is_a_change_of_one():
    got = []

    class Sets(dspy.Module):
        def forward(self, **_):
            streamll.approve(got.append)({"on": 1, "of": [1, 2]})

    for on, of in [(1, [1, 2]), (True, [1, True])]:
        run(Sets(), {"allow": True, "arguments": {"object": {"on": on, "of": of}}})
        assert repr(got.pop()) == repr({"on": on, "of": of})


NUMBERS = [
    1234567890123456789, -(2**53) - 1, 10**20 + 1, 10**22 + 1, 3.0, -0.0, 1e16, 1e21, 1e-7, 0.1 + 0.2, 5, 10**400,
    float("inf"), float("nan"),
]  # fmt: skip


def in_a_page(value):
    """The value as a page sends it that does nothing but read and write it."""
    text = msgspec.json.encode(value).decode()
    echo = "import fs from 'fs'; console.log(JSON.stringify(JSON.parse(JSON.parse(fs.readFileSync(0)))))"
    return run_node(echo, text)


def test_numbers_that_a_page_writes_otherwise_are_not_changed():
    got = []

    class Sets(dspy.Module):
        def forward(self, **_):
            streamll.approve(got.append)({"ids": NUMBERS, "of": NUMBERS[0]})

    back = in_a_page({"ids": NUMBERS, "of": NUMBERS[0]})
    assert repr(back["ids"]) != repr(NUMBERS)
    run(Sets(), {"allow": True, "arguments": {"object": back}})
    run(Sets(), {"allow": True, "arguments": {"object": {**back, "of": NUMBERS[0] + 1}}})
    same, edited = got
    assert repr(same) == repr({"ids": NUMBERS, "of": NUMBERS[0]})
    assert repr(edited) == repr({"ids": NUMBERS, "of": NUMBERS[0] + 1})


def test_where_nobody_can_be_asked():
    with pytest.raises(NobodyToAsk):
        streamll.approve(send_mail)("ada")
    assert "refused" in streamll.approve(send_mail, default=False)("ada")
    assert sent == []
    assert streamll.approve(send_mail, default=True)("ada") == "sent to ada"
    with pytest.raises(ConfigurationError, match="dspy.Tool or a function"):
        streamll.approve("send_mail")


def test_a_tool_that_asks_by_itself_is_asked_about_once(agent):
    """``when`` is the tool's own condition: who names it in ``instrument`` wants to be asked each time."""
    program = agent(streamll.approve(send_mail, when=lambda **_: False, show=False))
    streamll.instrument(program, approve=["send_mail"], sinks=[])
    seen, _ = run(program, answer=True)
    asked = [event for event in seen if event.event_type == "question"]
    assert [(event.tool, event.arguments) for event in asked] == [("send_mail", None)]
    assert len(sent) == 1


TOOLS = {
    "a list": lambda: [dspy.Tool(send_mail)],
    "tools by name": lambda: {"send_mail": dspy.Tool(send_mail)},
    "functions by name": lambda: {"send_mail": send_mail},
    "the caller's own": lambda: None,
    "some that ask": lambda: [dspy.Tool(streamll.approve(send_mail))],
}


@pytest.mark.parametrize("given", TOOLS)
@pytest.mark.parametrize("names", ["*", ["send_mail"], ["another"], []], ids=str)
def test_a_tool_that_a_program_executes_itself(given, names):
    call = dspy.ToolCalls.ToolCall(name="send_mail", args={"to": "ada"})

    class Executes(dspy.Module):
        def forward(self, **_):
            return call.execute(TOOLS[given]())

    program = streamll.instrument(Executes(), approve=names, sinks=[])
    seen, value = run(program, {"allow": False, "reason": "No."})
    asked = [event.tool for event in seen if event.event_type == "question"]
    asks = names in ("*", ["send_mail"]) or given == "some that ask"
    assert asked == (["send_mail"] if asks else [])
    assert sent == ([] if asks else [("ada", 1, None)])
    assert value == ("The call of send_mail was refused: No." if asks else "sent to ada")


def test_executing_a_tool_that_is_not_there():
    class Executes(dspy.Module):
        def forward(self, name):
            return dspy.ToolCalls.ToolCall(name=name, args={}).execute()

    program = streamll.instrument(Executes(), approve="*", sinks=[])
    with pytest.raises(ValueError, match="'nothing' not found"):
        program(name="nothing")


class Interpreter:
    """One without a sandbox."""

    def __init__(self):
        self.tools = {}
        self.names = {}

    def start(self): ...

    def execute(self, code, variables=None):
        exec(code, self.names)
        return ""

    __call__ = execute  # before DSPy 3.3

    def shutdown(self): ...


def code_act(tool):
    """A ``CodeAct`` of whatever DSPy."""
    try:
        return dspy.CodeAct("question -> answer", tools=[tool], interpreter_factory=Interpreter)
    except TypeError:  # before 3.4
        return dspy.CodeAct("question -> answer", tools=[tool], interpreter=Interpreter())


def echo(text: str) -> str:
    """Return the text."""
    return text


@pytest.mark.filterwarnings("ignore:CodeAct is deprecated")
@pytest.mark.parametrize("where", ["approve", "instrument", "neither"])
def test_an_agent_that_runs_the_source_of_its_tools_cannot_ask(practice, where):
    dspy.configure(lm=practice.lm())
    practice.script(
        {"generated_code": "```python\necho('x')\n```", "finished": "True"},
        {"reasoning": "x", "answer": "done"},
    )
    program = code_act(streamll.approve(echo) if where == "approve" else echo)
    if where == "neither":
        _, value = run(program, answer=False)
        assert value.answer == "done"
        return
    if where == "instrument":
        streamll.instrument(program, approve=["echo"], sinks=[])
    with pytest.raises(ConfigurationError, match=r"before a call of 'echo'.*dspy\.ReAct"):
        run(program, answer=False)
    assert practice.requests == []


def test_nobody_finds_the_source_of_a_tool_that_asks():
    """Without capture, or in an agent of another's, an interpreter would run it without asking."""
    with pytest.raises(TypeError):
        inspect.getsource(streamll.approve(send_mail))
    asks = streamll.approve(send_mail)
    assert inspect.signature(asks) == inspect.signature(send_mail)
    assert get_type_hints(asks) == get_type_hints(send_mail)


class Holds(dspy.Module):
    """Holds its agent, and may make others."""

    def __init__(self):
        super().__init__()
        self.agent = dspy.ReAct("question -> answer", tools=[send_mail])


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["send_mial"], r"Holds has no tool 'send_mial'.*send_mail, finish.*mean 'send_mail'"),
        (["Send_Mail"], "mean 'send_mail'"),
        ([send_mail], "such as 'send_mail'"),
        ([dspy.Tool(send_mail)], "such as 'send_mail'"),
        (True, "names of tools"),
    ],
)
def test_names_that_are_no_tools(names, says):
    with pytest.raises(ConfigurationError, match=says):
        streamll.instrument(Holds(), approve=names)


def test_a_name_that_may_be_a_tool_of_elsewhere_is_logged(caplog):
    streamll.instrument(Holds(), approve=["send_mail", "pay"])
    assert "Holds has no tool 'pay' to approve" in caplog.text
    caplog.clear()
    streamll.instrument(dspy.Predict("question -> answer"), approve=["send_mial"])
    assert caplog.text == ""


async def is_large(**arguments):
    return False


class IsLarge:
    async def __call__(self, **arguments):
        return False


@pytest.mark.parametrize("default", ["no", "deny", {"allow": False}, []])
def test_a_default_that_is_no_bool_allows_nothing(default):
    with pytest.raises(ConfigurationError, match="True, False or None"):
        streamll.approve(send_mail, default=default)


@pytest.mark.parametrize("when", [is_large, IsLarge(), "large"], ids=["function", "object", "text"])
def test_a_condition_that_nobody_awaits_is_refused(when):
    with pytest.raises(ConfigurationError, match="ordinary function"):
        streamll.approve(send_mail, when=when)
