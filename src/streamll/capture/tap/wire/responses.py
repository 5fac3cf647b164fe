"""OpenAI Responses: events in, the response object out.

Follows OpenAI's API reference of Responses streaming events. The last event carries the whole
response, so as a rule nothing has to be rebuilt: the events before it are only shown. Some servers
leave its ``output`` empty, or its message; then it is made of what the events said.

Some servers send no deltas of an item, but the whole of it when it is done, or only in the last
event: of these the part that has not been shown is shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from streamll.capture.deltas import Deltas, RefusalDelta, ThinkingDelta, ToolCallFragment
from streamll.capture.tap.wire import base
from streamll.capture.tap.wire.base import string
from streamll.capture.tap.wire.template import Template

_FINAL = {  # the last event → the status of its response
    "response.completed": "completed",
    "response.done": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}
_SAID = {  # an event, without its ending → which part of an item it adds to, and what it adds
    "response.output_text": ("content", "text"),
    "response.refusal": ("content", "refusal"),
    "response.reasoning_summary_text": ("summary", "text"),
    "response.reasoning_text": ("reasoning", "text"),
    "response.function_call_arguments": ("arguments", "arguments"),
}
_TYPES = {"content": "output_text", "summary": "summary_text", "reasoning": "reasoning_text"}
_TEXTS = frozenset(_TYPES.values()) | {"text"}
_ERROR_TYPES = ("error", "response.error")
_IDLE = ("sequence_number", "obfuscation")
"""Keys of a delta's event that differ in each and mean nothing."""
_COUNTS = ("total_tokens", ("input_tokens", "output_tokens"))
_OF_A_RESPONSE = ("model", "output", "usage", "error", "incomplete_details")


class _DeltaEvent(msgspec.Struct, gc=False):
    """All that matters of an ordinary event."""

    type: str
    delta: str
    item_id: str | None = None
    output_index: int | None = None
    content_index: int = 0
    summary_index: int = 0


_decode_delta = msgspec.json.Decoder(_DeltaEvent).decode


