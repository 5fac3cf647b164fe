"""What dialects change in a reply: functions over its frames and over its plain body. Pure data.

A ``Change`` has both, so that a reply says the same streamed and not. Frames keep their order and
their mark of content, by which faults count.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from streamll.testing.prepared import PreparedReply
from streamll.testing.wires import WireFrame
from streamll.testing.wires.base import encode
from streamll.testing.wires.openai_chat import DONE, usage

Body = dict[str, Any]
Frames = Iterable[WireFrame]
decode = msgspec.json.Decoder(dict).decode


class Change(NamedTuple):
    frames: Callable[[Frames, PreparedReply], Frames] = lambda frames, reply: frames
    body: Callable[[Body, PreparedReply], Body] = lambda body, reply: body
    blanks: bytes = b""
    """What is sent before a plain body, to keep the connection busy."""


def each_chunk(
    chunk: Callable[[Body, PreparedReply], Body],
    body: Callable[[Body, PreparedReply], Body] | None = None,
) -> Change:
    """A change of every chunk; of the plain body the same, or ``body``."""

    def frames(given: Frames, reply: PreparedReply) -> Iterator[WireFrame]:
        for frame in given:
            if frame is DONE or frame.comment:
                yield frame
            else:
                yield frame._replace(data=encode(chunk(decode(frame.data), reply)))

    return Change(frames, body or chunk)


def choices(change: Callable[[Body, PreparedReply], Body]) -> Change:
    """A change of every choice, of chunks and of the plain body."""

    def changed(top: Body, reply: PreparedReply) -> Body:
        return {**top, "choices": [change(choice, reply) for choice in top["choices"]]}

    return each_chunk(changed)


def messages(change: Callable[[Body, PreparedReply], Body]) -> Change:
    """A change of every ``delta`` and of the ``message``."""

    def changed(choice: Body, reply: PreparedReply) -> Body:
        key = "delta" if "delta" in choice else "message"
        return {**choice, key: change(choice[key], reply)}

    return choices(changed)


# --- everywhere ---------------------------------------------------------------------------------


def top(values: Callable[[PreparedReply], Mapping[str, Any]]) -> Change:
    """Values of the top level, in every chunk and in the plain body."""
    return each_chunk(lambda given, reply: {**given, **values(reply)})


def without(*keys: str) -> Change:
    """No such keys at the top level."""
    return each_chunk(lambda given, reply: {k: v for k, v in given.items() if k not in keys})


def messages_without(*keys: str) -> Change:
    return messages(lambda given, reply: {k: v for k, v in given.items() if k not in keys})


def messages_with(**values: Any) -> Change:
    """Values that every delta has, and the message, where it has none of its own."""
    return messages(lambda given, reply: {**values, **given})


def choices_without(*keys: str) -> Change:
    return choices(lambda given, reply: {k: v for k, v in given.items() if k not in keys})


def thinking_as(key: str) -> Change:
    """Thinking under another key than ``reasoning_content``."""

    def changed(given: Body, reply: PreparedReply) -> Body:
        return {key if name == "reasoning_content" else name: v for name, v in given.items()}

    return messages(changed)


def hexadecimal(reply: PreparedReply) -> str:
    """32 hexadecimal digits, the same for the same reply."""
    return uuid.uuid5(uuid.NAMESPACE_URL, reply.id or reply.key).hex


def as_uuid(reply: PreparedReply) -> str:
    return str(uuid.UUID(hexadecimal(reply)))


# --- usage --------------------------------------------------------------------------------------


def usage_at_the_end(more: Callable[[PreparedReply], Body] = lambda reply: {}) -> Change:
    """Usage in the chunk with the finish reason, whether it was asked for or not.

    ``more`` are counts that only this server has.
    """

    def counted(reply: PreparedReply) -> Body:
        return {**usage(reply.usage), **more(reply)}

    def frames(given: Frames, reply: PreparedReply) -> Iterator[WireFrame]:
        for frame in given:
            if frame is DONE or frame.comment:
                yield frame
                continue
            chunk = decode(frame.data)
            if not chunk["choices"]:
                continue  # the chunk of its own that has been asked for
            if chunk["choices"][0].get("finish_reason"):
                chunk["usage"] = counted(reply)
            yield frame._replace(data=encode(chunk))

    return Change(frames, lambda body, reply: {**body, "usage": counted(reply)})


def usage_in_every_chunk(given: Frames, reply: PreparedReply) -> Iterator[WireFrame]:
    """Usage that grows, in every chunk; the last one is that of the reply."""
    final, sent = usage(reply.usage), 0
    for frame in given:
        if frame is DONE or frame.comment:
            yield frame
            continue
        chunk = decode(frame.data)
        if not chunk["choices"]:
            continue
        sent = min(sent + frame.content, final["completion_tokens"])
        so_far = {"completion_tokens": sent, "total_tokens": final["prompt_tokens"] + sent}
        ended = chunk["choices"][0].get("finish_reason")
        chunk["usage"] = final if ended else {**final, **so_far}
        yield frame._replace(data=encode(chunk))


def usage_beside_a_choice(given: Frames, reply: PreparedReply) -> Iterator[WireFrame]:
    """A last chunk with usage always, and with an empty choice in it."""
    last: Body = {}
    for frame in given:
        if frame is DONE:
            delta = {"role": "assistant", "content": ""}
            empty = {"index": 0, "delta": delta, "finish_reason": None}
            yield WireFrame(encode({**last, "choices": [empty], "usage": usage(reply.usage)}))
        elif not frame.comment:
            last = decode(frame.data)
            if not last["choices"]:
                continue
        yield frame


# --- the sequence -------------------------------------------------------------------------------


def comments(text: bytes) -> Change:
    """A comment before the first frame and between the first ones, as while a model is loaded."""
    comment = WireFrame(b": " + text, comment=True)

    def frames(given: Frames, reply: PreparedReply) -> Iterator[WireFrame]:
        for number, frame in enumerate(given):
            if number < 3:  # noqa: PLR2004 - a few
                yield comment
            yield frame

    return Change(frames)


def first(make: Callable[[PreparedReply], Body]) -> Change:
    """One more chunk before all others."""

    def frames(given: Frames, reply: PreparedReply) -> Iterator[WireFrame]:
        yield WireFrame(encode(make(reply)))
        yield from given

    return Change(frames)


def at_both_ends(opening: Callable[[PreparedReply], Body], closing: Change) -> Change:
    """Values of the first chunk; ``closing`` changes the one with the finish reason."""

    def frames(given: Frames, reply: PreparedReply) -> Iterator[WireFrame]:
        for number, frame in enumerate(given):
            if frame is DONE or frame.comment:
                yield frame
                continue
            chunk = decode(frame.data)
            if number == 0:
                chunk |= opening(reply)
            elif chunk["choices"] and chunk["choices"][0].get("finish_reason"):
                chunk = closing.body(chunk, reply)
            yield frame._replace(data=encode(chunk))

    return Change(frames, lambda body, reply: closing.body({**body, **opening(reply)}, reply))


def without_done(given: Frames, reply: PreparedReply) -> Iterator[WireFrame]:
    """The stream ends with the finish reason, without ``[DONE]``."""
    return (frame for frame in given if frame is not DONE)


def calls_in_one_piece(finished: Callable[[Body, int], Body]) -> Change:
    """Each tool call whole in a chunk of its own, as ``finished(call, number)`` writes it."""

    def frames(given: Frames, reply: PreparedReply) -> Iterator[WireFrame]:
        waiting: list[tuple[WireFrame, Body]] = []  # the frames of one call

        def flushed() -> Iterator[WireFrame]:
            if waiting:
                yield _joined(waiting, finished)
                waiting.clear()

        for frame in given:
            chunk = {} if frame is DONE or frame.comment else decode(frame.data)
            found = chunk.get("choices") or [{}]
            calls = found[0].get("delta", {}).get("tool_calls")
            if calls and "id" not in calls[0]:
                waiting.append((frame, chunk))
                continue
            yield from flushed()
            if calls:
                waiting.append((frame, chunk))
            else:
                yield frame

    def body(message: Body, reply: PreparedReply) -> Body:
        if not message.get("tool_calls"):
            return message
        calls = [finished(call, number) for number, call in enumerate(message["tool_calls"])]
        return {
            **message,
            "tool_calls": [{k: v for k, v in c.items() if k != "index"} for c in calls],
        }

    return Change(frames, messages(body).body)


def _joined(
    parts: list[tuple[WireFrame, Body]], finished: Callable[[Body, int], Body]
) -> WireFrame:
    frame, chunk = parts[0]
    calls = [part["choices"][0]["delta"]["tool_calls"][0] for _, part in parts]
    call = dict(calls[0])
    number = call.pop("index")
    arguments = "".join(each["function"].get("arguments") or "" for each in calls)
    call["function"] = {**call["function"], "arguments": arguments}
    chunk["choices"][0]["delta"]["tool_calls"] = [finished(call, number)]
    return frame._replace(data=encode(chunk), content=True)


# --- of one server ------------------------------------------------------------------------------


def thinking_blocks(given: Body, reply: PreparedReply) -> Body:
    """Mistral's reasoning models: content as a list of blocks, while they think and afterwards.

    The plain message has both blocks, each delta one.
    """
    if not reply.thinking:
        return given
    thought, text = given.get("reasoning_content"), given.get("content")
    blocks: list[Body] = []
    if thought:
        blocks.append({"type": "thinking", "thinking": [{"type": "text", "text": thought}]})
    if text:
        blocks.append({"type": "text", "text": text})
    rest = {name: value for name, value in given.items() if name != "reasoning_content"}
    return {**rest, "content": blocks} if blocks else rest


def obfuscated(given: Body, reply: PreparedReply) -> Body:
    """Padding, by which all chunks have about the same length whatever they say."""
    padding = reply.key * 2
    return {**given, "obfuscation": padding[: max(1, 32 - len(str(given.get("choices"))) % 32)]}
