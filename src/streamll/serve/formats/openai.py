"""``chat.completion.chunk`` of OpenAI's Chat Completions API (v1): the text of the reply alone.

* Only reply fields have a place here, one after the other with an empty line between. A typed one
  is the text that the model writes (mostly JSON), not a value.
* The text of a superseded attempt cannot be taken back. The new attempt goes on after what it has
  in common with the old one; where they differ, an ``error`` with code ``superseded`` ends the
  stream: wrong text is never continued. Neither are a field that is corrected to something else
  (code ``corrected``) and one of which text was lost (``gap``).
* A failed or cancelled run is ``{"error": {"message", "type", "code"}}``.
* Who resumes gets a first chunk again, then what is missing. Frames have no ids: OpenAI's reader
  takes a comment after an id for an empty chunk.

A request without ``stream`` gets the program's final text, whatever was superseded; see
``ChatCompletion``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from streamll.core import events as ev
from streamll.serve.formats.base import RenderOptions, to_json
from streamll.serve.formats.message import ChatFormat
from streamll.serve.formats.parts import TextPart, ToolPart
from streamll.serve.formats.vercel import DONE

FINISH_REASONS = {"length": "length", "content_filter": "content_filter"}
SEPARATOR = "\n\n"
FIRST = {"role": "assistant", "content": ""}
CHUNK = "chat.completion.chunk"


class OpenAIFormat(ChatFormat):
    name: ClassVar[str] = "openai"
    ids: ClassVar[bool] = False
    values_are_text: ClassVar[bool] = True

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self._over = False
        self._text = ""  # what was sent of the reply, all its parts together
        self._before = ""  # the text of the reply's earlier parts
        self._current: TextPart | None = None

    def resume(self) -> list[bytes]:
        return [to_json(self._chunk(FIRST))]

    def run_began(self) -> None:
        self.send(self._chunk(FIRST))

    def part_opened(self, part: TextPart) -> None:
        if part.reply:
            if self._current is not None:
                self._before += self._current.text + SEPARATOR
            self._current = part

    def part_grown(self, part: TextPart, text: str, missing: bool) -> None:
        if part.reply and missing:
            self._break_off("text was lost on the way", "gap")
        else:
            self._send_rest(part, "superseded")

    def part_closed(self, part: TextPart) -> None:
        self._send_rest(part, "superseded")

    def parts_withdrawn(self, gone: Sequence[TextPart | ToolPart], reason: str) -> None:
        if self._current in gone:
            self._current = None

    def part_corrected(self, part: TextPart, text: str, value: Any) -> None:
        if part.reply:
            self._current = self._current or part
            self._send_rest(part, "corrected")

    def _send_rest(self, part: TextPart, code: str) -> None:
        """Send what of the reply was not sent yet; fail if it is not what was sent."""
        if part is not self._current:
            return
        text = self._before + part.text
        if text.startswith(self._text):
            new, self._text = text[len(self._text) :], text
            if new:
                self.send(self._chunk({"content": new}))
        elif code == "corrected" or not self._text.startswith(text):
            self._break_off(f"the text sent so far was {code}", code)

    def run_ended(self, end: ev.Totals) -> None:
        text = self._before + (self._current.text if self._current is not None else "")
        if error := failure(end):
            self._finish(error)
        elif text.removesuffix(SEPARATOR) != self._text.removesuffix(SEPARATOR):
            self._break_off("the text sent so far was superseded", "superseded")
        else:
            self.send(self._chunk({}, finish_reason_of(self)))
            if self.options.include_usage:
                self.send(completion(self, CHUNK, [], usage=usage_of(end)))
            self._finish()

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return completion(self, CHUNK, [choice])

    def _break_off(self, message: str, code: str) -> None:
        self._finish(error_body(message, "stream_error", code))

    def _finish(self, last: dict[str, Any] | None = None) -> None:
        if last is not None:
            self.send(last)
        if not self._over:
            self._sent.append(DONE)
        self._over = True

    def send(self, payload: Mapping[str, Any]) -> None:
        if not self._over:
            super().send(payload)


class ChatCompletion(ChatFormat):
    """The reply as one ``chat.completion``, for requests without ``stream``. Feed it the run."""

    values_are_text: ClassVar[bool] = True

    @property
    def failure(self) -> dict[str, Any] | None:
        return failure(self.end)

    def answer(self) -> dict[str, Any]:
        """The completion, or the ``failure``; call it when the run has ended."""
        if self.failure is not None:
            return self.failure
        text = SEPARATOR.join(part.text for part in self.texts if part.reply)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": finish_reason_of(self),
        }
        return completion(
            self, "chat.completion", [choice], usage=usage_of(self.end or ev.Totals())
        )


def completion(form: ChatFormat, kind: str, choices: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{form.run_id}",
        "object": kind,
        "created": form.created,
        "model": form.options.model,
        "choices": choices,
        **more,
    }


def finish_reason_of(form: ChatFormat) -> str:
    return FINISH_REASONS.get(form.finish_reason or "", "stop")


def failure(end: ev.Totals | None) -> dict[str, Any] | None:
    """The error in place of a reply, if the run has failed or was cancelled."""
    if isinstance(end, ev.RunError):
        return error_body(end.message or end.error_type, end.error_type, "run_failed")
    if isinstance(end, ev.RunCancelled):
        return error_body("the run was cancelled", "cancelled", "cancelled")
    return None


def error_body(message: str, kind: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def usage_of(totals: ev.Totals) -> dict[str, Any] | None:
    """``None`` where the tokens are not known; details where they are."""
    prompt, completion = totals.prompt_tokens, totals.completion_tokens
    if prompt is None or completion is None:
        return None
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if totals.cache_read_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": totals.cache_read_tokens}
    if totals.reasoning_tokens is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": totals.reasoning_tokens}
    return usage
