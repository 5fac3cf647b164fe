"""Gemini speaks a wire that the practice server does not: a server of two routes, by hand."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dspy
import pytest
from observing import ASPECTS, differences, observe
from tapping import Notes, tapped

pytestmark = pytest.mark.since_3_4

CALLS = [{"functionCall": {"name": name, "args": {"q": name}}} for name in ("search", "look")]
GROUNDING = {
    "groundingChunks": [{"web": {"uri": "https://a.example/", "title": "Atlas"}}],
    "groundingSupports": [{"segment": {"text": "Paris"}, "groundingChunkIndices": [0]}],
}
USAGE = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}


def whole(*parts, **rest):
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", **rest}
    return {
        "candidates": [{**candidate, "index": 0}],
        "usageMetadata": USAGE,
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r1",
    }


def cut(reply):
    """The frames of a reply: texts in pieces of three characters, all the rest at the end."""
    candidate = reply["candidates"][0]
    rest = {key: value for key, value in reply.items() if key != "candidates"}
    pieces = []
    for part in candidate["content"]["parts"]:
        text = part.get("text", "")
        begun = {key: value for key, value in part.items() if key == "thought"}
        pieces += [{**begun, "text": text[i : i + 3]} for i in range(0, len(text), 3)] or [{}]
        pieces[-1] = {**part, **pieces[-1]}
    for number, piece in enumerate(pieces, 1):
        content = {"role": "model", "parts": [piece]}
        last = (
            {k: v for k, v in candidate.items() if k != "content"} if number == len(pieces) else {}
        )
        yield {**rest, "candidates": [{"index": 0, **last, "content": content}]}


@pytest.fixture
def gemini():
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            streaming = ":streamGenerateContent" in self.path and "alt=sse" in self.path
            server.asked.append((streaming, body))
            if streaming:
                frames = [f"data: {json.dumps(frame)}\r\n\r\n" for frame in cut(server.reply)]
                self.answer("text/event-stream", "".join(frames))
            else:
                self.answer("application/json", json.dumps(server.reply))

        def answer(self, kind, text):
            data = text.encode()
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked = []
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(60)


REPLIES = {
    "text": whole({"text": "Paris is big, 東京 is bigger."}),
    "thinking": whole({"text": "Let me see.", "thought": True}, {"text": "Paris."}),
    "a signature": whole({"text": "Paris.", "thoughtSignature": "abc"}),
    "two calls": whole({"text": "Wait."}, *CALLS),
    "grounding": whole({"text": "Paris is big."}, groundingMetadata=GROUNDING),
    "cut": whole({"text": "Par"}, finishReason="MAX_TOKENS"),
    "blocked": whole({"text": "Par"}, finishReason="SAFETY"),
}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("name", REPLIES)
def test_gemini_is_the_same_with_a_tap(gemini, name, asynchronous, monkeypatch):
    """X3: parallel calls, grounding and signatures, which lm15's stream of events loses."""
    gemini.reply = REPLIES[name]

    def run():
        lm = dspy.LM(
            "gemini/gemini-2.5-flash",
            api_key="x",
            api_base=f"http://127.0.0.1:{gemini.server_port}/v1beta",
            num_retries=0,
        )
        return observe(gemini, lm, lambda: (lm.acall if asynchronous else lm)("Hi"), monkeypatch)

    plain = run()
    with tapped() as listeners:
        heard = run()
    assert [differences(plain, heard, aspect) for aspect in ASPECTS] == [""] * len(ASPECTS)
    assert [streaming for streaming, _ in gemini.asked] == [False, True]
    assert gemini.asked[0][1] == gemini.asked[1][1]
    parts = gemini.reply["candidates"][0]["content"]["parts"]
    said = "".join(part.get("text", "") for part in parts if not part.get("thought"))
    assert listeners[0].text_so_far == said
    assert len(listeners[0].texts) > 0


def test_litellms_gemini_is_tapped_below_it(gemini):
    """The address changes with the switch."""
    import httpx

    from streamll.capture.tap import below_litellm
    from streamll.capture.tap.listener import Guarded

    notes = Notes()
    gemini.reply = REPLIES["two calls"]
    with tapped():
        address = f"http://127.0.0.1:{gemini.server_port}/v1beta/models/g:generateContent?key=k"
        with below_litellm.Tee(Guarded(notes), gemini, "gemini/g").entered():
            reply = httpx.post(address, json={"contents": []}, timeout=60)
    assert reply.json() == gemini.reply
    assert notes.text_so_far == "Wait."
    assert [call[2] for call in notes.of("tool_call")] == ["search", "look"]
    assert [streaming for streaming, _ in gemini.asked] == [True]
