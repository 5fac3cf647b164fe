"""X13: a run is kept with its provider's chunks and their timing, and plays again offline."""

from __future__ import annotations

import asyncio
import math
import sys
import time

import dspy
import pytest

import streamll
from streamll.core.errors import WireError
from streamll.core.events import TokenEvent
from streamll.testing import Fault, Reply, record, replay
from streamll.testing.record_file import recorded_events, recorded_exchanges

QUESTION = "Which city lies on the Seine?"


def story(events):
    """What was said, by whom, in order; without times, ids and how tokens were merged."""
    told = []
    for event in events:
        if isinstance(event, TokenEvent):
            if told and told[-1][0] == "token" and told[-1][1:3] == (event.predictor, event.field):
                told[-1] = (*told[-1][:3], told[-1][3] + event.token)
            else:
                told.append(("token", event.predictor, event.field, event.token))
        else:
            told.append((event.event_type, event.predictor, event.path))
    return told


@pytest.fixture(
    params=[
        {"wire": "openai"}, {"wire": "responses"}, {"wire": "anthropic"},
        {"wire": "openai", "engine": "litellm"}, {"wire": "anthropic", "engine": "litellm"},
    ],
    ids=lambda options: " by ".join(options.values()),
)  # fmt: skip
def options(request):
    """How the provider is asked."""
    return request.param


@pytest.fixture
def recording(practice, options, tmp_path):
    """A recording of one question, and what was answered."""
    practice.script({"reasoning": "It is a French one. 🇫🇷", "answer": "Paris, naturally."})
    dspy.configure(lm=practice.lm(**options))
    with record(tmp_path / "run.jsonl") as path:
        answer = dspy.ChainOfThought("question -> answer")(question=QUESTION)
    practice.stop()  # from here on there is no provider
    return path, answer


def test_a_recording_plays_through_the_same_program_without_its_provider(recording):
    path, answer = recording
    with replay(path, speed=math.inf) as played:
        again = dspy.ChainOfThought("question -> answer")(question=QUESTION)
    assert again.toDict() == answer.toDict()
    assert story(played.events) == story(played.recorded)
    assert played.unused == []


def test_an_async_program_is_recorded_and_replayed(practice, options, tmp_path):
    practice.script({"answer": "Paris"})
    dspy.configure(lm=practice.lm(**options))
    program = dspy.Predict("question -> answer")

    async def ask():
        return await program.acall(question=QUESTION)

    with record(tmp_path / "run.jsonl") as path:
        answer = asyncio.run(ask())
    practice.stop()
    with replay(path, speed=math.inf) as played:
        assert asyncio.run(ask()).answer == answer.answer == "Paris"
    assert story(played.events) == story(played.recorded)


def test_every_byte_of_the_provider_is_kept(practice, tmp_path):
    practice.script(Reply("[[ ## answer ## ]]\nこんにちは 🌍", fault=Fault(split_characters=True)))
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    with record(tmp_path / "run.jsonl") as path:
        answer = dspy.Predict("question -> answer")(question=QUESTION)
    [exchange] = recorded_exchanges(path)
    [request] = practice.requests
    assert sum(len(data) for _, data in exchange.chunks) == request.bytes_sent
    with replay(path, speed=math.inf):
        again = dspy.Predict("question -> answer")(question=QUESTION)
    assert again.answer == answer.answer == "こんにちは 🌍"


def test_the_original_timing_is_kept_and_can_be_sped_up(practice, tmp_path):
    practice.pace = 0.05
    practice.script(Reply({"answer": "one two three four"}))
    dspy.configure(lm=practice.lm())
    program = dspy.Predict("question -> answer")
    with record(tmp_path / "run.jsonl") as path:
        program(question=QUESTION)
    [exchange] = recorded_exchanges(path)
    took = exchange.chunks[-1][0]  # since the request: who reads late finds chunks side by side
    assert took > 0.05 * 4

    def replayed(speed):
        with replay(path, speed=speed):
            began = time.monotonic()
            program(question=QUESTION)
            return time.monotonic() - began

    assert replayed(1.0) >= took
    # However busy the machine: with the pauses of the recording none would be quicker than it.
    assert any(replayed(1000.0) < took for _ in range(20))


def test_retries_are_recorded_with_their_faults(practice, tmp_path):
    practice.script(Fault(status=429, retry_after=0), {"answer": "Paris"})
    dspy.configure(lm=practice.lm(num_retries=2))
    program = dspy.Predict("question -> answer")
    with record(tmp_path / "run.jsonl") as path:
        program(question=QUESTION)
    assert [exchange.status for exchange in recorded_exchanges(path)] == [429, 200]
    with replay(path, speed=math.inf) as played:
        assert program(question=QUESTION).answer == "Paris"
    assert len(played.requests) == 2
    assert "lm.superseded" in {event.event_type for event in played.events}


