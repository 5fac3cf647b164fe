"""Every error of this package, as one tree.

::

    Exception
    └── StreamllError                what a caller can handle
        ├── ConfigurationError       (ValueError) an option that cannot work; names the remedy
        │   └── MissingKeyError      no API key for a provider; names the variables to set
        ├── UnknownFieldError        (ValueError) a field name no predictor has
        ├── AmbiguousFieldError      (ValueError) one name, several predictors
        ├── UnknownNameError         (KeyError) a session has no model or branch of that name
        ├── DuplicateNameError       (ValueError) a session already has that name
        ├── SessionFormatError       (ValueError) not a saved session, or of a newer version
        ├── StreamCancelled          the stream was left before the program ended
        ├── GuardStopped             a guard ended the run: what it forbids was to go out
        ├── ReplySuperseded          a retry gave another reply after text of the first was yielded
        ├── StreamTimeout            (TimeoutError) a stream took longer than it may
        │   ├── TotalTimeout         all of it
        │   ├── FirstTokenTimeout    a request, to its first token
        │   └── IdleTimeout          from one token to the next
        ├── CircuitOpen              a service failed too often; it is left alone for a while
        ├── ChannelClosed            reading from a channel that has ended
        ├── ChannelOverflow          a channel with policy "fail" is full
        ├── WireError                (ValueError) bytes that are not a streamll event
        ├── OutOfOrder               (ValueError) events in an order no run can produce
        ├── BrokerError              a broker refuses; trying again would not help
        ├── RunFailed                the program of a server's run raised; has its error_type
        │   └── RunLost              the process that ran it is gone
        ├── InvalidInputs            (ValueError) inputs or messages that a program cannot take
        │   └── WrongAnswer          an answer that its question cannot take; it stays open
        ├── Unanswered               a question of a run has no answer
        │   ├── NobodyToAsk          nobody who could answer sees it
        │   ├── QuestionLapsed       (TimeoutError) nobody answered in time
        │   └── QuestionWithdrawn    somebody declined to answer
        ├── QuestionClosed           an answer to a question that is not open any more
        ├── NoSuchQuestion           (KeyError) an answer to a question that was never asked
        └── RunUnavailable           a server cannot start or read a run; has an HTTP status
            ├── LogAway              the log cannot be read at the moment
            ├── ServerStopping       its process is about to end
            ├── NoSuchRun            the log holds no run with this id
            ├── TokenRefused         the server wants another token
            └── TooManyRuns          the process runs as many programs as it may
    BaseException
    └── Unwind                       unwinds a cancelled program; never leaves this package

``Unwind`` is a ``BaseException`` because programs catch ``Exception`` and carry on: BestOfN,
Parallel and Evaluate would otherwise swallow a cancellation and start the next attempt.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

logger = logging.getLogger("streamll")
"""Where errors are reported that are not raised."""


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning that a process needs no second time."""
    logger.warning("%s (logged once)", message)


class StreamllError(Exception):
    """Base of the errors a caller can handle."""


class UnknownFieldError(StreamllError, ValueError):
    """A field name that no predictor of the program has; the message lists those it has."""


class AmbiguousFieldError(StreamllError, ValueError):
    """The text of one field was asked for, but several predictors have a field of that name."""


class StreamCancelled(StreamllError):
    """The stream was left before the program ended, so there is no result."""


