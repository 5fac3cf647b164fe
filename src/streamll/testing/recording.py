"""``record``: keep what a provider sends while a program runs, for ``replay``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamll.sinks.jsonl import JSONLSink
from streamll.testing.record_file import Book, Take
from streamll.testing.record_litellm import tapped_requests
from streamll.testing.record_transport import everything_watched, own_cache


@contextmanager
def record(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write down every program that runs inside: its events, and what the provider sent, with time.

    >>> with record("paris.jsonl"):  # doctest: +SKIP
    ...     qa(question="What is the capital of France?")

    A file that is there is replaced. Programs are streamed as under ``watch()``; DSPy's cache is
    an empty one, so that everything is asked. Kept are the provider's replies and what events
    show; of prompts only a digest, of credentials nothing. ``streamll.configure(redact=…)``
    applies to the events, not to the replies.

    For language models and embedders that DSPy asks, by its own provider client or through LiteLLM.
    """
    file = Path(path)
    sink = JSONLSink(file, append=False)
    book = Book(file)
    try:
        with own_cache(), tapped_requests(_Recorder(book)), everything_watched(sink):
            yield file
    finally:
        sink.stop()
        book.close()


class _Recorder:
    def __init__(self, book: Book) -> None:
        self._book = book

    def request(self, request: Any) -> tuple[Any, Take | None]:
        return request, self._book.take(request.url, request.body)
