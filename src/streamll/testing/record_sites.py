"""What recording and replaying replace in DSPy's provider client and the HTTP clients of LiteLLM.

Replaced while at least one recording or replay is running. Every request that DSPy makes then
passes the tap of each of them, the latest first. DSPy's own client is tapped at its transport.
Requests through LiteLLM are tapped at httpx or httpx2, and only those made inside the few
functions by which DSPy calls LiteLLM; other requests of the process pass untouched, and requests
that a provider's SDK makes by other means are not seen.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from streamll.patching import PatchSite, PatchTable
from streamll.testing.record_tap import (
    LM15,
    TAPS,
    RequestTap,
    httpx_async_tapped,
    httpx_tapped,
    marked_inside,
)

_LM15 = "dspy._vendor.lm15.transports"
_LM15_LOST = "these requests are neither recorded nor replayed"
_LITELLM_LOST = "requests through LiteLLM are neither recorded nor replayed"
_HTTPX = "every request of this client; those that LiteLLM makes for DSPy are tapped", _LITELLM_LOST
_MARKED = "marks the requests made inside as LiteLLM's", _LITELLM_LOST
_ENGINE_METHODS = ("complete", "complete_legacy", "stream")

RECORDING = PatchTable(
    PatchSite(f"{_LM15}._sync", "StdlibTransport", "stream", LM15.tapped,
        "every synchronous request of DSPy's own provider client", _LM15_LOST),
    PatchSite(f"{_LM15}._async", "StdlibAsyncTransport", "_do_stream", LM15.async_tapped,
        "every asynchronous request of DSPy's own provider client", _LM15_LOST),
    *(
        PatchSite(library, owner, "_send_single_request", functools.partial(wrap, library), *_HTTPX)
        for library in ("httpx", "httpx2")
        for owner, wrap in (
            ("Client", httpx_tapped),
            ("AsyncClient", httpx_async_tapped),
        )
    ),
    *(
        PatchSite(module, owner, name, marked_inside, *_MARKED)
        for module, owner, names in (
            ("dspy.clients.engines.litellm_engine", "LiteLLMEngine", _ENGINE_METHODS),
            ("dspy.clients.engines.litellm_engine", "AsyncLiteLLMEngine", _ENGINE_METHODS),
            ("dspy.clients.embedding", None, ("_compute_embeddings", "_acompute_embeddings")),
        )
        for name in names
    ),
)  # fmt: skip

_lock = threading.Lock()


@contextmanager
def tapped_requests(tap: RequestTap) -> Iterator[None]:
    """Inside, every request that DSPy makes passes ``tap``, whichever client makes it."""
    with _lock:
        TAPS.append(tap)
        RECORDING.install()
    try:
        yield
    finally:
        with _lock:
            TAPS.remove(tap)
            if not TAPS:
                RECORDING.uninstall()
