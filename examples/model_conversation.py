"""Talk to a model without a program: a conversation that streams, is interrupted and continues.

    STREAMLL_MODEL=openai/gpt-4o-mini python examples/model_conversation.py

asks a real model; by default a practice server on this machine answers.
"""

import asyncio
import os

from streamll import Session, communicate_stream, iModel
from streamll.testing import PracticeServer

REPLIES = [
    "A generator hands over one value at a time.",
    "It is lazy: the next value is made when it is asked for, and not before.",
    "Where we were: it saves memory.",
]


async def say(session, text, stop_after=None):
    print(f"> {text}")
    words = 0
    async for chunk in communicate_stream(session, "main", {"instruction": text}):
        print(chunk, end="", flush=True)
        words += 1
        if words == stop_after:
            break
    print()


async def talk(model):
    session = Session()
    session.services.register(model)
    session.create_branch("main", system="You teach Python.")
    await say(session, "What is a generator?")
    await say(session, "Why would I want one?", stop_after=4)
    await say(session, "Sorry, go on.")
    for message in session.history("main"):
        ending = getattr(message.content, "ending", "complete")
        print(f"{message.role.value:9} {ending:9} {len(message.text)} characters")
    await model.aclose()


name = os.environ.get("STREAMLL_MODEL")
if name:
    asyncio.run(talk(iModel(model=name)))
else:
    with PracticeServer(pace=float(os.environ.get("STREAMLL_PACE", "0.03"))) as server:
        server.script(*REPLIES)
        asyncio.run(talk(iModel("practice", "practice-model", base_url=server.openai_url)))
