"""Sessions: messages, branches, registries, and what providers are sent."""

from __future__ import annotations

import threading

import pytest

from streamll.core.errors import StreamllError
from streamll.session import DuplicateNameError, Session, UnknownNameError
from streamll.session.messages import (
    AssistantResponseContent,
    InstructionContent,
    Message,
    Role,
    SystemContent,
    ToolRequestContent,
    ToolResponseContent,
)
from streamll.session.messages.utils import prepare_messages_for_chat


def user(text, **context):
    return Message(content=InstructionContent(instruction=text, context=context or None))


def assistant(text, **options):
    return Message(content=AssistantResponseContent(assistant_response=text, **options))


class Named:
    def __init__(self, name):
        self.name = name


def test_messages_know_their_role():
    """E6."""
    contents = {
        SystemContent(system_message="s"): "system",
        InstructionContent(instruction="i"): "user",
        AssistantResponseContent(assistant_response="a"): "assistant",
        ToolResponseContent(request_id="1", result=2): "tool",
    }
    assert {c: Message(content=c).role.value for c in contents} == contents
    assert Message(content=ToolRequestContent("f", "1")).role is Role.ASSISTANT
    assert user("hello").content.instruction == "hello"
    assert not hasattr(user("hello").content, "assistant_response")
    assert assistant("hi").content.assistant_response == "hi"


def test_a_branch_is_an_order_of_the_session_s_messages():
    """E4."""
    session = Session()
    branch = session.create_branch(name="main")
    first, second = user("one"), assistant("two")
    session.add_message(first, branches=branch)
    session.add_message(second, branches="main")
    assert branch.order == [first.id, second.id] == list(branch)
    assert [session.messages[id_] for id_ in branch.order] == [first, second]
    assert session.history("main") == [first, second]
    branch.order.clear()  # a copy
    assert len(branch) == 2
    with pytest.raises(TypeError):
        session.messages["x"] = first


def test_only_messages_can_be_added():
    with pytest.raises(TypeError, match="one of SystemContent, InstructionContent, .*not str"):
        Message(content="Hi")
    with pytest.raises(TypeError, match="takes a Message, not str"):
        Session().add_message("Hi")


def test_a_message_is_on_a_branch_once_and_may_be_on_several():
    session = Session()
    one, two = session.create_branch("one"), session.create_branch("two")
    message = user("x")
    session.add_message(message, branches=[one, two])
    with pytest.raises(StreamllError, match="has message"):
        session.add_message(message, branches=two)
    other = Message(content=InstructionContent(instruction="y"), id=message.id)
    with pytest.raises(StreamllError, match="another message"):
        session.add_message(other)
    assert one.order == two.order == [message.id]
    assert len(session.messages) == 1


def test_adding_is_all_or_nothing():
    session = Session()
    branch = session.create_branch("one")
    with pytest.raises(UnknownNameError):
        session.add_message(user("x"), branches=[branch, "nowhere"])
    assert branch.order == []
    assert not session.messages
    other = session.create_branch("other")
    there = session.add_message(user("y"), branches=other)
    with pytest.raises(StreamllError, match="branch 'other' has message"):
        session.add_message(there, branches=[branch, other])
    assert branch.order == []
    assert other.order == [there.id]


def test_forks_share_the_past_and_nothing_after():
    session = Session()
    main = session.create_branch("main", system="Be brief.")
    first, second = user("one"), assistant("two")
    session.add_message(first, main)
    session.add_message(second, main)
    whole = session.fork(main)
    early = session.fork("main", name="early", until=first)
    session.add_message(user("three"), main)
    assert whole.name == "main-2"
    assert whole.parent == early.parent == "main"
    assert whole.order == main.order[:3]
    assert early.order == main.order[:2]
    assert len(main) == 4
    assert len(session.messages) == 4
    with pytest.raises(StreamllError, match="has no message"):
        session.fork(early, until=second)


