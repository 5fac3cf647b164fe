"""X18: evaluations and optimizers on the page: live, with a bar and the score so far; tables of results."""

from __future__ import annotations

import threading

import dspy
import httpx
import msgspec
import pytest
from viewer.conftest import wait_until

from streamll.core import events as ev
from streamll.serve.report import report_html

RUN = ev.Identity(run_id="r1")


class Measured(dspy.Module):
    """Evaluates a predictor on as many examples as asked for; the third waits."""

    def __init__(self):
        super().__init__()
        self.go_on = threading.Event()

    def forward(self, total: int):
        devset = [dspy.Example(question=f"q{n}").with_inputs("question") for n in range(int(total))]

        def metric(example, prediction):
            if example.question == "q2":
                self.go_on.wait(60)
            if example.question == "q1":
                raise ValueError("no score")
            return example.question != "q0"

        evaluate = dspy.Evaluate(
            devset=devset, metric=metric, num_threads=1, display_progress=False
        )
        return dspy.Prediction(score=evaluate(dspy.Predict("question -> answer")).score)


def rows(page):
    return [row.inner_text().split("\t") for row in page.locator(".card table tbody tr").all()]


@pytest.mark.filterwarnings("ignore")
def test_an_evaluation_is_seen_while_it_runs_and_when_it_is_over(site, open_page, caplog):
    caplog.set_level("CRITICAL", logger="dspy")
    program = Measured()
    server = site(program)
    answer = httpx.post(
        f"{server.url}/runs", json={"inputs": {"total": 4}}, trust_env=False, timeout=60
    )
    page = open_page(f"{server.url}/#run={answer.json()['run_id']}")
    page.wait_for_function(
        "() => document.querySelector('.card.evaluate .facts')?.textContent.includes('2 of 4')"
    )
    assert page.locator(".card.evaluate h3").inner_text() == "Evaluate Predict"
    assert page.locator(".card.evaluate .facts").inner_text() == "2 of 4 · 1 failed · 0% so far"
    bar = page.locator(".card.evaluate progress")
    assert bar.is_visible()
    assert bar.evaluate("(bar) => [bar.value, bar.max]") == [2, 4]
    program.go_on.set()
    page.wait_for_selector("#status[data-status=ended]")
    wait_until(lambda: "50%" in page.locator(".card.evaluate .facts").inner_text())
    assert not bar.is_visible()
    assert [(row[0], row[1]) for row in rows(page)] == [
        ("2", ""), ("1", "0"), ("3", "1"), ("4", "1"),
    ]  # fmt: skip
    assert rows(page)[0][3] == "ValueError"
    assert page.locator(".card").count() == 1  # none for each of its calls
    assert page.locator("#timeline li").count() == 2


def optimizing(candidates):
    """The events of an optimizer with this many candidates, the fourth of which is the best."""
    events = [ev.RunStart(identity=RUN, program="MIPROv2")]
    outer = ev.Identity(run_id="r1", call_id="c", path=("MIPROv2",))
    events.append(ev.CompileStart(identity=outer, name="QA", optimizer="MIPROv2", total=20))
    for index in range(candidates):
        who = ev.Identity(run_id="r1", call_id=f"e{index}", parent_call_id="c")
        called = ev.Identity(run_id="r1", call_id=f"m{index}", parent_call_id=who.call_id)
        score, best = (90.0, 90.0) if index == 3 else (50.0, 90.0 if index > 3 else 50.0)
        events += [
            ev.EvaluateStart(identity=who, name="QA", metric="exact", total=1),
            ev.ModuleStart(identity=called, name="QA"),
            ev.ModuleEnd(identity=called, name="QA", duration=0.5),
            ev.EvaluateExample(identity=who, index=0, done=1, total=1, score=0.5, mean=50.0),
            ev.EvaluateEnd(identity=who, name="QA", duration=0.5, score=score, done=1),
            ev.CompileCandidate(
                identity=outer, index=index, score=score, total=1, best=best,
                best_index=3 if index >= 3 else 0, duration=0.5,
            ),
        ]  # fmt: skip
    end = ev.CompileEnd(
        identity=outer,
        name="QA",
        optimizer="MIPROv2",
        duration=9.0,
        candidates=candidates,
        best=90.0,
    )
    events += [end, ev.RunEnd(identity=RUN, duration=9.0)]
    return [
        msgspec.structs.replace(event, seq=n, timestamp=1e9 + n) for n, event in enumerate(events)
    ]


def test_an_optimizer_has_its_latest_candidates_and_the_best(open_page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(report_html(optimizing(30)), "utf-8")
    page = open_page(path.as_uri())
    page.wait_for_selector("#status[data-status=ended]")
    assert page.locator(".card.compile h3").inner_text() == "MIPROv2 QA"
    assert page.locator(".card.compile .facts").inner_text().startswith("30 candidates · best 90%")
    found = rows(page)
    assert [int(row[0]) for row in found] == [4, *range(22, 31)]
    assert [row[4] for row in found] == ["best"] + [""] * 9
    assert page.locator(".card").count() == 1  # none for each of its evaluations' calls
    assert page.locator("#timeline li").count() == 31
