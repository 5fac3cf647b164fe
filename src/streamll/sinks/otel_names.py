"""The names under which OpenTelemetry knows things, in one table.

Those of the semantic conventions for generative AI, as their own repository has them
(open-telemetry/semantic-conventions-genai, v0.1.0), and beside them the names of before, which
dashboards and backends still read. ``streamll.*`` are ours, for what the conventions have no name for.
A test compares the table with the newest published package of constants.
"""

from __future__ import annotations

from streamll.core.gaps import GAP_BOUNDS_S

SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
"""Of the conventions, as their repository publishes it."""

# --- attributes ---------------------------------------------------------------------------------

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
CONVERSATION = "gen_ai.conversation.id"
SESSION = "session.id"
"""What Langfuse and Phoenix group by; as ``CONVERSATION``."""
AGENT = "gen_ai.agent.name"
WORKFLOW = "gen_ai.workflow.name"
TOOL = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
CACHE_CREATION_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
"""What ``CACHE_WRITE_TOKENS`` was called before."""
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
ERROR = "error.type"

SPAN_KIND, CHAIN = "openinference.span.kind", "CHAIN"
INPUT, INPUT_TYPE = "input.value", "input.mime_type"
OUTPUT, OUTPUT_TYPE = "output.value", "output.mime_type"
"""Of OpenInference, which MLflow, Phoenix and Langfuse read too: for what the conventions have no
operation, a step that is no agent. Without them Phoenix takes whatever has messages for an LM call."""
COST = "gen_ai.usage.cost"
"""Langfuse's; in US dollars."""

COUNTS = {
    "prompt_tokens": (INPUT_TOKENS,),
    "completion_tokens": (OUTPUT_TOKENS,),
    "cache_read_tokens": (CACHE_READ_TOKENS,),
    "cache_write_tokens": (CACHE_WRITE_TOKENS, CACHE_CREATION_TOKENS),
    "reasoning_tokens": (REASONING_TOKENS,),
}
"""Attributes of LM calls by the fields of ``LMEnd``."""
RUN_COUNTS: dict[str, tuple[str, ...]] = {
    "prompt_tokens": ("streamll.usage.input_tokens",),
    "completion_tokens": ("streamll.usage.output_tokens",),
}
"""Those of a run have names of ours: backends add up what any span has under the conventions' names."""

# --- operations, by which spans are named -----------------------------------------------------------

CHAT = "chat"
EXECUTE_TOOL = "execute_tool"
INVOKE_AGENT = "invoke_agent"
INVOKE_WORKFLOW = "invoke_workflow"

# --- metrics ------------------------------------------------------------------------------------

SECOND_BUCKETS = GAP_BOUNDS_S
AGENT_BUCKETS = tuple(0.1 * 2**n for n in range(13))
WORKFLOW_BUCKETS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
TOKEN_BUCKETS = tuple(4**n for n in range(14))
"""Upper bounds as the conventions advise them."""

DURATIONS = ("gen_ai.client.inference.duration", "gen_ai.client.operation.duration")
FIRST_CHUNK = (
    "gen_ai.client.inference.time_to_first_chunk",
    "gen_ai.client.operation.time_to_first_chunk",
)
PER_CHUNK = (
    "gen_ai.client.inference.time_per_output_chunk",
    "gen_ai.client.operation.time_per_output_chunk",
)
"""The present name, and the one of before."""
TOKENS = "gen_ai.client.token.usage"
AGENT_DURATION = "gen_ai.invoke_agent.duration"
WORKFLOW_DURATION = "gen_ai.invoke_workflow.duration"
TOOL_DURATION = "gen_ai.execute_tool.duration"

HISTOGRAMS = {
    **dict.fromkeys(DURATIONS, ("s", "How long an LM call took.", SECOND_BUCKETS)),
    **dict.fromkeys(
        FIRST_CHUNK, ("s", "From the request to the first chunk of its reply.", SECOND_BUCKETS)
    ),
    **dict.fromkeys(PER_CHUNK, ("s", "From one chunk of a reply to the next.", SECOND_BUCKETS)),
    TOKENS: ("{token}", "Tokens of an LM call.", TOKEN_BUCKETS),
    AGENT_DURATION: ("s", "How long an agent or a workflow took.", AGENT_BUCKETS),
    WORKFLOW_DURATION: ("s", "How long a run took.", WORKFLOW_BUCKETS),
    TOOL_DURATION: ("s", "How long a tool took.", SECOND_BUCKETS),
}
"""By name: unit, description, buckets."""

USAGE = {
    "prompt_tokens": "gen_ai.client.inference.usage.input_tokens",
    "completion_tokens": "gen_ai.client.inference.usage.output_tokens",
    "cache_read_tokens": "gen_ai.client.inference.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.client.inference.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.client.inference.usage.reasoning.output_tokens",
}
"""Counters of tokens, by the fields of ``ModelUsage``."""
TOKEN_TYPES = {"prompt_tokens": "input", "completion_tokens": "output"}

# --- providers ----------------------------------------------------------------------------------

REGISTERED = {
    "openai": "openai",
    "openai-chat": "openai",
    "openai-codex": "openai",
    "text-completion-openai": "openai",
    "anthropic": "anthropic",
    "claude-code": "anthropic",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "vertex-express": "gcp.vertex_ai",
    "vertex-anthropic": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "bedrock-anthropic": "aws.bedrock",
    "bedrock-chat": "aws.bedrock",
    "bedrock-mantle-chat": "aws.bedrock",
    "aws-anthropic": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure-chat": "azure.ai.openai",
    "azure_text": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure-anthropic": "azure.ai.inference",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "deepseek": "deepseek",
    "deepseek-anthropic": "deepseek",
    "groq": "groq",
    "mistral": "mistral_ai",
    "codestral": "mistral_ai",
    "perplexity": "perplexity",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
    "moonshot": "moonshot_ai",
    "moonshotai": "moonshot_ai",
    "moonshotai-anthropic": "moonshot_ai",
    "moonshotai-responses": "moonshot_ai",
}
"""Registered names of providers, by what DSPy's LMs and LiteLLM call them."""
UNKNOWN_PROVIDER = "unknown"


def model_attributes(model: str) -> dict[str, str]:
    """Provider and model of DSPy's ``"provider/model"``; a provider without a registered name keeps its."""
    provider, slash, name = model.partition("/")
    if not slash:
        return {PROVIDER: UNKNOWN_PROVIDER, REQUEST_MODEL: model}
    return {PROVIDER: REGISTERED.get(provider, provider), REQUEST_MODEL: name}
