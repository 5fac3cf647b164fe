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
from streamll.testing import record_litellm, record_tap
from streamll.testing.record_tap import TAPS, RequestTap

_LM15 = "dspy._vendor.lm15.transports"
_ENGINES = "dspy.clients.engines.litellm_engine"
_LOST = "requests through LiteLLM are neither recorded nor replayed"
_INSIDE = "marks the requests made inside as LiteLLM's"

RECORDING = PatchTable(
    PatchSite(
        f"{_LM15}._sync", "StdlibTransport", "stream", record_tap.lm15_tapped,
        why="every synchronous request of DSPy's own provider client",
        lost="these requests are neither recorded nor replayed",
    ),
    PatchSite(
        f"{_LM15}._async", "StdlibAsyncTransport", "_do_stream", record_tap.lm15_async_tapped,
        why="every asynchronous request of DSPy's own provider client",
        lost="these requests are neither recorded nor replayed",
    ),
    *(
        PatchSite(
            library, owner, "_send_single_request", functools.partial(wrapper, library),
            why="every request of this client; those that LiteLLM makes for DSPy are tapped",
            lost=_LOST,
        )
        for library in ("httpx", "httpx2")
        for owner, wrapper in (
            ("Client", record_litellm.httpx_tapped),
            ("AsyncClient", record_litellm.httpx_async_tapped),
        )
    ),
    *(
        PatchSite(_ENGINES, engine, name, record_litellm.marked_inside, why=_INSIDE, lost=_LOST)
        for engine in ("LiteLLMEngine", "AsyncLiteLLMEngine")
        for name in ("complete", "complete_legacy", "stream")
    ),
    *(
        PatchSite(
            "dspy.clients.embedding", None, name, record_litellm.marked_inside,
            why=_INSIDE,
            lost="embeddings are neither recorded nor replayed",
        )
        for name in ("_compute_embeddings", "_acompute_embeddings")
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
