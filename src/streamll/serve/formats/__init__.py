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
from streamll.serve.formats.agui import AGUI
from streamll.serve.formats.base import Format, Telling
from streamll.serve.formats.native import Native
from streamll.serve.formats.openai import OpenAI
from streamll.serve.formats.vercel import Vercel

FORMATS: dict[str, type[Format]] = {
    "native": Native,
    "vercel": Vercel,
    "agui": AGUI,
    "openai": OpenAI,
}

__all__ = ["FORMATS", "Format", "Telling", "make_format"]


def make_format(name: str, telling: Telling | None = None) -> Format:
    """A fresh format of this name, for one reader of one run."""
    try:
        return FORMATS[name](telling or Telling())
    except KeyError:
        raise ConfigurationError(
            f"there is no format {name!r}; there are {', '.join(FORMATS)}"
        ) from None
