"""Stream operators: map and filter tokens, throttle, buffer, write to a file, smooth."""

import tempfile
from pathlib import Path

import dspy
from _model import language_model

from streamll import DSpyStream, streams
from streamll.testing import Reply

ANSWER = {"answer": "one two three four five six"}

with language_model(*[ANSWER] * 5, Reply(ANSWER, chunk="whole")) as lm:
    dspy.configure(lm=lm)

    print("map:     ", "".join(streams.map_tokens(DSpyStream("Count."), str.upper)))

    long = streams.filter_tokens(DSpyStream("Count."), lambda token: len(token.strip()) > 3)
    print("filter:  ", "".join(long))

    slow = streams.throttle(DSpyStream("Count."), per_second=50)
    print("throttle:", "".join(slow))

    print("buffer:  ", ["".join(tokens) for tokens in streams.buffer(DSpyStream("Count."), 3)])

    path = Path(tempfile.mkdtemp()) / "answer.txt"
    for _ in streams.to_file(DSpyStream("Count."), path):
        pass
    print("to_file: ", path.read_text())

    # This answer arrives in one chunk.
    print("smooth:  ", list(streams.smooth(DSpyStream("Count."), "word", interval=0.01)))
