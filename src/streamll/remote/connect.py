"""``streamll.connect``: read, start and stop the runs of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

import msgspec

from streamll.core.errors import ConfigurationError, StreamllError
from streamll.core.events import NOTHING, Event
from streamll.core.positions import Position, read_position
from streamll.core.urls import without_password
from streamll.flow.dual import Loop, Openable
from streamll.remote.reading import Reading, Target
from streamll.remote.stream import AsyncRemoteStream, RemoteStream, _RemoteStream


def connect(
    url: str,
    run_id: str | None = None,
    *,
    token: str | None = None,
    after: str | Position | None = None,
    patience: float = 60.0,
    http: Mapping[str, Any] = NOTHING,
) -> Connection:
    """Read a run of ``streamll serve`` or ``create_app`` as if it ran here.

    ``with streamll.connect("https://host/runs/5f3c9a") as events:`` iterates over the events that
    ``streamll.stream`` would yield, each once and in order, whatever breaks in between: the server may be
    away for a while, or be another one with the same log. ``async with`` and ``async for`` likewise; a
    ``for`` loop needs no ``with``. The run itself goes on when its reader leaves: ``events.cancel()``
    stops it.

    Args:
        url: of the run (``https://host/runs/5f3c9a``), or of the server.
        run_id: the run, where ``url`` is the server's.
        token: the server's token, or the run's; or as ``?token=`` in ``url``.
        after: read what comes after this position: ``events.position`` of an earlier reader.
        patience: seconds for which the server may be away; one that never answered is given up sooner.
        http: options for ``httpx.AsyncClient``, such as ``verify``, ``proxy`` or ``headers``.

    Raises:
        ConfigurationError: the address is no server's, or ``after`` is not a position in this run.
        RunUnavailable: while reading, the server is away for too long; ``NoSuchRun``: it has no such run;
            ``TokenRefused``: it wants another token.
        RunFailed: after its last event, the program raised; ``RunLost``: its process is gone.
        StreamCancelled: after its last event, the run was cancelled.
    """
    server, run_id, given = _parts_of(url, run_id)
    place = None
    if after is not None:
        try:
            place = after if isinstance(after, Position) else read_position(after, run_id)
        except ValueError as error:
            raise ConfigurationError(f"after= is no position: {error}") from None
        if run_id is None:
            run_id = place.run_id
        if place.run_id != run_id:
            raise ConfigurationError(
                f"after= is a position in the run {place.run_id}, not {run_id}"
            )
    return Connection(
        Target(
            url=server,
            run_id=run_id,
            token=token or given,
            after=place,
            patience=patience,
            http=http,
        )
    )


class Connection(Openable):
    """A run of a server, or the server itself; nothing is asked for until it is entered or read."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stream: _RemoteStream | None = None

    def start(
        self,
        program: str | None = None,
        /,
        *,
        inputs: Mapping[str, Any] = NOTHING,
        context: Mapping[str, Any] = NOTHING,
        **program_inputs: Any,
    ) -> Connection:
        """A new run of this server, started on entering: ``connect(url).start("QA", question="…")``.

        Args:
            program: its name; needed where the server has several.
            inputs: inputs of the program whose names are among these.
            context: added to every event of the run, see ``set_context``.
            program_inputs: all its other inputs.

        Raises:
            InvalidInputs: while reading, the program cannot take these inputs, or JSON cannot say them; with
                all that is wrong.
            ConfigurationError: while reading, there is no such program; the message lists those there are.
            RunUnavailable: while reading, the run cannot be started, or it is not known whether it was.
        """
        body: dict[str, Any] = {"inputs": {**inputs, **program_inputs}}
        if program is not None:
            body["program"] = program
        if context:
            body["context"] = dict(context)
        fresh = msgspec.structs.replace(self._target, run_id=None, after=None, body=body)
        return Connection(fresh)

    def opened(self, *, on_loop: bool) -> RemoteStream | AsyncRemoteStream:
        """Begin to read; what ``with`` and ``async with`` do on entering."""
        target = self._target
        if target.run_id is None and target.body is None:
            raise ConfigurationError(
                f"which run of {target.shown}? connect(url, run_id), or connect(url).start(…)"
            )
        if self._stream is not None and target.body is not None:
            raise StreamllError("this run has been started already; call start once more")
        kind = AsyncRemoteStream if on_loop else RemoteStream
        self._stream = kind(Reading(target), on_loop=on_loop)
        return self._stream

    def __enter__(self) -> RemoteStream:
        return self.opened(on_loop=False)  # type: ignore[return-value]

    def __exit__(self, *error: object) -> None:
        if self._stream is not None:
            self._stream.close()

    async def __aenter__(self) -> AsyncRemoteStream:
        return self.opened(on_loop=True)  # type: ignore[return-value]

    async def __aexit__(self, *error: object) -> None:
        if self._stream is not None:
            await self._stream.aclose()

    def __iter__(self) -> Iterator[Event]:
        stream = self.opened(on_loop=False)
        return Loop(stream, stream.close)

    def __aiter__(self) -> AsyncIterator[Event]:
        stream = self.opened(on_loop=True)
        return Loop(stream, stream.leave)


def _parts_of(url: str, run_id: str | None) -> tuple[str, str | None, str | None]:
    """The server's address, the run and the token that a URL names."""
    scheme, place, path, query, _ = urlsplit(url)
    if scheme not in ("http", "https") or not place:
        shown = without_password(url)
        raise ConfigurationError(f"{shown!r} is not the address of a server: http://… or https://…")
    before, found, rest = path.rstrip("/").rpartition("/runs/")
    named = None
    if found:
        named = unquote(rest.removesuffix("/events").removesuffix("/ws"))
        path = before
    if run_id is not None and named not in (None, run_id):
        raise ConfigurationError(f"the address names the run {named}, and run_id is {run_id!r}")
    token = parse_qs(query).get("token", [None])[0]
    return urlunsplit((scheme, place, path.rstrip("/"), "", "")), run_id or named, token
