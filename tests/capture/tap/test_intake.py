"""The body of a reply, packet by packet, where no connection is needed."""

from __future__ import annotations

from dspy._vendor.lm15.transports._http11 import ContentLengthDecoder
from tapping import Notes

from streamll.capture.tap.intake import Intake
from streamll.capture.tap.listener import Guarded
from streamll.capture.tap.wire.chat import ChatAssembler
from streamll.capture.tap.wire.reply import (
    GRACE_AFTER_EARLY_REASON_S,
    GRACE_AFTER_REASON_S,
    WireReply,
)

SAID = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
REASON = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"total_tokens":3}}\n\n'


def test_text_after_the_reason_of_the_end_begins_another_grace():
    """Whoever waits for it to be over has to hear of that, and of everything that is said."""
    reader = WireReply(ChatAssembler())
    reader.opened(200)
    intake = Intake(ContentLengthDecoder(10**6), reader, Guarded(Notes()))
    packets = (SAID, REASON, SAID, b": a comment\n\n", SAID)
    seen = [(intake.feed(packet), reader.grace, intake.said) for packet in packets]
    assert seen == [
        (False, None, True),
        (True, GRACE_AFTER_REASON_S, False),
        (True, GRACE_AFTER_EARLY_REASON_S, True),
        (True, GRACE_AFTER_EARLY_REASON_S, False),
        (True, GRACE_AFTER_EARLY_REASON_S, True),
    ]
