"""Vercel's UI message stream, version 1: what ``useChat`` of the ``ai`` package reads.

============================  ====================================================================
a reply field                 ``text-start``, ``text-delta``…, ``text-end``
another field, thinking       ``reasoning-start``, ``reasoning-delta``…, ``reasoning-end``
a typed field                 ``data-<field>`` with one ``id``: each replaces the one before. Its
                              ``data`` is ``{field, predictor, value, state}``
a superseded attempt          its parts end; ``data-superseded`` names them: do not show those. Each
                              part bears its name in ``providerMetadata.streamll.part``, a tool
                              call is named by its id. Values become null until the next attempt writes them
a corrected field             ``data-corrected`` with the right text for the part it names
a tool call                   ``tool-input-start/-delta/-available``, ``tool-output-available``
a failed tool                 ``tool-output-error``
a citation with a URL         ``source-url``; without one ``data-citation``
a status                      ``data-status``, transient
a loss, a custom event        ``data-gap``, ``data-<type>``
an error                      everything open ends, then ``error``
a cancelled run               everything open ends, then ``abort``
resume                        from the beginning: the client rebuilds the message. In the middle:
                              what is open is opened again, under its id
============================  ====================================================================

Only keys that every client since version 5 knows are sent. One step spans the run: a client
forgets its open parts at ``finish-step``, and calls of one run may overlap. A field that has the name
of a data part of this wire (``status``, ``gap``, …) is ``data-field-<field>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from streamll.core.events import Event
from streamll.serve.formats import parts as st
from streamll.serve.formats.base import OutputFormat, RenderOptions, to_json
from streamll.serve.formats.message import MessageBuilder
from streamll.serve.formats.values import ValueThrottle

DONE = b"[DONE]"
TAKEN = frozenset({"superseded", "corrected", "citation", "status", "gap", "refusal"})
"""Data parts that mean something else than a field of this name."""


class VercelFormat(OutputFormat):
    name: ClassVar[str] = "vercel"
    headers: ClassVar[Mapping[str, str]] = MappingProxyType({"x-vercel-ai-ui-message-stream": "v1"})

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self._builder = MessageBuilder(options)
        self._pace = ValueThrottle()

    def feed(self, event: Event) -> list[bytes]:
        payloads = [to_json(o) for step in self._builder.feed(event) for o in self._render(step)]
        if self._builder.ended and payloads:
            payloads.append(DONE)
        return payloads

    def resume(self) -> list[bytes]:
        opened = [_part_start(part) for part in self._builder.open.values()]
        opened += [_value(typed) for typed in self._builder.values.values()]
        for tool in {
            tool.id: tool for tool in self._builder.tools.values() if not tool.done
        }.values():
            opened += _tool_again(tool)
        return [to_json(each) for each in opened]

    def _render(self, step: st.MessageStep) -> Iterator[dict[str, Any]]:
        match step:
            case st.MessageBegan(run_id, _):
                yield chunk("start", messageId=self.options.message_id or run_id or "run")
                yield chunk("start-step")
            case st.PartOpened(part):
                yield _part_start(part)
            case st.PartGrown(part, text):
                yield chunk(f"{_kind(part)}-delta", id=part.id, delta=text)
            case st.PartClosed(part):
                yield chunk(f"{_kind(part)}-end", id=part.id)
            case st.ValueChanged() | st.ValueSettled():
                if self._is_due(step):
                    yield _value(step.typed)
            case st.MessageFinished():
                yield chunk("finish-step")
                yield chunk("finish")
            case st.MessageFailed(message):
                yield chunk("error", errorText=message)
            case st.MessageCancelled():
                yield chunk("abort")
            case _:
                yield from _render_more(step)

    def _is_due(self, step: st.ValueChanged | st.ValueSettled) -> bool:
        """Values are told whole, and therefore not for every change."""
        typed = step.typed
        if isinstance(step, st.ValueChanged) and self._pace.lets(typed, step.at):
            return True
        is_last = isinstance(step, st.ValueSettled) or typed.state == "complete"
        return is_last and self._pace.settle(typed)


def _render_more(step: st.MessageStep) -> Iterator[dict[str, Any]]:
    """What is not text, and not the run itself."""
    match step:
        case st.PartsWithdrawn(parts, reason, tools):
            ids = [part.id for part in parts] + [tool.id for tool in tools]
            yield _data("superseded", {"parts": ids, "reason": reason}, ids[0])
        case st.PartCorrected(part, text, value):
            right = {"part": part.id, "field": part.field, "text": text, "value": value}
            yield _data("corrected", right, part.id)
        case st.ValueWithdrawn(typed):
            yield _value(typed, forgotten=True)
        case st.SourceCited(source_id, text, title, None):
            yield _data("citation", {"text": text, "title": title}, source_id)
        case st.SourceCited(source_id, _, title, url):
            yield chunk("source-url", sourceId=source_id, url=url, **_given(title=title))
        case st.DataNote(name, value, passing):
            yield _data(_slug(name), value, transient=passing)
        case _:
            yield from _render_tool(step)


def _render_tool(step: st.MessageStep) -> Iterator[dict[str, Any]]:
    match step:
        case st.ToolOpened(tool):
            yield chunk("tool-input-start", toolCallId=tool.id, toolName=tool.name)
        case st.ToolInputGrown(tool, text):
            yield chunk("tool-input-delta", toolCallId=tool.id, inputTextDelta=text)
        case st.ToolReady(tool):
            names = {"toolCallId": tool.id, "toolName": tool.name}
            yield chunk("tool-input-available", **names, input=tool.input)
        case st.ToolReturned(tool, result):
            yield chunk("tool-output-available", toolCallId=tool.id, output=result)
        case st.ToolFailed(tool, message):
            yield chunk("tool-output-error", toolCallId=tool.id, errorText=message)
        case _:
            return  # modules and traces have no place in a message


def chunk(kind: str, **keys: Any) -> dict[str, Any]:
    return {"type": kind, **keys}


def _data(
    name: str, data: Any, data_id: str | None = None, *, transient: bool = False
) -> dict[str, Any]:
    return chunk(f"data-{name}", data=data, **_given(id=data_id, transient=transient or None))


def _tool_again(tool: st.ToolPart) -> Iterator[dict[str, Any]]:
    yield chunk("tool-input-start", toolCallId=tool.id, toolName=tool.name)
    if tool.arguments:
        text = "".join(tool.arguments)
        yield chunk("tool-input-delta", toolCallId=tool.id, inputTextDelta=text)
    if tool.ready:
        yield from _render_tool(st.ToolReady(tool))


def _part_start(part: st.TextPart) -> dict[str, Any]:
    """The client keeps ``providerMetadata`` with the part, and no id with text."""
    named = {"part": part.id, "field": part.field}
    return chunk(f"{_kind(part)}-start", id=part.id, providerMetadata={"streamll": named})


def _value(typed: st.ValuePart, *, forgotten: bool = False) -> dict[str, Any]:
    value, state = (None, "pending") if forgotten else (typed.value, typed.state)
    name = f"field-{typed.field}" if typed.field in TAKEN else typed.field
    data = {"field": typed.field, "predictor": typed.predictor, "value": value, "state": state}
    return _data(_slug(name), data, typed.id)


def _given(**keys: Any) -> dict[str, Any]:
    return {name: value for name, value in keys.items() if value is not None}


def _kind(part: st.TextPart) -> str:
    return "text" if part.reply else "reasoning"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name) or "event"
