"""From a log to browsers: a web server in a process of its own, independent of the programs.

    uvicorn --app-dir examples websocket_bridge:app      with STREAMLL_LOG=redis://localhost:6379

Every client of ``/conversations/{id}`` gets that conversation's tokens. Run as a script, it
demonstrates itself without a browser.
"""

from __future__ import annotations

import asyncio
import os
import tempfile

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamll import EventConsumer


async def conversation(websocket: WebSocket) -> None:
    await websocket.accept()
    wanted = websocket.path_params["id"]
    consumer = EventConsumer(
        os.environ.get("STREAMLL_LOG", "sqlite:///streamll.db"),
        start=websocket.query_params.get("from", "new"),
    )

    @consumer.on("token", where={"conversation_id": wanted})
    async def send(event) -> None:
        message = {"field": event.field, "index": event.token_index, "token": event.token}
        await websocket.send_json(message)

    reading = asyncio.create_task(consumer.run())
    try:
        while True:
            await websocket.receive_text()  # until the browser disconnects
    except WebSocketDisconnect:
        consumer.stop_soon()
        await asyncio.wait({reading})


app = Starlette(routes=[WebSocketRoute("/conversations/{id}", conversation)])


def demonstrate(url: str) -> None:
    import dspy
    from _model import language_model
    from starlette.testclient import TestClient

    import streamll

    os.environ["STREAMLL_LOG"] = url
    sink = streamll.open_sink(url)
    qa = dspy.Predict("question -> answer")
    qa = streamll.instrument(qa, stream_fields=["answer"], sinks=[sink])
    with language_model({"answer": "Hello, browser."}, {"answer": "Not for you."}) as lm:
        dspy.configure(lm=lm)
        for conversation_id in ("c1", "c2"):
            streamll.set_context(conversation_id=conversation_id)
            qa(question="Anyone there?")
    sink.stop()
    with (
        TestClient(app) as client,
        client.websocket_connect("/conversations/c1?from=beginning") as socket,
    ):
        text = ""
        while not text.endswith("browser."):
            text += socket.receive_json()["token"]
    print(text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        demonstrate(f"sqlite:///{folder}/log.db")