def test_branch_names_are_unique_and_unknown_ones_get_a_hint():
    session = Session()
    session.create_branch("main")
    with pytest.raises(DuplicateNameError, match="a branch named 'main' already"):
        session.create_branch("main")
    with pytest.raises(UnknownNameError, match="there are main; did you mean 'main'"):
        session.history("mian")
    stranger = Session().create_branch("main")
    with pytest.raises(StreamllError, match="another session"):
        session.history(stranger)
    assert [session.create_branch().name for _ in range(2)] == ["branch-2", "branch-3"]
    session.create_branch("branch-5")
    assert session.create_branch().name == "branch-6"
    session.create_branch("main-8")
    assert [session.fork("main").name for _ in range(2)] == ["main-7", "main-9"]


def test_the_registry_of_models():
    services = Session().services
    with pytest.raises(UnknownNameError, match="no model named 'gpt', and no other"):
        services["gpt"]
    gpt, claude, other = Named("gpt"), Named("claude"), Named("gpt")
    assert services.register(gpt) is gpt
    services.register(gpt)
    services.register(claude)
    with pytest.raises(DuplicateNameError, match="give this one another name"):
        services.register(other)
    services.register(other, name="other")
    services.register(other, replace=True)
    assert services["gpt"] is services["other"] is other
    assert services.list_names() == list(services) == ["gpt", "claude", "other"]
    assert "claude" in services
    for name in services:  # whoever looks through it may change it
        services.register(Named(f"{name}-too"))
        services.unregister(f"{name}-too")
    assert services.get("nobody") is None
    services.unregister("claude")
    with pytest.raises(KeyError, match="there are gpt, other"):
        services["claude"]
    with pytest.raises(StreamllError, match="has no name"):
        services.register(object())


# --- what providers are sent ----------------------------------------------------------------------


def chat(*messages, **options):
    return prepare_messages_for_chat(messages=messages, **options)


def test_messages_become_what_providers_take():
    """E6."""
    first, last = (Message(content=SystemContent(text)) for text in ("Be rude.", "Be kind."))
    assert chat(first, user("Hi"), assistant("Hello"), last) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    assert chat(user("Which?", city="Paris", facts=[1, 2])) == [
        {"role": "user", "content": "city: Paris\nfacts: [1, 2]\n\nWhich?"}
    ]


def test_progression_chooses_and_orders():
    one, two, three = user("1"), assistant("2"), user("3")
    found = chat(one, two, three, progression=[three.id, one.id, "unknown"])
    assert [message["content"] for message in found] == ["3", "1"]
    assert chat(one, new_instruction="next")[-1] == {"role": "user", "content": "next"}


def test_tool_calls_join_their_assistant_message():
    asked = [
        Message(content=ToolRequestContent("search", str(n), {"q": city}))
        for n, city in enumerate(["Paris", "Rome"])
    ]
    answered = [
        Message(content=ToolResponseContent(request_id="0", result={"über": 3})),
        Message(content=ToolResponseContent(request_id="1", error="no such city")),
    ]
    found = chat(user("How far?"), assistant("Let me see."), *asked, *answered)
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "tool"]
    assert [call["function"] for call in found[1]["tool_calls"]] == [
        {"name": "search", "arguments": '{"q":"Paris"}'},
        {"name": "search", "arguments": '{"q":"Rome"}'},
    ]
    assert [m["content"] for m in found[2:]] == ['{"über": 3}', "Error: no such city"]
    assert [m["tool_call_id"] for m in found[2:]] == ["0", "1"]


def test_messages_that_providers_refuse_are_left_out():
    unanswered = Message(content=ToolRequestContent("search", "9"))
    orphan = Message(content=ToolResponseContent(request_id="8", result=1))
    silent = [assistant("", ending="failed"), Message(content=SystemContent("")), user("")]
    found = chat(user("x"), *silent, unanswered, orphan, user("y"))
    assert found == [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]


