"""A card number, an address and a name, masked while the model writes them, however they are cut.

python examples/guarded.py
STREAMLL_MODEL=openai/gpt-4o-mini python examples/guarded.py
"""

from collections import Counter

import dspy
from _model import language_model

import streamll
from streamll.guards import Words, card_numbers, emails
from streamll.testing import Reply

GUARDS = [
    card_numbers(mask="[card]"),
    emails(mask="[address]"),
    Words(["Bluebird"], name="project", mask="[project]"),
]
NOTE = (
    "Card 4111 1111 1111 1111 is on file for ada@example.org; ticket 4111-22 of project Bluebird "
    "is not a card, and 4111 1111 1111 1112 fails the check digit."
)


def show(title: str, stream) -> Counter[str]:
    """Print each piece as it comes; returns how often which guard kept something back."""
    kept: Counter[str] = Counter()
    print(f"\n{title}")
    with stream as events:
        for event in events:
            if event.event_type == "token" and event.token:
                print(event.token, end="|", flush=True)
            elif event.event_type == "guarded":
                kept[event.name] += 1
    print()
    return kept


with language_model(*[Reply({"answer": NOTE}, chunk=4)] * 2, pace=0.06) as lm:
    dspy.configure(lm=lm)
    repeat = dspy.Predict(dspy.Signature("note -> answer", "Repeat the note."))
    show("What the model writes, piece by piece:", streamll.stream(repeat)(note=NOTE))
    kept = show("What leaves:", streamll.stream(repeat, guards=GUARDS)(note=NOTE))

print("\nKept back:", ", ".join(f"{rule} {count}x" for rule, count in kept.items()))
