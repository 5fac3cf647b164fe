"""Saving and loading, by example and for any history."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from profiles import THOROUGH

from streamll.core.errors import StreamllError
from streamll.operations import communicate_stream, communicate_sync
from streamll.services import StreamConfig, iModel
from streamll.session import Session, SessionFormatError
from streamll.session.messages import (
    AssistantResponseContent,
    InstructionContent,
    Message,
    SystemContent,
    ToolRequestContent,
    ToolResponseContent,
)
from streamll.testing import Fault, PracticeServer, Reply

pytestmark = pytest.mark.since_3_4

texts = st.text(max_size=20)
names = st.sampled_from(["a", "b", "c"])
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
mappings = st.dictionaries(texts, plain, max_size=3)
contents = st.one_of(
    st.builds(SystemContent, texts),
    st.builds(InstructionContent, texts, st.none() | mappings),
    st.builds(
        AssistantResponseContent,
        texts,
        st.sampled_from(["complete", "cancelled", "failed"]),
        st.none() | texts,
        st.none() | texts,
    ),
    st.builds(ToolRequestContent, names, names, mappings),
    st.builds(ToolResponseContent, names, plain, st.none() | texts),
)


def seen(session):
    """Everything of a session that must survive."""
    return {
        "id": session.id,
        "created_at": session.created_at,
        "messages": [
            (m.id, m.created_at, m.content, dict(m.metadata)) for m in session.messages.values()
        ],
        "branches": [
            (b.id, b.name, b.order, b.parent)
            for b in (session.branches[name] for name in session.branches)
        ],
    }


class Conversations(RuleBasedStateMachine):
    """Any sequence of add, fork, communicate, save and load, beside a plain model of it."""

    branches = Bundle("branches")

    def __init__(self):
        super().__init__()
        self.session = Session()
        self.orders = {}  # branch name → message ids, in order
        self.messages = {}  # id → content
        self.server = PracticeServer()
        self.server.start()
        self.model = iModel(
            "openai", "m", base_url=self.server.openai_url, config=StreamConfig(max_retries=0)
        )

    def teardown(self):
        self.model.close()
        self.server.stop()

    @rule(target=branches)
    def create(self):
        name = self.session.create_branch().name
        self.orders[name] = []
        return name

    @rule(branch=branches, content=contents)
    def add(self, branch, content):
        message = self.session.add_message(Message(content=content), branches=branch)
        self.remember(branch, message)

    @rule(target=branches, branch=branches, data=st.data())
    def fork(self, branch, data):
        order = self.orders[branch]
        last = data.draw(st.sampled_from([None, *order]))
        fork = self.session.fork(branch, until=last)
        self.orders[fork.name] = order[: order.index(last) + 1] if last else list(order)
        return fork.name

    @rule(branch=branches, text=st.text(min_size=1, max_size=10), ending=st.sampled_from(
        ["complete", "failed", "cancelled", "whole", "whole failed"]))  # fmt: skip
    def communicate(self, branch, text, ending):
        fault = {"failed": Fault(disconnect_after=2), "whole failed": Fault(status=500)}.get(ending)
        self.server.script(Reply("one two three four", fault=fault))
        before = len(self.orders[branch])
        parameters = {"instruction": text, "imodel": self.model}
        try:
            if ending.startswith("whole"):
                communicate_sync(self.session, branch, parameters)
            else:
                with communicate_stream(self.session, branch, parameters) as turn:
                    for _ in turn:
                        if ending == "cancelled":
                            break
        except Exception:
            assert "failed" in ending
        asked, reply = self.session.history(branch)[before:]
        assert asked.content == InstructionContent(instruction=text)
        assert reply.content.ending == ending.split()[-1].replace("whole", "complete")
        came = {"complete": "one two three four", "whole": "one two three four",
                "failed": "one two", "cancelled": "one", "whole failed": ""}  # fmt: skip
        assert reply.text == came[ending]
        self.remember(branch, asked)
        self.remember(branch, reply)

    @rule()
    def save_and_load(self):
        again = Session.from_json(self.session.to_json())
        assert seen(again) == seen(self.session)
        assert again.to_json() == self.session.to_json()
        self.session = again

    def remember(self, branch, message):
        self.orders[branch].append(message.id)
        self.messages[message.id] = message.content

    @invariant()
    def orders_and_identities_hold(self):
        assert {n: self.session.branches[n].order for n in self.session.branches} == self.orders
        assert {m.id: m.content for m in self.session.messages.values()} == self.messages


# Each example has a server of its own, so fewer of them.
Conversations.TestCase.settings = settings(
    max_examples=150 if THOROUGH else 12,
    stateful_step_count=15,
    deadline=None,
)
TestConversations = Conversations.TestCase


def conversation():
    session = Session()
    branch = session.create_branch("main", system="Be brief.")
    session.add_message(Message(content=InstructionContent(instruction="Hi 👋")), branch)
    session.fork(branch, "side")
    return session


def test_a_file_holds_a_session(tmp_path):
    session = conversation()
    path = tmp_path / "chat.json"
    session.save(path)
    assert seen(Session.load(path)) == seen(session)
    saved = json.loads(path.read_text("utf-8"))
    assert saved["schema"] == "streamll.session"
    assert saved["version"] == 1
    assert saved["messages"][1]["content"] == {
        "kind": "instruction", "instruction": "Hi 👋", "context": None,
    }  # fmt: skip
    assert [file.name for file in tmp_path.iterdir()] == ["chat.json"]


def test_a_file_of_a_newer_writer_within_the_version_can_be_read():
    data = json.loads(conversation().to_json())
    data["colour"] = "blue"
    data["messages"][0]["mood"] = "calm"
    data["branches"][0]["pinned"] = True
    assert len(Session.from_json(json.dumps(data)).messages) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(version=2), "format version 2"),
        (lambda d: d.update(schema="other"), "its schema is 'other'"),
        (lambda d: d["branches"][0]["order"].append("gone"), "names message gone"),
        (lambda d: d["branches"][0]["order"].append(d["messages"][0]["id"]), "message twice"),
        (lambda d: d["branches"][1].update(name="main"), "two branches have the name 'main'"),
        (lambda d: d["messages"].append(d["messages"][0]), "two messages have one id"),
        (lambda d: d["messages"][0].pop("content"), "damaged"),
        (lambda d: d["messages"][0]["content"].update(kind="song"), "damaged"),
    ],
)
def test_damaged_documents_are_explained(change, says):
    data = json.loads(conversation().to_json())
    change(data)
    with pytest.raises(SessionFormatError, match=says):
        Session.from_json(json.dumps(data))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"3", b"{}"])
def test_other_documents_are_refused(data):
    with pytest.raises(SessionFormatError, match="no saved session"):
        Session.from_json(data)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (AssistantResponseContent(assistant_response=4), "assistant_response"),
        (AssistantResponseContent(assistant_response=None), "assistant_response"),
        (InstructionContent(instruction=4), "instruction"),
        (SystemContent(system_message=["kind"]), "system_message"),
        (ToolRequestContent("search", 7), "request_id"),
        (ToolResponseContent(request_id="7", error=404), "error"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, content, place):
    """An answer of an ``int`` field, say: the file that it replaced was the conversation."""
    session, path = conversation(), tmp_path / "chat.json"
    session.save(path)
    before = path.read_bytes()
    session.add_message(Message(content=content), branches="main")
    with pytest.raises(StreamllError, match=f"cannot be saved.*{place}"):
        session.save(path)
    assert path.read_bytes() == before


def test_a_text_with_half_a_character_is_not_saved_and_says_so(tmp_path):
    session = conversation()
    odd = Message(content=InstructionContent(instruction="a\ud800b"))
    session.add_message(odd, branches="main")
    with pytest.raises(StreamllError, match="lone surrogate"):
        session.save(tmp_path / "chat.json")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    session, path = conversation(), tmp_path / "chat.json"
    session.save(path)
    before = path.read_bytes()
    odd = Message(content=ToolResponseContent(request_id="1", result=object()))
    session.add_message(odd, branches="main")
    with pytest.raises(StreamllError, match="object cannot be saved"):
        session.save(path)
    assert path.read_bytes() == before
    taken = tmp_path / "folder"
    taken.mkdir()
    with pytest.raises(OSError, match="folder"):
        conversation().save(taken)
    assert {each.name for each in tmp_path.iterdir()} == {"chat.json", "folder"}


def test_saving_is_quick_enough_to_do_after_every_turn(tmp_path):
    session = Session()
    branch = session.create_branch("main")
    for _ in range(2_000):
        session.add_message(Message(content=InstructionContent(instruction="word " * 50)), branch)
    path = tmp_path / "long.json"

    def save_and_load():
        session.save(path)
        assert len(Session.load(path).messages) == 2_000

    def only_parse():
        json.loads(json.dumps(json.loads(path.read_bytes())))

    needed, least = (
        min(cpu_seconds(work) for _ in range(5)) for work in (save_and_load, only_parse)
    )
    assert needed < 5 * least


def cpu_seconds(work):
    begin = time.process_time()
    work()
    return time.process_time() - begin
