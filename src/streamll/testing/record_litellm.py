"""What goes through LiteLLM, seen below it: at the HTTP client that it uses.

DSPy hands a call to LiteLLM in a few places (``_DOORS``). Inside one of them every request that
httpx sends passes the tap, after ``streamll`` has made a stream of it where it does; all other
requests of the process are none of a model's and pass untouched. What LiteLLM asks by other means
than httpx (a provider's own SDK) is not seen.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamll.testing.record_file import Take
from streamll.testing.record_transport import Tap, replaced, tapped_transports

if TYPE_CHECKING:
    import httpx

_inside: ContextVar[bool] = ContextVar("streamll_inside_litellm", default=False)


@dataclass(frozen=True)
class Outgoing:
    """A request as a tap knows it."""

    url: str
    headers: list[tuple[str, str]]
    body: bytes


@contextmanager
def tapped_litellm(tap: Tap) -> Iterator[None]:
    """Inside, every request that LiteLLM makes for DSPy passes ``tap``."""
    if not all(map(importlib.util.find_spec, ("litellm", "httpx"))):
        yield  # who has no LiteLLM calls none
        return
    import httpx

    sync_name = async_name = "_send_single_request"
    places: list[tuple[Any, str, Callable[..., Any]]] = [
        (httpx.Client, sync_name, _sync(vars(httpx.Client)[sync_name], tap)),
        (httpx.AsyncClient, async_name, _async(vars(httpx.AsyncClient)[async_name], tap)),
    ]
    places += [(owner, name, _entered(vars(owner)[name])) for owner, name in _doors()]
    with replaced(places):
        yield


@contextmanager
def tapped_requests(tap: Tap) -> Iterator[None]:
    """Inside, every request for DSPy passes ``tap``, whichever client makes it."""
    with tapped_transports(tap), tapped_litellm(tap):
        yield


def _doors() -> Iterator[tuple[Any, str]]:
    """Where DSPy hands a call to LiteLLM."""
    from dspy.clients import embedding
    from dspy.clients.engines.litellm_engine import AsyncLiteLLMEngine, LiteLLMEngine

    for engine in (LiteLLMEngine, AsyncLiteLLMEngine):
        for name in ("complete", "complete_legacy", "stream"):
            yield engine, name
    for name in ("_compute_embeddings", "_acompute_embeddings"):
        yield embedding, name


@contextmanager
def _entering() -> Iterator[None]:
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)


def _entered(original: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, marked as inside LiteLLM."""
    if inspect.isgeneratorfunction(original) or inspect.isasyncgenfunction(original):
        return _entered_generator(original)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _entering():
            return original(*args, **kwargs)

    @functools.wraps(original)
    async def acall(*args: Any, **kwargs: Any) -> Any:
        with _entering():
            return await original(*args, **kwargs)

    return acall if inspect.iscoroutinefunction(original) else call


def _entered_generator(original: Callable[..., Any]) -> Callable[..., Any]:
    """A generator is inside while it works, and outside where it yields."""

    @functools.wraps(original)
    def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with contextlib.closing(original(*args, **kwargs)) as items:
            while True:
                with _entering():
                    item = next(items, _OVER)
                if item is _OVER:
                    return
                yield item

    @functools.wraps(original)
    async def agenerate(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async with contextlib.aclosing(original(*args, **kwargs)) as items:
            while True:
                with _entering():
                    item = await anext(items, _OVER)
                if item is _OVER:
                    return
                yield item

    return agenerate if inspect.isasyncgenfunction(original) else generate


_OVER = object()


# --- httpx, blocking and waiting ------------------------------------------------------------------


def _sync(original: Callable[..., Any], tap: Tap) -> Callable[..., Any]:
    @functools.wraps(original)
    def send(client: Any, request: httpx.Request) -> httpx.Response:
        if not _inside.get():
            return original(client, request)  # type: ignore[no-any-return]
        request.read()
        sent, take = _passed(tap, request)
        if take is None:
            response: httpx.Response = original(client, sent)
        else:
            try:
                response = original(client, sent)
            except BaseException as error:
                take.cut(error)
                raise
            _heard(response, take)
        response.request = request
        return response

    return send


def _async(original: Callable[..., Any], tap: Tap) -> Callable[..., Any]:
    @functools.wraps(original)
    async def send(client: Any, request: httpx.Request) -> httpx.Response:
        if not _inside.get():
            return await original(client, request)  # type: ignore[no-any-return]
        await request.aread()
        sent, take = _passed(tap, request)
        if take is None:
            response: httpx.Response = await original(client, sent)
        else:
            try:
                response = await original(client, sent)
            except BaseException as error:
                take.cut(error)
                raise
            _heard(response, take)
        response.request = request
        return response

    return send


def _passed(tap: Tap, request: httpx.Request) -> tuple[httpx.Request, Take | None]:
    """The request as the tap wants it sent."""
    import httpx

    outgoing = Outgoing(str(request.url), request.headers.multi_items(), request.content)
    wanted, take = tap.request(outgoing)
    if wanted is outgoing:
        return request, take
    elsewhere = httpx.Request(
        request.method,
        wanted.url,
        headers=wanted.headers,
        content=wanted.body,
        extensions=request.extensions,
    )
    return elsewhere, take


def _heard(response: httpx.Response, take: Take) -> None:
    """Write down the reply while it is read."""
    import httpx

    take.opened(response.status_code, response.headers.multi_items())

    class Heard(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def __iter__(self) -> Iterator[bytes]:
            with _finishing(take):
                for chunk in self._stream:
                    take.chunk(chunk)
                    yield chunk

        async def __aiter__(self) -> AsyncIterator[bytes]:
            with _finishing(take):
                async for chunk in self._stream:
                    take.chunk(chunk)
                    yield chunk

        def close(self) -> None:
            take.cut(GeneratorExit())
            self._stream.close()

        async def aclose(self) -> None:
            take.cut(GeneratorExit())
            await self._stream.aclose()

    response.stream = Heard(response.stream)


@contextmanager
def _finishing(take: Take) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        take.cut(error)
        raise
    take.end()