class ResponsesAssembler:
    """One reply. ``thought_break`` is what the reader of the reply puts between two summaries.

    ``fails_by_status``: it takes a body whose status is ``failed`` for a reply, and has to be told by
    an HTTP status.
    """

    def __init__(self, thought_break: str = "\n", *, fails_by_status: bool = False) -> None:
        self.complete = self.finished = self.has_reason = self.doubtful = False
        self._thought_break = thought_break
        self._fails_by_status = fails_by_status
        self._begun: dict[str, Any] = {}  # the response as its first events have it
        self._response: dict[str, Any] | None = None
        self._failed = False
        self._is_odd = False  # frames came that are no events
        self._items: dict[int | str, _Item] = {}
        self._calls = 0
        self._place: tuple[Any, ...] | None = None  # of the last delta: its event, item and part
        self._more: Callable[[str], Deltas]  # says more there
        self.template = Template()  # of deltas of that place

    def frame(self, data: bytes) -> Deltas:
        if (deltas := self.template.deltas_in(data)) is not None:
            return deltas
        if b".delta" in data[:64]:
            try:
                event = _decode_delta(data)
            except msgspec.MsgspecError:
                pass
            else:
                part = event.summary_index or event.content_index
                place = (event.type, event.output_index, event.item_id, part)
                if place == self._place and event.delta:
                    self.template.learn(data, ("delta",), event.delta, self._more, _IDLE)
                    return self._more(event.delta)
                self.template.forget()
                return self._delta(event.type, event.delta, *place[1:])
        self.template.forget()
        if data.strip() == b"[DONE]":
            self.complete = True
            return ()
        return self._read(base.decode_object(data))

    @property
    def usage(self) -> Any:
        return (self._response or self._begun).get("usage")

    def body(self) -> dict[str, Any]:
        response = self._response
        if response is None:
            if self.complete and self._has_spoken:
                raise base.Confused("a response without its last event")
            if self._is_odd and not self._has_spoken:
                raise base.Confused("frames that are no events of a response")
            raise base.CutShort("the stream ended before the reply did")
        if self._failed:
            return response
        return {**response, "output": self._output(response.get("output"))}

    # --- events ---------------------------------------------------------------------------------

    def _read(self, event: dict[str, Any]) -> Deltas:
        kind = event.get("type")
        if type(kind) is not str or kind in _ERROR_TYPES or not kind.startswith("response"):
            if error := base.error_in(event, json.dumps(event).encode()):
                raise error
            self._is_odd |= "type" not in event
            return ()
        if kind in _FINAL:
            return self._finish(event, _FINAL[kind])
        if given := _response_in(event):
            self._begun = _with(self._begun, given)
        return self._read_part(kind, event)

    def _read_part(self, kind: str, event: dict[str, Any]) -> Deltas:
        name, _, ending = kind.rpartition(".")
        if name == "response.output_item":
            return self._read_item(event, done=ending == "done")
        if kind == "response.output_text.annotation.added":
            return base.citation_in(event.get("annotation"))
        if name in _SAID and ending == "done":
            return self._done(name, event)
        if type(delta := event.get("delta")) is str:
            part = base.index_in(event, "summary_index") or base.index_in(event, "content_index")
            return self._delta(kind, delta, event.get("output_index"), event.get("item_id"), part)
        return ("",) if name.endswith("_call") else ()  # how far a tool of the server has come

    def _delta(self, kind: str, delta: str, index: Any, identity: Any, part: int) -> Deltas:
        said = _SAID.get(kind.removesuffix(".delta"))
        if said is None or not delta:
            return ("",) if delta else ()  # code of a server's tool, for example
        item = self._item(index, identity)
        deltas = item.say(*said, part, delta)
        self._place, self._more = (kind, index, identity, part), item.more(*said, part)
        return deltas

    def _done(self, name: str, event: dict[str, Any]) -> Deltas:
        """A part of an item is done: the whole of it, which may be more than its deltas."""
        where, what = _SAID[name]
        part = base.index_in(event, "summary_index") or base.index_in(event, "content_index")
        item = self._item(event.get("output_index"), event.get("item_id"))
        named = item.name(event) if where == "arguments" else ()
        return [*named, *item.complete(where, what, part, event.get(what))]

    def _read_item(self, event: dict[str, Any], *, done: bool) -> Deltas:
        payload = event.get("item")
        if type(payload) is not dict:
            return ()
        item = self._item(event.get("output_index"), payload.get("id"))
        return item.done(payload) if done else item.open(payload)

    def _finish(self, event: dict[str, Any], status: str) -> Deltas:
        given = _response_in(event)
        if not given and not self._begun and not self._has_spoken:
            return ()
        if status == "cancelled":
            raise base.Confused("a response that was cancelled")
        has_reason = given.get("incomplete_details") or type(event.get("response")) is dict
        if status == "incomplete" and not has_reason:
            raise base.Confused("an incomplete response without its reason")
        self.complete = True
        self._response = _with(self._begun, given)
        if given.get("status") in (None, "", "in_progress", "queued"):
            self._response["status"] = status
        if status == "failed":
            return self._fail(given)
        return self._last_items(list(_items_of(given)))

    def _fail(self, given: dict[str, Any]) -> Deltas:
        error = given.get("error")
        if type(error) is dict and not self._fails_by_status:
            self._failed = True
            return ()
        if not error:
            error = {"message": "the response failed", "code": "server_error"}
        error = error if type(error) is dict else {"message": str(error)}
        raise base.ErrorFrame(error, json.dumps({"error": error}).encode())

    @property
    def _has_spoken(self) -> bool:
        return any(item.spoken for item in self._items.values())

    def _last_items(self, items: list[dict[str, Any]]) -> Deltas:
        """The items of the last event: what has not been shown of them.

        An item is known by its id, or by its place where none is missing. What cannot be told from
        what was shown is not shown.
        """
        by_id = {
            identity: item
            for item in self._items.values()
            if (identity := string(item.payload.get("id")))
        }
        in_order = [self._items[key] for key in sorted(self._items, key=_place)]
        deltas: list[Any] = []
        for at, payload in enumerate(items):
            known = by_id.get(string(payload.get("id")))
            if known is None and len(in_order) == len(items):
                known = in_order[at]
            if known is None and not any(item.spoken for item in in_order):
                known = self._item(at, None)
            deltas += known.done(payload) if known is not None else ()
        return deltas

    # --- items ----------------------------------------------------------------------------------

    def _item(self, index: Any, identity: Any) -> _Item:
        """The item of an event, by its place in the output, or by its id."""
        key: int | str = index if type(index) is int else string(identity)
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Item(self)
        return item

    def next_call(self) -> int:
        number, self._calls = self._calls, self._calls + 1
        return number

    @property
    def thought_break(self) -> str:
        return self._thought_break

    def _output(self, output: Any) -> list[Any]:
        """The output of the last event, or what the events said where that has nothing of it."""
        given = output if type(output) is list else []
        items = [
            item for _, item in sorted(self._items.items(), key=lambda each: str(each[0]).zfill(9))
        ]
        if not self._has_spoken or _says(given):
            calls = sum(item.call is not None for item in items)
            if calls > sum(_type_of(each) == "function_call" for each in given):
                raise base.Confused("a response without the tool calls that were streamed")
            if any(item.says("content") for item in items) and not _has_text(given):
                raise base.Confused("a response without the text that was streamed")
            return given or [item.body() for item in items if item.payload]
        return [item.body() for item in items]


