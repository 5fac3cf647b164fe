"""Conversations of ten turns by each wire's own client: the program sees all of them."""

from __future__ import annotations

from typing import Literal

import dspy
import httpx
import openai
import pytest
from profiles import THOROUGH

from serve.npm import run_node
from streamll.serve import create_app

TURNS = 10


class Chat(dspy.Signature):
    """Answer."""

    history: dspy.History = dspy.InputField()
    question: str = dspy.InputField()
    tone: Literal["warm", "cold"] = dspy.InputField(default="warm")
    answer: str = dspy.OutputField()


class Agent(dspy.Module):
    """Thinks before it answers, so that messages have more than the reply."""

    def __init__(self):
        super().__init__()
        self.respond = dspy.ChainOfThought(Chat)

    def forward(self, question, history=None, tone="warm"):
        return self.respond(question=question, history=history, tone=tone)


def openai_at(server):
    return openai.OpenAI(
        api_key="none", base_url=f"{server.url}/v1", max_retries=0,
        http_client=httpx.Client(trust_env=False),
    )  # fmt: skip


def with_responses(server):
    """The server keeps the conversation; the client names the response before."""
    client, said, before = openai_at(server), [], None
    for turn in range(TURNS):
        answer = client.responses.create(
            model="agent",
            input=f"question {turn}",
            previous_response_id=before,
            extra_body={"inputs": {"tone": "cold"}},
        )
        said += [f"question {turn}", answer.output_text]
        before = answer.id
    return said


def with_openai(server):
    client = openai_at(server)
    messages = []
    for turn in range(TURNS):
        messages.append({"role": "user", "content": f"question {turn}"})
        text = ""
        for chunk in client.chat.completions.create(
            model="agent", messages=messages, stream=True, extra_body={"inputs": {"tone": "cold"}}
        ):
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        messages.append({"role": "assistant", "content": text})
    return [each["content"] for each in messages]


WITH_AI = """
import {DefaultChatTransport, readUIMessageStream} from 'ai'; import fs from 'fs';
const {url, turns} = JSON.parse(fs.readFileSync(0, 'utf8'));
const transport = new DefaultChatTransport({api: `${url}/ai`, body: {inputs: {tone: 'cold'}}});
const messages = [], texts = (m) => m.parts.filter((p) => p.type === 'text').map((p) => p.text).join('');
for (let turn = 0; turn < turns; turn++) {
  messages.push({id: `u${turn}`, role: 'user', parts: [{type: 'text', text: `question ${turn}`}]});
  const stream = await transport.sendMessages({chatId: 'c', messages, trigger: 'submit-message'});
  let last = null;
  for await (const message of readUIMessageStream({stream})) last = message;
  messages.push(last);
}
console.log(JSON.stringify(messages.map(texts)));
"""

WITH_AGUI = """
import {HttpAgent} from '@ag-ui/client'; import fs from 'fs';
const {url, turns} = JSON.parse(fs.readFileSync(0, 'utf8'));
const agent = new HttpAgent({url: `${url}/agui`, threadId: 'th'});
for (let turn = 0; turn < turns; turn++) {
  agent.addMessage({id: `u${turn}`, role: 'user', content: `question ${turn}`});
  await agent.runAgent({forwardedProps: {inputs: {tone: 'cold'}}});
}
const said = agent.messages.filter((m) => m.role === 'user' || m.role === 'assistant');
console.log(JSON.stringify(said.map((m) => m.content)));
"""


def with_ai(server):
    return run_node(WITH_AI, {"url": server.url, "turns": TURNS}, timeout=300)


def with_agui(server):
    return run_node(WITH_AGUI, {"url": server.url, "turns": TURNS}, timeout=300)


CLIENTS = {"openai": with_openai, "responses": with_responses, "ai": with_ai, "agui": with_agui}


@pytest.fixture
def answering(practice, lm):
    """The model answers by number, and has thought about it."""

    def answer(request):
        number = request.inputs["question"].rpartition(" ")[2]
        return {"reasoning": f"thought {number}", "answer": f"answer {number}"}

    practice.respond(answer)
    return practice


SAID = [text for n in range(TURNS) for text in (f"question {n}", f"answer {n}")]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_program_with_a_history_sees_all_ten_turns(client, answering, serve, log):
    said = CLIENTS[client](serve(create_app({"agent": Agent()}, log=log)))
    assert said == SAID
    request = answering.requests[-1]
    assert request.inputs["question"] == "question 9"
    assert request.inputs["tone"] == "cold"
    asked = [m["content"] for m in request.body["messages"] if m["role"] != "system"]
    assert len(asked) == 2 * TURNS - 1  # what the program sees are turns, not one text
    for number in range(TURNS - 1):
        assert f"question {number}" in asked[2 * number]
        assert f"answer {number}" in asked[2 * number + 1]
        kept = f"thought {number}" in asked[2 * number + 1]
        assert kept == (client != "openai")  # which does not send it back


@pytest.mark.parametrize("client", CLIENTS if THOROUGH else ["openai", "ai"])
def test_a_program_with_one_text_sees_all_ten_turns(client, answering, serve, log):
    program = dspy.Predict("question, tone -> answer")
    assert CLIENTS[client](serve(create_app({"agent": program}, log=log))) == SAID
    asked = answering.requests[-1].inputs["question"]
    lines = [
        f"{who}: {text}"
        for number in range(TURNS)
        for who, text in (("User", f"question {number}"), ("Assistant", f"answer {number}"))
    ]
    assert asked == "\n\n".join(lines[:-1])
