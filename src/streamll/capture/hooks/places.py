"""Everything that capturing replaces in other libraries: where, why, and what is lost without it.

Installed on first use, restored by ``uninstall``. ``docs/invisible.md`` prints the tables,
``streamll doctor`` shows which sites are on. What recording replaces besides is listed in
``testing/record_sites.py``; what capture only reads of DSPy's private names, in ``inside_dspy``.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import dspy

from streamll.capture.hooks import wrappers
from streamll.capture.hooks.call_fields import CallLocalFields
from streamll.capture.run.scope import current_scope
from streamll.capture.tap import deadlines, interrupt
from streamll.configuration import logger
from streamll.context import set_run_finder
from streamll.patching import PatchSite, PatchTable

PROGRAMS = PatchTable(
    PatchSite(
        "dspy", "Module", "__call__", wrappers.captured_call,
        why="a captured call begins here",
        lost="synchronous programs are not captured",
    ),
    PatchSite(
        "dspy", "Module", "acall", wrappers.captured_acall,
        why="a captured call begins here",
        lost="asynchronous programs are not captured",
    ),
    PatchSite(
        "dspy", "BaseLM", "__call__", wrappers.lm_call,
        why="a bare LM call under `watch` begins here; DSPy must not stream it by itself",
        lost="bare LM calls are not captured, and inside `streamify` they are not retried",
    ),
    PatchSite(
        "dspy", "BaseLM", "acall", wrappers.lm_acall,
        why="as `__call__`, for asynchronous calls",
        lost="as `__call__`, for asynchronous calls",
    ),
    PatchSite(
        "dspy.utils.callback", None, "dspy", wrappers.DSPyOfCallbacks,
        why="DSPy's callback decorator asks this module's `dspy.settings.get` for the callbacks; "
        "inside a captured call ours is among them, also where the program sets its own with "
        "`dspy.context(callbacks=…)`, as `dspy.streamify` does",
        lost="no events but the run's own",
    ),
    PatchSite(
        "dspy", "Evaluate", "__call__", wrappers.quiet,
        why="no text is streamed inside an evaluation",
        lost="evaluations stream the text of every example",
    ),
    PatchSite(
        "dspy.utils.parallelizer", "ParallelExecutor", "execute", wrappers.context_carried,
        why="its threads get DSPy's settings but no context variables",
        lost="`set_context` does not reach the threads of `dspy.Parallel` and `Evaluate`",
    ),
    PatchSite(
        "dspy", "Module", "_streamll_stream_fields", lambda _: CallLocalFields(),
        why="lets a `forward` choose the fields that this call streams",
        lost="nothing: the attribute is streamll's own",
        added=True,
    ),
)  # fmt: skip
"""The calls of a program. Installed by ``install``."""

_SYNC = "dspy._vendor.lm15.transports._sync"
_ASYNC = "dspy._vendor.lm15.transports._async"

TRANSPORTS = PatchTable(
    *(
        site
        for module, transport, pool in (
            (_SYNC, "StdlibTransport", "_ConnectionPool"),
            (_ASYNC, "StdlibAsyncTransport", "_AsyncConnectionPool"),
        )
        for site in (
            PatchSite(
                module, transport, "_send_request", interrupt.lm15_send_request,
                why="tells which connection a call reads from, so that cancelling can end the read",
                lost="cancelling waits until the provider sends something",
            ),
            PatchSite(
                module, transport, "_make_release", interrupt.lm15_make_release,
                why="the connection goes back to its pool: from here on cancelling leaves it alone",
                lost="a late cancellation may end another call's read",
            ),
            PatchSite(
                module, pool, "acquire_slot", interrupt.lm15_acquire_slot,
                why="announces that a call waits for a free connection",
                lost="no `lm.waiting` event for a busy connection pool",
            ),
        )
    ),
    PatchSite(
        _ASYNC, None, "wait_for", deadlines.lm15_wait_for,
        why="a time limit without a task for every read (Python 3.11 and later)",
        lost="asynchronous streams cost more CPU per packet",
    ),
)  # fmt: skip
"""lm15, DSPy's own provider client. Installed where its engines can be streamed."""


