"""UI message stream of Vercel's AI SDK, version 1: what ``useChat`` of the ``ai`` package reads.

============================  ====================================================================
a reply field                 ``text-start``, ``text-delta``…, ``text-end``
another field, thinking       ``reasoning-start``, ``reasoning-delta``…, ``reasoning-end``
a typed field                 ``data-<field>`` with one ``id``: each replaces the one before. Its
                              ``data`` is ``{field, predictor, value, state}``
a superseded attempt          its parts end; ``data-superseded`` lists those not to be shown. Each
                              text part has its name in ``providerMetadata.streamll.part``, a tool
                              call's name is its id. Values are null until the next attempt
a corrected field             ``data-corrected`` with the right text for the part it names
a tool call                   ``tool-input-start/-delta/-available``, ``tool-output-available``
a failed tool                 ``tool-output-error``
a citation with a URL         ``source-url``; without one ``data-citation``
a status                      ``data-status``, transient
a loss, a custom event        ``data-gap``, ``data-<type>``
an error                      everything open ends, then ``error``
a cancelled run               everything open ends, then ``abort``
resume                        from the beginning: the client rebuilds the message. In the middle:
                              what is open is opened again, with its id
============================  ====================================================================

Only keys that every client since ``ai`` 5 knows are sent. One step spans the run: a client forgets
its open parts at ``finish-step``, and calls of one run may overlap. A field with the name of a data
part of this format (``status``, ``gap``, …) is ``data-field-<field>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from streamll.core.events import Event
from streamll.serve.formats import parts as st
from streamll.serve.formats.base import OutputFormat, RenderOptions, given, to_json
from streamll.serve.formats.message import MessageBuilder
from streamll.serve.formats.values import ValueThrottle

DONE = b"[DONE]"
RESERVED = frozenset({"superseded", "corrected", "citation", "status", "gap", "refusal"})
"""Data parts that are not a field of this name."""

Chunk = dict[str, Any]


class VercelFormat(OutputFormat):
    name: ClassVar[str] = "vercel"
    headers: ClassVar[Mapping[str, str]] = MappingProxyType({"x-vercel-ai-ui-message-stream": "v1"})

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self._builder = MessageBuilder(options)
        self._throttle = ValueThrottle()

    def feed(self, event: Event) -> list[bytes]:
        payloads = [to_json(o) for step in self._builder.feed(event) for o in self._render(step)]
        if self._builder.ended and payloads:
            payloads.append(DONE)
        return payloads

    def resume(self) -> list[bytes]:
        chunks = [_part_start(part) for part in self._builder.open.values()]
        chunks += [_value(part) for part in self._builder.values.values()]
        tools = {tool.id: tool for tool in self._builder.tools.values() if not tool.done}
        for tool in tools.values():
            chunks += _tool_again(tool)
        return [to_json(each) for each in chunks]

    def _render(self, step: st.MessageStep) -> Iterator[Chunk]:
        match step:
            case st.MessageBegan(run_id):
                yield chunk("start", messageId=self.options.message_id or run_id or "run")
                yield chunk("start-step")
            case st.ValueChanged(part) | st.ValueSettled(part):
                if self._is_due(step):
                    yield _value(part)
            case st.MessageFinished():
                yield chunk("finish-step")
                yield chunk("finish")
            case st.MessageFailed(message):
                yield chunk("error", errorText=message)
            case st.MessageCancelled():
                yield chunk("abort")
            case _:
                yield from _render_part(step)

    def _is_due(self, step: st.ValueChanged | st.ValueSettled) -> bool:
        """Values are sent whole, and therefore not at every change."""
        if isinstance(step, st.ValueChanged) and self._throttle.admits(step.part, step.at):
            return True
        is_last = isinstance(step, st.ValueSettled) or step.part.state == "complete"
        return is_last and self._throttle.release(step.part)


def _render_part(step: st.MessageStep) -> Iterator[Chunk]:
    match step:
        case st.PartOpened(part):
            yield _part_start(part)
        case st.PartGrown(part, text):
            yield chunk(f"{_kind(part)}-delta", id=part.id, delta=text)
        case st.PartClosed(part):
            yield chunk(f"{_kind(part)}-end", id=part.id)
        case st.PartsWithdrawn(parts, reason, tools):
            ids = [part.id for part in parts] + [tool.id for tool in tools]
            yield _data("superseded", {"parts": ids, "reason": reason}, ids[0])
        case st.PartCorrected(part, text, value):
            right = {"part": part.id, "field": part.field, "text": text, "value": value}
            yield _data("corrected", right, part.id)
        case st.ValueWithdrawn(typed):
            yield _value(typed, withdrawn=True)
        case st.SourceCited(source_id, text, title, None):
            yield _data("citation", {"text": text, "title": title}, source_id)
        case st.SourceCited(source_id, _, title, url):
            yield chunk("source-url", sourceId=source_id, url=url, **given(title=title))
        case st.DataNote(name, value, transient):
            yield _data(_slug(name), value, transient=transient)
        case _:
            yield from _render_tool(step)


def _render_tool(step: st.MessageStep) -> Iterator[Chunk]:
    match step:
        case st.ToolOpened(tool):
            yield chunk("tool-input-start", toolCallId=tool.id, toolName=tool.name)
        case st.ToolInputGrown(tool, text):
            yield chunk("tool-input-delta", toolCallId=tool.id, inputTextDelta=text)
        case st.ToolReady(tool):
            names = {"toolCallId": tool.id, "toolName": tool.name}
            yield chunk("tool-input-available", **names, input=tool.input)
        case st.ToolReturned(tool):
            yield chunk("tool-output-available", toolCallId=tool.id, output=tool.result)
        case st.ToolFailed(tool):
            yield chunk("tool-output-error", toolCallId=tool.id, errorText=tool.result)
        # modules and traces have no place in a message


def _tool_again(tool: st.ToolPart) -> Iterator[Chunk]:
    yield from _render_tool(st.ToolOpened(tool))
    if tool.arguments:
        yield from _render_tool(st.ToolInputGrown(tool, "".join(tool.arguments)))
    if tool.ready:
        yield from _render_tool(st.ToolReady(tool))


def chunk(kind: str, **keys: Any) -> Chunk:
    return {"type": kind, **keys}


def _data(name: str, data: Any, data_id: str | None = None, *, transient: bool = False) -> Chunk:
    return chunk(f"data-{name}", data=data, **given(id=data_id, transient=transient or None))


def _part_start(part: st.TextPart) -> Chunk:
    """The client keeps ``providerMetadata`` with the part, and no id with text."""
    named = {"part": part.id, "field": part.field}
    return chunk(f"{_kind(part)}-start", id=part.id, providerMetadata={"streamll": named})


def _value(part: st.ValuePart, *, withdrawn: bool = False) -> Chunk:
    value, state = (None, "pending") if withdrawn else (part.value, part.state)
    name = f"field-{part.field}" if part.field in RESERVED else part.field
    data = {"field": part.field, "predictor": part.predictor, "value": value, "state": state}
    return _data(_slug(name), data, part.id)


def _kind(part: st.TextPart) -> str:
    return "text" if part.reply else "reasoning"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name) or "event"
