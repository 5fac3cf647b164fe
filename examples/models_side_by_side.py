"""Ask two models at once and print their answers as they finish, one per line.

Both share one ``Limits`` object, so at most two requests are open at any time, however many
questions there are. A practice server on this machine answers for both providers.
"""

import asyncio
import os

from streamll import iModel
from streamll.services import Limits
from streamll.testing import PracticeServer

QUESTIONS = ["What makes an API good?", "What makes an error message good?"]


def answer(request):
    name = "Clarity" if request.body["model"] == "gpt-4o-mini" else "Kindness"
    return f"{name}, and a good example."


async def ask(model, label, question):
    stream = model.invoke_stream(messages=question)
    chunks = [chunk async for chunk in stream]
    print(f"[{label}] {question} {''.join(chunks)} ({stream.chunks} chunks)")


async def main(server):
    limits = Limits(max_concurrent=2)
    gpt = iModel("openai", "gpt-4o-mini", base_url=server.openai_url, limits=limits)
    claude = iModel("anthropic", "claude-haiku-4-5", base_url=server.anthropic_url, limits=limits)
    await asyncio.gather(
        *(
            ask(model, label, question)
            for question in QUESTIONS
            for model, label in ((gpt, "GPT"), (claude, "Claude"))
        )
    )


with PracticeServer(pace=float(os.environ.get("STREAMLL_PACE", "0.03"))) as server:
    server.respond(answer)
    asyncio.run(main(server))
