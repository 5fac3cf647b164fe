"""A guard against ageing: the providers' own packages read what is sent and what is rebuilt.

Each package's models read every frame and every plain reply of the practice server, and the plain
replies that capture rebuilds out of the frames, and find no field in them that they do not know. No
package has an upper bound, so that a new major version shows here first. Packages that are not
installed are named by ``test_what_is_left_out``.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, TypeAdapter
from sample_replies import REPLIES

from streamll.capture.tap.below_litellm import ASSEMBLERS as BY_PATH
from streamll.capture.tap.wire.reply import WireReply
from streamll.testing.wires import WIRES as SPOKEN

ASSEMBLERS = {wire.name: BY_PATH[wire.path] for wire in SPOKEN}


class Readers(NamedTuple):
    """What reads a plain reply and a frame, each given as a JSON object."""

    whole: Callable[[Any], Any]
    frame: Callable[[Any], Any]


def openai_chat() -> Readers:
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    return Readers(ChatCompletion.model_validate, ChatCompletionChunk.model_validate)


def openai_responses() -> Readers:
    from openai.types.responses import Response, ResponseStreamEvent

    return Readers(Response.model_validate, TypeAdapter(ResponseStreamEvent).validate_python)


def anthropic_messages() -> Readers:
    from anthropic.types import Message, RawMessageStreamEvent

    events = TypeAdapter(RawMessageStreamEvent)

    def frame(event: Any) -> Any:
        return None if event == {"type": "ping"} else events.validate_python(event)

    return Readers(Message.model_validate, frame)


def google_contents() -> Readers:
    from google.genai.types import GenerateContentResponse

    read = GenerateContentResponse.model_validate
    return Readers(read, read)


def litellm_chat() -> Readers:
    from litellm.types.utils import ModelResponse, ModelResponseStream

    return Readers(lambda body: ModelResponse(**body), lambda chunk: ModelResponseStream(**chunk))


def litellm_responses() -> Readers:
    from litellm.types.llms.openai import ResponsesAPIResponse

    def frame(event: Any) -> Any:
        return ResponsesAPIResponse(**event["response"]) if "response" in event else None

    return Readers(lambda body: ResponsesAPIResponse(**body), frame)


OFFICIAL = [  # package, its module, wire, its readers
    ("openai", "openai", "openai", openai_chat),
    ("openai", "openai", "responses", openai_responses),
    ("anthropic", "anthropic", "anthropic", anthropic_messages),
    ("google-genai", "google.genai", "gemini", google_contents),
    ("litellm", "litellm", "openai", litellm_chat),
    ("litellm", "litellm", "responses", litellm_responses),
]
KNOWN_TO_OTHERS = {"reasoning_content", "annotations", "store", "name"}
"""Fields that servers send and the package does not list; ``name`` is known to openai 2."""


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


CASES = [
    pytest.param(wire, readers, id=f"{package}-{wire}")
    for package, module, wire, readers in OFFICIAL
    if is_installed(module)
]


def unknown_fields(value: Any) -> set[str]:
    """The fields of a reply that its models keep, but do not know."""
    if isinstance(value, BaseModel):
        known = {name: getattr(value, name, None) for name in type(value).model_fields}
        return set(value.model_extra or ()).union(*map(unknown_fields, known.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(unknown_fields, value))
    return set()


@pytest.mark.parametrize(("wire", "readers"), CASES)
def test_official_models_read_every_reply(practice, ask, wire, readers):
    read = readers()  # made of large unions of models, which takes longer than to read
    for name, reply in REPLIES.items():
        practice.script(reply, reply)
        check(ask, wire, read, readers.__name__, name)


def check(ask, wire, read, reader, name):
    whole = ask(wire).json
    options = {"stream_options": {"include_usage": True}} if wire == "openai" else {}
    streamed = ask(wire, stream=True, **options)
    rebuilt = WireReply(ASSEMBLERS[wire]())
    rebuilt.opened(200)
    rebuilt.feed(streamed.body)
    rebuilt.finish()
    values = [read.whole(whole), read.whole(json.loads(rebuilt.body()))]
    # LiteLLM stamps times.
    assert values[0] == values[1] or "litellm" in type(values[0]).__module__, name
    values += map(read.frame, streamed.data)
    if "litellm" not in reader:  # which lists only the fields that it reads
        assert set().union(*map(unknown_fields, values)) <= KNOWN_TO_OTHERS, name


def test_what_is_left_out(capsys):
    missing = sorted({name for name, module, *_ in OFFICIAL if not is_installed(module)})
    with capsys.disabled():
        print(f"\n  not installed, so not read with: {', '.join(missing) or 'nothing'}")
    assert {name for name, *_ in OFFICIAL} - set(missing) >= {"openai", "litellm"}
