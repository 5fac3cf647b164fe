"""The practice model's answers: no knowledge, but the shape that the prompt asks for.

The same request always gets the same answer. The model says that it is a practice model, repeats
the question's words, calls tools where there are any, and reports their results.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from streamll.testing.model.field_types import schema_of
from streamll.testing.model.samples import Sampler
from streamll.testing.model.tools import choose, given, offered, used_tools
from streamll.testing.prompts import PromptField
from streamll.testing.recorded import RecordedRequest
from streamll.testing.replies import ToolCall

MODEL = "practice-model"
MAX_REACT_TOOLS = 2

STOPWORDS = frozenset(
    """a about all an and any are as at be been but by can could did do does for from get give go
    had happen happens has have how i if in into is it its know like look looks make makes may me
    mean means much my need no not of on or our out over please say should show so some tell than
    that the their them then there these they this to today under use want was we were what when
    where which who why will with work works would write you your describe explain""".split()  # noqa: SIM905 - a list of words reads best so
)
REASONING = re.compile(r"reason|thought|rationale|thinking|explanation|plan")
SHORT = re.compile(r"title|name|headline|topic|keyword|query|label|category|subject")
NOT_SUBJECT = re.compile(
    r"(trajectory|history|tools|(thought|tool_name|tool_args|observation)_\d+)$"
)


def practise(request: RecordedRequest) -> Mapping[str, Any]:
    """The practice model's reply, as options of ``Reply``."""
    topic = Topic(request)
    thinking = {"thinking": topic.reasoning()} if request.asked.thinking else {}
    if request.tools and not topic.observations and request.asked.calls_tools:
        tool, arguments = choose(request.tools, topic.question, topic.words)
        return {"tool_calls": [ToolCall(tool.name, arguments)], "text": "", **thinking}
    fields = react_step(request, topic) or {
        field.name: value(field, request, topic) for field in request.prompt.fields
    }
    text = fields or topic.answer()
    others = [varied(text, number) for number in range(1, request.asked.candidates)]
    return {"text": text, "candidates": others, **thinking}


def react_step(request: RecordedRequest, topic: Topic) -> dict[str, Any] | None:
    """The next step of a ReAct agent: at most two different tools, then ``finish``."""
    names = [field.name for field in request.prompt.fields]
    if names != ["next_thought", "next_tool_name", "next_tool_args"]:
        return None
    tools = offered(request.prompt.objective)
    used = used_tools(request.messages)
    left = [tool for tool in tools if tool.name not in used and tool.name != "finish"]
    if len(used) >= MAX_REACT_TOOLS or not left:
        thought = "I have what the tools could tell me, so I can finish and answer."
        return dict(zip(names, [thought, "finish", {}], strict=True))
    tool, arguments = choose(left, topic.question, topic.words)
    thought = f"To find out about {topic.about}, I will use {tool.name} and see what it says."
    return dict(zip(names, [thought, tool.name, arguments], strict=True))


def value(field: PromptField, request: RecordedRequest, topic: Topic) -> Any:
    if field.type == "ToolCalls":
        tools = given(request.prompt.inputs)
        calls = [choose(tools, topic.question, topic.words)] if tools else []
        return {"tool_calls": [{"name": tool.name, "args": args} for tool, args in calls]}
    schema = request.schema.get("properties", {}).get(field.name) or schema_of(field)
    if not is_plain_text(schema):
        definitions = request.schema.get("$defs", {})
        sampler = Sampler(topic.words, number=len(topic.question), definitions={**definitions})
        return sampler.sample(schema, field.name)
    if REASONING.search(field.name.lower()):
        return topic.reasoning()
    if SHORT.search(field.name.lower()):
        return f"Practice notes on {topic.about}"
    return topic.answer()


def is_plain_text(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "string" and not {"enum", "const", "format"} & schema.keys()


def varied(text: Any, number: int) -> Any:
    """Another candidate: the same text, marked with its number."""
    if isinstance(text, Mapping):
        return {name: varied(part, number) for name, part in text.items()}
    is_sentence = isinstance(text, str) and text.endswith(".")
    return f"{text} (Candidate {number}.)" if is_sentence else text


class Topic:
    """What a request is about, judging by its words."""

    def __init__(self, request: RecordedRequest) -> None:
        inputs = request.prompt.inputs
        subjects = [text for name, text in inputs.items() if not NOT_SUBJECT.match(name)]
        self.question = " ".join(subjects).strip()
        self.words = keywords(self.question)
        self.observations = [text for role, text in request.messages if role == "tool" and text]
        self.observations += [
            text
            for name, text in inputs.items()
            if name.startswith("observation_") and text != "Completed."  # the result of "finish"
        ]

    @property
    def about(self) -> str:
        """The three most telling words, names before long words, in the question's order."""
        most = sorted(self.words, key=lambda word: (not word[0].isupper(), -len(word)))[:3]
        return listed([word for word in self.words if word in most]) or "this"

    def reasoning(self) -> str:
        first = self.words[0] if self.words else "it"
        return (
            f"The question is about {self.about}. "
            f"I am a practice model, so I know nothing about {first}; "
            "I only show how an answer arrives, piece by piece. "
            f"Let me take the words I was given, “{shortened(self.question)}”, one by one. "
            f"{self.findings()}"
            "A real model would now weigh what it has learned about them, and so take its time. "
            "I have only the words themselves, and they are enough to put an answer together."
        )

    def answer(self) -> str:
        return (
            f"This is the practice model speaking, and you asked about {self.about}. "
            f"{self.findings()}"
            "Every word of this came over HTTP in the provider's own wire format, "
            "through the same parser and the same events as a real model's words would. "
            f"For facts about {self.about}, run the same program with a real model."
        )

    def findings(self) -> str:
        if not self.observations:
            return ""
        return f"The tools reported: {'; '.join(map(shortened, self.observations))}. "


def keywords(text: str) -> list[str]:
    """The words that are no stop words, in order, without duplicates."""
    words = re.findall(r"[^\W_][\w'-]*", text)
    return list(dict.fromkeys(word for word in words if word.lower() not in STOPWORDS))[:12]


def listed(words: Sequence[str]) -> str:
    *early, last = words or [""]
    return f"{', '.join(early)} and {last}" if early else last


def shortened(text: str, length: int = 160) -> str:
    """``text`` in one line, without its last full stop."""
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= length else text[:length].rsplit(" ", 1)[0] + " …"
