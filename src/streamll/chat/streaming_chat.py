"""``StreamingChat``: a conversation in a notebook or script, in a few lines of code."""

from __future__ import annotations

import sys

from streamll.chat.messages import InstructionContent
from streamll.chat.model import iModel
from streamll.chat.session import Session
from streamll.chat.turns import TurnStream, communicate_stream
from streamll.terminal.text import clean

PREVIEW_CHARACTERS = 100
RULE = "=" * 60


class StreamingChat:
    """Talk to ``model``; both sides of the conversation are printed and kept in ``session``.

    Args:
        model: who answers.
        session: keeps the messages; by default a new one.
        branch: the branch of the session to talk on; made if it does not exist.
        system: how the model is to behave, on a new branch.

    Examples:
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
        if branch not in self.session.branches:
            self.session.create_branch(branch, system=system)
        self.branch = self.session.branch(branch)

    async def chat(self, user_input: str, show_stats: bool = True) -> str:
        """Send ``user_input``; print the reply as it comes, and return it.

        With ``show_stats`` a line about it follows: chunks, time to the first token, and in all.
        """
        async with self._turn(user_input) as turn:
            async for chunk in turn:
                _write(chunk)
        return self._finished(turn, show_stats)

    def chat_sync(self, user_input: str, show_stats: bool = True) -> str:
        """``chat`` (``user_input``, ``show_stats``), waiting for it in this thread."""
        with self._turn(user_input) as turn:
            for chunk in turn:
                _write(chunk)
        return self._finished(turn, show_stats)

    def history(self) -> None:
        """Print the conversation so far."""
        _write(f"\n{RULE}\nCONVERSATION HISTORY\n{RULE}\n")
        for message in self.session.history(self.branch):
            sign = "👤" if isinstance(message.content, InstructionContent) else "🤖"
            text = message.text
            more = "..." if len(text) > PREVIEW_CHARACTERS else ""
            _write(f"{sign} {message.role.value}: {text[:PREVIEW_CHARACTERS]}{more}\n\n")

    def _turn(self, user_input: str) -> TurnStream:
        _write(f"\n👤 User: {user_input}\n🤖 Assistant: ")
        return communicate_stream(
            self.session, self.branch, {"instruction": user_input, "imodel": self.model}
        )

    def _finished(self, turn: TurnStream, show_stats: bool) -> str:
        _write("\n")
        if show_stats:
            _write(f"\n📊 {_statistics(turn)}\n")
        return turn.text


def _statistics(turn: TurnStream) -> str:
    stream = turn.stream
    if stream is None:
        return "Stats: 0 chunks"
    parts = [f"Stats: {stream.chunks} chunks"]
    if (first := stream.time_to_first_token) is not None:
        parts.append(f"First token: {first:.2f}s")
    return " | ".join([*parts, f"Total: {stream.duration:.2f}s"])


def _write(text: str) -> None:
    sys.stdout.write(clean(text))  # a model's text must not control the terminal
    sys.stdout.flush()
