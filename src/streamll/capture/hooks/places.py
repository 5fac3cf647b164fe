"""Everything that capturing replaces in other libraries: where, why, and what is lost without it.

Installed on first use, restored by ``uninstall``. ``docs/invisible.md`` prints the tables,
``streamll doctor`` shows which sites are on. What recording replaces besides is listed in
``testing/record_sites.py``; what capture only reads of DSPy's private names, in ``inside_dspy``.
"""

from __future__ import annotations

import functools
import importlib
import threading
from typing import Any

import dspy

from streamll.capture.hooks import before_3_4, direct_calls, since_3_4, wrappers
from streamll.capture.inside_dspy import HAS_ENGINES
from streamll.capture.run.scope import current_scope
from streamll.capture.tap import interrupt
from streamll.context import set_run_finder
from streamll.core.errors import logger
from streamll.patching import PatchSite, PatchTable

# Each row: where, what replaces it; why it is replaced; what is lost without it.

PROGRAMS = PatchTable(
    PatchSite("dspy", "Module", "__call__", wrappers.captured_call,
        "a captured call begins here",
        "synchronous programs are not captured"),
    PatchSite("dspy", "Module", "acall", wrappers.captured_acall,
        "a captured call begins here",
        "asynchronous programs are not captured"),
    PatchSite("dspy", "BaseLM", "__call__", wrappers.captured_call,
        "a bare LM call under `watch` begins here",
        "bare LM calls are not captured"),
    PatchSite("dspy", "BaseLM", "acall", wrappers.captured_acall,
        "as `__call__`, for asynchronous calls",
        "as `__call__`, for asynchronous calls"),
    PatchSite("dspy", "Predict", "forward", direct_calls.forward_called,
        "a predictor's `forward` that is called itself, which DSPy has no callbacks for",
        "text of such calls is not known as their predictor's"),
    PatchSite("dspy", "Predict", "aforward", direct_calls.aforward_called,
        "as `forward`, for asynchronous calls",
        "as `forward`, for asynchronous calls"),
    PatchSite("dspy.utils.callback", None, "dspy", wrappers.dspy_of_callbacks,
        "DSPy's callback decorator asks this module's `dspy.settings.get` for the callbacks; "
        "inside a captured call ours is among them, also where the program sets its own with "
        "`dspy.context(callbacks=…)`, as `dspy.streamify` does",
        "no events but the run's own"),
    PatchSite("dspy", "Evaluate", "__call__", wrappers.evaluated,
        "a captured call begins here; no text is streamed inside an evaluation",
        "under `watch` each example is a run; evaluations stream the text of every example"),
    PatchSite("dspy.utils.parallelizer", "ParallelExecutor", "execute", wrappers.context_carried,
        "its threads get DSPy's settings but no context variables; of an evaluation's examples "
        "nothing else tells",
        "`set_context` and `trace` do not reach the threads of `dspy.Parallel` and `Evaluate`; no "
        "`evaluate.example` events"),
    PatchSite("dspy", "Tool", "__call__", wrappers.tool_call,
        "a tool that `instrument(approve=…)` names asks before it does anything",
        "its tools are called without asking"),
    PatchSite("dspy", "Tool", "acall", wrappers.tool_call,
        "as `__call__`, for asynchronous calls",
        "as `__call__`, for asynchronous calls"),
    PatchSite("dspy", "ToolCalls.ToolCall", "execute", wrappers.tool_call_executed,
        "as `Tool.__call__`, of a tool that the program calls so: past the `dspy.Tool`",
        "its tools are called without asking"),
    PatchSite("dspy", "CodeAct", "forward", wrappers.source_run,
        "it runs the source of its tools in an interpreter: none of them may be one that is to ask",
        "its tools are called without asking", optional=True),
    PatchSite("dspy", "Module", "_streamll_stream_fields", lambda _: wrappers.CallLocalFields(),
        "lets a `forward` choose the fields that this call streams",
        "nothing: the attribute is streamll's own", added=True),
)  # fmt: skip
"""The calls of a program. Installed by ``install``."""

