"""A program written for dspy.streamify: tokens, status messages, the prediction; one import differs.

A reader that handles resets shows the right text even where an attempt had to be repeated.
"""

import asyncio

import dspy
from _model import language_model

import streamll

REPLIES = [
    "[[ ## reasoning ## ]]\nA reply that forgets",  # no answer: DSPy asks once more, in JSON
    {"reasoning": "21 is a third of 63.", "answer": 'So it is "63".'},
]


def triple(number: int) -> int:
    return 3 * number


class Triple(dspy.Module):
    def __init__(self):
        self.triple = dspy.Tool(triple, name="triple")
        self.explain = dspy.ChainOfThought("number, tripled -> answer")

    def forward(self, number):
        return self.explain(number=number, tripled=self.triple(number=number))


class Messages(streamll.StatusMessageProvider):
    def tool_start_status_message(self, instance, inputs):
        return f"Calling {instance.name}"

    def tool_end_status_message(self, outputs):
        return f"It gave {outputs}"


streaming = streamll.streamify(
    Triple(),
    status_message_provider=Messages(),
    stream_listeners=[streamll.StreamListener("reasoning"), streamll.StreamListener("answer")],
)


async def main():
    shown = {}
    async for value in streaming(number=21):
        if isinstance(value, streamll.StatusMessage):
            print(f"… {value.message}")
        elif isinstance(value, streamll.StreamReset):
            shown[value.signature_field_name] = value.text
            print(f"({value.signature_field_name} begins anew)")
        elif isinstance(value, streamll.StreamResponse):
            name = value.signature_field_name
            shown[name] = shown.get(name, "") + value.chunk
            print(f"[{name}] {shown[name]}")
        elif isinstance(value, dspy.Prediction):
            print(f"The program returned: {value.answer}")


with language_model(*REPLIES) as lm:
    dspy.configure(lm=lm)
    asyncio.run(main())
