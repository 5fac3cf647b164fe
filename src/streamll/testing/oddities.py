"""What is unusual about a stream: a recorded exchange in, sentences out. Pure data, any wire.

Unusual is what the wire's own provider does not send. None of it is an error: capture reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from streamll.testing.record_file import RecordedExchange

HTTP_ERROR = 400
LINE_END = re.compile(rb"\r\n|\r|\n")
STREAM = re.compile(rb"\s*(data|event|id|retry)?:")
USUAL_KEYS = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint",
     "obfuscation"}
)  # fmt: skip
SOME = 4
"""So many names are listed."""


class Block(NamedTuple):
    """What is between two blank lines of a stream."""

    comments: int
    named: str
    data: bytes | None


class Stream:
    """The frames of one reply."""

    def __init__(self, exchange: RecordedExchange) -> None:
        self.exchange = exchange
        self.body = b"".join(data for _, data in exchange.chunks)

    @cached_property
    def blocks(self) -> list[Block]:
        return list(blocks_of(self.body))

    @cached_property
    def payloads(self) -> list[dict[str, Any]]:
        """The JSON objects of the frames."""
        found = (decoded(block.data) for block in self.blocks if block.data)
        return [payload for payload in found if isinstance(payload, dict)]

    @cached_property
    def chunks(self) -> list[dict[str, Any]]:
        """Those of Chat Completions."""
        return [payload for payload in self.payloads if isinstance(payload.get("choices"), list)]

    @cached_property
    def choices(self) -> list[dict[str, Any]]:
        return [
            each for chunk in self.chunks for each in chunk["choices"] if isinstance(each, dict)
        ]

    @cached_property
    def deltas(self) -> list[dict[str, Any]]:
        return [each for choice in self.choices if isinstance(each := choice.get("delta"), dict)]

    @cached_property
    def has_ended(self) -> bool:
        """Whether the wire's mark of the end has come; Gemini's is the finish reason."""
        ends = {"message_stop", "response.completed", "response.incomplete", "response.failed"}
        return (
            any(block.data == b"[DONE]" for block in self.blocks)
            or any(payload.get("type") in ends for payload in self.payloads)
            or any(gemini_reasons(self))
        )


def blocks_of(body: bytes) -> Iterator[Block]:
    comments, named = 0, ""
    data: list[bytes] = []
    for line in [*LINE_END.split(body), b""]:
        name, colon, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if colon and not name:
            comments += 1
        elif name.strip() == b"data":
            data.append(value)
        elif name.strip() == b"event":
            named = value.decode("utf-8", "replace")
        elif not line and (comments or named or data):
            yield Block(comments, named, b"\n".join(data) if data else None)
            comments, named, data = 0, "", []


def decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None


def gemini_reasons(stream: Stream) -> list[bool]:
    """For each of Gemini's frames: whether it has a finish reason."""
    frames = [each.get("candidates") for each in stream.payloads if "candidates" in each]
    return [
        any(isinstance(c, dict) and c.get("finishReason") for c in each or ()) for each in frames
    ]


# --- what is looked for -------------------------------------------------------------------------


def comments(stream: Stream) -> str | None:
    count = sum(block.comments for block in stream.blocks)
    return f"comments: {count}" if count else None


def empty_frames(stream: Stream) -> str | None:
    empty = [b for b in stream.blocks if b.data is not None and b.data.strip() in {b"", b"null"}]
    return f"frames of nothing: {len(empty)}" if empty else None


def no_json(stream: Stream) -> str | None:
    datas = [block.data for block in stream.blocks if block.data and block.data.strip()]
    odd = [data for data in datas if data != b"[DONE]" and decoded(data) is None]
    return f"frames that are not JSON: {len(odd)}" if odd else None


def content_type(stream: Stream) -> str | None:
    kind = stream.exchange.headers.get("content-type", "none")
    return None if "event-stream" in kind else f"its content type is {kind}"


