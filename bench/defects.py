"""What goes wrong in ``dspy.streamify`` and not here, counted: the figures of the README's table.

    python bench/defects.py

The cases are those of ``tests/capture/streamify/test_streamify_defects.py``. Takes a minute, most of
it for what hangs.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import warnings
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
logging.getLogger("dspy").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")
TESTS = Path(__file__).parent.parent / "tests"
sys.path += [str(TESTS / "capture" / "streamify"), str(TESTS / "support")]

import dspy  # noqa: E402
from dspy_and_ours import BOTH, in_a_process, read_all  # noqa: E402
from outcomes import script_anew  # noqa: E402
from side_by_side import (  # noqa: E402
    ADAPTERS,
    PAUSED,
    STATUSES,
    answering,
    chat,
    differing,
    long_reply,
    wrong_of_pairs,
)

import streamll  # noqa: E402
from streamll.testing import PracticeServer, Reply  # noqa: E402

PAIRS = 40
HANGS_S = 10
"""Who hears nothing for so long will hear nothing more."""


def splits(side: SimpleNamespace, practice: PracticeServer) -> str:
    wrong, cuts = map(
        sum, zip(*(differing(practice, side, form) for form in ADAPTERS), strict=True)
    )
    return f"{wrong} of {cuts}"


def pairs(side: SimpleNamespace, practice: PracticeServer) -> str:
    wrong, _ = wrong_of_pairs(practice, side, PAIRS)
    return f"{wrong} of {2 * PAIRS}"


def fallback(side: SimpleNamespace, practice: PracticeServer) -> str:
    script_anew(practice, "[[ ## answer ## ]]\nno score", {"answer": "second try", "score": "1"})
    program = dspy.Predict("question -> answer, score")
    listeners = [side.StreamListener("answer")]
    said = read_all(side.streamify(program, stream_listeners=listeners)(question="?"))
    if said.error is not None:
        return f"an {type(said.error).__name__}"
    was_reset = any(isinstance(chunk, streamll.StreamReset) for chunk in said.chunks)
    right = said.text("answer") == said.prediction.answer
    return f"{'a reset, then ' * was_reset}{'the answer' if right else 'another text'}"


def second_call(side: SimpleNamespace, practice: PracticeServer) -> str:
    streaming = answering(side)
    script_anew(practice, *[chat(answer="one two three")] * 2)
    texts = [read_all(streaming(question="?")).text("answer") for _ in range(2)]
    return {"": "nothing", "one two three": "its text"}.get(texts[1], texts[1])


def leaving(side: SimpleNamespace, practice: PracticeServer) -> str:
    """How much of the reply the provider has sent when the connection is over."""
    script_anew(practice, Reply(chat(answer="on and on " * 400), pace=0.005, packets=True))
    stream = answering(side, async_streaming=False)(question="?")
    next(stream)
    stream.close()
    (request,) = practice.requests
    request.wait(lambda: request.over, 60, "goes on")
    return "reads to its end" if request.finished_at else "closes the connection"


def paused(side: SimpleNamespace, practice: PracticeServer) -> str:
    practice.respond(long_reply)
    told = in_a_process(PAUSED, side.name, practice.openai_url, str(HANGS_S), timeout=600)
    return "9" if told == "tokens for all\n" else str(int(told.split()[-1]) - 1)


def statuses(side: SimpleNamespace, practice: PracticeServer) -> str:
    """How many arrive, of two for each call."""
    told = in_a_process(STATUSES, side.name, str(HANGS_S), timeout=600)
    return told.strip().removeprefix("statuses ")


CASES = {
    "A reply split in 21 ways: wrong texts": splits,
    "Two calls at once, 40 times: wrong texts": pairs,
    "A reply that sends DSPy back to JSON": fallback,
    "A second call with the same listener": second_call,
    "A stream closed early": leaving,
    "Nine paused readers: who gets tokens": paused,
    "400 tool calls: status messages": statuses,
}


def main() -> None:
    print(f"DSPy {metadata.version('dspy')}, Python {platform.python_version()}")
    print(f"{'':44}{'dspy.streamify':>28}{'streamll':>28}")
    with PracticeServer() as practice:
        lm = practice.lm()
        for name, case in CASES.items():
            cells = []
            for side in BOTH:
                with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
                    cells.append(case(side, practice))
            practice.respond(None)
            print(f"{name:44}" + "".join(f"{each:>28}" for each in cells), flush=True)


if __name__ == "__main__":
    main()
