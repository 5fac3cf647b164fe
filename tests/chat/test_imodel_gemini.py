"""E1: Gemini, which speaks a wire that the practice server does not."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from streamll.services import iModel

pytestmark = pytest.mark.since_3_4

PIECES = ["東京", " is", " big", "."]
USAGE = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}


def reply(parts, **rest):
    candidate = {"index": 0, "content": {"role": "model", "parts": parts}, **rest}
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "gemini-2.5-flash"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, dict(self.headers), body))
        if ":streamGenerateContent" not in self.path:
            self.answer("application/json", json.dumps(reply([{"text": "".join(PIECES)}],
                                                             finishReason="STOP")))  # fmt: skip
            return
        frames = [reply([{"text": "Hm.", "thought": True}])]
        frames += [reply([{"text": piece}]) for piece in PIECES[:-1]]
        frames += [reply([{"text": PIECES[-1]}], finishReason="STOP")]
        self.answer("text/event-stream", "".join(f"data: {json.dumps(f)}\r\n\r\n" for f in frames))

    def answer(self, kind, text):
        data = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        return


@pytest.fixture
def gemini(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("GEMINI_API_KEY", "a-key")
    yield server
    server.shutdown()
    server.server_close()
    thread.join(60)


def test_a_stream_and_a_whole_answer_of_gemini(gemini, run):
    model = iModel(provider="gemini", model="gemini-2.5-flash", temperature=0.5)
    stream = model.invoke_stream([{"role": "system", "content": "Be brief."}, "Which is big?"])

    async def read():
        return [chunk async for chunk in stream]

    assert run(read()) == PIECES
    assert stream.thinking == "Hm."
    assert stream.finish_reason == "stop"
    assert (stream.usage.input_tokens, stream.usage.output_tokens) == (3, 4)
    assert model.invoke_sync("Which is big?").text == "".join(PIECES)
    (streamed, headers, body), (whole, *_) = gemini.asked
    assert streamed.startswith("/v1beta/models/gemini-2.5-flash:streamGenerateContent")
    assert whole.startswith("/v1beta/models/gemini-2.5-flash:generateContent")
    assert body["generationConfig"]["temperature"] == 0.5
    assert body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert "a-key" in headers.values()
    model.close()
