"""What the practice model answers to the demo's own questions; to others it answers as ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamll.testing import RecordedRequest

ANSWERS = {
    "Explain async programming": "Async programming lets one thread take care of many things that "
    "wait. A function that would block says await instead, hands the thread back, and goes on when "
    "its data is there. So ten thousand open connections need an event loop, not ten thousand "
    "threads.",
    "What is Rust?": "Rust is a systems programming language. Its compiler checks who owns each "
    "value and for how long, so programs are free of data races and of use after free without a "
    "garbage collector.",
    "What is Python?": "Python is a high-level interpreted language that reads almost like the "
    "sentence you would have said. It is at home in scripts, in data science and in the web.",
    "What is DSPy?": "DSPy is a framework for programming language models: you declare what goes in "
    "and what comes out, and optimizers find the prompts.",
    "Why should retries wait?": "A service in trouble is not helped by everybody asking again at "
    "once. Waiting twice as long each time gives it room, and a little chance in each wait keeps "
    "the clients from coming back all together.",
}


def answer(request: RecordedRequest) -> dict[str, str] | None:
    """One of the answers above, where the prompt asks for nothing but an answer."""
    known = ANSWERS.get(request.inputs.get("question", ""))
    fields = [field.name for field in request.prompt.fields]
    return {"answer": known} if known is not None and fields == ["answer"] else None