def test_a_tool_call_is_sent_once_and_before_its_answer():
    def request(id_):
        return Message(content=ToolRequestContent("search", id_))

    def response(id_):
        return Message(content=ToolResponseContent(request_id=id_, result=id_))

    twice = [request("1"), request("1"), response("1"), response("1")]
    too_late = [response("2"), request("2")]
    found = chat(user("x"), *twice, *too_late, user("y"))
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "user"]
    assert [call["id"] for call in found[1]["tool_calls"]] == ["1"]


@pytest.mark.parametrize(
    ("order", "sent"),
    [
        ("call1 user response1 user", "assistant tool1 user user"),
        ("call1 call2 response2 user response1 user", "assistant tool2 tool1 user user"),
        ("call1 assistant user response1", "assistant tool1 assistant user"),
        ("call1 user call2 response2 response1", "assistant tool1 user assistant tool2"),
        ("call1 response1 call2 user response2", "assistant tool1 assistant tool2 user"),
        ("call1 response1 user call1 user response1", "assistant tool1 user assistant tool1 user"),
    ],
)
def test_a_response_that_comes_late_follows_its_call_all_the_same(order, sent):
    """Between a call and its response providers accept nothing: the conversation would be lost."""

    def made(word):
        if word in ("user", "assistant"):
            return user("x") if word == "user" else assistant("y")
        kind, id_ = word[:-1], word[-1]
        if kind == "call":
            return Message(content=ToolRequestContent("search", id_))
        return Message(content=ToolResponseContent(request_id=id_, result=id_))

    found = chat(*map(made, order.split()))
    assert " ".join(each["role"] + each.get("tool_call_id", "") for each in found) == sent


def test_partial_replies_are_sent():
    reply = assistant("It is on the", ending="cancelled")
    assert reply.content.partial
    assert chat(reply) == [{"role": "assistant", "content": "It is on the"}]


def test_tool_messages_go_over_the_wire(practice):
    from streamll.services import iModel

    messages = [
        user("How far?"),
        Message(content=ToolRequestContent("search", "call_1", {"q": "Rome"})),
        Message(content=ToolResponseContent(request_id="call_1", result="3 km")),
    ]
    for provider, url in (("openai", practice.openai_url), ("anthropic", practice.anthropic_url)):
        model = iModel(provider, "m", base_url=url)
        assert model.invoke_sync(prepare_messages_for_chat(messages)).execution.error is None
    openai, anthropic = (request.body["messages"] for request in practice.requests)
    assert [message["role"] for message in openai] == ["user", "assistant", "tool"]
    assert anthropic[1]["content"][0]["type"] == "tool_use"
    assert anthropic[2]["content"][0]["type"] == "tool_result"


# --- at once --------------------------------------------------------------------------------------


def test_many_threads_add_and_fork_at_once():
    session = Session()
    branches = [session.create_branch(f"b{n}") for n in range(4)]
    shared = session.create_branch("shared")
    failures = []

    def work(branch):
        try:
            for n in range(100):
                session.add_message(user(f"{branch.name} {n}"), branches=[branch, shared])
                if n % 10 == 0:
                    session.fork(branch)
                    session.to_json()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(branch,)) for branch in branches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    for branch in branches:
        texts = [message.text for message in session.history(branch)]
        assert texts == [f"{branch.name} {n}" for n in range(100)]
    assert len(shared) == len(session.messages) == 400
    assert len(session.branches) == 5 + 40


def test_messages_of_a_session_are_taken_as_they_are():
    session = Session()
    session.create_branch("main")
    session.create_branch("other")
    session.add_message(Message(content=InstructionContent("one")), branches="main")
    session.add_message(Message(content=InstructionContent("two")), branches="other")
    branch = session.branch("main")
    assert [m["content"] for m in prepare_messages_for_chat(session.messages, branch)] == ["one"]
    chat = prepare_messages_for_chat(messages=session.messages, new_instruction="three")
    assert [message["content"] for message in chat] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((["an id"],), "messages are Message objects, not str"),
        (([], "main"), "progression is a branch or ids, not a branch's name"),
    ],
)
def test_what_is_no_message_or_branch_is_said(arguments, says):
    with pytest.raises(TypeError, match=says):
        prepare_messages_for_chat(*arguments)
