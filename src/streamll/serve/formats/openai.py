"""``chat.completion.chunk`` of OpenAI's Chat Completions API (v1): the text of the reply.

* Reply fields are ``content``, one after the other with an empty line between. A typed one is the
  text that the model writes (mostly JSON), not a value. Other fields and thinking are
  ``reasoning_content``, as other servers of this API have it, if ``include_reasoning`` asks for it.
  Where calls overlap, a field is sent once those that began before it are complete.
* The text of a superseded attempt cannot be taken back. The new attempt goes on after what it has
  in common with the old one; where they differ, an ``error`` with code ``superseded`` ends the
  stream: wrong text is never continued. Neither are a field that is corrected to something else
  (code ``corrected``) and one of which text was lost (``gap``).
* A source with an address is an annotation, a refusal is ``refusal``. They come at the end, those of
  superseded attempts left out; all annotations at once, since readers of deltas cannot join lists
  whose elements have no ``index``.
* Usage is null where any part of it is not known: the wire has no word for that.
* A failed or cancelled run is ``{"error": {"message", "type", "code"}}``.
* Who resumes gets a first chunk again, then what is missing. Frames have no ids: OpenAI's reader
  takes a comment after an id for an empty chunk.

A request without ``stream`` gets the program's final text, whatever was superseded; see
``ChatCompletion``.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from streamll.core import events as ev
from streamll.core.usage import COUNTS
from streamll.serve.formats.base import RenderOptions, given, to_json
from streamll.serve.formats.message import ChatFormat
from streamll.serve.formats.parts import Part, TextPart
from streamll.serve.formats.vercel import DONE

FINISH_REASONS = {"length": "length", "content_filter": "content_filter"}
SEPARATOR = "\n\n"
CHUNK = "chat.completion.chunk"
PADDED_BYTES = 32
"""Text that is obfuscated has, with its padding, a multiple of this length."""


class OpenAIFormat(ChatFormat):
    name: ClassVar[str] = "openai"
    ids: ClassVar[bool] = False
    values_are_text: ClassVar[bool] = True

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self._over = False
        self._text = ""  # what was sent of the reply, all its parts together
        self._before = ""  # the text of the reply's earlier parts
        self._current: TextPart | None = None  # the reply's first part that still grows
        self._thoughts: list[TextPart] = []  # of which not all was sent as reasoning
        self._thought = 0  # how many pieces of the first of them were
        self._reasoned = False
        self._withdrawing = False

    def resume(self) -> list[bytes]:
        self._send_first()
        return self.sent()

    def run_began(self) -> None:
        self._send_first()

    def _send_first(self) -> None:
        self._send_delta(role="assistant", content="", refusal=None)

    # Text is sent in the order in which its parts began, as a reply without ``stream`` has it: where
    # calls overlap, what is behind a part that grows waits.

    def part_opened(self, part: TextPart) -> None:
        if part.reply:
            self._arrange()
        elif self.options.include_reasoning:
            self._thoughts.append(part)

    def part_grown(self, part: TextPart, text: str, missing: bool) -> None:
        if not part.reply:
            self._send_reasoning()
        elif missing:
            self._break_off("text was lost on the way", "gap")
        elif part is self._current:
            self._send_rest("superseded")

    def part_closed(self, part: TextPart) -> None:
        if not self._withdrawing:
            self._go_on()

    def on_lm_superseded(self, event: ev.LMSuperseded) -> None:
        self._withdrawing = True  # nothing is sent as if what is withdrawn counted
        super().on_lm_superseded(event)
        self._withdrawing = False
        self._go_on()

    def parts_withdrawn(self, gone: Sequence[Part], reason: str) -> None:
        if self._thoughts and self._thoughts[0] in gone:
            self._thought = 0
        self._thoughts = [part for part in self._thoughts if part not in gone]

    def part_corrected(self, part: TextPart, text: str, value: Any) -> None:
        if part.reply:
            self._arrange()
            self._send_rest("corrected")

    def _go_on(self) -> None:
        self._arrange()
        self._send_rest("superseded")
        self._send_reasoning()

    def _arrange(self) -> None:
        """Find the part that is sent now: the first that grows."""
        done: list[str] = []
        self._current = None
        for part in self.texts:
            if part.reply:
                if self.open.get(part.key) is part:
                    self._current = part
                    done.append("")
                    break
                done.append(part.text)
        self._before = SEPARATOR.join(done)

    @property
    def _reply(self) -> str:
        return self._before if self._current is None else self._before + self._current.text

    def _send_rest(self, code: str) -> None:
        """Send what of the reply was not sent yet; fail if it is not what was sent."""
        text = self._reply
        if text.startswith(self._text):
            new, self._text = text[len(self._text) :], text
            if new:
                self._send_delta(content=new)
        elif not (self._text.startswith(text) and (self._current or code == "superseded")):
            self._break_off(f"the text sent so far was {code}", code)

    def _send_reasoning(self) -> None:
        while self._thoughts:
            part = self._thoughts[0]
            new, begins = "".join(part.pieces[self._thought :]), not self._thought
            self._thought = len(part.pieces)
            if new:
                before = SEPARATOR if begins and self._reasoned else ""
                self._reasoned = True
                self._send_delta(reasoning_content=before + new)
            if self.open.get(part.key) is part:
                return
            del self._thoughts[0]
            self._thought = 0

    def run_ended(self, end: ev.Totals) -> None:
        if refusal := refusal_of(self):
            self._send_delta(refusal=refusal)
        if error := failure(end):
            self._finish(error)
        elif self._reply != self._text:
            self._break_off("the text sent so far was superseded", "superseded")
        else:
            if sources := annotations_of(self, self._text):
                self._send_delta(annotations=sources)
            self._send_choice({}, finish_reason_of(self))
            if self.options.include_usage:
                self.send(completion(self, CHUNK, [], usage=usage_of(end)))
            self._finish()

    def _send_delta(self, **delta: Any) -> None:
        self._send_choice(delta)

    def _send_choice(self, delta: dict[str, Any], finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        more: dict[str, Any] = {"usage": None} if self.options.include_usage else {}
        if self.options.include_obfuscation:
            text = "".join(each for each in delta.values() if isinstance(each, str))
            more["obfuscation"] = obfuscation(text)
        self.send(completion(self, CHUNK, [choice], **more))

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
        message = {
            "role": "assistant",
            "content": text,
            "refusal": refusal_of(self),
            "annotations": annotations_of(self, text),
        }
        if self.options.include_reasoning:
            reasoning = SEPARATOR.join(part.text for part in self.texts if not part.reply)
            message["reasoning_content"] = reasoning
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": finish_reason_of(self),
        }
        usage = usage_of(self.end or ev.Totals())
        return completion(self, "chat.completion", [choice], usage=usage)


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


def error_body(
    message: str, kind: str, code: str | None, param: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def usage_of(totals: ev.Totals) -> dict[str, Any] | None:
    """The usage of a chat; ``None`` where a part of it is not known."""
    asked, said, read, written, thought = (getattr(totals, name) for name in COUNTS)
    if asked is None or said is None:
        return None
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": given(cached_tokens=read, cache_write_tokens=written),
        "completion_tokens_details": given(reasoning_tokens=thought),
    }


def refusal_of(form: ChatFormat) -> str | None:
    events = [each.event for each in form.asides]
    return "".join(each.text for each in events if isinstance(each, ev.Refusal)) or None


def annotations_of(form: ChatFormat, text: str) -> list[dict[str, Any]]:
    """The reply's sources, as far as they have an address."""
    events = [each.event for each in form.asides]
    sources = [each for each in events if isinstance(each, ev.Citation) and each.url]
    return [{"type": "url_citation", "url_citation": url_citation(s, text)} for s in sources]


def url_citation(source: ev.Citation, text: str) -> dict[str, Any]:
    """Where a source is cited: the last place in the text that reads as it, else the text's end."""
    cited = source.text or ""
    begin = text.rfind(cited) if cited else -1
    span = (begin, begin + len(cited)) if begin >= 0 else (len(text), len(text))
    where = {"start_index": span[0], "end_index": span[1]}
    return {**where, "title": source.title or source.url, "url": source.url}


def obfuscation(text: str) -> str:
    """Padding beside a text, which hides how long it is: tokens of up to 30 bytes look alike."""
    return secrets.token_hex(PADDED_BYTES)[: -len(to_json({"": text})) % PADDED_BYTES]
