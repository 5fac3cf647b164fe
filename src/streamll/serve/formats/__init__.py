"""Events in five wire formats: data in, payloads out. Nothing here knows HTTP, sockets or clocks.

=========  =======================================================================
native     every event as the JSON of ``core.wire``; loses nothing
vercel     UI message stream of Vercel's AI SDK, version 1 (``useChat``);
           ``vercel-5`` to ``vercel-7`` for one major version of the ``ai`` package
agui       AG-UI events (CopilotKit and other agent front ends)
openai     ``chat.completion.chunk`` of OpenAI's Chat Completions API
responses  events of OpenAI's Responses API
=========  =======================================================================

The last four show a run as a chat message; ``message`` builds that from events,
for all of them.
"""

from __future__ import annotations

from streamll.core.errors import ConfigurationError
from streamll.serve.formats.agui import AGUIFormat
from streamll.serve.formats.base import NativeFormat, OutputFormat, RenderOptions
from streamll.serve.formats.openai import OpenAIFormat
from streamll.serve.formats.openai_responses import ResponsesFormat
from streamll.serve.formats.vercel import VERCEL_FORMATS

FORMATS: dict[str, type[OutputFormat]] = {
    form.name: form
    for form in (NativeFormat, *VERCEL_FORMATS, AGUIFormat, OpenAIFormat, ResponsesFormat)
}

__all__ = ["FORMATS", "OutputFormat", "RenderOptions", "make_format"]


def make_format(name: str, options: RenderOptions | None = None) -> OutputFormat:
    """A new format of this name, for one reader of one run.

    Raises:
        ConfigurationError: there is none of this name, or it has no compact form.
    """
    if options is not None and options.compact and name != NativeFormat.name:
        raise ConfigurationError(
            f"only the native format has a compact form: ask for {name!r} without compact, or for 'native'"
        )
    try:
        return FORMATS[name](options or RenderOptions())
    except KeyError:
        raise ConfigurationError(
            f"there is no format {name!r}; there are {', '.join(FORMATS)}"
        ) from None
