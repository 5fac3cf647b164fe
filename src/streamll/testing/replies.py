"""What a test says the practice server shall answer: ``Reply`` and ``Fault``.

Plain data. How a reply looks on a provider's wire is ``wires``' business, when its bytes leave
is ``plan``'s, the socket is ``connection``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from streamll.testing.cutting import Chunk

if TYPE_CHECKING:
    from streamll.testing.formats import Format

CREATED = 1_735_689_600  # every reply's time, unless it has its own: the first second of 2025

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True)
class ToolCall:
    """A native tool call. ``arguments`` is a mapping, or the exact JSON text to send.

    ``id`` is derived from the reply where none is given.
    """

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True)
class Citation:
    """A source the reply points to: a page (``url``) or a passage of the prompt's documents."""

    text: str = ""
    title: str = ""
    url: str | None = None


@dataclass(frozen=True)
class Usage:
    """Token counts, under one name for all wires. ``cached_tokens`` are part of the input.

    ``reasoning_tokens`` are part of the output.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one reply. Faults combine: ``Fault(crlf=True, disconnect_after=3)``.

    Chunks are the pieces of content: of text, thinking, refusal, tool arguments. The frames around
    them, such as ``message_start``, do not count. A reply that is not streamed has none of it if
    it would have ended early: ``error_after`` becomes HTTP 500, ``malformed_after`` half a body.

    Instead of the reply:

    * ``status``: this HTTP status with the provider's error body; ``message``, ``retry_after``
      (seconds, a ``Retry-After`` header) and ``error_type`` go with it.
    * ``refuse_stream_options``: 400 for a request that has ``stream_options``. The reply is not
      used up by the refused request: the next one gets it.
    * ``plain_json``: a request for a stream is answered with one JSON body.
    * ``content_type``: the reply under another content type, such as ``"text/html"``.

    Ends early:

    * ``disconnect_after`` chunks, or ``disconnect_after_bytes`` of the body: the connection is
      closed; with ``reset`` by a TCP reset, which may also destroy what was just sent.
    * ``error_after`` chunks: the provider's error frame ends the stream; ``message`` and
      ``error_type`` say what it says.
    * ``malformed_after`` chunks: one frame that is not JSON, then the rest.

    Says nothing, until the client leaves or the test calls ``release()``:

    * ``silent``: not even a status line comes.
    * ``stall_after`` chunks: nothing more comes.
    * ``keepalive``: nothing but a comment line every so many seconds, after the status line or,
      where the reply is held or stalled later, there.

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
    asks for (``format`` overrides); without a text (and tool calls, refusal or ``chunks``) the
    built-in practice model writes one. The same reply to the same messages has the same id, time,
    model and usage, streamed or not.

    * ``thinking``: reasoning text, where the wire carries it (``reasoning_content``, a signed
      thinking block, a reasoning summary).
    * ``tool_calls``, ``citations``, ``refusal``, ``finish_reason`` (``"length"`` for a reply
      that was cut), ``usage`` (counted from the texts where not given).
    * ``model``: the served model's name, when it differs from the one asked for.
    * ``candidates``: the texts of candidates 1, 2, … for a request with ``n``; where they are
      too few, the first text repeats.
    * ``chunks``: exactly these pieces of text; ``chunk``, ``pace`` and ``packets`` override the
      server's for this reply.
    * ``hold_after``: stop after so many chunks until ``request.release()`` or
      ``server.release()``; several numbers hold several times. 0 holds before the first chunk,
      when the status line is out.
    * ``fault``: what goes wrong.

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
    """The short forms: a text, a mapping of fields, a fault."""
    if isinstance(value, Reply):
        return value
    if isinstance(value, Fault):
        return Reply(fault=value)
    if isinstance(value, (str, Mapping)):
        return Reply(value)
    raise TypeError(
        f"a reply is a Reply, a Fault, a text or a mapping of fields, not {type(value).__name__}"
    )
