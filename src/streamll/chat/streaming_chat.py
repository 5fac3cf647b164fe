"""``StreamingChat``: a conversation in a terminal or notebook, in a few lines of code."""

from __future__ import annotations

import sys

from streamll.chat.messages import InstructionContent
from streamll.chat.model import iModel
from streamll.chat.session import Session
from streamll.chat.turns import TurnStream, communicate_stream
from streamll.terminal.text import clean

PREVIEW = 100
RULE = "=" * 60


class StreamingChat:
    """Talk to ``model``; what both sides say is printed and kept in ``session``.

    >>> chat = StreamingChat(iModel(provider="openai", model="gpt-4o-mini"))
    >>> await chat.chat("What is async programming good for?")
    >>> chat.history()
    """

    def __init__(
        self,
        model: iModel,
        *,
        session: Session | None = None,
        branch: str = "main",
        system: str | None = None,
    ) -> None:
        self.model = model
        self.session = session or Session()
        self.session.services.register(model)
        self.branch = (
            self.session.branches[branch]
            if branch in self.session.branches
            else self.session.create_branch(name=branch, system=system)
        )

    async def chat(self, user_input: str, show_stats: bool = True) -> str:
        """Say something; the reply is printed as it comes, and returned."""
        self._ask(user_input)
        turn = self._turn(user_input)
        try:
            async for chunk in turn:
                _say(chunk)
        finally:
            await turn.aclose()
        return self._replied(turn, show_stats)

    def chat_sync(self, user_input: str, show_stats: bool = True) -> str:
        """The same, waiting for it in this thread."""
        self._ask(user_input)
        turn = self._turn(user_input)
        try:
            for chunk in turn:
                _say(chunk)
        finally:
            turn.close()
        return self._replied(turn, show_stats)

    def history(self) -> None:
        """Print the conversation so far."""
        _say(f"\n{RULE}\nCONVERSATION HISTORY\n{RULE}\n")
        for message in self.session.history(self.branch):
            role = "👤" if isinstance(message.content, InstructionContent) else "🤖"
            text = message.text
            preview = text[:PREVIEW] + "..." if len(text) > PREVIEW else text
            _say(f"{role} {message.role.value}: {preview}\n\n")

    def _turn(self, user_input: str) -> TurnStream:
        return communicate_stream(
            self.session, self.branch, {"instruction": user_input, "imodel": self.model}
        )

    def _ask(self, user_input: str) -> None:
        _say(f"\n👤 User: {user_input}\n🤖 Assistant: ")

    def _replied(self, turn: TurnStream, show_stats: bool) -> str:
        _say("\n")
        if show_stats:
            _say(f"\n📊 {statistics(turn)}\n")
        return turn.text


def statistics(turn: TurnStream) -> str:
    """What there is to say of a reply: chunks, time to first token, time."""
    stream = turn.stream
    if stream is None:
        return "Stats: 0 chunks"
    first = stream.time_to_first_token
    parts = [f"Stats: {stream.chunks} chunks"]
    if first is not None:
        parts.append(f"First token: {first:.2f}s")
    parts.append(f"Total: {stream.duration:.2f}s")
    return " | ".join(parts)


def _say(text: str) -> None:
    sys.stdout.write(clean(text))  # a model's text must not steer the terminal
    sys.stdout.flush()
