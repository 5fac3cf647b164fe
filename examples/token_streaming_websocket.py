"""A WebSocket route that streams a program, and a client that asks and prints its tokens."""

import json
import threading
import time

import dspy
import uvicorn
from _model import language_model
from fastapi import FastAPI, WebSocket
from websockets.sync.client import connect

import streamll

app = FastAPI()
qa = dspy.Predict("question -> answer")


@app.websocket("/ws")
async def ask(websocket: WebSocket):
    await websocket.accept()
    question = (await websocket.receive_json())["question"]
    await streamll.websocket_stream(websocket, qa, question=question)


server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
with language_model({"answer": "A socket stays open, so every token can travel at once."}) as lm:
    dspy.configure(lm=lm)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    with connect(f"ws://127.0.0.1:{port}/ws") as socket:
        socket.send(json.dumps({"question": "Why WebSockets?"}))
        for message in socket:
            event = json.loads(message)
            if event["event_type"] == "token":
                print(event["token"], end="", flush=True)
            elif event["event_type"] == "run.end":
                print(
                    f"\n{event.get('completion_tokens', 'some')} tokens, {event['lm_calls']} call"
                )

    server.should_exit = True
    thread.join()
