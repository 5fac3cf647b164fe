"""What may not leave: texts are guarded as they arrive, exactly.

A rule is a language, the set of texts it forbids. What goes out is at every moment the longest text
that no continuation could make forbidden.
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
