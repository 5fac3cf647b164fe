"""The replies that a test scripts: ``Reply`` and ``Fault``. Plain data.

``wires`` renders a reply as a provider would, ``plan`` decides when its bytes are written, and
``connection`` writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from streamll.testing.cutting import Chunk

if TYPE_CHECKING:
    from streamll.testing.prompts import Format

CREATED = 1_735_689_600  # Unix time of replies that have none of their own: 2025-01-01 00:00 UTC

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True)
class ToolCall:
    """A native tool call of the tool ``name``.

    ``arguments`` is a mapping, or the exact JSON text to send. Without an ``id``, one is derived
    from the reply.
    """

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True)
class Citation:
    """A source the reply points to: a page, or a passage of the prompt's documents.

    ``url`` and ``title`` are the page's, ``text`` is the passage.
    """

    text: str = ""
    title: str = ""
    url: str | None = None


@dataclass(frozen=True)
class Usage:
    """Token counts, named alike for all wires: ``input_tokens`` and ``output_tokens``.

    ``cached_tokens`` and ``cache_write_tokens`` are part of the input, ``reasoning_tokens`` part of
    the output.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one reply. Faults combine: ``Fault(crlf=True, disconnect_after=3)``.

    Chunks are pieces of content: of text, thinking, refusal or tool arguments. The frames around
    them, such as ``message_start``, do not count. Of a reply that is not streamed, a fault that
    ends a stream early leaves nothing: ``error_after`` becomes HTTP 500, ``malformed_after`` half
    a body.

    Instead of the reply:

    * ``status``: this HTTP status with the provider's error body, which ``message`` and
      ``error_type`` override; ``retry_after`` is a ``Retry-After`` header in seconds.
    * ``refuse_stream_options``: status 400 for a request that has ``stream_options``; the next
      request gets the reply.
    * ``plain_json``: one JSON body for a request that asks for a stream.
    * ``content_type``: another content type, such as ``"text/html"``.

    Ends early:

    * ``disconnect_after`` chunks, or ``disconnect_after_bytes`` of the body: the connection is
      closed, with ``reset`` by a TCP reset, which may also discard what was just sent.
    * ``error_after`` chunks: the provider's error frame ends the stream, with ``message`` and
      ``error_type``.
    * ``malformed_after`` chunks: the next frame is not JSON; the rest follows.

    Silence, until the client disconnects or the test calls ``release()``:

    * ``silent``: not even a status line.
    * ``stall_after`` chunks: nothing more.
    * ``open_end``: after the end of a stream, the connection stays open.
    * ``keepalive``: a comment line every so many seconds, from the place where the reply is held
      or stalled, else from the status line on.

    Unusual but legal:

    * ``crlf``: lines end in CR LF.
    * ``split_characters``: every multi-byte UTF-8 character is cut across two writes.
    * ``line_length``: every frame's line is padded (blanks between JSON's tokens) to this many
      bytes, e.g. 200_000.
    """

    status: int | None = None
    message: str | None = None
    error_type: str | None = None
    retry_after: float | None = None
    refuse_stream_options: bool = False
    plain_json: bool = False
    content_type: str | None = None
    disconnect_after: int | None = None
    disconnect_after_bytes: int | None = None
    reset: bool = False
    error_after: int | None = None
    malformed_after: int | None = None
    silent: bool = False
    stall_after: int | None = None
    open_end: bool = False
    keepalive: float | None = None
    crlf: bool = False
    split_characters: bool = False
    line_length: int = 0

    def refuses(self, body: Mapping[str, Any]) -> bool:
        """Whether a request with this body is refused for its ``stream_options``."""
        return self.refuse_stream_options and "stream_options" in body


NO_FAULT = Fault()


@dataclass(frozen=True)
class Reply:
    r"""One answer of the model. Everything has a sensible default, ids and times included.

    ``text`` is sent as it is; a mapping of output fields is rendered in the format the prompt
    asks for, or in ``format``. A reply without text, tool calls, refusal or ``chunks`` gets its
    text from the built-in practice model. The same reply to the same messages has the same id, time,
    model and usage, streamed or not.

    * ``thinking``: reasoning text, in the wire's form (``reasoning_content``, a signed thinking
      block, a reasoning summary).
    * ``tool_calls``, ``citations``, ``refusal``, ``finish_reason`` (``"length"`` for a reply cut
      by its token limit), ``usage`` (default: counted from the texts).
    * ``model``: the served model's name, where it differs from the requested one.
    * ``candidates``: the texts of candidates 1, 2, … for a request with ``n``; the first text
      repeats where they are too few.
    * ``chunks``: exactly these pieces of text; ``chunk``, ``pace`` and ``packets`` override the
      server's for this reply.
    * ``hold_after``: stop after so many chunks until ``request.release()`` or
      ``server.release()``; several numbers hold several times. 0 holds before the first chunk,
      when the status line is out.
    * ``fault``: what goes wrong.
    * ``id`` and ``created`` (seconds since the epoch), as the provider would give them.

    Examples:
        >>> Reply("[[ ## answer ## ]]\nParis", pace=0.01, hold_after=2)  # doctest: +ELLIPSIS
        Reply(...)
    """

    text: str | Mapping[str, Any] | None = None
    _: KW_ONLY
    thinking: str = ""
    tool_calls: Sequence[ToolCall] = ()
    citations: Sequence[Citation] = ()
    refusal: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    model: str | None = None
    id: str | None = None
    created: int = CREATED
    candidates: Sequence[str | Mapping[str, Any]] = ()
    format: Format | None = None
    chunks: Sequence[str] | None = None
    chunk: Chunk | None = None
    pace: float | None = None
    packets: bool | None = None
    hold_after: int | Iterable[int] = ()
    fault: Fault | None = None


ReplyLike = Reply | Fault | str | Mapping[str, Any]


def as_reply(value: ReplyLike) -> Reply:
    """A reply from its short forms: a text, a mapping of fields, a fault."""
    if isinstance(value, Reply):
        return value
    if isinstance(value, Fault):
        return Reply(fault=value)
    if isinstance(value, (str, Mapping)):
        return Reply(value)
    raise TypeError(
        f"a reply is a Reply, a Fault, a text or a mapping of fields, not {type(value).__name__}"
    )
