"""X14: the names of OpenTelemetry are those that its packages publish, or newer ones of its own."""

from __future__ import annotations

import dspy
import pytest
from opentelemetry.semconv._incubating.attributes import (
    error_attributes,
    gen_ai_attributes,
    session_attributes,
)
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

from streamll.sinks import otel_names as names

of_its_time = pytest.mark.skipif(
    not hasattr(gen_ai_attributes, "GenAiProviderNameValues"),
    reason="this package has the conventions of 2024, before providers had names",
)

NEWER = {
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.client.inference.duration",
    "gen_ai.client.inference.time_to_first_chunk",
    "gen_ai.client.inference.time_per_output_chunk",
    "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens",
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens",
    "gen_ai.invoke_agent.duration",
    "gen_ai.invoke_workflow.duration",
    "gen_ai.execute_tool.duration",
}
"""Of the conventions' own repository (docs/gen-ai/non-normative/migration.md), in no package so far."""
OTHERS = {
    "openinference.span.kind",
    "CHAIN",
    "input.value",
    "input.mime_type",
    "output.value",
    "output.mime_type",
    "gen_ai.usage.cost",
}
"""What MLflow, Phoenix and Langfuse read besides; ``scripts/try_otel.py`` looks whether they do."""
NEWER_PROVIDERS = {"moonshot_ai"}


def texts(module):
    return {value for name, value in vars(module).items() if name.isupper() and type(value) is str}


def published():
    modules = (gen_ai_attributes, error_attributes, session_attributes, gen_ai_metrics)
    return set().union(*map(texts, modules))


def ours():
    without = {names.SCHEMA_URL, names.UNKNOWN_PROVIDER, names.CHAT, names.EXECUTE_TOOL}
    without |= {names.INVOKE_AGENT, names.INVOKE_WORKFLOW}
    return (texts(names) - without) | {*names.HISTOGRAMS, *names.USAGE.values()}


@of_its_time
def test_every_name_is_published_or_known_to_be_newer():
    assert ours() - published() == NEWER | OTHERS


def test_what_is_said_to_be_newer_is_in_no_package_yet():
    """Once it is, it belongs to the names that are compared."""
    assert not NEWER & published()


@of_its_time
def test_operations_and_kinds_of_tokens_are_the_conventions():
    operations = {each.value for each in gen_ai_attributes.GenAiOperationNameValues}
    assert {names.CHAT, names.EXECUTE_TOOL, names.INVOKE_AGENT, names.INVOKE_WORKFLOW} <= operations
    kinds = {each.value for each in gen_ai_attributes.GenAiTokenTypeValues}
    assert set(names.TOKEN_TYPES.values()) <= kinds


@of_its_time
def test_every_provider_has_a_registered_name_and_every_registered_name_a_provider():
    registered = {each.value for each in gen_ai_attributes.GenAiProviderNameValues}
    assert set(names.REGISTERED.values()) - registered == NEWER_PROVIDERS
    assert registered - set(names.REGISTERED.values()) <= {
        "gcp.gen_ai"
    }  # one that is not told apart


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("gemini/gemini-3-pro", "gcp.gemini", "gemini-3-pro"),
        ("bedrock/anthropic.claude-v4", "aws.bedrock", "anthropic.claude-v4"),
        ("azure/my-deployment", "azure.ai.openai", "my-deployment"),
        ("xai/grok-5", "x_ai", "grok-5"),
        ("mistral/mistral-large", "mistral_ai", "mistral-large"),
        ("ollama_chat/llama3", "ollama_chat", "llama3"),
        ("openrouter/openai/gpt-5", "openrouter", "openai/gpt-5"),
        ("a-plugin", "unknown", "a-plugin"),
    ],
)
def test_a_model_of_dspy_is_a_provider_and_a_model(model, provider, name):
    told = names.model_attributes(model)
    assert told == {"gen_ai.provider.name": provider, "gen_ai.request.model": name}


@pytest.mark.since_3_4
def test_every_provider_of_dspy_itself_has_its_name():
    """Those that the conventions know; local servers and gateways keep what DSPy calls them."""
    from dspy._vendor.lm15 import registry

    assert dspy
    without = {"meta", "ollama", "openrouter", "sglang", "typesafe", "vllm", "zai"}
    known = {name for name in registry.PROVIDERS if name.partition("-")[0] not in without}
    assert known <= names.REGISTERED.keys()
