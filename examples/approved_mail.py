"""An agent that sends mail only after a yes.

    python examples/approved_mail.py

In a terminal it asks you: "y", "n", or a reason why not. Elsewhere the answers below are given.
"""

import sys

import dspy
from _model import language_model

import streamll

sent = []
given = iter([{"allow": False, "reason": "Say that it is about the engine."}, True])


def send_mail(to: str, text: str) -> str:
    """Send a mail."""
    sent.append(text)
    return f"sent to {to}"


def decide(question):
    """What a person says to a call of the tool."""
    print(f"{question.text} {dict(question.arguments)}")
    if not sys.stdin.isatty():
        return next(given)
    said = input("y, n, or why not: ").strip()
    return True if said == "y" else {"allow": False, "reason": said.removeprefix("n")}


agent = dspy.ReAct("task -> answer", tools=[streamll.approve(send_mail)])

with language_model(
    {
        "next_thought": "I write to her.",
        "next_tool_name": "send_mail",
        "next_tool_args": {"to": "ada", "text": "Can we meet?"},
    },
    {
        "next_thought": "It was refused. I say what it is about.",
        "next_tool_name": "send_mail",
        "next_tool_args": {"to": "ada", "text": "Can we meet about the engine?"},
    },
    {"next_thought": "Done.", "next_tool_name": "finish", "next_tool_args": {}},
    {"reasoning": "The second mail was allowed.", "answer": "Ada has a mail about the engine."},
) as lm:
    dspy.configure(lm=lm)
    with streamll.stream(agent)(task="Ask Ada for a meeting about the engine") as events:
        for event in events:
            if event.event_type == "question":
                events.answer(event, decide(event))
            elif event.event_type == "answer":
                print(f"  {event.outcome}: {event.value}")
        print(f"The program returned: {events.value.answer}")

print(f"Sent: {sent}")
