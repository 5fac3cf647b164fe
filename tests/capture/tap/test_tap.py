"""What a tap hears, from every kind of engine, and what it leaves alone."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from dspy.clients import execution
from dspy.utils.dummies import DummyLM
from scenarios import ATLAS, TEXT, refusing_streams
from tapping import Notes, tapped

from streamll.capture.hooks import places
from streamll.capture.hooks.places import HTTP_CLIENTS
from streamll.patching import SiteState
from streamll.testing import Fault, Reply, ToolCall

ROUTES = [
    (wire, engine, asynchronous)
    for wire, engine in [
        ("openai", "lm15"),
        ("responses", "lm15"),
        ("anthropic", "lm15"),
        ("openai", "litellm"),
        ("anthropic", "litellm"),
    ]
    for asynchronous in (False, True)
]
pytestmark = [
    pytest.mark.since_3_4,
    pytest.mark.filterwarnings("ignore:Passing OpenAI-style:DeprecationWarning"),
]
every_route = pytest.mark.parametrize(("wire", "engine", "asynchronous"), ROUTES)
TOOLS = [{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}]


def ask(lm, asynchronous, *args, **options):
    return asyncio.run(lm.acall(*args, **options)) if asynchronous else lm(*args, **options)


# --- what is heard ----------------------------------------------------------------------------------


@every_route
def test_text_is_reported_piece_by_piece(practice, wire, engine, asynchronous):
    """X1: what the listener heard is what the call returned."""
    practice.script(Reply(TEXT, chunk=3))
    with tapped() as listeners:
        outputs = ask(practice.lm(wire, engine=engine), asynchronous, "Hi")
    (notes,) = listeners
    text = outputs[0] if isinstance(outputs[0], str) else outputs[0]["text"]
    assert notes.text_so_far == text == TEXT
    assert len(notes.texts) > 10
    assert (notes.attempts, len(notes.results), notes.failures) == (1, 1, [])


@every_route
def test_thinking_is_reported_apart_from_text(practice, wire, engine, asynchronous):
    practice.script(Reply("Yes.", thinking="Is it so? It is."))
    with tapped() as listeners:
        ask(practice.lm(wire, engine=engine), asynchronous, "Hi")
    (notes,) = listeners
    assert "".join(notes.of("thinking")) == "Is it so? It is."
    assert notes.text_so_far == "Yes."


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("wire", ["openai", "responses", "anthropic"])
def test_tool_calls_are_reported_as_they_are_written(practice, wire, asynchronous):
    calls = [ToolCall("search", {"q": "a long question about things"}), ToolCall("search", {})]
    practice.script(Reply("", tool_calls=calls, chunk=4))
    with tapped() as listeners:
        lm = practice.lm(wire)
        ask(lm, asynchronous, messages=[{"role": "user", "content": "Hi"}], tools=TOOLS)
    arguments = {0: "", 1: ""}
    names = {}
    for index, identity, name, fragment in listeners[0].of("tool_call"):
        arguments[index] += fragment
        if name:
            names[index] = (name, bool(identity))
    assert names == {0: ("search", True), 1: ("search", True)}
    assert arguments == {0: '{"q": "a long question about things"}', 1: "{}"}
    assert len(listeners[0].of("tool_call")) > 6


@pytest.mark.parametrize("wire", ["openai", "responses", "anthropic"])
def test_citations_are_reported(practice, wire):
    practice.script(Reply("Paris is big.", citations=[ATLAS]))
    with tapped() as listeners:
        practice.lm(wire)("Hi")
    ((_, title, url),) = listeners[0].of("citation")
    assert (title, url) == (ATLAS.title, ATLAS.url)


@pytest.mark.parametrize("wire", ["openai", "responses"])
def test_a_refusal_is_reported_as_one(practice, wire):
    practice.script(Reply(refusal="I would rather not."))
    with tapped() as listeners:
        practice.lm(wire)("Hi")
    assert "".join(listeners[0].of("refusal")) == "I would rather not."
    assert listeners[0].text_so_far == ""


@every_route
def test_nothing_is_streamed_where_no_text_is_wanted(practice, wire, engine, asynchronous):
    """DESIGN "Words": no field is asked for → no streaming request."""
    practice.script(TEXT)
    with tapped(lambda: Notes(streaming=False)) as listeners:
        ask(practice.lm(wire, engine=engine), asynchronous, "Hi")
    (notes,) = listeners
    assert not practice.requests[-1].streaming
    assert notes.text_so_far == ""
    assert (notes.attempts, len(notes.results)) == (1, 1)


@every_route
def test_each_retry_is_an_attempt_of_its_own(practice, wire, engine, asynchronous, monkeypatch):
    monkeypatch.setattr(execution, "_delay", lambda *_: 0)
    practice.script(Reply(TEXT, fault=Fault(disconnect_after=4)), TEXT)
    with tapped() as listeners:
        ask(practice.lm(wire, engine=engine, num_retries=1), asynchronous, "Hi")
    (notes,) = listeners
    assert notes.attempts == 2
    assert len(notes.failures) == 1
    assert notes.text_so_far == TEXT


def test_candidates_of_lm15_come_one_after_the_other(practice):
    practice.script("one", "two")
    with tapped() as listeners:
        outputs = practice.lm(n=2, temperature=1.0)("Hi")
    assert outputs == ["one", "two"]
    assert [result.message.text for result in listeners[0].results] == ["one", "two"]


def test_of_litellms_candidates_the_first_is_reported(practice):
    practice.script(Reply("one one one", candidates=["two two two"]))
    with tapped() as listeners:
        outputs = practice.lm(engine="litellm", n=2, temperature=1.0)("Hi")
    assert outputs == ["one one one", "two two two"]
    assert listeners[0].text_so_far == "one one one"
    assert len(listeners[0].results) == 1


def test_the_tap_pauses_while_the_reader_is_full(practice):
    """B7: the tap pauses before it reads on."""

    class Full(Notes):
        full = True

    practice.script(TEXT, TEXT)
    with tapped(Full) as listeners:
        lm = practice.lm()
        lm("Hi")
        asyncio.run(lm.acall("Hi"))
    assert all(notes.pauses > 0 for notes in listeners)


def test_concurrent_calls_report_only_their_own_text(practice):
    """X4: threads and tasks, both engines."""
    practice.respond(lambda request: f"You said: {request.messages[-1].text}")
    questions = [f"question {number}" for number in range(16)]
    for engine_name in ("lm15", "litellm"):
        lm = practice.lm(engine=engine_name)

        async def together(lm=lm):
            return await asyncio.gather(*(lm.acall(question) for question in questions))

        with tapped() as listeners, ThreadPoolExecutor(10) as pool:
            answers = [each[0] for each in pool.map(lm, questions)]
            answers += [each[0] for each in asyncio.run(together())]
        assert sorted(notes.text_so_far for notes in listeners) == sorted(answers)
        assert answers == [f"You said: {question}" for question in questions] * 2


# --- engines without a wire -------------------------------------------------------------------------


def test_dummy_lm_is_delivered_in_one_piece():
    lm = DummyLM([{"answer": "Paris"}, {"answer": "Rome"}])
    with tapped() as listeners, dspy.context(lm=lm):
        predict = dspy.Predict("question -> answer")
        assert predict(question="?").answer == "Paris"
        assert asyncio.run(predict.acall(question="?")).answer == "Rome"
    assert all(len(notes.texts) == 1 for notes in listeners)
    assert "Paris" in listeners[0].text_so_far


class Plugin(dspy.BaseLM):
    """A legacy plugin: ``forward`` gives what OpenAI's SDK would."""

    def forward(self, prompt=None, messages=None, **kwargs):
        return dspy.clients.call_result.attributes(
            {
                "model": self.model,
                "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_legacy_plugin_is_delivered_in_one_piece():
    with tapped() as listeners:
        assert Plugin("mine")("Hi") == ["Hello"]
    assert [notes.texts for notes in listeners] == [["Hello"]]


class Forwarding:
    """A user's engine, here around another engine."""

    def __init__(self, engine):
        self.engine = engine
        self.completed = self.streamed = 0

    def complete(self, request):
        self.completed += 1
        return self.engine.complete(request)

    def stream(self, request):
        self.streamed += 1
        return self.engine.stream(request)

    def close(self):
        self.engine.close()


def inner_engine(practice):
    lm = practice.lm()
    call = execution.prepare(lm, "Hi", None, {})
    return execution._select_engine(lm, call, asynchronous=False)[0]


def lm_over(engine):
    return dspy.LM("openai/practice", engine=engine, cache=False, num_retries=0)


def test_a_custom_engine_streams_its_events(practice):
    """Events of lm15's chat wire lack id and served model: both are there all the same."""
    engine = Forwarding(inner_engine(practice))
    practice.script(Reply(TEXT, model="served"), Reply(TEXT, model="served"))
    lm = lm_over(engine)
    plain = lm("Hi")
    with tapped() as listeners:
        assert lm("Hi") == plain == [TEXT]
    assert (engine.completed, engine.streamed) == (1, 1)
    assert listeners[0].text_so_far == TEXT
    assert len(listeners[0].texts) > 5
    before, after = (entry["response"] for entry in lm.history)
    assert (after.id, after.model) == (before.id, before.model) == (before.id, "served")


@pytest.mark.parametrize("error", [NotImplementedError, dspy.lm15.UnsupportedFeatureError])
def test_an_engine_without_a_stream_completes(practice, error):
    class NoStream(Forwarding):
        def complete(self, request):
            return super().complete(request)

        def stream(self, request):
            raise error("no")
            yield

    engine = NoStream(inner_engine(practice))
    practice.script(TEXT)
    with tapped() as listeners:
        assert lm_over(engine)("Hi") == [TEXT]
    assert engine.completed == 1
    assert listeners[0].texts == [TEXT]


def test_an_engine_that_redefines_only_complete_is_not_streamed(practice):
    """Its ``stream`` says something else now; X3 comes before streaming."""

    class Upper(Forwarding):
        def complete(self, request):
            response = super().complete(request)
            return dspy.lm15.Response(
                id=response.id,
                model=response.model,
                message=dspy.lm15.Message.assistant(response.message.text.upper()),
                finish_reason=response.finish_reason,
                usage=response.usage,
            )

    lm = lm_over(Upper(inner_engine(practice)))
    practice.script("hello")
    with tapped() as listeners:
        assert lm("Hi") == ["HELLO"]
    assert listeners[0].texts == ["HELLO"]


def test_an_error_after_the_first_event_is_the_program_s(practice):
    class Breaking(Forwarding):
        def stream(self, request):
            for number, event in enumerate(super().stream(request)):
                if number == 3:
                    raise NotImplementedError("in the middle")
                yield event

        def complete(self, request):
            return super().complete(request)

    practice.script(TEXT)
    with tapped() as listeners, pytest.raises(dspy.utils.exceptions.LMUnexpectedError):
        lm_over(Breaking(inner_engine(practice)))("Hi")
    assert len(listeners[0].failures) == 1


# --- servers that do not stream ------------------------------------------------------------------


@every_route
def test_a_server_that_refuses_streams_is_tried_once(practice, wire, engine, asynchronous):
    practice.respond(refusing_streams)
    lm = practice.lm(wire, engine=engine)
    with tapped() as listeners:
        for _ in range(3):
            ask(lm, asynchronous, "Hi")
    streaming = [request.streaming for request in practice.requests]
    # Each asyncio.run is an event loop of its own, and lm15 has an engine for each.
    forgets = asynchronous and engine == "lm15"
    assert streaming == ([True, False] * 3 if forgets else [True, False, False, False])
    assert [notes.texts for notes in listeners] == [[TEXT]] * 3


def test_an_error_that_the_plain_request_gets_too_is_not_remembered(practice):
    """The plain request fails as well: nothing is remembered."""
    fault = Fault(status=400, message="stream of consciousness is not allowed")
    practice.script(fault, fault, TEXT)
    lm = practice.lm(num_retries=0)
    with tapped():
        with pytest.raises(dspy.utils.exceptions.LMInvalidRequestError):
            lm("Hi")
        lm("Hi")
    assert [request.streaming for request in practice.requests] == [True, False, True]


@pytest.mark.parametrize("engine", ["lm15", "litellm"])
def test_a_stream_of_an_unknown_shape_is_asked_for_again_without_streaming(
    practice, engine, monkeypatch, caplog
):
    """X3: never an error of ours."""
    from streamll.capture.tap.wire.chat import ChatAssembler

    def stumble(self, data):
        raise KeyError("a bug of ours")

    monkeypatch.setattr(ChatAssembler, "frame", stumble)
    practice.script(TEXT, TEXT, TEXT)
    lm = practice.lm(engine=engine)
    with tapped() as listeners, caplog.at_level(logging.WARNING, "streamll.capture"):
        assert lm("Hi") == lm("Hi") == [TEXT]
    assert [request.streaming for request in practice.requests] == [True, False, False]
    assert [notes.text_so_far for notes in listeners] == [TEXT, TEXT]
    assert len([r for r in caplog.records if "asking again without streaming" in r.message]) == 1


# --- listeners that misbehave -----------------------------------------------------------------------


class Raising(Notes):
    full = True

    def fail(self, *_):
        raise ZeroDivisionError("a listener's own mistake")

    begin = hear = check = connected = disconnected = done = failed = fail
    pause = pause_async = fail


@every_route
def test_a_raising_listener_changes_nothing(practice, wire, engine, asynchronous, caplog):
    practice.script(Reply(TEXT, thinking="Hm"))
    with tapped(Raising), caplog.at_level(logging.ERROR, "streamll.capture"):
        outputs = ask(practice.lm(wire, engine=engine), asynchronous, "Hi")
    assert (outputs[0] if isinstance(outputs[0], str) else outputs[0]["text"]) == TEXT
    assert len([r for r in caplog.records if "raised ZeroDivisionError" in r.message]) == 1
    assert TEXT not in caplog.text


# --- in and out -------------------------------------------------------------------------------------


def test_this_dspy_is_supported():
    assert places.why_not_streamed() is None


def test_uninstalling_restores_everything(practice):
    import httpx
    from dspy._vendor.lm15.transports._async import StdlibAsyncTransport
    from dspy._vendor.lm15.transports._sync import StdlibTransport, _ConnectionPool
    from httpcore._sync.http11 import HTTP11Connection

    owners = (
        StdlibTransport, StdlibAsyncTransport, _ConnectionPool, HTTP11Connection,
        httpx.Client, httpx.AsyncClient,
    )  # fmt: skip
    before = [dict(vars(owner)) for owner in owners]
    with tapped():
        practice.lm(engine="litellm")("Hi")
        assert [dict(vars(owner)) for owner in owners] != before
    assert [dict(vars(owner)) for owner in owners] == before


def test_a_function_that_others_have_wrapped_since_is_left_alone(monkeypatch):
    import httpx

    original = httpx.Client.send
    HTTP_CLIENTS.install()
    ours = httpx.Client.send

    def theirs(*args, **kwargs):
        return ours(*args, **kwargs)

    monkeypatch.setattr(httpx.Client, "send", theirs)
    HTTP_CLIENTS.uninstall()
    assert httpx.Client.send is theirs
    monkeypatch.undo()
    HTTP_CLIENTS.uninstall()
    assert httpx.Client.send is original
    assert SiteState.ON not in dict(HTTP_CLIENTS.states()).values()


def test_requests_of_others_are_not_touched(practice):
    """httpx is wrapped for everybody; only LiteLLM's captured call is streamed."""
    import httpx

    asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    with tapped():
        practice.lm(engine="litellm")("Hi")
        address = f"{practice.openai_url}/chat/completions"
        reply = httpx.post(address, json=asked, timeout=60)
    assert reply.headers["content-type"] == "application/json"
    assert not practice.requests[-1].streaming


def test_a_signed_request_goes_out_as_it_was_signed(practice):
    with tapped() as listeners:
        lm = practice.lm(engine="litellm", headers={"Authorization": "AWS4-HMAC-SHA256 x"})
        practice.script(TEXT)
        lm("Hi")
    assert not practice.requests[-1].streaming
    assert listeners[0].texts == [TEXT]


def test_litellms_own_retries_are_attempts(practice):
    """LiteLLM and the SDK under it may repeat a request: text of the first try counts no more."""
    import httpx

    from streamll.capture.tap import below_litellm
    from streamll.capture.tap.listener import Guarded

    notes = Notes()
    notes.begin()
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    address = f"{practice.openai_url}/chat/completions"
    practice.script(Reply(TEXT, fault=Fault(disconnect_after=4)), TEXT)
    with tapped():
        with below_litellm.Tee(Guarded(notes), practice, "openai/m").entered():
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.post(address, json=asked, timeout=60)
            reply = httpx.post(address, json=asked, timeout=60)
    assert reply.json()["choices"][0]["message"]["content"] == notes.text_so_far == TEXT
    assert (notes.attempts, len(notes.failures)) == (2, 1)


def test_no_thread_is_left(practice, new_threads):
    practice.script(TEXT)
    with tapped():
        practice.lm()("Hi")
    assert new_threads() == []
