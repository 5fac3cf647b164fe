"""Which reply a request gets: the next scripted one, else the responder's, else the model's."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from streamll.testing.model import practise
from streamll.testing.recorded import RecordedRequest
from streamll.testing.replies import Fault, Reply, ReplyLike, as_reply

Responder = Callable[[RecordedRequest], ReplyLike | None]
Scripted = ReplyLike | Responder


class Script:
    """Replies waiting for requests: added from any thread, taken on the server's."""

    def __init__(self) -> None:
        self.responder: Responder | None = None
        self._waiting: deque[Scripted] = deque()
        self._lock = threading.Lock()

    def extend(self, replies: tuple[Scripted, ...]) -> None:
        for reply in replies:
            if not callable(reply):
                as_reply(reply)  # raises in the caller's thread, not in the server's
        with self._lock:
            self._waiting.extend(replies)

    def reply_to(self, request: RecordedRequest, fault: Fault | None) -> Reply:
        """The complete reply, with its text; ``fault`` applies if it has none of its own."""
        with self._lock:
            from_script = bool(self._waiting)
            scripted = self._waiting.popleft() if from_script else self.responder
        reply = resolve(scripted, request)
        if reply.fault is None and fault is not None:
            reply = replace(reply, fault=fault)
        refused = reply.fault is not None and reply.fault.refuses(request.body)
        if from_script and scripted is not None and refused:
            with self._lock:
                self._waiting.appendleft(scripted)  # for the request without stream_options
        return reply


def resolve(scripted: Scripted | None, request: RecordedRequest) -> Reply:
    """The reply to this request that was scripted in any of its forms."""
    value = scripted(request) if callable(scripted) else scripted
    reply = Reply() if value is None else as_reply(value)
    has_content = reply.chunks is not None or reply.tool_calls or reply.refusal
    if reply.text is not None or has_content:
        return reply
    return replace(reply, **practise(request))