def _teed(library: str, original: Any) -> Any:
    from streamll.capture.tap import below_litellm

    return below_litellm.teed(library, original)


def _async_teed(library: str, original: Any) -> Any:
    from streamll.capture.tap import below_litellm

    return below_litellm.async_teed(library, original)


HTTP_CLIENTS = PatchTable(
    *(
        site
        for client, core in (("httpx", "httpcore"), ("httpx2", "httpcore2"))
        for site in (
            PatchSite(
                client, "Client", "send", functools.partial(_teed, client),
                why="LiteLLM's plain request goes out as one for a stream, which is rebuilt into "
                "the plain response",
                lost="through LiteLLM text arrives whole",
            ),
            PatchSite(
                client, "AsyncClient", "send", functools.partial(_async_teed, client),
                why="as `Client.send`, for asynchronous calls",
                lost="as `Client.send`, for asynchronous calls",
            ),
            PatchSite(
                f"{core}._sync.http11", "HTTP11Connection", "handle_request",
                interrupt.httpcore_handle_request,
                why="tells which connection a call reads from, so that cancelling can end the read",
                lost="cancelling a synchronous LiteLLM call waits until the provider sends something",
            ),
            PatchSite(
                f"{core}._sync.http11", "HTTP11Connection", "_response_closed",
                interrupt.httpcore_response_closed,
                why="the connection may serve another request: from here on cancelling leaves it "
                "alone",
                lost="a late cancellation may end another call's read",
            ),
        )
    )
)  # fmt: skip
"""What LiteLLM sends through. Installed at the first captured call that goes through LiteLLM."""

ENGINES = PatchTable(
    PatchSite(
        "dspy.clients.execution", None, "_select_engine",
        functools.partial(wrappers.tapped_engine, HTTP_CLIENTS.install),
        why="the engine of one LM call; the tap takes its place",
        lost="text arrives whole, when a call ends",
    ),
    PatchSite(
        "dspy.clients.execution", None, "finalize", wrappers.result_recorded,
        why="the one place that has usage, cost and cache hit of an LM call",
        lost="`lm.end` and `run.end` without usage and cost; cached replies give no tokens",
    ),
    PatchSite(
        "dspy.clients.execution", None, "_retryable", wrappers.retryable_unless_final,
        why="where a `StreamConfig` decides about attempts, DSPy adds none of its own",
        lost="DSPy's retries come on top of a `StreamConfig`'s",
    ),
)  # fmt: skip
"""One LM call. Installed where the engines of this DSPy can be streamed."""

TABLES = {
    "Calls of a program": PROGRAMS,
    "One LM call": ENGINES,
    "DSPy's own provider client (lm15)": TRANSPORTS,
    "HTTP clients below LiteLLM": HTTP_CLIENTS,
}

_lock = threading.Lock()


def install() -> None:
    """Replace what capturing replaces; does nothing where that is done."""
    with _lock:
        _install(PROGRAMS)
        if why_not_streamed() is None:
            _install(ENGINES)
            _install(TRANSPORTS)
        set_run_finder(current_scope)


def uninstall() -> None:
    """Restore the originals; runs under way go on without further events.

    A function that somebody else has wrapped since stays inside that wrapper.
    """
    with _lock:
        for table in TABLES.values():
            table.uninstall()


def _install(table: PatchTable) -> None:
    for site in table.install():
        logger.warning("this DSPy has no %s; lost without it: %s", site, site.lost)


@functools.cache
def why_not_streamed() -> str | None:
    """Why the engines of this DSPy cannot be streamed, which is logged once; ``None`` if they can."""
    selects = ENGINES.sites[0].resolve() is not None
    reason = _missing_in_engines() if selects else "it selects no engines"
    if reason is not None:
        logger.warning(
            "this DSPy (%s) cannot be streamed: %s; text arrives whole, when a call ends",
            dspy.__version__,
            reason,
        )
    return reason


def _missing_in_engines() -> str | None:
    try:
        from streamll.capture.tap import engine

        del engine
    except (ImportError, AttributeError) as error:
        return f"it differs from the versions known here ({error})"
    return None