_LM15 = "dspy._vendor.lm15.transports"
_INTERRUPTED = (
    "tells which connection a call reads from, so that cancelling can end the read",
    "cancelling waits until the provider sends something",
)
_RELEASED = (
    "the connection may serve another call: from here on cancelling leaves it alone",
    "a late cancellation may end another call's read",
)
_WAITS = (
    "announces that a call waits for a free connection",
    "no `lm.waiting` event for a busy connection pool",
)


def _transport(module: str, client: str, pool: str) -> tuple[PatchSite, ...]:
    return (
        PatchSite(module, client, "_send_request", interrupt.lm15_send_request, *_INTERRUPTED),
        PatchSite(module, client, "_make_release", interrupt.lm15_make_release, *_RELEASED),
        PatchSite(module, pool, "acquire_slot", interrupt.lm15_acquire_slot, *_WAITS),
    )


TRANSPORTS = PatchTable(
    *_transport(f"{_LM15}._sync", "StdlibTransport", "_ConnectionPool"),
    *_transport(f"{_LM15}._async", "StdlibAsyncTransport", "_AsyncConnectionPool"),
    PatchSite(f"{_LM15}._async", None, "wait_for", interrupt.lm15_wait_for,
        "a time limit without a task for every read (Python 3.11 and later)",
        "asynchronous streams cost more CPU per packet"),
)  # fmt: skip
"""lm15, DSPy's own provider client. Installed where its engines can be streamed."""


def _teed(library: str, original: Any, *, asynchronous: bool) -> Any:
    from streamll.capture.tap import below_litellm

    return below_litellm.teed(library, original, asynchronous=asynchronous)


def _http_client(client: str, core: str) -> tuple[PatchSite, ...]:
    http11 = f"{core}._sync.http11"
    request, closed = interrupt.httpcore_handle_request, interrupt.httpcore_response_closed
    return (
        PatchSite(client, "Client", "send", functools.partial(_teed, client, asynchronous=False),
            "LiteLLM's plain request goes out as one for a stream, which is rebuilt into the plain "
            "response",
            "through LiteLLM text arrives whole"),
        PatchSite(client, "AsyncClient", "send", functools.partial(_teed, client, asynchronous=True),
            "as `Client.send`, for asynchronous calls",
            "as `Client.send`, for asynchronous calls"),
        PatchSite(http11, "HTTP11Connection", "handle_request", request, *_INTERRUPTED),
        PatchSite(http11, "HTTP11Connection", "_response_closed", closed, *_RELEASED),
    )  # fmt: skip


HTTP_CLIENTS = PatchTable(
    *_http_client("httpx", "httpcore"),
    *_http_client("httpx2", "httpcore2"),
)
"""What LiteLLM sends through. Installed at the first captured call that goes through LiteLLM."""

ENGINES = PatchTable(
    PatchSite("dspy.clients.execution", None, "_select_engine",
        functools.partial(since_3_4.tapped_engine, HTTP_CLIENTS.install),
        "the engine of one LM call; the tap takes its place",
        "text arrives whole, when a call ends"),
    PatchSite("dspy.clients.execution", None, "finalize", since_3_4.result_recorded,
        "the one place that has usage, cost and cache hit of an LM call; what a fallback has answered "
        "goes into its own history",
        "`lm.end` and `run.end` without usage and cost; cached replies give no tokens"),
    PatchSite("dspy.clients.execution", None, "_retryable", since_3_4.retryable_unless_final,
        "where a `StreamConfig` decides about attempts, DSPy adds none of its own",
        "DSPy's retries come on top of a `StreamConfig`'s"),
    PatchSite("dspy.clients.execution", None, "execute", since_3_4.executed,
        "an LM call, also one that a plugin's `forward` makes: a `StreamConfig`'s fallbacks follow it; "
        "inside our `streamify` DSPy must not stream it by itself",
        "a `StreamConfig` has no fallbacks; inside `streamify` LM calls are not retried"),
    PatchSite("dspy.clients.execution", None, "aexecute", since_3_4.aexecuted,
        "as `execute`, for asynchronous calls",
        "as `execute`, for asynchronous calls"),
)  # fmt: skip
"""One LM call of DSPy 3.4. Installed where its engines can be streamed."""


