"""X18: evaluations and optimizers live: their events, in order, and nothing changes in what they return."""

from __future__ import annotations

import logging
import sys
import threading

import dspy
import pytest

import streamll
from streamll.capture import running
from streamll.core.ordering import OrderCheck
from streamll.testing import RecordingSink, Reply


class QA(dspy.Module):
    """Answers with its question; fails for those that say so."""

    def __init__(self):
        super().__init__()
        self.generate = dspy.ChainOfThought("question -> answer")

    def forward(self, question):
        if "fail" in question:
            raise ValueError(f"will not answer {question}")
        return self.generate(question=question)


QUESTIONS = ["a", "bb", "ccc", "dddd", "fail", "eeeee"]


def examples(questions=QUESTIONS):
    return [dspy.Example(question=q, answer=q).with_inputs("question") for q in questions]


def is_long(example, prediction, trace=None):
    return len(prediction.answer) > 2


@pytest.fixture(autouse=True)
def lm(practice):
    """A model that answers with the question."""

    def answer(request):
        text = request.messages[-1].text
        question = text.split("[[ ## question ## ]]\n")[-1].split("\n")[0]
        return {"reasoning": "Because.", "answer": question}

    practice.respond(answer)
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())


@pytest.fixture(autouse=True)
def quiet_logs(caplog):
    caplog.set_level(logging.CRITICAL, logger="dspy")


def evaluation(questions=QUESTIONS, metric=is_long, **options):
    options = {"num_threads": 3, "display_progress": False, **options}
    return dspy.Evaluate(devset=examples(questions), metric=metric, **options)


def plainly(result):
    """What an evaluation returned, comparable."""
    return result.score, [
        (example.toDict(), prediction.toDict(), score)
        for example, prediction, score in result.results
    ]


def streamed(program, *args, **kwargs):
    """The events of a call and what it returned, or raised."""
    with streamll.stream(program)(*args, **kwargs) as events:
        seen, outcome = [], None
        try:
            for event in events:
                seen.append(event)
            outcome = events.result()
        except Exception as error:
            outcome = error
    OrderCheck().check_all(seen)
    return seen, outcome


def of(events, kind):
    return [event for event in events if event.event_type == kind]


def test_what_examples_tell_of_all_grows_whoever_is_paused():
    """With the interpreter going from thread to thread as often as it can."""

    class Echo(dspy.Module):
        def forward(self, question):
            return dspy.Prediction(answer=question)

    questions = [f"{n % 5}" * (1 + n % 4) for n in range(400)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        events, result = streamed(evaluation(questions, num_threads=8), Echo())
    finally:
        sys.setswitchinterval(interval)
    done = of(events, "evaluate.example")
    assert [event.done for event in done] == list(range(1, 401))
    assert done[-1].mean == result.score


@pytest.mark.parametrize("threads", [1, 3])
def test_an_evaluation_tells_of_each_example_and_returns_what_it_returns(practice, threads):
    evaluate = evaluation(num_threads=threads)
    plain = plainly(evaluate(QA()))
    asked = len(practice.requests)
    events, result = streamed(evaluate, QA())
    assert plainly(result) == plain
    assert len(practice.requests) == 2 * asked
    assert not any(request.streaming for request in practice.requests)
    assert not of(events, "token")

    (start,), (end,) = of(events, "evaluate.start"), of(events, "evaluate.end")
    assert (start.name, start.metric, start.total) == ("QA", "is_long", 6)
    assert (end.score, end.done, end.failed, end.error_type) == (result.score, 6, 1, None)
    done = of(events, "evaluate.example")
    assert [event.done for event in done] == [1, 2, 3, 4, 5, 6]
    scores = {event.index: event.score for event in done}
    assert scores == {0: 0.0, 1: 0.0, 2: 1.0, 3: 1.0, 4: None, 5: 1.0}
    assert {event.index: event.error_type for event in done if event.error_type} == {
        4: "ValueError"
    }
    assert done[-1].mean == end.score == 50.0
    assert all(event.call_id == start.call_id for event in done)
    assert all(event.path == ("Evaluate",) for event in done)
    calls = [e for e in of(events, "module.start") if e.name == "QA"]
    assert [event.parent_call_id for event in calls] == [start.call_id] * 6


def test_the_mean_is_that_of_the_examples_so_far():
    events, _ = streamed(evaluation(["a", "bbb", "ccc", "d"], num_threads=1), QA())
    means = [event.mean for event in of(events, "evaluate.example")]
    assert means == [0.0, 50.0, 66.67, 50.0]


def test_a_failed_example_counts_with_the_failure_score():
    events, result = streamed(evaluation(["bbb", "fail"], num_threads=1, failure_score=0.5), QA())
    assert [event.mean for event in of(events, "evaluate.example")] == [100.0, 75.0]
    assert result.score == 75.0


class Touchy:
    """A score that lets nobody look at it."""

    def __init__(self, value):
        self.value = value

    def __radd__(self, other):
        return other + self.value

    def __float__(self):
        raise RuntimeError("not a float")

    def __getattr__(self, name):
        raise LookupError(name)


def test_a_score_that_cannot_be_read_is_unknown_and_the_evaluation_goes_on():
    events, result = streamed(evaluation(["a", "b"], lambda *_: Touchy(1)), QA())
    assert result.score == 100.0
    assert [(e.score, e.mean) for e in of(events, "evaluate.example")] == [(None, None)] * 2
    assert of(events, "evaluate.end")[0].score == 100.0


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        (lambda *_: True, 1.0),
        (lambda *_: 0.25, 0.25),
        (lambda *_: dspy.Prediction(score=0.5, feedback="so so"), 0.5),
    ],
    ids=["bool", "float", "prediction"],
)
def test_a_score_is_a_number_whatever_the_metric_returns(metric, score):
    events, result = streamed(evaluation(["a", "b"], metric), QA())
    assert [event.score for event in of(events, "evaluate.example")] == [score, score]
    assert of(events, "evaluate.end")[0].score == result.score == 100 * score


