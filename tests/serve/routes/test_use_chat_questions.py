"""The ``ai`` package's own chat answers what a run asks: each major version by what it has for that."""

from __future__ import annotations

from typing import Literal

import dspy
import pytest
from profiles import THOROUGH

import streamll
from serve.formats.test_vercel import USE_CHAT
from serve.npm import ai_packages, run_node
from streamll.serve import create_app

TALK = """
import * as ai from 'ai';
const {stories} = read();
async function told({id, urls, answers, url, more}) {
  let posts = 0;
  const transport = new DefaultChatTransport({api: urls[0], fetch: (_, init) => {
    return fetch(urls[posts++ % urls.length], init);
  }});
  const chat = new Chat({id, transport,
    sendAutomaticallyWhen: ai.lastAssistantMessageIsCompleteWithApprovalResponses ?? (() => false),
    onData: async ({type, data}) => {  // the page's own form for a question
      if (type !== 'data-question' || data.state !== 'open' || (data.tool && answers.lapses)) return;
      const value = data.tool ? answers.value : more;
      await fetch(`${url}/runs/${data.run_id}/answers`, {method: 'POST',
        headers: {'content-type': 'application/json'},
        body: JSON.stringify({question_id: data.question_id, value})});
    }});
  await chat.sendMessage({text: answers.lapses ? 'lapses' : 'ada'});
  const part = () => lastOf(chat).parts.find((each) => each.toolCallId);
  const first = part();
  if (first.state === 'approval-requested') {
    const {id: approval} = first.approval;
    const [run_id, question_id] = approval.split(':');
    for (let open = answers.lapses; open;) {
      const {questions = []} = await (await fetch(`${url}/runs/${run_id}`)).json();
      open = questions.some((each) => each.question_id === question_id);
      await new Promise((done) => setTimeout(done, 500));
    }
    if (answers.elsewhere) {
      await fetch(`${url}/runs/${run_id}/answers`, {method: 'POST',
        headers: {'content-type': 'application/json'},
        body: JSON.stringify({question_id, value: answers.value})});
    }
    const edited = answers.value.arguments ? {body: {answers: {[approval]: answers.value}}} : {};
    const {allow, reason} = answers.elsewhere ? {allow: true} : answers.value;
    await chat.addToolApprovalResponse({id: approval, approved: allow, reason, options: edited});
    const states = ['output-available', 'output-denied', 'output-error'];
    while (!chat.error && !(chat.status === 'ready' && states.includes(part().state))) {
      await new Promise((done) => setTimeout(done, 20));
    }
  }
  return {first, posts, error: chat.error?.message, message: lastOf(chat), count: chat.messages.length};
}
console.log(JSON.stringify(await Promise.all(stories.map(told))));
"""
STORIES = {
    "approved": {"value": {"allow": True}},
    "edited": {"value": {"allow": True, "arguments": {"to": "bob"}}},
    "denied": {"value": {"allow": False, "reason": "away"}},
    "elsewhere": {"value": {"allow": False}, "elsewhere": True},
    "lapsed": {"value": {"allow": True}, "lapses": True},
}
OUTPUTS = {
    "approved": "sent to ada",
    "edited": "sent to bob",
    "denied": "The call of send_mail was refused: away",
    "elsewhere": "The call of send_mail was refused",
    "lapsed": "The call of send_mail was refused",
}


def send_mail(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


class Mails(dspy.Module):
    """Asks, and sends a mail after a yes, and asks something else."""

    def __init__(self):
        super().__init__()
        self.mail = dspy.Tool(send_mail)

    async def aforward(self, question):
        # Long enough for a page to be told of the question before that.
        limit = {"timeout": 20, "default": False} if question == "lapses" else {}
        sent = await streamll.approve(self.mail, **limit).acall(to="ada")
        more = await streamll.ask_async("More?", schema=Literal["yes", "no"])
        return dspy.Prediction(answer=f"{sent}; {more}")


@pytest.fixture
def fleet(serve, log, request, monkeypatch):
    """Two servers of one log, for pages of one version."""
    monkeypatch.setattr("streamll.serve.routes.answers.HEARD_S", 60)  # however busy the machine
    streamll.configure(include=["tools", "outputs"])
    version = getattr(request, "param", None)
    yield [serve(create_app(Mails(), log=log, ai_version=version)) for _ in range(2)]
    streamll.configure(include=[])


VERSIONS = [("5", 5), ("6", 6), ("7", 7)]
if THOROUGH:
    VERSIONS += [("7.0.70", 7)]


@pytest.mark.parametrize(("package", "fleet"), VERSIONS, indirect=["fleet"])
def test_its_chat_approves_edits_denies_and_comes_too_late_at_any_process(fleet, package):
    one, two = fleet
    urls = [f"{one.url}/ai", f"{two.url}/ai"]
    more = {"urls": urls, "url": two.url, "more": "no"}
    given = [{"id": name, "answers": answers, **more} for name, answers in STORIES.items()]
    told = run_node(USE_CHAT + TALK, {"stories": given}, timeout=120, place=ai_packages(package))
    for name, read in zip(STORIES, told, strict=True):
        assert read.get("error") is None, name
        assert read["count"] == 2
        parts = read["message"]["parts"]
        [tool] = [part for part in parts if "toolCallId" in part]
        questions = {
            part["data"]["text"]: part["data"] for part in parts if part["type"] == "data-question"
        }
        assert (questions["More?"]["state"], questions["More?"]["value"]) == ("answered", "no")
        assert questions["More?"]["schema"]["enum"] == ["yes", "no"]
        if package == "5":
            assert (read["posts"], tool["output"]) == (1, OUTPUTS[name])
            assert questions["Allow send_mail?"]["arguments"] == {"to": "ada"}
            continue
        assert read["posts"] == 2, name
        assert read["first"]["state"] == "approval-requested"
        assert set(questions) == {"More?"}
        if "refused" in OUTPUTS[name]:
            assert tool["state"] == "output-denied"
        else:
            assert tool["output"] == OUTPUTS[name]
        late = [part["data"]["reason"] for part in parts if part["type"] == "data-unused-answer"]
        assert len(late) == (name in ("elsewhere", "lapsed"))
