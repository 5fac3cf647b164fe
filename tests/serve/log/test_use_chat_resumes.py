"""X10, X11: a page with ``useChat`` that is cut behind every event and comes back to another process.

Its chats are the ``ai`` package's own, each major version's, with the transport it has by default:
that builds the addresses, reads the frames and puts the message together.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import time

import dspy
import msgspec
import pytest
from profiles import THOROUGH

from serve.formats.test_vercel import STORIES, USE_CHAT, essence
from serve.formats.test_wire_formats import SHOWN_PARTS
from serve.npm import ai_packages, node_in
from serve.process import ServerProcess
from serve.serving import Server
from streamll.core import events as ev
from streamll.serve import create_app
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.runner import chat_key

READERS = {"5.0.0": "vercel", "5": "vercel-5", "6": "vercel-6", "7": "vercel-7"}
CASES = [
    (package, name, when)
    for package in READERS
    for name in ("agent", "in_the_middle")
    for when in ("live", "finished")
]
if not THOROUGH:
    CASES = [
        ("5.0.0", "in_the_middle", "live"),
        ("5", "in_the_middle", "finished"),
        ("6", "in_the_middle", "finished"),
        ("7", "agent", "live"),
    ]
BOUND = 60
WHOLE = "whole"
COME_BACK = """
const {here, there, chats, first} = JSON.parse(process.argv[1]);
class Cut extends DefaultChatTransport {
  // The connection breaks when the page has taken in so many frames. (What waits in a stream is lost
  // when that fails, so this is where the page reads it, and it has its turn before the break.)
  processResponseStream(body) {
    const reader = super.processResponseStream(body).getReader();
    let left = this.frames || Infinity;
    this.frames = 0; // and then no more
    return new ReadableStream({async pull(out) {
      const {done, value} = left-- ? await reader.read() : {};
      if (done) out.close();
      else if (value) out.enqueue(value);
      else {
        await new Promise(setImmediate);
        reader.cancel();
        out.error(new TypeError('network error'));
      }
    }}, {highWaterMark: 0});
  }
}
function telling(response) {
  let told = false;
  const body = response.body.pipeThrough(new TransformStream({transform(bytes, out) {
    if (!told) console.log('back');
    told = true;
    out.enqueue(bytes);
  }}));
  return new Response(body, response);
}
async function comesBack({id, frames}) {
  let visits = 0, had = '[]';
  const transport = new Cut({api: here, fetch: async (url, options) => {
    const response = await fetch(url, options);
    if (response.status !== 200) return response;
    return visits++ || !frames ? telling(response) : response;
  }});
  transport.frames = frames;
  // 5.0.0 asks this also when the connection is lost, in the middle of a step.
  const automatically = first ? {} : {sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls};
  const chat = new Chat({id, transport, messages: [USER], ...automatically});
  if (frames) {
    await chat.resumeStream();
    if (chat.error?.message !== 'network error') throw chat.error ?? new Error('was not cut');
    had = JSON.stringify(lastOf(chat)?.parts ?? []);
    console.log('cut');
    await finished;
  }
  transport.api = there;
  await chat.resumeStream();
  const message = lastOf(chat);
  return [id, {had: JSON.parse(had), count: chat.messages.length, message, error: chat.error?.message, visits,
               shown: message ? shownParts(message) : []}];
}
let go;
const finished = process.argv[2] === 'live' ? null : new Promise((done) => { go = done; });
process.stdin.on('data', () => go?.());
const all = await Promise.all(chats.map(comesBack));
console.log(JSON.stringify(Object.fromEntries(all)));
process.stdin.destroy();
"""


def story(name, run_id):
    """The events of a golden run as those of this run, which ends now."""
    events, now = STORIES[name](), time.time()
    late = now - events[-1].timestamp
    for event in events:
        keys = {key: getattr(event.identity, key) for key in event.identity.__struct_fields__}
        who = ev.Identity(**{**keys, "run_id": run_id})
        yield msgspec.structs.replace(event, identity=who, timestamp=event.timestamp + late)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('use_chat')}/log.db"


@pytest.fixture(scope="module")
def here(log):
    program = dspy.Predict("question -> answer")
    app = create_app({"qa": program, "other": program}, log=log)
    server = Server(app)
    server.sink = app.service.runner.run_log.sink
    yield server
    server.stop()


@pytest.fixture(scope="module")
def there(log):
    server = ServerProcess(log, "http://127.0.0.1:9/v1", names=("other", "qa"))
    yield server
    server.stop()


@pytest.mark.parametrize(("package", "name", "when"), CASES)
def test_who_comes_back_ends_with_the_same_message(here, there, package, name, when):
    run_id, form = f"{package}-{name}-{when}", READERS[package]
    events = list(story(name, run_id))
    rendered = map(make_format(form, RenderOptions(text="answer")).feed, events[:-1])
    cuts = sorted(set(itertools.accumulate(map(len, rendered))))  # behind each event
    chats = [{"id": f"{run_id}/{n or WHOLE}", "frames": n} for n in (0, *cuts)]
    for chat in chats:
        data = {"run_id": run_id, "program": "qa", "form": form}
        key = ev.Identity(run_id=chat_key(chat["id"]))
        here.sink.put(ev.StreamllEvent(event_type="server.chat", data=data, identity=key))
    if package == "5.0.0":
        for chat in chats:
            chat["id"] = chat["id"].replace("/", "%2F")  # it does not encode an id
    for event in events[:-1]:
        here.sink.put(event)
    assert here.sink.catch_up(BOUND)
    given = {"here": f"{here.url}/ai/qa", "there": f"{there.url}/ai/qa", "chats": chats}
    given["first"] = package == "5.0.0"
    folder, script = ai_packages(package), USE_CHAT + SHOWN_PARTS + COME_BACK
    command = [node_in(folder), "--input-type=module", "-e", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, json.dumps(given), when],
        cwd=folder,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    ) as process:
        back = len(chats) if when == "live" else 1  # the others come when the run is over
        said = [process.stdout.readline() for _ in range(back + len(cuts))]
        assert sorted(said) == ["back\n"] * back + ["cut\n"] * len(cuts), process.stderr.read()
        # Who comes back is sent it for some time after that, and may be late on a busy machine.
        here.sink.put(msgspec.structs.replace(events[-1], timestamp=time.time() + BOUND))
        assert here.sink.catch_up(BOUND)
        process.stdin.write("over\n")
        process.stdin.flush()
        *_, answer = process.stdout.readlines()
    read = json.loads(answer)
    whole = next(each for chat, each in read.items() if chat.endswith(WHOLE))
    assert whole["visits"] == 1
    assert essence(whole["shown"])
    assert max(len(got["had"]) for got in read.values()) >= len(whole["message"]["parts"]) - 1
    for chat, got in read.items():
        assert got.get("error") is None, chat
        assert got["count"] == 2, chat  # the question, and one answer
        assert essence(got["shown"]) == essence(whole["shown"]), chat
        if package[0] != "5":  # which adds to what it has, so that ``shownParts`` is needed
            assert got["message"] == whole["message"], chat
