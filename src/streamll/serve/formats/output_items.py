"""The output items of OpenAI's Responses API, each made of one part of a chat message.

=================  =================================================================================
``message``        a reply field, or a refusal
``reasoning``      another field, or thinking: its ``content``, since nobody has summed it up; its
                   ``summary`` for clients that ask for summaries, since they read nothing else
``mcp_call``       a tool that the program has run: the API's word for what the server did itself
``function_call``  a tool that the model called and the program did not run: the client's to do
=================  =================================================================================

An item that is withdrawn keeps its place, since later ones are known by theirs, and loses its content.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streamll.serve.formats.base import to_json
from streamll.serve.formats.parts import TextPart, ToolPart

REFUSAL = "\0refusal"
"""The field name of a refusal: no field can have it."""
PREFIXES = {"message": "msg", "reasoning": "rs", "mcp_call": "mcp", "function_call": "fc"}


class OutputItem(msgspec.Struct, eq=False):
    """One item: ``index`` is its place in the output. What it says is in its ``part``."""

    index: int
    type: str
    part: TextPart | ToolPart
    server: str = ""
    """What a tool ran on, in the words of the client: the name of the program."""
    status: str = "in_progress"
    withdrawn: bool = False
    sums_up: bool = False
    """What it says is told as a summary."""
    annotations: list[dict[str, Any]] = []

    @property
    def id(self) -> str:
        return f"{PREFIXES[self.type]}_{self.part.id}"

    @property
    def text(self) -> str:
        return self.part.text

    @property
    def place(self) -> dict[str, Any]:
        """Where an event of it belongs."""
        return {"item_id": self.id, "output_index": self.index}

    @property
    def is_refusal(self) -> bool:
        return isinstance(self.part, TextPart) and self.part.key[2] == REFUSAL

    @property
    def is_text(self) -> bool:
        """It is text of the reply, which can have sources."""
        return self.type == "message" and not self.is_refusal

    @property
    def said_as(self) -> str:
        """How the names of the events begin that tell of its text."""
        if self.is_refusal:
            return "refusal"
        if self.sums_up:
            return "reasoning_summary_text"
        return "output_text" if self.type == "message" else "reasoning_text"

    @property
    def content_index(self) -> dict[str, int]:
        return {"summary_index" if self.sums_up else "content_index": 0}

    def content(self, text: str | None = None) -> dict[str, Any]:
        """Its only piece of content; with ``text`` as it was when it had said no more."""
        said = self.text if text is None else text
        if self.is_refusal:
            return {"type": "refusal", "refusal": said}
        if self.type == "reasoning":
            return {"type": "summary_text" if self.sums_up else "reasoning_text", "text": said}
        notes = self.annotations if text is None else []
        return {"type": "output_text", "text": said, "annotations": notes, "logprobs": []}

    def as_object(self, *, begun: bool = False) -> dict[str, Any]:
        """The item as it is now; ``begun``: as it was announced, empty."""
        head = {"id": self.id, "type": self.type, "status": self.status}
        if isinstance(self.part, ToolPart):
            return {**head, **self._call(self.part, begun=begun)}
        content = [] if begun or self.withdrawn else [self.content()]
        if self.sums_up:
            return {**head, "summary": content}
        if self.type == "reasoning":
            return {**head, "summary": [], "content": content}
        return {**head, "role": "assistant", "content": content}

    def _call(self, tool: ToolPart, *, begun: bool) -> dict[str, Any]:
        call = {"name": tool.name, "arguments": "" if begun else arguments_of(tool)}
        if self.type == "function_call":
            return {**call, "call_id": f"call_{tool.id}"}
        output, error = None, None
        if tool.done and tool.failed:
            error = {"type": "mcp_tool_execution_error", "content": tool.result}
        elif tool.done and tool.result is not None:
            text = isinstance(tool.result, str)
            output = tool.result if text else to_json({"": tool.result}).decode()[4:-1]
        return {**call, "server_label": self.server, "output": output, "error": error}


def arguments_of(tool: ToolPart) -> str:
    """A call's arguments as JSON. Those of a tool that nobody asked to see are not known."""
    return tool.text or "{}"
