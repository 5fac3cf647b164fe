"""X5: the example's form fills in place on a terminal, field by field."""

from __future__ import annotations

import sys
from pathlib import Path

from emulator import TerminalSession

EXAMPLE = Path(__file__).parents[3] / "examples" / "typed_form.py"
LEAVE = {"STREAMLL_MODEL": "", "LITELLM_LOCAL_MODEL_COST_MAP": "true"}


def test_the_form_fills_in_place():
    with TerminalSession(sys.executable, str(EXAMPLE), STREAMLL_PACE="0", **LEAVE) as session:
        assert session.finish(60) == 0
        text, place = session.emulator.text, 0
        for state in (
            "◐ Customer  Ada\r\n○ Delivery",
            "○ Articles",
            "● Delivery  courier\r\n◐ Articles",
            "◐   · × punched",
            "● 500 × punched cards  12.50",
            "◐   2 × ink",
        ):
            place = session.raw.index(state, place)
    assert text.count("Customer") == text.count("Delivery") == text.count("punched cards") == 1
    assert "●   2 × ink             3.80" in text
    assert "The program returned an Order of 2 lines: 6257.60" in text
