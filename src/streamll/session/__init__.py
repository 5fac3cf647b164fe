"""Conversations: messages, branches, and the models they are held with."""

from __future__ import annotations

from streamll.session.branch import Branch
from streamll.session.messages import Message
from streamll.session.registry import DuplicateNameError, Registry, UnknownNameError
from streamll.session.saving import SessionFormatError
from streamll.session.session import Session

__all__ = [
    "Branch",
    "DuplicateNameError",
    "Message",
    "Registry",
    "Session",
    "SessionFormatError",
    "UnknownNameError",
]
