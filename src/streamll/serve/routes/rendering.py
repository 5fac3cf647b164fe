"""How a request wants its run rendered: what its body says of it, by the wire that it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streamll.core.errors import InvalidInputs, logger
from streamll.serve.formats import RenderOptions
from streamll.serve.formats.agui import PROTOCOL_VERSION
from streamll.serve.formats.vercel import VERCEL_FORMATS
from streamll.serve.inputs.wires.agui_run import RunAgentInput, read_run
from streamll.serve.routes import openai_options
from streamll.serve.web.requests import HTTPRefusal, InvalidRequest

AGUI_VERSION = tuple(map(int, PROTOCOL_VERSION.split(".")))
VERCEL_NAMES = {form.version: form.name for form in VERCEL_FORMATS}
VERCEL_APPROVES = {form.name: form.approves for form in VERCEL_FORMATS}
KNOWN = {str(version): version for version in VERCEL_NAMES if version}
AI_VERSION = "ai_version"


def as_asked(form: str, options: RenderOptions, body: Any) -> tuple[str, RenderOptions]:
    """The format and options of a request to a route of one's own.

    Raises:
        HTTPRefusal: 400, the body is none of this wire.
    """
    if not isinstance(body, Mapping):
        raise HTTPRefusal(400, "the body of the request must be an object")
    if form == "vercel":
        return VERCEL_NAMES[ai_version(body.get(AI_VERSION))], options
    if form == "agui":
        return form, of_agui(read_agui(body), options.text)
    if form == "openai":
        return form, of_chat(body, options.text, options.model, streams=True)
    if form == "responses":
        told = openai_options.stream_options(body, {"include_obfuscation"}, streams=True)
        obfuscation = bool(told.get("include_obfuscation"))
        model = _model(body, options.model)
        return form, msgspec.structs.replace(options, model=model, include_obfuscation=obfuscation)
    return form, options


def read_agui(body: Any) -> RunAgentInput:
    """What a client of AG-UI asks for; ``HTTPRefusal`` (400) if its body is not by the schema."""
    try:
        asked = read_run(body)
    except InvalidInputs as error:
        raise InvalidRequest(error) from None
    if asked.version is None or asked.version > AGUI_VERSION:
        what = "a client declares AG-UI %.20r, and is answered in " + PROTOCOL_VERSION
        logger.warning(what, asked.protocol_version)
    return asked


def of_agui(
    asked: RunAgentInput, text: str | None, notices: Sequence[Mapping[str, str]] = ()
) -> RenderOptions:
    """What a client of AG-UI is sent: its own ids, conversation and state, in its version."""
    version = asked.version
    return RenderOptions(
        text=text,
        thread_id=asked.thread_id,
        run_id=asked.run_id,
        messages=[each for each in asked.messages if each.get("role") != "activity"],
        state=asked.state,
        predates_versions=version is not None and version < AGUI_VERSION,
        notices=notices,
    )


def of_chat(
    body: Mapping[str, Any], text: str | None, name: str, *, streams: bool
) -> RenderOptions:
    """What a client of Chat Completions is sent; the program called ``name`` has no other model."""
    told = openai_options.stream_options(
        body, {"include_usage", "include_obfuscation"}, streams=streams
    )
    return RenderOptions(
        text=text,
        model=_model(body, name),
        include_usage=bool(told.get("include_usage")),
        include_obfuscation=bool(told.get("include_obfuscation")),
        include_reasoning=openai_options.flag(body, "include_reasoning"),
    )


def ai_version(value: Any) -> int | None:
    """The major version of the ``ai`` package that a request names; ``HTTPRefusal`` (400) if none is so."""
    if value is None:
        return None
    version = KNOWN.get(str(value))
    if version is None:
        what = f"{AI_VERSION} is one of {', '.join(KNOWN)}, not {str(value)[:20]!r}"
        raise HTTPRefusal(400, what)
    return version


def _model(body: Mapping[str, Any], name: str) -> str:
    return str(body.get("model") or name)