class _Item:
    """One item of the output: what its events have said of it."""

    def __init__(self, reply: ResponsesAssembler) -> None:
        self._reply = reply
        self.payload: dict[str, Any] = {}  # as it was when it was added, then when it was done
        self.call: int | None = None  # its number among the tool calls
        self.thoughts = False
        self._is_done = False
        self._is_named = False
        self._parts: dict[tuple[str, str, int], list[str]] = {}

    @property
    def spoken(self) -> bool:
        return bool(self._parts or self.call is not None)

    def says(self, where: str) -> bool:
        return any(key[0] == where for key in self._parts)

    def say(self, where: str, what: str, part: int, text: str) -> Deltas:
        """More of one part."""
        key = (where, what, part)
        pieces, is_new = self._parts.get(key), key not in self._parts
        if pieces is None:
            pieces = self._parts[key] = []
        pieces.append(text)
        if where == "arguments":
            return (ToolCallFragment(self._number(), None, None, text),)
        if where == "content":
            return (text,) if what == "text" else (RefusalDelta(text),)
        separate = is_new and any(other[0] == where for other in self._parts if other != key)
        self.thoughts = True
        return (ThinkingDelta(self._reply.thought_break + text if separate else text),)

    def more(self, where: str, what: str, part: int) -> Callable[[str], Deltas]:
        """What says more of a part that has begun."""
        add, number = self._parts[(where, what, part)].append, self.call or 0

        def say(text: str) -> Deltas:
            add(text)
            if where == "content":
                return (text,) if what == "text" else (RefusalDelta(text),)
            if where == "arguments":
                return (ToolCallFragment(number, None, None, text),)
            return (ThinkingDelta(text),)

        return say

    def complete(self, where: str, what: str, part: int, whole: Any) -> Deltas:
        """All of one part: what was not said of it. Nothing where it is not what was said."""
        said = "".join(self._parts.get((where, what, part), ()))
        rest = string(whole)[len(said) :]
        if not rest or not string(whole).startswith(said):
            return ()
        return self.say(where, what, part, rest)

    def open(self, payload: dict[str, Any]) -> Deltas:
        self.payload = {**self.payload, **payload}
        return self.name(payload) if payload.get("type") == "function_call" else ()

    def done(self, payload: dict[str, Any]) -> Deltas:
        self._is_done = True
        deltas = [*self.open(payload)]
        if payload.get("type") == "function_call":
            arguments = payload.get("arguments")
            deltas += self.complete("arguments", "arguments", 0, arguments)
        for where, part, entry in _parts_of(payload):
            what = "refusal" if entry.get("type") == "refusal" else "text"
            deltas += self.complete(where, what, part, entry.get(what))
        return deltas

    def name(self, payload: dict[str, Any]) -> Deltas:
        """The name of a function call, once."""
        name = string(payload.get("name"))
        if self._is_named or not name:
            return ()
        self._is_named = True
        identity = payload.get("call_id") or payload.get("id") or payload.get("item_id")
        return (ToolCallFragment(self._number(), identity, name, ""),)

    def body(self) -> dict[str, Any]:
        """The item as its last event has it, or made of what was said of it."""
        if self._is_done and (_says([self.payload]) or not self._parts):
            return self.payload
        if self.call is not None or self.says("arguments"):
            return self._function_call()
        kind = "message" if self.says("content") or not self.thoughts else "reasoning"
        fields: dict[str, Any] = {"type": kind, "status": "completed", **self.payload}
        fields["status"] = "completed"
        for where in ("content", "summary", "reasoning"):
            if entries := list(self._entries(where)):
                fields["content" if where == "reasoning" else where] = entries
        if kind == "message":
            fields.setdefault("role", "assistant")
            fields.setdefault("content", [])
        elif kind == "reasoning":
            fields.setdefault("summary", [])
        return fields

    def _entries(self, where: str) -> Iterator[dict[str, Any]]:
        for kind, what, part in sorted(self._parts, key=lambda key: key[2]):
            if kind == where:
                text = "".join(self._parts[(kind, what, part)])
                if what == "refusal":
                    yield {"type": "refusal", "refusal": text}
                elif where == "content":
                    yield {"type": "output_text", "text": text, "annotations": []}
                else:
                    yield {"type": _TYPES[where], "text": text}

    def _function_call(self) -> dict[str, Any]:
        said = "".join(self._parts.get(("arguments", "arguments", 0), ()))
        fields = {"type": "function_call", **self.payload}
        if not fields.get("name"):
            raise base.Confused("a tool call without a name")
        fields["arguments"] = fields.get("arguments") or said or "{}"
        fields["status"] = "completed"
        return fields

    def _number(self) -> int:
        if self.call is None:
            self.call = self._reply.next_call()
        return self.call


