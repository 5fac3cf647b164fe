"""The contract of a wire: a ``PreparedReply`` in, one JSON body or many frames out. Pure data."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple
from urllib.parse import SplitResult

import msgspec

from streamll.testing.prepared import PreparedReply
from streamll.testing.prompts import PromptMessage, PromptTool
from streamll.testing.recorded import Asked

RequestBody = Mapping[str, Any]


class WireFrame(NamedTuple):
    """One server-sent event: its one line of data, its name, and whether it carries content.

    With ``comment`` it is no event: ``data`` is a line that readers of events ignore.
    """

    data: bytes
    event: bytes = b""
    content: bool = False
    comment: bool = False


class PracticeWire(ABC):
    """One provider API.

    The first methods read a request's body, the others write a reply. ``body`` and ``frames`` of
    the same reply must say the same, ids and usage included.
    """

    name: ClassVar[str]
    """What ``server.lm(wire=…)`` calls it."""
    label: ClassVar[str]
    """What ``streamll practice`` calls it."""
    path: ClassVar[str]
    """How the URL of its requests ends, where no stream is asked for."""
    address: ClassVar[str]
    """The usual path of its requests, for people."""
    base_path: ClassVar[str]
    """What a client's base URL has after the server's."""
    provider: ClassVar[str]
    """The prefix of ``dspy.LM``'s model names."""
    lm_options: ClassVar[Mapping[str, str]] = {}
    """What ``dspy.LM`` needs to speak this wire, besides the provider and the address."""
    schema_path: ClassVar[tuple[str, ...]] = ()
    """Where in a request's body the JSON schema of a structured output is."""
    line_end: ClassVar[bytes] = b"\n"

    def lm_settings(self, url: str) -> dict[str, str]:
        """The options of a ``dspy.LM`` that asks the practice server at ``url``."""
        return {"api_base": url + self.base_path, "api_key": "practice", **self.lm_options}

    def answers(self, path: str) -> bool:
        """Whether requests to this path are of this API."""
        return path.endswith(self.path)

    def asked(self, url: SplitResult, body: RequestBody) -> Asked:
        """What the request's address and body ask for."""
        return Asked(
            model=str(body.get("model") or ""),
            streaming=bool(body.get("stream")),
            thinking=wants_thinking(body),
            calls_tools=body.get("tool_choice") != "none",
        )

    @abstractmethod
    def messages(self, body: RequestBody) -> list[PromptMessage]:
        """The conversation, system prompt first; tool results have the role ``"tool"``."""

    def tools(self, body: RequestBody) -> list[PromptTool]:
        """The function tools that the request offers; a provider's own tools are left out."""
        functions = [
            tool.get("function", tool)  # Chat Completions nests it
            for tool in body.get("tools") or ()
            if tool.get("type") == "function" or "input_schema" in tool
        ]
        return [
            PromptTool(
                each["name"],
                each.get("description") or "",
                each.get("parameters") or each.get("input_schema") or {},
            )
            for each in functions
        ]

    def schema(self, body: RequestBody) -> Mapping[str, Any]:
        """The JSON schema that the reply's text must follow, or an empty one."""
        found: Any = body
        for key in self.schema_path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    @abstractmethod
    def body(self, reply: PreparedReply) -> dict[str, Any]:
        """The reply to a request without ``stream``."""

    @abstractmethod
    def frames(self, reply: PreparedReply) -> Iterable[WireFrame]:
        """The reply to a request with ``stream``."""

    @abstractmethod
    def error(self, status: int, kind: str | None, message: str) -> dict[str, Any]:
        """The body of an HTTP error; ``kind`` overrides the provider's usual error type."""

    @abstractmethod
    def error_frames(
        self, reply: PreparedReply, kind: str | None, message: str, sent: int
    ) -> Iterable[WireFrame]:
        """The end of a stream that fails after ``sent`` frames."""

    @abstractmethod
    def headers(self, reply: PreparedReply) -> list[tuple[str, str]]:
        """Headers of every reply, besides the content type."""


def wants_thinking(body: RequestBody) -> bool:
    """Whether the request switches reasoning on, in any of OpenAI's and Anthropic's ways."""
    mode, reasoning = body.get("thinking"), body.get("reasoning")
    return bool(
        (isinstance(mode, Mapping) and mode.get("type") in {"enabled", "adaptive"})
        or (
            isinstance(reasoning, Mapping) and (reasoning.get("summary") or reasoning.get("effort"))
        )
        or body.get("reasoning_effort")
    )


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8, as providers write it; a lone surrogate is escaped."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


PLACEHOLDER = "\x7fhere\x7f"


def around(value: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """``value`` as JSON, cut at its one ``PLACEHOLDER``, so that each delta is two joins."""
    before, after = encode(value).split(b'"' + PLACEHOLDER.encode() + b'"')
    return before, after


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(part["text"] for part in content if isinstance(part, dict) and "text" in part)
