"""``streamll demo --web``: an agent in the viewer, with all that the viewer can show.

Two runs of one conversation: tools, typed fields that grow, two branches at once, a reply that breaks off
and is asked for again, an answer in Markdown; inputs and prompts included.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from streamll.cli.showing import keep_open, web_page

if TYPE_CHECKING:
    from streamll.testing import PracticeServer, RecordedRequest, Reply

QUESTIONS = ("A rainy day in Lisbon, what shall we do?", "And a sunny day in Kyoto?")
SKIES = {"Lisbon": "rain until the evening, 14 °C", "Kyoto": "sunny, 22 °C"}
SIGHTS = {
    "Lisbon": ["Museu Nacional do Azulejo", "Time Out Market"],
    "Kyoto": ["Fushimi Inari-taisha", "Nishiki Market"],
}
HOURS = {
    "Museu Nacional do Azulejo": "10–18, closed on Mondays",
    "Fushimi Inari-taisha": "always open",
}
STOPS: dict[str, list[dict[str, Any]]] = {
    "Lisbon": [
        {"place": "Museu Nacional do Azulejo", "begin": "10:00", "hours": 2.5, "indoors": True},
        {"place": "Time Out Market", "begin": "13:00", "hours": 1.5, "indoors": True},
        {"place": "Tram 28 to Graça", "begin": "15:00", "hours": 1.0, "indoors": True},
    ],
    "Kyoto": [
        {"place": "Fushimi Inari-taisha", "begin": "08:00", "hours": 3.0, "indoors": False},
        {"place": "Nishiki Market", "begin": "12:00", "hours": 1.5, "indoors": True},
        {"place": "Philosopher's Path", "begin": "15:00", "hours": 2.0, "indoors": False},
    ],
}
BAGS = {"Lisbon": ["umbrella", "shoes that grip", "tram card"], "Kyoto": ["water", "sun hat"]}
ANSWER = """\
## {city}, hour by hour

The forecast says **{sky}**, so this is the order:

| From | Where | Hours |
|---|---|---:|
{rows}

1. Be there *when it opens*: the queue is short then.
2. Pack {bag}.

```python
walk = sum(stop.hours for stop in stops)  # {hours} hours in all
```

> Opening hours change. Look again on the morning itself."""


def show_demo(server: PracticeServer | None) -> None:
    """Run the agent twice once the page is open, and keep the page until Ctrl-C.

    The language model is the one that is configured; ``server`` is there if it is the practice model.
    """
    import streamll

    if server is not None:
        server.respond(Answers().reply)
    planner, config = day_planner(), retrying()
    with (
        streamll.configure(include=["inputs", "prompts", "tools", "errors"]),
        web_page("demo --web") as view,
    ):
        print("It begins when the page is open; Ctrl-C ends it", flush=True)
        while not view.watched.wait(1.0):
            pass
        streamll.set_context(conversation_id="demo")
        for question in QUESTIONS:
            streamed = streamll.stream(planner, sinks=[view.sink], config=config, keep_text=False)
            with streamed(question=question) as events:
                events.result()
        keep_open("Done; Ctrl-C ends the page")


def retrying() -> Any:
    """What asks again for a reply that broke off; before DSPy 3.4 the LM does so itself."""
    import streamll
    from streamll.capture.inside_dspy import HAS_ENGINES

    return streamll.StreamConfig(max_retries=2, retry_delay=0.5) if HAS_ENGINES else None


def weather(city: str) -> dict[str, str]:
    """The forecast for a city."""
    time.sleep(0.4)
    return {"city": city, "forecast": SKIES.get(city, "mild and dry")}


def opening_hours(place: str) -> str:
    """When a museum, a market or a temple is open."""
    time.sleep(0.3)
    return HOURS.get(place, "9–17")


def day_planner() -> Any:
    """An agent that finds out, plans and packs at the same time, and writes it down."""
    import dspy
    from pydantic import BaseModel

    import streamll

    class Stop(BaseModel):
        """One place, and when to be there."""

        place: str
        begin: str
        hours: float
        indoors: bool

    stops, bag = (list[Stop], dspy.OutputField()), (list[str], dspy.OutputField())
    text, given = (str, dspy.InputField()), dspy.InputField()
    plan = dspy.Signature({"findings": text, "stops": stops}, "Put the places into an order.")
    pack = dspy.Signature({"findings": text, "bag": bag}, "Say what has to be in the bag.")
    write = dspy.Signature(
        {
            "question": text,
            "stops": (list[Stop], given),
            "bag": (list[str], given),
            "answer": (str, dspy.OutputField()),
        },
        "Write the day down for somebody who travels, in Markdown.",
    )

    class DayPlanner(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.research = dspy.ReAct("question -> findings", tools=[weather, opening_hours])
            self.plan = dspy.ChainOfThought(plan)
            self.pack = dspy.Predict(pack)
            self.write = dspy.Predict(write)

        def forward(self, question: str) -> Any:
            findings = self.research(question=question).findings
            streamll.status("Planning and packing")
            with streamll.trace("prepare"):
                both = dspy.Parallel(num_threads=2, disable_progress_bar=True)
                asked = dspy.Example(findings=findings).with_inputs("findings")
                plan, pack = both([(self.plan, asked), (self.pack, asked)])
            return self.write(question=question, stops=plan.stops, bag=pack.bag)

    return DayPlanner()


class Answers:
    """What the practice model says to the planner. The first answer breaks off once."""

    def __init__(self) -> None:
        self._has_broken = False

    def reply(self, request: RecordedRequest) -> Reply | None:
        """The reply to one request; ``None``: what the practice model makes up itself."""
        from streamll.testing import Fault, Reply

        asked = " ".join(request.inputs.values())
        city = next((city for city in SKIES if city in asked), None)
        fields = {field.name for field in request.prompt.fields}
        if city is None:
            return None
        if "next_tool_name" in fields:
            seen = [name for name in request.inputs if name.startswith("observation_")]
            return Reply(_step(city, len(seen)))
        if "findings" in fields:
            where = " and ".join(SIGHTS[city])
            found = {"findings": f"{city}: {SKIES[city]}. Worth a visit: {where}."}
            return Reply({"reasoning": "The forecast and the hours are known now.", **found})
        if "stops" in fields:
            why = "What is far goes first, and lunch is near the second place."
            return Reply({"reasoning": why, "stops": STOPS[city]})
        if "bag" in fields:
            return Reply({"bag": BAGS[city]})
        breaks, self._has_broken = not self._has_broken, True
        fault = Fault(disconnect_after=30) if breaks else None
        return Reply({"answer": _answer(city)}, fault=fault)


def _step(city: str, observations: int) -> dict[str, Any]:
    """The agent's next step: the weather, the hours of the first sight, the end."""
    sight = SIGHTS[city][0]
    steps: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("First the weather, it decides everything else.", "weather", {"city": city}),
        (f"Is {sight} open?", "opening_hours", {"place": sight}),
        ("That is enough to plan with.", "finish", {}),
    )
    thought, tool, arguments = steps[min(observations, len(steps) - 1)]
    return {"next_thought": thought, "next_tool_name": tool, "next_tool_args": arguments}


def _answer(city: str) -> str:
    stops = STOPS[city]
    rows = "\n".join(f"| {each['begin']} | {each['place']} | {each['hours']} |" for each in stops)
    hours, bag = sum(each["hours"] for each in stops), ", ".join(BAGS[city])
    return ANSWER.format(city=city, sky=SKIES[city], rows=rows, bag=bag, hours=hours)
