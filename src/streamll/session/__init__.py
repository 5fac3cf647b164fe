"""Conversations: the session names of ``streamll.chat`` at the notebook's path."""

from streamll.chat.messages import Message as Message
from streamll.chat.session import Branch as Branch
from streamll.chat.session import Registry as Registry
from streamll.chat.session import Session as Session
from streamll.core.errors import DuplicateNameError as DuplicateNameError
from streamll.core.errors import SessionFormatError as SessionFormatError
from streamll.core.errors import UnknownNameError as UnknownNameError
