"""``chat.completion.chunk`` of OpenAI's Chat Completions API (v1): the text of the reply alone.

============================  ====================================================================
the reply field               ``delta.content``
another field, thinking,
a tool, a citation, …         nothing: this format has no place for them
a typed field                 as the reply: its text as the model writes it (mostly JSON); no value
a superseded attempt          its text cannot be taken back. The new attempt goes on after what it
                              has in common with the old one; where they differ, ``error`` with
                              code ``superseded`` ends the stream: wrong text is never continued
a corrected field             the rest, if the right text begins with what was sent; else ``error``
                              with code ``corrected``
lost text                     ``error`` with code ``gap``
several reply fields          one after the other, with an empty line between
an error, a cancelled run     ``{"error": {"message", "type", "code"}}``
resume                        a first chunk again, then what is missing. Its frames have no ids:
                              OpenAI's reader takes a comment after an id for an empty chunk
============================  ====================================================================

A request without ``stream`` gets the program's final text, whatever was superseded; see
``ChatCompletion``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from streamll.core import events as ev
from streamll.core.events import Event
from streamll.serve.formats import parts as st
from streamll.serve.formats.base import OutputFormat, RenderOptions, to_json
from streamll.serve.formats.message import MessageBuilder
from streamll.serve.formats.vercel import DONE

FINISH_REASONS = {"length": "length", "content_filter": "content_filter"}
SEPARATOR = "\n\n"


class OpenAIFormat(OutputFormat):
    name: ClassVar[str] = "openai"
    ids: ClassVar[bool] = False

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self._builder = MessageBuilder(options, values=False)
        self._created = 0
        self._over = False
        self._sent = ""  # of the reply, all its parts together
        self._before = ""  # the text of the reply's earlier parts
        self._current: st.TextPart | None = None

    def feed(self, event: Event) -> list[bytes]:
        self._created = self._created or int(event.timestamp)
        payloads: list[bytes] = []
        for step in self._builder.feed(event):
            if not self._over:
                payloads += [to_json(each) for each in self._render(step)]
                payloads += self._done()
        return payloads

    def _done(self) -> list[bytes]:
        return [DONE] if self._over else []

    def resume(self) -> list[bytes]:
        return [to_json(self._chunk({"role": "assistant", "content": ""}))]

    def _render(self, step: st.MessageStep) -> Iterator[dict[str, Any]]:
        match step:
            case st.MessageBegan():
                yield self._chunk({"role": "assistant", "content": ""})
            case st.PartOpened(part) if part.reply:
                if self._current is not None:
                    self._before += self._current.text + SEPARATOR
                self._current = part
            case st.PartGrown(part, _, missing) if part.reply:
                if missing:
                    yield self._error("text was lost on the way", "stream_error", "gap")
                else:
                    yield from self._send(part, "superseded", whole=False)
            case st.PartClosed(part) if part.reply and part is self._current:
                yield from self._send(part, "superseded", whole=False)
            case st.PartsWithdrawn(parts) if any(part is self._current for part in parts):
                self._current = None
            case st.PartCorrected(part) if part.reply:
                self._current = self._current or part
                yield from self._send(part, "corrected", whole=True)
            case _:
                yield from self._render_end(step)

    def _render_end(self, step: st.MessageStep) -> Iterator[dict[str, Any]]:
        match step:
            case st.MessageFinished(reason, totals):
                yield from self._finish(reason, totals)
            case st.MessageFailed() | st.MessageCancelled():
                self._over = True
                yield failure(step)

    def _send(self, part: st.TextPart, code: str, *, whole: bool) -> Iterator[dict[str, Any]]:
        """Send what of the reply was not sent yet; fail if it is not what was sent."""
        if part is not self._current:
            return
        text = self._before + part.text
        if text.startswith(self._sent):
            new = text[len(self._sent) :]
            self._sent = text
            if new:
                yield self._chunk({"content": new})
        elif whole or not self._sent.startswith(text):
            yield self._error(f"the text sent so far was {code}", "stream_error", code)

    def _finish(self, reason: str | None, totals: ev.Totals) -> Iterator[dict[str, Any]]:
        text = self._before + (self._current.text if self._current is not None else "")
        if text.removesuffix(SEPARATOR) != self._sent.removesuffix(SEPARATOR):
            yield self._error("the text sent so far was superseded", "stream_error", "superseded")
            return
        yield self._chunk({}, FINISH_REASONS.get(reason or "", "stop"))
        if self.options.include_usage:
            yield {**self._chunk({}), "choices": [], "usage": usage(totals)}
        self._over = True

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self._builder.run_id}",
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self.options.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        }

    def _error(self, message: str, kind: str, code: str) -> dict[str, Any]:
        self._over = True
        return error_body(message, kind, code)


class ChatCompletion:
    """The reply as one ``chat.completion``, for requests without ``stream``. Feed it the run."""

    def __init__(self, options: RenderOptions) -> None:
        self._options = options
        self._builder = MessageBuilder(options, values=False)
        self._created = 0
        self._end: st.MessageFinished | None = None
        self.failure: dict[str, Any] | None = None

    def feed(self, event: Event) -> None:
        self._created = self._created or int(event.timestamp)
        for step in self._builder.feed(event):
            if isinstance(step, (st.MessageFailed, st.MessageCancelled)):
                self.failure = failure(step)
            elif isinstance(step, st.MessageFinished):
                self._end = step

    def answer(self) -> dict[str, Any]:
        """The completion, or the ``failure``; call it when the run has ended."""
        if self.failure is not None:
            return self.failure
        text = SEPARATOR.join(part.text for part in self._builder.parts.values() if part.reply)
        end = self._end or st.MessageFinished(None, ev.Totals())
        message = {"role": "assistant", "content": text, "refusal": None}
        finish = FINISH_REASONS.get(end.finish_reason or "", "stop")
        return {
            "id": f"chatcmpl-{self._builder.run_id}",
            "object": "chat.completion",
            "created": self._created,
            "model": self._options.model,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            ],
            "usage": usage(end.totals),
        }


def failure(step: st.MessageFailed | st.MessageCancelled) -> dict[str, Any]:
    if isinstance(step, st.MessageFailed):
        return error_body(step.message, step.error_type, "run_failed")
    return error_body("the run was cancelled", "cancelled", "cancelled")


def error_body(message: str, kind: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def usage(totals: ev.Totals) -> dict[str, int]:
    return {
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
        "total_tokens": totals.prompt_tokens + totals.completion_tokens,
    }
