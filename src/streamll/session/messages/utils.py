"""``prepare_messages_for_chat`` at the notebook's path."""

from streamll.chat.messages import prepare_messages_for_chat

__all__ = ["prepare_messages_for_chat"]