class GuardStopped(StreamllError):
    """A guard whose action is ``"stop"`` has ended the run: something that it forbids had come.

    ``rule`` is the guard's name, ``field`` the output field that it was found in (``None``: not in
    one), and ``partial`` the text of unfinished calls that had gone out before, by
    ``predictor.field``. None of them has what was found.
    """

    def __init__(
        self, rule: str, field: str | None = None, partial: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(rule, field)
        self.rule = rule
        self.field = field
        self.partial = dict(partial or {})

    def __str__(self) -> str:
        where = f" in the field {self.field!r}" if self.field else ""
        return f"the guard {self.rule!r} stopped the run: it forbids what came{where}"


class ChannelClosed(StreamllError):
    """The other side of the channel has ended."""


class ChannelOverflow(StreamllError):
    """The reader is too slow for a channel with policy ``"fail"``."""


class WireError(StreamllError, ValueError):
    """Bytes that cannot be read as streamll events."""


class OutOfOrder(StreamllError, ValueError):
    """An event that cannot follow the events before it."""


class BrokerError(StreamllError):
    """A broker refuses to serve, and would again; the message names what has to be changed."""


class ConfigurationError(StreamllError, ValueError):
    """An option that cannot work; the message names it and the remedy."""


def needs_extra(what: str, extra: str) -> ConfigurationError:
    """The error for an optional library that is missing. The index has an earlier ``streamll``."""
    command = f"pip install '.[{extra}]'"
    return ConfigurationError(f"{what} needs an extra; in a checkout of streamll: {command}")


class CircuitOpen(StreamllError):
    """The service behind a circuit breaker failed too often; no calls are made for a while.

    ``message`` names the service; ``retry_after``: seconds until the next call is let through.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StreamTimeout(StreamllError, TimeoutError):
    """A stream took longer than its ``StreamConfig`` allows.

    ``limit`` is the setting and ``elapsed`` the time until the stream was really ended, both in
    seconds; ``received`` is the number of characters that had come, ``partial`` their text by
    ``predictor.field``.
    """

    what = "the stream"

    def __init__(
        self,
        limit: float,
        *,
        elapsed: float | None = None,
        received: int = 0,
        partial: Mapping[str, str] | None = None,
    ) -> None:
        self.limit = limit
        self.elapsed = limit if elapsed is None else elapsed
        self.received = received
        self.partial = dict(partial or {})
        super().__init__(limit)

    def __str__(self) -> str:
        got = f"{self.received} characters" if self.received else "nothing"
        return f"{self.what} within {self.limit:g} s ({self.elapsed:.2f} s passed, {got} had come)"


class TotalTimeout(StreamTimeout):
    """``timeout``: the whole stream."""

    what = "the stream did not end"


class FirstTokenTimeout(StreamTimeout):
    """``first_token_timeout``: from a request to the model's first output."""

    what = "no first token"


class IdleTimeout(StreamTimeout):
    """``idle_timeout``: between two pieces of the model's output."""

    what = "no further token"


class MissingKeyError(ConfigurationError):
    """No key for a provider. ``variables`` are the environment variables that may hold it."""

    def __init__(self, provider: str, variables: tuple[str, ...]) -> None:
        super().__init__(
            f"{provider} needs a key: set {' or '.join(variables)} in the environment, "
            f"or pass api_key= to iModel"
        )
        self.provider = provider
        self.variables = variables


class ReplySuperseded(StreamllError):
    """A new attempt replaced a reply of which ``invoke_stream`` had already yielded text, and begins
    otherwise. One that begins with the same text is read on where the first one ended.
    ``DSpyStream`` raises it for any text that it has yielded and that no longer counts.
    """


class UnknownNameError(StreamllError, KeyError):
    """A session has no model or branch of that name; the message lists those it has."""

    def __str__(self) -> str:
        return str(self.args[0])


class DuplicateNameError(StreamllError, ValueError):
    """A session already has a model or branch of that name."""


class SessionFormatError(StreamllError, ValueError):
    """Not a saved session, or one that only a newer version can read."""


class RunUnavailable(StreamllError):
    """A server cannot start or read a run. ``status`` is the HTTP status that reports it."""

    status: ClassVar[int] = 503


class LogAway(RunUnavailable):
    """The log of a server cannot be read at the moment."""

    def __init__(self) -> None:
        super().__init__("the log cannot be read")


class ServerStopping(RunUnavailable):
    """The server stops; the run can be read on at another process, or at the next one here."""

    def __init__(self) -> None:
        super().__init__("this server is about to stop")


class NoSuchRun(RunUnavailable):
    """The log of a server holds no run with this id. ``message`` says which server, to its readers."""

    status = 404

    def __init__(self, message: str = "there is no such run") -> None:
        super().__init__(message)


class TokenRefused(RunUnavailable):
    """A server does not let one do this without a token, or with this one."""

    status = 401


class TooManyRuns(RunUnavailable):
    """A server process runs as many programs as its limits allow."""

    status = 429


class RunFailed(StreamllError):
    """The program of a run that was read from a server raised an error.

    ``error_type`` is that error's name, ``message`` what the server tells of it, and ``partial`` the
    text of unfinished calls, by ``predictor.field``.
    """

    def __init__(
        self, error_type: str, message: str = "", partial: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error_type, message)
        self.error_type = error_type
        self.message = message
        self.partial = dict(partial or {})

    def __str__(self) -> str:
        return f"{self.error_type}: {self.message}" if self.message else self.error_type


class RunLost(RunFailed):
    """The process that ran the program is gone; the server has closed its run."""


class InvalidInputs(StreamllError, ValueError):
    """Inputs or messages that a program cannot take. ``problems`` has all that is wrong with them.

    Each problem has a ``place`` (``inputs.items[2].price``) and a ``message``; the error's own
    message tells the first 20.
    """

    TOLD: ClassVar[int] = 20

    def __init__(self, problems: Iterable[Any]) -> None:
        self.problems = tuple(problems)
        told = "; ".join(map(str, self.problems[: self.TOLD]))
        more = len(self.problems) - self.TOLD
        super().__init__(told if more <= 0 else f"{told}; and {more} more")


class WrongAnswer(InvalidInputs):
    """An answer that its question cannot take; ``problems`` says where and why. It stays open."""


class Unanswered(StreamllError):
    """A question of a run has no answer, and no default stands in for it."""


class NobodyToAsk(Unanswered):
    """Nobody who could answer sees the question: no run, no reader, no log; or an evaluation runs."""


class QuestionLapsed(Unanswered, TimeoutError):
    """Nobody answered a question in time."""


class QuestionWithdrawn(Unanswered):
    """Somebody declined to answer a question."""


class QuestionClosed(StreamllError):
    """An answer to a question that is not open any more.

    ``outcome`` is how it ended: ``"answered"`` (somebody else was first), ``"lapsed"`` or
    ``"withdrawn"``; ``by`` is who answered, where that is known.
    """

    def __init__(self, outcome: str, by: str | None = None) -> None:
        who = f" by {by}" if by else ""
        super().__init__(f"the question is not open any more: it was {outcome}{who}")
        self.outcome = outcome
        self.by = by


class NoSuchQuestion(StreamllError, KeyError):
    """An answer to a question that the run has not asked."""

    def __str__(self) -> str:
        return str(self.args[0])


class Unwind(BaseException):
    """Raised inside a cancelled program, at its next LM chunk or request."""