def missing_ids(stream: Stream) -> str | None:
    missing = [chunk for chunk in stream.chunks if not chunk.get("id")]
    return f"chunks without an id: {len(missing)}" if missing else None


def changing_ids(stream: Stream) -> str | None:
    ids = {str(chunk["id"]) for chunk in stream.chunks if chunk.get("id")}
    return f"ids that change: {len(ids)} of them" if len(ids) > 1 else None


def late_usage(stream: Stream) -> str | None:
    counted = [bool(chunk.get("usage")) for chunk in stream.chunks]
    if not counted:
        return None
    if not any(counted):
        return "no usage"
    if sum(counted) > 1:
        return f"usage in {sum(counted)} chunks"
    chunk = stream.chunks[counted.index(True)]
    if chunk["choices"]:
        return "usage beside a choice, not in a chunk of its own"
    return None


def usage_inside(stream: Stream) -> str | None:
    inside = any(choice.get("usage") for choice in stream.choices)
    return "usage inside a choice" if inside else None


def own_keys(stream: Stream) -> str | None:
    keys = dict.fromkeys(key for chunk in stream.chunks for key in chunk if key not in USUAL_KEYS)
    return f"keys of its own: {listed(keys)}" if keys else None


def changing_values(stream: Stream) -> str | None:
    values: dict[str, set[bytes]] = {}
    for chunk in stream.chunks:
        for key in chunk.keys() - USUAL_KEYS:
            values.setdefault(key, set()).add(msgspec.json.encode(chunk[key]))
    changing = {key: None for key, seen in values.items() if len(seen) > 1}
    return f"values that change: {listed(changing)}" if changing else None


def thinking_names(stream: Stream) -> str | None:
    names = dict.fromkeys(
        name for name in ("reasoning", "reasoning_details", "thinking") for delta in stream.deltas
        if delta.get(name)
    )  # fmt: skip
    return f"thinking under {listed(names)}" if names else None


def content_blocks(stream: Stream) -> str | None:
    lists = any(isinstance(delta.get("content"), list) for delta in stream.deltas)
    return "content as a list of blocks" if lists else None


def early_reason(stream: Stream) -> str | None:
    reasons = [bool(choice.get("finish_reason")) for choice in stream.choices]
    reasons = reasons or gemini_reasons(stream)
    if sum(reasons) > 1:
        return f"a finish reason in {sum(reasons)} frames"
    return "a finish reason before the end" if any(reasons) and not reasons[-1] else None


def errors(stream: Stream) -> str | None:
    named = any(block.named == "error" for block in stream.blocks)
    told = any(p.get("error") or p.get("type") == "error" for p in stream.payloads)
    return "an error in the stream" if named or told else None


def no_end(stream: Stream) -> str | None:
    return None if stream.has_ended else "it ends without the mark of its end"


def open_line(stream: Stream) -> str | None:
    ended = stream.has_ended and not stream.exchange.complete
    return "the line stays open after the end" if ended else None


CHECKS: tuple[Callable[[Stream], str | None], ...] = (
    comments, empty_frames, no_json, content_type, missing_ids, changing_ids, late_usage,
    usage_inside, own_keys, changing_values, thinking_names, content_blocks, early_reason, errors,
    no_end, open_line,
)  # fmt: skip


def oddities(exchange: RecordedExchange) -> list[str]:
    """What is unusual about the reply; nothing for an HTTP error."""
    if exchange.status is None or exchange.status >= HTTP_ERROR:
        return []
    stream = Stream(exchange)
    if not STREAM.match(stream.body):
        kind = "a JSON array of chunks" if stream.body.lstrip()[:1] == b"[" else "a plain reply"
        return [f"{kind} to a request for a stream"]
    return [told for check in CHECKS if (told := check(stream))]


def listed(names: Mapping[str, Any]) -> str:
    some = list(names)[:SOME]
    more = f" and {len(names) - SOME} more" if len(names) > SOME else ""
    return ", ".join(some) + more