def test_a_metric_that_returns_no_number_fails_as_it_does_without_us():
    evaluate = evaluation(["a", "b"], lambda *_: "good", num_threads=1)
    with pytest.raises(Exception) as plain:  # noqa: PT011 - whatever DSPy raises
        evaluate(QA())
    events, error = streamed(evaluate, QA())
    assert (type(error), str(error)) == (plain.type, str(plain.value))
    assert of(events, "evaluate.end")[0].error_type == plain.type.__name__


def test_too_many_failures_end_it_with_the_error():
    evaluate = evaluation(["fail", "fail again"], max_errors=1, num_threads=1)
    events, error = streamed(evaluate, QA())
    assert "cancelled due to errors" in str(error)
    (end,) = of(events, "evaluate.end")
    assert (end.error_type, end.done, end.failed, end.score) == ("Exception", 1, 1, None)
    assert events[-1].event_type == "run.error"


def test_an_example_that_is_there_twice_is_two():
    example = examples(["aaa"])[0]
    evaluate = dspy.Evaluate(devset=[example, example], metric=is_long, display_progress=False)
    events, _ = streamed(evaluate, QA())
    assert [(e.index, e.done) for e in of(events, "evaluate.example")] == [(0, 1), (1, 2)]


def test_an_executor_of_the_metric_s_own_runs_no_examples():
    def judged(example, prediction):
        judge = dspy.Predict("question -> answer")
        pairs = [(judge, {"question": "ok"}), (judge, {"question": "fine"})]
        return None not in dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)

    events, result = streamed(evaluation(["a", "b"], judged), QA())
    assert result.score == 100.0
    assert len(of(events, "evaluate.example")) == 2


def test_contents_are_told_where_they_are_asked_for():
    evaluate = evaluation(["aaa"])
    events, _ = streamed(evaluate, QA())
    (done,) = of(events, "evaluate.example")
    assert (done.inputs, done.outputs) == (None, None)
    with streamll.configure(include=["inputs", "outputs"]):
        events, _ = streamed(evaluate, QA())
    (done,) = of(events, "evaluate.example")
    assert done.inputs == {"question": "aaa"}
    assert done.outputs == {"reasoning": "Because.", "answer": "aaa"}


def test_text_is_streamed_inside_where_that_is_asked_for(practice):
    with streamll.configure(tokens_in_evaluate=True):
        events, _ = streamed(evaluation(["a", "b"]), QA())
    assert len({event.call_id for event in of(events, "token")}) == 2
    assert all(request.streaming for request in practice.requests)


