"""``record``: keep what a provider sends while a program runs, for ``replay``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from streamll.sinks.jsonl import JSONLSink
from streamll.testing.record_file import ExchangeWriter, RecordingWriter
from streamll.testing.record_sites import tapped_requests


@contextmanager
def record(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Record every program that runs inside: its events, and the provider's replies with timing.

    >>> with record("paris.jsonl"):  # doctest: +SKIP
    ...     qa(question="What is the capital of France?")

    An existing file is replaced. Programs are streamed as under ``watch()``; DSPy's cache is
    replaced by an empty one, so that every request is made. The file has the provider's replies and
    what events show; of prompts only a digest, and no credentials. ``streamll.configure(redact=…)``
    applies to the events, not to the replies.

    Covers language models and embedders that DSPy calls with its own provider client or through
    LiteLLM.
    """
    file = Path(path)
    sink = JSONLSink(file, append=False)
    writer = RecordingWriter(file)

    def tap(request: Any) -> tuple[Any, ExchangeWriter | None]:
        return request, writer.exchange(request.url, request.body)

    try:
        with own_cache(), tapped_requests(tap), everything_watched(sink):
            yield file
    finally:
        sink.stop()
        writer.close()


@contextmanager
def own_cache() -> Iterator[None]:
    """Inside, DSPy has an empty cache in memory, so that every request is made again."""
    import dspy
    from dspy.clients.cache import Cache

    before = vars(dspy).get("cache")
    fresh = Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir="")
    dspy.cache = fresh
    try:
        yield
    finally:
        if before is not None:
            dspy.cache = before
        else:
            vars(dspy).pop("cache", None)


@contextmanager
def everything_watched(sink: Any) -> Iterator[None]:
    """Inside, every program is captured, all fields are streamed, and ``sink`` gets the events."""
    import streamll
    from streamll.capture.run import options
    from streamll.configuration import configuration, configure

    with (
        configure(sinks=[*configuration.sinks, sink]),
        streamll.watch(sinks=[sink]) if options.watching is None else nullcontext(),
    ):
        yield