def _request(name: str) -> PatchSite:
    return PatchSite("dspy.clients.lm", None, name,
        functools.partial(before_3_4.tapped_request, HTTP_CLIENTS.install),
        "LiteLLM's requests for one LM call; the tap is around them",
        "text arrives whole, when a call ends")  # fmt: skip


REQUESTS = PatchTable(
    _request("litellm_completion"),
    _request("alitellm_completion"),
    _request("litellm_responses_completion"),
    _request("alitellm_responses_completion"),
    _request("litellm_text_completion"),
    _request("alitellm_text_completion"),
    PatchSite("dspy", "BaseLM", "_process_lm_response", before_3_4.reply_recorded,
        "the one place that has usage, cost and cache hit of an LM call, and the reply of an LM "
        "with a `forward` of its own",
        "`lm.end` and `run.end` without usage and cost; cached replies give no tokens"),
    PatchSite("dspy", "BaseLM", "_finalize_lm_response", before_3_4.typed_reply_recorded,
        "the same for the typed replies of DSPy 3.3",
        "nothing before 3.3, which has none", optional=True),
    PatchSite("dspy", "ChatAdapter", "__call__", before_3_4.adapter_call,
        "an adapter's fallback runs inside the adapter call that failed",
        "an adapter's fallback looks like a further call"),
    PatchSite("dspy", "ChatAdapter", "acall", before_3_4.adapter_acall,
        "as `__call__`, for asynchronous calls",
        "as `__call__`, for asynchronous calls"),
)  # fmt: skip
"""One LM call of DSPy 3.1 to 3.3. Installed where there are no engines."""

ONE_CALL = (ENGINES, TRANSPORTS) if HAS_ENGINES else (REQUESTS,)
"""The tables of this DSPy's LM calls."""

TABLES = {
    "Calls of a program": PROGRAMS,
    "One LM call, DSPy 3.4": ENGINES,
    "DSPy's own provider client (lm15), DSPy 3.4": TRANSPORTS,
    "One LM call, DSPy 3.1 to 3.3": REQUESTS,
    "HTTP clients below LiteLLM": HTTP_CLIENTS,
}

_lock = threading.Lock()


def tables_here() -> dict[str, PatchTable]:
    """Those of ``TABLES`` that concern the DSPy which is installed."""
    here = (PROGRAMS, *ONE_CALL, HTTP_CLIENTS)
    return {title: table for title, table in TABLES.items() if table in here}


def install() -> None:
    """Replace what capturing replaces; does nothing where that is done."""
    with _lock:
        for table in (PROGRAMS, *ONE_CALL):
            if table is PROGRAMS or why_not_streamed() is None:
                for site in table.install():
                    logger.warning("this DSPy has no %s; lost without it: %s", site, site.lost)
        set_run_finder(current_scope)


def uninstall() -> None:
    """Restore the originals; runs under way go on without further events.

    A function that somebody else has wrapped since stays inside that wrapper.
    """
    with _lock:
        for table in TABLES.values():
            table.uninstall()


@functools.cache
def why_not_streamed() -> str | None:
    """Why LM calls of this DSPy cannot be streamed, which is logged once; ``None`` if they can."""
    reason = (
        "it selects no engines" if HAS_ENGINES else "it neither selects engines nor asks LiteLLM"
    )
    if ONE_CALL[0].sites[0].resolve() is not None:
        try:
            if HAS_ENGINES:
                importlib.import_module("streamll.capture.tap.engine")
        except (ImportError, AttributeError) as error:
            reason = f"it differs from the versions known here ({error})"
        else:
            return None
    text = "this DSPy (%s) cannot be streamed: %s; text arrives whole, when a call ends"
    logger.warning(text, dspy.__version__, reason)
    return reason
