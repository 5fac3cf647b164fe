"""Messages and what they hold: the names of ``streamll.chat.messages`` at the notebook's path."""

from streamll.chat.messages import AssistantResponseContent as AssistantResponseContent
from streamll.chat.messages import Content as Content
from streamll.chat.messages import InstructionContent as InstructionContent
from streamll.chat.messages import Message as Message
from streamll.chat.messages import Role as Role
from streamll.chat.messages import SystemContent as SystemContent
from streamll.chat.messages import ToolRequestContent as ToolRequestContent
from streamll.chat.messages import ToolResponseContent as ToolResponseContent
from streamll.chat.messages import prepare_messages_for_chat as prepare_messages_for_chat