def _response_in(event: dict[str, Any]) -> dict[str, Any]:
    """The response of an event, or what an event without one says of it."""
    response = event.get("response")
    if type(response) is dict:
        usage = base.counted(event.get("usage"), response.get("usage"), *_COUNTS)
        return {**response, "usage": usage} if usage else response
    return {name: event[name] for name in _OF_A_RESPONSE if event.get(name)}


def _with(known: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A response as a later event has it: what that leaves empty stays."""
    later = {
        name: value for name, value in given.items() if value not in (None, "") or name not in known
    }
    usage = base.counted(known.get("usage"), given.get("usage"), *_COUNTS)
    return {**known, **later, **({"usage": usage} if usage else {})}


def _place(key: int | str) -> tuple[int, str]:
    """For sorting: items with a place in the output in their order, others as they came."""
    return (key, "") if isinstance(key, int) else (0, "")


def _items_of(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    output = response.get("output")
    return (item for item in (output if type(output) is list else ()) if type(item) is dict)


def _parts_of(item: dict[str, Any]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """The texts of an item: where they are, and which there."""
    is_reasoning = item.get("type") == "reasoning"
    for key in ("summary", "content"):
        entries = item.get(key)
        for part, entry in enumerate(entries if type(entries) is list else ()):
            if type(entry) is dict and (string(entry.get("type")) in _TEXTS or "refusal" in entry):
                yield ("reasoning" if is_reasoning and key == "content" else key), part, entry


def _says(output: list[Any]) -> bool:
    """Whether any item has something in it."""
    return any(
        _type_of(item) not in (None, "message", "reasoning", "function_call")
        or (_type_of(item) == "function_call" and item.get("name") and item.get("arguments"))
        or any(entry.get("text") or entry.get("refusal") for *_, entry in _parts_of(item))
        for item in output
        if type(item) is dict
    )


def _has_text(output: list[Any]) -> bool:
    messages = (item for item in output if _type_of(item) == "message")
    return any(
        entry.get("text") or entry.get("refusal")
        for item in messages
        for *_, entry in _parts_of(item)
    )


def _type_of(item: Any) -> Any:
    return item.get("type") if type(item) is dict else None