def test_leaving_stops_an_evaluation(practice, monkeypatch):
    monkeypatch.setattr(running, "CANCEL_GRACE_S", 60)  # a busy machine's program ends late
    practice.script(Reply({"reasoning": "x", "answer": "y"}, hold_after=1))
    entered = threading.Event()

    class Slow(QA):
        def forward(self, question):
            entered.set()
            return super().forward(question)

    with streamll.stream(evaluation(["a", "b", "c"], num_threads=1))(Slow()) as events:
        assert entered.wait(60)
        practice.wait_for(lambda: practice.requests, what="the first example")
        events.cancel()
        seen = []
        with pytest.raises(streamll.StreamCancelled):
            seen.extend(events)
            events.result()
    OrderCheck().check_all(seen)
    assert seen[-1].event_type == "run.cancelled"
    (end,) = of(seen, "evaluate.end")
    assert end.error_type in ("Unwind", "Unfinished")
    assert len(practice.requests) == 1


def test_under_watch_an_evaluation_is_one_run():
    sink = RecordingSink()
    with streamll.watch(sinks=[sink]):
        result = evaluation()(QA())
    assert sink.catch_up(60)
    OrderCheck().check_all(sink.events)
    assert [event.program for event in of(sink.events, "run.start")] == ["Evaluate"]
    assert of(sink.events, "evaluate.end")[0].score == result.score


def test_an_evaluation_inside_a_program_is_part_of_its_run():
    class Measured(dspy.Module):
        def forward(self, question):
            return dspy.Prediction(score=evaluation(["aaa", "b"])(QA()).score)

    events, prediction = streamed(Measured(), question="How good?")
    assert prediction.score == 50.0
    assert of(events, "evaluate.start")[0].path == ("Measured", "Evaluate")


def test_a_program_that_is_not_captured_is_evaluated_as_before():
    sink = RecordingSink()
    program = streamll.instrument(QA(), sinks=[sink])
    evaluation()(program)
    assert sink.catch_up(60)
    assert len(of(sink.events, "run.start")) == 6
    assert not of(sink.events, "evaluate.start")


def test_callbacks_of_the_program_s_own_hear_what_they_hear_without_us():
    class Listening(dspy.utils.callback.BaseCallback):
        def __init__(self):
            self.heard = []

        def on_evaluate_start(self, call_id, instance, inputs):
            self.heard.append(("start", sorted(inputs)))

        def on_evaluate_end(self, call_id, outputs, exception=None):
            self.heard.append(("end", outputs.score))

    plain, ours = Listening(), Listening()
    with dspy.context(callbacks=[plain]):
        evaluation()(QA())
    with dspy.context(callbacks=[ours]):
        streamed(evaluation(), QA())
    assert ours.heard == plain.heard


# --- optimizers -----------------------------------------------------------------------------------

TRAINSET = ["aaa", "bbb", "c", "ddd"]


def random_search(metric=is_long, **options):
    return dspy.BootstrapFewShotWithRandomSearch(
        metric=metric, num_candidate_programs=1, max_bootstrapped_demos=1, num_threads=2, **options
    )


def compiled(program):
    return {
        name: [dict(demo) for demo in predictor.demos]
        for name, predictor in program.named_predictors()
    }


@pytest.mark.since_3_4
def test_an_optimizer_tells_of_its_candidates_and_returns_what_it_returns(practice):
    trainset = examples(TRAINSET)
    plain = random_search().compile(QA(), trainset=trainset)
    asked = len(practice.requests)
    events, program = streamed(random_search().compile, QA(), trainset=trainset)
    assert compiled(program) == compiled(plain)
    assert len(practice.requests) == 2 * asked
    assert not of(events, "token")

    start, end = of(events, "compile.start")[0], of(events, "compile.end")[-1]
    assert (start.name, start.optimizer, start.total) == (
        "QA",
        "BootstrapFewShotWithRandomSearch",
        4,
    )
    candidates = of(events, "compile.candidate")
    scores = [event.score for event in candidates]
    assert scores == [score for _, score in sorted(
        (each["seed"], each["score"]) for each in program.candidate_programs
    )]  # fmt: skip
    assert [event.index for event in candidates] == list(range(len(scores)))
    assert [event.best for event in candidates] == [
        max(scores[: n + 1]) for n in range(len(scores))
    ]
    assert all(scores[event.best_index] == event.best for event in candidates)
    assert (end.candidates, end.best) == (len(scores), max(scores))
    assert {event.call_id for event in candidates} == {start.call_id, end.call_id}
    inner = of(events, "evaluate.start")
    assert [event.parent_call_id for event in inner] == [start.call_id] * len(scores)
    assert [event.turn for event in inner] == list(range(len(scores)))


