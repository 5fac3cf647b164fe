"""What providers report of tokens, read to mean the same; and sums of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.core.events import LMEnd, RunEnd
from streamll.core.usage import COUNTS, UNKNOWN, ModelUsage, Sums, Tokens, tokens_of

REPORTS = {
    "Chat Completions": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 40,
            "total_tokens": 140,
            "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 12},
        },
        Tokens(100, 40, 30, 5, 12),
    ),
    "Responses": (
        {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 5},
            "output_tokens": 40,
            "output_tokens_details": {"reasoning_tokens": 12},
            "total_tokens": 140,
        },
        Tokens(100, 40, 30, 5, 12),
    ),
    "Anthropic, whose input is without what the cache has": (
        {
            "input_tokens": 65,
            "cache_creation_input_tokens": 5,
            "cache_read_input_tokens": 30,
            "output_tokens": 40,
            "output_tokens_details": {"thinking_tokens": 12},
        },
        Tokens(100, 40, 30, 5, 12),
    ),
    "Anthropic, without thinking": (
        {"input_tokens": 100, "cache_read_input_tokens": 0, "cache_creation_input_tokens": None,
         "output_tokens": 40},
        Tokens(100, 40, 0, None, None),
    ),
    "Gemini, which counts thoughts and its tools' prompts apart": (
        {
            "promptTokenCount": 90,
            "toolUsePromptTokenCount": 10,
            "candidatesTokenCount": 28,
            "thoughtsTokenCount": 12,
            "cachedContentTokenCount": 30,
            "totalTokenCount": 140,
        },
        Tokens(100, 40, 30, None, 12),
    ),
    "Gemini, which leaves 0 out": ({"promptTokenCount": 100}, Tokens(100, 0)),
    "xAI, which counts reasoning apart": (
        {"prompt_tokens": 100, "completion_tokens": 28, "total_tokens": 140,
         "completion_tokens_details": {"reasoning_tokens": 12}},
        Tokens(100, 40, None, None, 12),
    ),
    "DeepSeek": (
        {"prompt_tokens": 100, "completion_tokens": 40, "prompt_cache_hit_tokens": 30},
        Tokens(100, 40, 30),
    ),
    "Perplexity": (
        {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140, "reasoning_tokens": 3},
        Tokens(100, 40, None, None, 3),
    ),
    "DSPy, of Anthropic": (
        {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140,
         "prompt_tokens_details": {"cached_tokens": 30, "cache_creation_tokens": 5},
         "completion_tokens_details": None},
        Tokens(100, 40, 30, 5),
    ),
    "LiteLLM, of Anthropic": (
        SimpleNamespace(
            prompt_tokens=100, completion_tokens=40, total_tokens=140,
            prompt_tokens_details=SimpleNamespace(cached_tokens=30, cache_creation_tokens=5),
            completion_tokens_details=None, cache_creation_input_tokens=5,
        ),
        Tokens(100, 40, 30, 5),
    ),
    "lm15's own words": (
        SimpleNamespace(input_tokens=100, output_tokens=40, cache_read_tokens=30,
                        cache_write_tokens=None, reasoning_tokens=12),
        Tokens(100, 40, 30, None, 12),
    ),
    "nothing": (None, UNKNOWN),
    "an empty one": ({}, UNKNOWN),
    "none of a prompt, as LiteLLM has it for what it was not told": (
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, UNKNOWN
    ),
    "no numbers": ({"prompt_tokens": "7", "completion_tokens": float("nan")}, UNKNOWN),
    "the half of it": ({"input_tokens": 100}, Tokens(100)),
    "a prompt that was refused": ({"prompt_tokens": 9, "completion_tokens": 0}, Tokens(9, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_means_the_same_whoever_makes_it(name):
    usage, tokens = REPORTS[name]
    assert tokens_of(usage) == tokens


def test_nothing_of_a_reply_that_was_cut_is_no_count():
    begun = {"prompt_tokens": 9, "completion_tokens": 0, "completion_tokens_details":
             {"reasoning_tokens": 0}}  # fmt: skip
    assert tokens_of(begun, whole=False) == Tokens(9)
    so_far = {"prompt_tokens": 9, "completion_tokens": 4}
    assert tokens_of(so_far, whole=False) == Tokens(9, 4)


counted = st.builds(Tokens, *[st.none() | st.integers(0, 99)] * len(COUNTS))
requests = st.lists(st.tuples(st.sampled_from("ab"), counted), min_size=1, max_size=6)


@given(requests)
def test_a_sum_is_exact_or_unknown(made):
    sums = Sums()
    for model, tokens in made:
        sums.add(model, tokens)
    for at, total in enumerate(sums.tokens):
        counts = [tokens[at] for _, tokens in made]
        assert total == (None if None in counts else sum(counts))
    for usage in sums.by_model:
        own = [tokens for model, tokens in made if model == usage.model]
        assert usage.unreported == sum(not tokens.known for tokens in own)
        known = [tokens.prompt_tokens for tokens in own if tokens.prompt_tokens is not None]
        assert usage.prompt_tokens == (sum(known) if known else None)


@given(st.lists(requests, max_size=4))
def test_the_calls_of_a_run_add_up_to_their_requests(calls):
    """Read off ``lm.end`` events, a run's totals are those of all its requests."""
    straight, from_calls = Sums(), Sums()
    for made in calls:
        call = Sums()
        for model, tokens in made:
            call.add(model, tokens)
            straight.add(model, tokens)
        event = LMEnd(model="a", duration=1.0, **call.of_call("a", None))
        from_calls.add_call(event)
    assert from_calls.tokens == straight.tokens
    assert from_calls.by_model == straight.by_model
    assert RunEnd(**from_calls.of_run()).lm_calls == len(calls)


def test_a_call_of_one_known_request_needs_no_more_than_its_fields():
    sums = Sums()
    sums.add("a", Tokens(7, 3))
    assert sums.of_call("a", None) == {**Tokens(7, 3)._asdict(), "cost": None, "usage": ()}
    sums.add("a", UNKNOWN)
    told = sums.of_call("a", None)
    assert (told["prompt_tokens"], told["completion_tokens"]) == (None, None)
    assert told["usage"] == (
        ModelUsage(model="a", prompt_tokens=7, completion_tokens=3, unreported=1),
    )


def test_what_another_model_used_is_named():
    sums = Sums()
    sums.add("b", Tokens(7, 3))
    assert [usage.model for usage in sums.of_call("a", None)["usage"]] == ["b"]
