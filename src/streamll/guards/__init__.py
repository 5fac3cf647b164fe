"""What may not leave: texts are guarded as they arrive, exactly.

A rule is a language, the set of texts it forbids. A character is forbidden if it lies in any part of
its text that is in the language of any rule; each run of forbidden characters becomes one mask. What
goes out is at every moment the longest text that no continuation could make forbidden, however the
text was cut.

How a text is read, each module on those before it:

- ``language`` says what a rule's language is to the rest: states that move by characters. They are
  *live*, that is, something that may follow, or the text's end, completes a match.
- ``regex`` and ``words`` are such languages. A pattern is made of ``nodes``, of which ``leaves`` match
  characters; ``checksums`` go with one.
- ``automaton`` reads all rules at once. Its states rank the live ones by where their matches began:
  what is before the first of these can go out.
- ``rules`` are what callers give, ``ready`` those for card numbers, keys and the like; ``ruleset``
  makes one automaton of several, and keeps it.
- ``forms`` are ways of writing: JSON's and XML's escapes are read as what they stand for, and each
  string or element is a text of its own.
- ``text`` is one text as it arrives: pieces in, what may go out, and what was found.
- ``units`` and ``checks`` ask a function about each sentence, line or field.
- ``events`` has the events of a run pass all of this.

Nothing here waits or does I/O but ``checks``. ``docs/decisions/0044-guards-are-a-ranked-automaton.md``
says why it is done by hand.
"""

from __future__ import annotations

from streamll.guards.ready import (
    card_numbers,
    credential_urls,
    emails,
    ibans,
    phone_numbers,
    provider_keys,
)
from streamll.guards.rules import Check, Guard, Pattern, Ruleset, Words, ruleset
from streamll.guards.text import Hit, TextGuard, guard_text

__all__ = [
    "Check",
    "Guard",
    "Hit",
    "Pattern",
    "Ruleset",
    "TextGuard",
    "Words",
    "card_numbers",
    "credential_urls",
    "emails",
    "guard_text",
    "ibans",
    "phone_numbers",
    "provider_keys",
    "ruleset",
]
