"""The cases of ``dspy.streamify`` beside ours that the tests and ``bench/defects.py`` share."""

from __future__ import annotations

import asyncio

import dspy
from dspy_and_ours import Yielded, read, read_all

from streamll.testing import PracticeServer, Reply, chunkings
from streamll.testing.prompts import render

HEADERS = "[[ ## {} ## ]]\n{}\n\n"


def chat(**fields: str) -> str:
    text = "".join(HEADERS.format(name, value) for name, value in fields.items())
    return text + "[[ ## completed ## ]]\n"


def answering(side, **options):
    qa = dspy.Predict("question -> answer")
    return side.streamify(qa, stream_listeners=[side.StreamListener("answer")], **options)


# --- two calls at once ---------------------------------------------------------------------------


def echo(request):
    word = request.inputs["question"]
    return Reply(chat(answer=" ".join([word] * 12)), chunk=12, packets=True, pace=0.001)


async def crowd(streaming, count: int) -> list[tuple[str, Yielded]]:
    words = [f"word{number:02}" for number in range(count)]
    said = await asyncio.gather(*(read(streaming(question=word)) for word in words))
    return list(zip(words, said, strict=True))


def wrong_of_pairs(practice: PracticeServer, side, pairs: int) -> tuple[int, int]:
    """Of ``pairs`` of calls at once on one object: wrong streams, and pieces that are no whole word.

    A call asks for a word and is answered with twelve of it.
    """
    practice.respond(echo)
    streaming = answering(side)
    wrong = strange = 0
    for _ in range(pairs):
        for word, said in asyncio.run(crowd(streaming, 2)):
            wrong += said.text("answer") != " ".join([word] * 12)
            pieces = said.text("answer").split()
            strange += any(piece[:4] == "word" and piece != word for piece in pieces)
    return wrong, strange


# --- the text -------------------------------------------------------------------------------------

NASTY = 'Grüße "quoted" \\ arr[[0]]\nand [[ ## foo ## ]] inline, `{"a": 1}` 🎉'
ADAPTERS = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter, "xml": dspy.XMLAdapter}


def differing(practice, side, form) -> tuple[int, int]:
    """How many ways to cut one reply give a text that is not the program's value; of how many."""
    program = dspy.Predict("question -> reasoning, answer")
    cuts = list(chunkings(render({"reasoning": NASTY, "answer": "short"}, form)))
    practice.script(*(Reply(chunks=cut) for cut in cuts))
    count = 0
    for _ in cuts:
        names = ("reasoning", "answer")
        streaming = side.streamify(
            program, stream_listeners=[side.StreamListener(name) for name in names]
        )
        with dspy.context(lm=practice.lm(), adapter=ADAPTERS[form]()):
            said = read_all(streaming(question="?"))
        assert said.error is None
        count += any(said.text(name) != said.prediction[name] for name in names)
    return count, len(cuts)


# --- leaving, and many readers ----------------------------------------------------------------------


def long_reply(request=None) -> Reply:
    return Reply(chat(answer="on and on " * 400), pace=0.005, packets=True)


STATUSES = """
    import asyncio, os, sys, threading, time
    import dspy
    import streamll
    side, silence = {"dspy": dspy, "streamll": streamll}[sys.argv[1]], float(sys.argv[2])
    seen = 0

    def tool(number: int) -> int:
        return number

    class Busy(dspy.Module):
        async def acall(self, count):
            for number in range(count):
                await dspy.Tool(tool, name="count").acall(number=number)
            return dspy.Prediction(answer="done")

    def watch():  # where the event loop stands still, no timer of its own fires
        before = -1
        while seen != before:
            before = seen
            time.sleep(silence)
        print(f"hangs after {seen}", flush=True)
        os._exit(0)

    async def main():
        global seen
        async for value in side.streamify(Busy(), is_async_program=True)(count=400):
            seen += isinstance(value, dspy.streaming.StatusMessage)
        print("statuses", seen, flush=True)

    threading.Thread(target=watch, daemon=True).start()
    asyncio.run(main())
"""
"""Its arguments: the side, and after how many seconds without a status it counts as hanging."""

PAUSED = """
    import asyncio, os, sys
    import dspy
    import streamll
    side, listener = {
        "dspy": (dspy, dspy.streaming.StreamListener), "streamll": (streamll, streamll.StreamListener)
    }[sys.argv[1]]
    dspy.configure(lm=dspy.LM("openai/m", api_base=sys.argv[2], api_key="k", cache=False))

    async def main():
        qa = dspy.Predict("question -> answer")
        streams = [
            side.streamify(qa, stream_listeners=[listener("answer")])(question="?")
            for _ in range(9)
        ]
        for number, stream in enumerate(streams):
            try:
                await asyncio.wait_for(anext(stream), float(sys.argv[3]))
            except asyncio.TimeoutError:
                print("no token for", number + 1, flush=True)
                os._exit(0)
        print("tokens for all", flush=True)
        os._exit(0)

    asyncio.run(main())
"""