def test_concurrent_equal_and_different_requests_find_their_replies(practice, tmp_path):
    practice.respond(lambda request: {"answer": f"about {request.inputs['question']}"})
    dspy.configure(lm=practice.lm())
    program = dspy.Predict("question -> answer")
    questions = [f"question {number % 5}" for number in range(10)]
    pairs = [(program, {"question": question}) for question in questions]
    with record(tmp_path / "run.jsonl") as path:
        dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)
    with replay(path, speed=math.inf) as played:
        answers = dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)
    assert [answer.answer for answer in answers] == [f"about {q}" for q in questions]
    assert played.unused == []


def test_another_question_is_refused_with_a_reason(recording):
    path, _ = recording
    with replay(path, speed=math.inf) as played:
        with pytest.raises(Exception, match="has no such request: the program has changed"):
            dspy.ChainOfThought("question -> answer")(question="And on the Thames?")
        assert len(played.unused) == 1


def test_a_program_needs_no_key_to_be_replayed(practice, tmp_path, monkeypatch):
    """The program names its provider as in production; nothing else is there."""
    practice.script({"answer": "Paris"})
    program = dspy.Predict("question -> answer")
    with record(tmp_path / "run.jsonl") as path:
        with dspy.context(lm=practice.lm(model="gpt-4o-mini")):
            program(question=QUESTION)
    practice.stop()
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with replay(path, speed=math.inf):
        with dspy.context(lm=dspy.LM("openai/gpt-4o-mini")):
            assert program(question=QUESTION).answer == "Paris"


def test_dspys_cache_hides_nothing_from_a_recording(practice, tmp_path):
    practice.respond(lambda _: {"answer": "Paris"})
    dspy.configure(lm=practice.lm(cache=True))
    program = dspy.Predict("question -> answer")
    program(question=QUESTION)  # cached from here on
    cache = dspy.cache
    with record(tmp_path / "run.jsonl") as path:
        program(question=QUESTION)
    assert len(recorded_exchanges(path)) == 1
    assert dspy.cache is cache


def test_prompts_and_credentials_are_not_in_the_file(practice, tmp_path):
    """X15: of a request only a digest is kept."""
    practice.script({"answer": "Paris"})
    dspy.configure(lm=practice.lm(api_key="sk-very-secret"))
    with record(tmp_path / "run.jsonl") as path:
        dspy.Predict("question -> answer")(question=QUESTION)
    text = path.read_text("utf-8")
    assert "Seine" not in text
    assert "very-secret" not in text


def test_a_program_that_is_streamed_already_is_recorded_once(practice, tmp_path):
    practice.script({"answer": "Paris"})
    dspy.configure(lm=practice.lm())
    program = streamll.stream(dspy.Predict("question -> answer"))
    with record(tmp_path / "run.jsonl") as path:
        with program(question=QUESTION) as events:
            heard = list(events)
    kept = list(recorded_events(path))
    assert story(kept) == story(heard)
    assert len({event.event_id for event in kept}) == len(kept)


def test_a_reader_that_left_is_replayed_up_to_there(practice, tmp_path):
    practice.script(Reply({"answer": "one two three four five six seven eight"}, hold_after=14))
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    program = streamll.stream(dspy.Predict("question -> answer"))
    with record(tmp_path / "run.jsonl") as path:
        with program(question=QUESTION) as events:
            for event in events:
                if event.event_type == "token":
                    break
        practice.requests[0].wait_closed(timeout=60)
    [exchange] = recorded_exchanges(path)
    assert not exchange.complete


@pytest.mark.parametrize("speed", [0, -1, math.nan])
def test_a_speed_that_is_none_is_refused(tmp_path, speed):
    with pytest.raises(ValueError, match="speed is a positive number"):
        with replay(tmp_path / "none.jsonl", speed=speed):
            pass


@pytest.mark.parametrize(
    "line", ["no json", "[1]", '{"v": 1, "record": "chunk", "id": 7, "after": 0.1}', "{}"]
)
def test_a_file_that_is_no_recording_is_named_with_its_line(tmp_path, line):
    path = tmp_path / "broken.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(WireError, match=r"broken\.jsonl, line 2"):
        with replay(path):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_ends_the_recording_and_not_the_program(practice, caplog):
    practice.script({"answer": "Paris, naturally."})
    dspy.configure(lm=practice.lm(num_retries=0))
    with record("/dev/full"):
        assert dspy.Predict("question -> answer")(question="Where?").answer == "Paris, naturally."
    assert caplog.text.count("the recording /dev/full ends here: No space left on device") == 1


def test_a_recording_that_was_cut_is_replayed_up_to_there(practice, tmp_path, caplog):
    practice.script({"answer": "Paris, naturally."})
    dspy.configure(lm=practice.lm(num_retries=0))
    program = dspy.Predict("question -> answer")
    with record(tmp_path / "run.jsonl") as path:
        program(question="Where?")
    with path.open("ab") as file:
        file.write(b'{"v":1,"record":"chu')
    with replay(path, speed=math.inf):
        assert program(question="Where?").answer == "Paris, naturally."
    assert "is cut off, and left out" in caplog.text
