"""The path by which notebooks know ``prepare_messages_for_chat``; it lives in ``chat``."""

from __future__ import annotations

from streamll.session.messages.chat import prepare_messages_for_chat

__all__ = ["prepare_messages_for_chat"]
