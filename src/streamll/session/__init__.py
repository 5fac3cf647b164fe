"""Conversations: the session names of ``streamll.chat`` at the notebook's path."""

from streamll.chat.messages import Message
from streamll.chat.registry import Registry
from streamll.chat.session import Branch, Session
from streamll.core.errors import DuplicateNameError, SessionFormatError, UnknownNameError

__all__ = [
    "Branch",
    "DuplicateNameError",
    "Message",
    "Registry",
    "Session",
    "SessionFormatError",
    "UnknownNameError",
]
