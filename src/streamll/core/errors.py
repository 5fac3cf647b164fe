"""Every error this package raises, as one tree.

::

    Exception
    └── StreamllError                what a caller can handle
        ├── UnknownFieldError        (ValueError) a field name no predictor has
        ├── AmbiguousFieldError      (ValueError) one name, several predictors
        ├── StreamCancelled          the stream was left before the program ended
        ├── ChannelClosed            reading from a channel that has ended
        ├── ChannelOverflow          a channel with policy "fail" is full
        ├── WireError                (ValueError) bytes that are not a streamll event
        ├── OutOfOrder               (ValueError) events in an order no run can produce
        └── ConfigurationError       (ValueError) an option that cannot work; names the remedy
    BaseException
    └── Unwind                       unwinds a cancelled program; never leaves this package

``Unwind`` is a ``BaseException`` because programs catch ``Exception`` and carry on: BestOfN,
Parallel and Evaluate would otherwise swallow a cancellation and start the next attempt.
"""

from __future__ import annotations


class StreamllError(Exception):
    """Base of the errors a caller can handle."""


class UnknownFieldError(StreamllError, ValueError):
    """A field name that no predictor of the program has; the message lists those there are."""


class AmbiguousFieldError(StreamllError, ValueError):
    """*The* text of a field that several predictors have was asked for."""


class StreamCancelled(StreamllError):
    """The stream was left before the program ended, so there is no result."""


class ChannelClosed(StreamllError):
    """The other side of the channel has ended."""


class ChannelOverflow(StreamllError):
    """The reader is too slow for a channel with policy ``"fail"``."""


class WireError(StreamllError, ValueError):
    """Bytes that cannot be read as streamll events."""


class OutOfOrder(StreamllError, ValueError):
    """An event that cannot follow the events before it."""


class ConfigurationError(StreamllError, ValueError):
    """An option that cannot work; the message names it and the remedy."""


class Unwind(BaseException):
    """Raised inside a cancelled program, at its next LM chunk or request."""
