"""The requests of one LM call, and what each has used: attempts, candidates, a plain second try.

What a reply says of tokens is looked up when the call is over, so that a reply that was cut, left or
superseded counts with what it had said by then. What a returned reply has used is read on the wire,
where there is one; otherwise DSPy's own sum of it counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from streamll.core.usage import NONE_USED, UNKNOWN, Sums, Tokens, cost_of, tokens_of

HTTP_ERROR = 400
_REQUEST_TIMEOUT = 408
_NOT_CONNECTED = frozenset(
    {"ConnectError", "ConnectTimeout", "ConnectionRefusedError", "PoolTimeout", "gaierror"}
)
"""Names of errors before a request has left, of lm15, httpx and Python."""
_UNCERTAIN = frozenset({"APIConnectionError", "Timeout", "APITimeoutError"})
"""Errors of LiteLLM that have an HTTP status although no reply had one."""


class ReplyOnTheWire(Protocol):
    """What is known of a reply while, and after, it is read: ``tap.wire.reply.WireReply``."""

    status: int
    """HTTP's; 0 before there is one."""
    streamed: bool
    """It came as a stream."""

    @property
    def whole(self) -> bool:
        """Nothing of the stream is missing."""

    @property
    def refused(self) -> bool:
        """The server did not take the request as a stream."""

    @property
    def usage(self) -> Any:
        """The provider's report so far, as it names things; ``None`` if there is none yet."""


@dataclass(slots=True, eq=False)
class _Request:
    model: str
    reply: ReplyOnTheWire | None = None
    response: Any = None
    error: BaseException | None = None
    returned: bool = False

    def read(self) -> Tokens | None:
        """What the provider itself has said; ``None`` where nothing was to be read."""
        if self.reply is None or self.reply.refused:
            return None
        if self.reply.streamed:
            return tokens_of(self.reply.usage, whole=self.reply.whole)
        report = self.reply.usage
        return None if report is None else tokens_of(report)

    def tokens(self) -> Tokens:
        reply = self.reply
        if (read := self.read()) is not None:
            return read
        if self.returned:
            return tokens_of(_report_in(self.response))
        refused = _is_refused(self.error)
        if reply is not None:
            refused = reply.refused or reply.status >= HTTP_ERROR
        return NONE_USED if refused or _never_left(self.error) else UNKNOWN


class Requests:
    """Told by ``LMCall`` what a tap tells it. ``model`` is the one that is asked."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._made: list[_Request] = []
        self._open: _Request | None = None
        self._begun = False
        self._dropped = 0  # of those made, the first ones, whose replies are not in the result

    def switch(self, model: str) -> None:
        """Another model is asked from now on; what the one before has returned is dropped."""
        self.model = model
        self._dropped = len(self._made)

    def begin(self) -> None:
        """A request is about to be made; it may turn out that another engine makes it."""
        self._begun = True

    def sent(self, reply: ReplyOnTheWire | None) -> None:
        """It leaves now. The one before it, if it was not reported as over, is cut."""
        self._open = _Request(self.model, reply)
        self._made.append(self._open)

    def failed(self, error: BaseException) -> None:
        if getattr(error, "ends_request", True) and (request := self._take()) is not None:
            request.error = error

    def done(self, response: object | None) -> None:
        if (request := self._take()) is not None:
            request.response, request.returned = response, True

    def _take(self) -> _Request | None:
        """The request that is over; ``None`` if it was taken already, by an engine beneath."""
        request, self._open = self._open, None
        if request is None and self._begun:
            request = _Request(self.model)
            self._made.append(request)
        self._begun = False
        return request

    def used(self, result: Any) -> dict[str, Any]:
        """The tokens and cost of an ``LMEnd``.

        Args:
            result: DSPy's result of the call, which has the usage and cost of all that was returned;
                ``None`` if the call failed.
        """
        cached = bool(getattr(result, "cache_hit", False))
        cost = None if cached else cost_of(getattr(result, "cost", None))
        returned = [request for request in self._made[self._dropped :] if request.returned]
        read = bool(returned) and all(each.read() is not None for each in returned)
        by_result = result is not None and not read
        counts = [(r.model, r.tokens()) for r in self._made if not (by_result and r in returned)]
        if by_result:
            report = getattr(result, "usage", None)
            counts.append((self.model, NONE_USED if cached else tokens_of(report)))
        sums = Sums()
        for number, (model, tokens) in enumerate(counts, 1):
            sums.add(model, tokens, cost if number == len(counts) else None)
        return sums.of_call(self.model, cost)


def _report_in(response: Any) -> Any:
    """The report of usage in a reply: as the provider sent it, else in lm15's or DSPy's words."""
    sent = getattr(response, "provider_data", None)
    sent = sent if isinstance(sent, dict) else {}
    return sent.get("usage") or sent.get("usageMetadata") or getattr(response, "usage", None)


def _is_refused(error: BaseException | None) -> bool:
    """Whether a provider answered with an HTTP error, for which it charges nothing."""
    status = next(
        (
            value
            for name in ("status", "status_code")
            if isinstance(value := getattr(error, name, None), int)
        ),
        0,
    )
    uncertain = status == _REQUEST_TIMEOUT or type(error).__name__ in _UNCERTAIN
    return status >= HTTP_ERROR and not uncertain


def _never_left(error: BaseException | None) -> bool:
    """Whether there was no connection to send the request on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if not _NOT_CONNECTED.isdisjoint(each.__name__ for each in type(error).__mro__):
            return True
        error = error.__cause__ or error.__context__
    return False
