"""What LiteLLM's code for a provider reads off a plain reply is in the reply that a stream becomes.

Asked of the installed LiteLLM: providers that it calls at an address of chat completions, all of them
where the run is thorough.
"""

from __future__ import annotations

from dataclasses import replace

import litellm
import pytest
from case import Case, sse
from chat_cases import CHAT, DONE, FIN, USE, chunk, completion
from frames_server import FramesServer
from profiles import THOROUGH
from ways import play

from streamll.capture.tap.wire.chat import ONLY_PLAIN

pytestmark = pytest.mark.since_3_4

PROVIDERS = sorted(str(getattr(each, "value", each)) for each in litellm.provider_list)
EVERY = 1 if THOROUGH else 4
"""Of those without keys that only a plain reply has; all of those with such keys."""
REACHED = 100 // EVERY
"""At least as many speak chat completions to an address of one's own."""


@pytest.fixture(scope="module")
def server():
    with FramesServer() as running:
        yield running


@pytest.fixture(autouse=True)
def addresses_of_their_own(no_network, _network_guard):
    """Some providers' code asks its own address first, and is refused."""
    yield
    _network_guard.refused.clear()


def case_of(provider):
    frames = [chunk({"role": "assistant", "content": ""}), *CHAT, FIN, USE]
    plain = {**completion(), **dict.fromkeys(ONLY_PLAIN.get(provider, ()), "x")}
    return Case(
        name=provider, wire="chat", frames=[*sse(*frames), DONE], plain=plain,
        provider=provider, ask=None,
    )  # fmt: skip


def test_a_reply_that_was_streamed_is_read_as_the_plain_one(server):
    """X3: with no key missing that a provider's code in LiteLLM takes for granted."""
    reached = []
    for provider in sorted({*PROVIDERS[::EVERY], *ONLY_PLAIN}):
        case = case_of(provider)
        plain = play(server, case, "litellm sync", "whole", captured=False)
        if plain.error is not None or not plain.play.requests:
            continue  # needs another address, other credentials, or speaks another wire
        captured = play(server, case, "litellm sync", "frame", captured=True)
        assert captured.error is None, (provider, captured.message)
        assert (captured.result, captured.usage) == (plain.result, plain.usage), provider
        reached.append(provider)
    assert len(reached) >= REACHED


@pytest.mark.parametrize("provider", ONLY_PLAIN)
def test_what_only_plain_replies_have_is_still_read(provider, server):
    """The table has no entry that LiteLLM can do without."""
    case = replace(case_of(provider), plain=completion())
    assert play(server, case, "litellm sync", "whole", captured=False).error is not None
