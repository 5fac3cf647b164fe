"""Every example runs offline and prints its documented output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import warm

EXAMPLES = Path(__file__).parent.parent / "examples"

# The output of each example, as patterns in order.
PRINTED = {
    "token_streaming_basic": [
        r'\[TOKEN\] answer: "Machine"\n',
        r'\[TOKEN\] answer: " learning"\n',
        r"The program returned: Machine learning is a subset of artificial intelligence: it learns",
    ],
    "token_streaming_cot": [
        r"Output fields: reasoning, answer\n",
        r'\[TOKEN\] reasoning: "Twelve"\n',
        r'\[TOKEN\] answer: "36"\n',
        r"The program returned: 36\n",
    ],
    "fastapi_app": [r"^\d{2,} tokens came over HTTP, then run\.end\n"],
    "client_page": [r"^\d+ changes of a list, then run\.end\n"],
    "token_streaming_websocket": [
        r"A socket stays open, so every token can travel at once\.\n",
        r"\d+ tokens, 1 call\n",
    ],
    "token_streaming_multi": [
        r'\[TOKEN\] summary: "A"\n',
        r'\[TOKEN\] answer: "For"\n',
        r"The program returned: For 92 years, from 1886 to 1978.\n",
    ],
    "conditional_streaming": [
        r"A short question, nothing streams:\n(?:(?!\[TOKEN\]).*\n)*  Yes.\n",
        r"A long question, its answer streams:\n",
        r'\[TOKEN\] answer: "A"\n',
        r"  A long answer is worth watching while it is written.\n",
    ],
    "process_tokens": [
        r'\[TOKEN\] answer: "One"\n',
        r"token\.summary.*\b(\d+)\n",
        r"\n(\d+) tokens: One, two, three, four, five.\n",
    ],
    "custom_sink": [r"Token #0: こんにちは\n", r"Collected: こんにちは、世界。\n"],
    "custom_events": [
        r"… Searching…\n",
        r"  found 2 documents\n",
        r"  retrieval took \d+ ms\n",
        r"… Answering…\n",
        r"At 80 °C, cooler than coffee.\n",
        r"  29 characters\n",
        r"  this was request req_456\n",
    ],
    "async_stream": [
        r"\[Why is the sky blue\?\] 'Because'",
        r"Both answers: 2\n",
        r"The first words only: Snow scatters every colour alike\n",
    ],
    "streamify_drop_in": [
        r"… Calling triple\n… It gave 63\n",
        r"\[reasoning\] A reply that forgets\n",
        r"\(reasoning begins anew\)\n",
        r"\[reasoning\] 21 is a third of 63\.\n",
        r'\[answer\] So it is "63"\.\n',
        r'The program returned: So it is "63"\.\n',
    ],
    "typed_form": [
        r"◐ Customer  Ada\n○ Delivery  \n○ Articles\n",
        r"● Customer  Ada Lovelace, St James's Square\n○ Delivery  \n○ Articles\n",
        r"● Delivery  courier\n◐ Articles\n  ◐   · × punched +·\n",
        r"  ● 500 × punched cards  12\.50\n  ◐   2 × ink +·\n",
        r"● Articles\n  ● 500 × punched cards  12\.50\n  ●   2 × ink +3\.80\n",
        r"The program returned an Order of 2 lines: 6257\.60\n",
    ],
    "model_conversation": [
        r"> What is a generator\?\nA generator hands over one value at a time\.\n",
        r"> Why would I want one\?\nIt is lazy:\n",
        r"> Sorry, go on\.\nWhere we were: it saves memory\.\n",
        r"assistant cancelled 11 characters\n",
        r"assistant complete  31 characters\n",
    ],
    "models_side_by_side": [
        r"\[(GPT|Claude)\] What makes an .+ good\? (Clarity|Kindness), and a good example\. \(\d chunks\)\n",
        r"(\[(GPT|Claude)\] What makes an .+ good\? .+\n){3}",
    ],
    "approved_mail": [
        r"Allow send_mail\? \{'to': 'ada', 'text': 'Can we meet\?'\}\n",
        r"  answered: \{'allow': False, 'reason': 'Say that it is about the engine\.'\}\n",
        r"  answered: \{'allow': True\}\n",
        r"Sent: \['Can we meet about the engine\?'\]\n",
    ],
    "asked_form": [
        r"It asks for city, on, seats, travel_class\n",
        r"Not yet\.\n  answer\.seats: 12 is greater than the maximum of 8\n",
        r"Two seats to Oslo on 2 January are yours\.\n",
    ],
    "asked_elsewhere": [r"Asked: How many cards\?\n", r"The program returned: 500 cards ordered\n"],
    "producer_consumer": [
        r"A log keeps what one process says for all who read it.\n",
        r"never loaded dspy\n",
    ],
    "worker_group": [
        r"one\? 2 words\n",
        r"three\? 3 words\n",
        r"5 handled\n",
        r"1 dead letter\n",
    ],
    "websocket_bridge": [r"Hello, browser.\n"],
    "safe_stream": [r"Rust is a systems programming language.\n\[Complete\]\n"],
    "stream_recovery": [
        r"\[retry in 0\.\d\d s\]\n\[dropped after ServerError\]\n",
        r"\[dropped after RateLimitError\]\n",
        r"Waiting longer.*\n\[retry in 0\.\d\d s\]\n\[dropped after TransportError\]\n",
        r"In the end: Waiting longer each time gives a service in trouble room to recover.\n",
    ],
    "stream_timeouts": [
        r"IdleTimeout: no further token within 3(?:\.0)? s \(\d+\.\d+ s passed, \d+ characters had come\)\n",
        r"Until then: 'Silence follows these'\n",
    ],
    "many_streams": [
        r"^What is Rust\? An answer to 'What is Rust\?'.\n",
        r"What is a token\? An answer to 'What is a token\?'.\n",
        r"\d+ tokens in all\n",
    ],
    "merged_streams": [r"\[Rust\] Rust again and", r"\[Python\] .+\n", r"\[DSPy\] .+\n"],
    "stream_operators": [
        r"map: +ONE TWO THREE FOUR FIVE SIX\n",
        r"filter: +three four five\n",
        r"throttle: +one two three four five six\n",
        r"buffer: +\['one two three', ' four five six'\]\n",
        r"to_file: +one two three four five six\n",
        r"smooth: +\['one ', 'two ', 'three ', 'four ', 'five ', 'six'\]\n",
    ],
    "stream_lifecycle": [
        r"INFO run.start attempt=0\n",
        r"INFO lm.waiting attempt=0\nWARNING lm.superseded attempt=0\n",
        r"INFO lm.end attempt=1\nINFO run.end attempt=0\n",
        r"It was overloaded\. \(\d+ tokens, 1 retry\)\n",
    ],
    "token_streaming_ui": [
        r"The page is at http://127\.0\.0\.1:\d+/#token=",
        r"The program returned: Together they cost 4\.30 euros\.\n",
        r"The page lists ReAct: ended\n",
    ],
    "guarded": [
        r"\| 4111\| 111\|1 11\|.*a\|da@e\|",
        r"\|\[card\] is \|on \|file \|for \|\[address\];\|.*\|4111 1111 1111 1112 \|fails ",
        r"Kept back: card_numbers 1x, emails 1x, project 1x\n",
    ],
    "guarded_page": [
        r"^Ada pays with the card \[card\], and .* \[address\]\. She works on \[project\]\.",
        r"4111 1111 1111 1112 is on its way",
        r"\ncard_numbers, emails, project\n",
    ],
    "react_watch": [
        r"price",
        r"price",
        r"finish",
        r"The program returned: 7.90\n",
    ],
}


PATIENT = """
import runpy, sys
from pathlib import Path
from streamll.capture.run import enter

enter.catch_up.__defaults__ = (60.0,)  # sinks have more than a second for what they print
sys.argv = sys.argv[1:]
sys.path[0] = str(Path(sys.argv[0]).parent)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("[!_]*.py")} == PRINTED.keys()


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs_offline_and_prints_its_output(name, tmp_path):
    answer = warm.run(
        [sys.executable, "-c", PATIENT, EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "STREAMLL_PACE": "0",
            "STREAMLL_MODEL": "",
            "PYTHONWARNINGS": "default",
            "PYTHONIOENCODING": "utf-8",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    place = 0
    for pattern in PRINTED[name]:
        found = re.compile(pattern).search(answer.stdout, place)
        assert found, f"{pattern!r} is missing from here on:\n{answer.stdout[place:]}"
        place = found.end()
