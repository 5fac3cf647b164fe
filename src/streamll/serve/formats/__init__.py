"""Events as four wires: data in, payloads out. Nothing here knows HTTP, sockets or clocks.

=========  ======================================================================
native     every event as the JSON of ``core.wire``; loses nothing
vercel     Vercel's UI message stream v1 (``useChat``)
agui       AG-UI events (CopilotKit and other agent front ends)
openai     ``chat.completion.chunk``: the text of one field
=========  ======================================================================

The last three tell a run as messages; ``story`` turns events into that, once for all of them.
"""

from __future__ import annotations

from streamll.core.errors import ConfigurationError
from streamll.serve.formats.agui import AGUIFormat
from streamll.serve.formats.base import OutputFormat, RenderOptions
from streamll.serve.formats.native import NativeFormat
from streamll.serve.formats.openai import OpenAIFormat
from streamll.serve.formats.vercel import VercelFormat

FORMATS: dict[str, type[OutputFormat]] = {
    "native": NativeFormat,
    "vercel": VercelFormat,
    "agui": AGUIFormat,
    "openai": OpenAIFormat,
}

__all__ = ["FORMATS", "OutputFormat", "RenderOptions", "make_format"]


def make_format(name: str, options: RenderOptions | None = None) -> OutputFormat:
    """A fresh format of this name, for one reader of one run."""
    try:
        return FORMATS[name](options or RenderOptions())
    except KeyError:
        raise ConfigurationError(
            f"there is no format {name!r}; there are {', '.join(FORMATS)}"
        ) from None