@pytest.mark.since_3_4
def test_optimizers_inside_optimizers_are_told_apart():
    events, _ = streamed(random_search().compile, QA(), trainset=examples(TRAINSET))
    names = {event.path for event in of(events, "compile.start")}
    outer = "BootstrapFewShotWithRandomSearch"
    assert {(outer,), (outer, "BootstrapFewShot"), (outer, "LabeledFewShot")} <= names
    inner = [event for event in of(events, "compile.end") if len(event.path) > 1]
    assert {event.best for event in inner} == {None}


@pytest.mark.since_3_4
def test_under_watch_an_optimizer_is_one_run(practice):
    sink = RecordingSink()
    with streamll.watch(sinks=[sink]):
        program = random_search().compile(QA(), trainset=examples(TRAINSET))
        assert sink.catch_up(60)
        assert [event.program for event in of(sink.events, "run.start")] == [
            "BootstrapFewShotWithRandomSearch"
        ]
        sink.events.clear()
        program(question="aaa")  # the run is over: this is another one
        assert sink.catch_up(60)
    assert [event.program for event in of(sink.events, "run.start")] == ["QA"]
    assert of(sink.events, "token")
    OrderCheck().check_all(sink.events)


@pytest.mark.since_3_4
def test_an_optimizer_that_fails_says_so():
    def broken(*_):
        raise LookupError("no such metric")

    sink = RecordingSink()
    optimizer = dspy.BootstrapFewShot(metric=broken, max_errors=1)
    with streamll.watch(sinks=[sink]), pytest.raises(LookupError):
        optimizer.compile(QA(), trainset=examples(TRAINSET))
    assert sink.catch_up(60)
    OrderCheck().check_all(sink.events)
    (end,) = [e for e in of(sink.events, "compile.end") if e.optimizer == "BootstrapFewShot"]
    assert (end.error_type, end.candidates, end.best) == ("LookupError", 0, None)
    assert sink.events[-1].event_type == "run.error"
    assert dspy.settings.get("_streamll_scope") is None


@pytest.mark.since_3_4
def test_leaving_stops_an_optimizer(practice, monkeypatch):
    monkeypatch.setattr(running, "CANCEL_GRACE_S", 60)  # a busy machine's program ends late
    judged, left = [], threading.Event()

    def patient(example, prediction, trace=None):
        """All but the first are judged once the reader has left, who may be late."""
        if judged:
            assert left.wait(60)
        judged.append(example)
        return is_long(example, prediction)

    search = random_search(patient)
    with streamll.stream(search.compile)(QA(), trainset=examples(TRAINSET)) as events:
        seen = []
        with pytest.raises(streamll.StreamCancelled):
            for event in events:
                seen.append(event)
                if event.event_type == "evaluate.example":
                    events.cancel()
                    left.set()
            events.result()
    OrderCheck().check_all(seen)
    assert seen[-1].event_type == "run.cancelled"
    assert of(seen, "compile.end")[-1].error_type in ("Unwind", "Unfinished")


@pytest.mark.since_3_4
def test_gepa_is_told_of_as_well(practice):
    """It evaluates a few examples for each idea, and all for a candidate: only those compare."""

    def feedback(example, prediction, trace=None, pred_name=None, pred_trace=None):
        return dspy.Prediction(score=float(len(prediction.answer) > 2), feedback="Longer.")

    optimizer = dspy.GEPA(
        metric=feedback, max_metric_calls=12, reflection_lm=practice.lm(model="reflecting"),
        num_threads=1, reflection_minibatch_size=2,
    )  # fmt: skip
    events, program = streamed(
        optimizer.compile, QA(), trainset=examples(TRAINSET), valset=examples(TRAINSET)
    )
    assert isinstance(program, QA), program
    candidates = of(events, "compile.candidate")
    assert {event.total for event in candidates} >= {2, 4}
    assert {event.best for event in candidates if event.index} == {75.0}
    assert of(events, "compile.end")[-1].best == 75.0
