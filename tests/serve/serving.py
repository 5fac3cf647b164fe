"""A real uvicorn in a thread, and readers that look at the bytes as they come."""

from __future__ import annotations

import json
import socket
import threading
import time

import httpx
import uvicorn

KEPT_S = 60
"""How long a connection is kept for the next request. After uvicorn's 5 s, a client on a busy machine may
ask in the moment in which it is closed.
"""


def wait_until(condition, seconds=60, what="it"):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.005)
    return value


def wait_for_latest(client, status="ended"):
    """Until the server of this client knows that the latest run has ended, and which run that is."""

    def latest():
        runs = client.get("/runs").json()["runs"]  # none: another process has just begun the first
        return runs[0] if runs and runs[0]["status"] == status else None

    return wait_until(latest, what=f"a run that is {status}")


class Server:
    """``with``-less: started at once, stopped by the fixture."""

    def __init__(self, app, **options):
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {"timeout_graceful_shutdown": 5, "timeout_keep_alive": KEPT_S, **options}
        config = uvicorn.Config(app, log_level="warning", **settings)
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()
        wait_until(lambda: self._uvicorn.started, what="the server's start")

    def client(self, **options):
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def drain(self):
        """What the application does when the process gets SIGTERM."""
        self._uvicorn.config.app.drain()

    def stop(self):
        self._uvicorn.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive(), "the server did not stop"
        self._socket.close()


class Frame:
    def __init__(self, text):
        lines = [line.partition(":") for line in text.split("\n") if not line.startswith(":")]
        found = {name: value.removeprefix(" ") for name, _, value in lines if name}
        self.id = found.get("id")
        self.data = found.get("data")

    @property
    def event(self):
        return json.loads(self.data)


def frames(response):
    """Frames with data of an event stream, as they come."""
    rest = ""
    for text in response.iter_text():
        assert "\r" not in text
        rest += text
        while "\n\n" in rest:
            head, _, rest = rest.partition("\n\n")
            frame = Frame(head)
            if frame.data is not None:
                yield frame


def events_of(client, path, **options):
    """All events of a stream."""
    with client.stream("GET", path, **options) as response:
        assert response.status_code == 200, response.read()
        return [frame.event for frame in frames(response)]


def text_of(events, field="answer"):
    """A field's text as a page puts it together: each token at its offset."""
    text, attempt = "", 0
    for event in events:
        if event.get("field") == field and event["event_type"] == "token":
            if event.get("attempt", 0) != attempt:
                text, attempt = "", event.get("attempt", 0)
            offset = event.get("offset", 0)
            assert offset <= len(text), "a gap"
            text = text[:offset] + event["token"]
    return text
