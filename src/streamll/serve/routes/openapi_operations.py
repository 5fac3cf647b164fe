"""What each route takes and answers, for ``/openapi.json``. A test compares it with the routes.

Written by hand, since routes read their requests by hand; the programs' own inputs are added by
``openapi.py``. Where a wire is somebody else's, its own documentation is linked and not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streamll.serve import formats
from streamll.serve.routes.run_filter import STATES

Schema = Mapping[str, Any]

JSON, EVENTS = "application/json", "text/event-stream"
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean", "default": False}
OBJECT: Schema = {"type": "object", "additionalProperties": True}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    Attributes:
        summary: what it does, in a line.
        tag: the group it is listed in.
        body: the schema of the request's JSON, if it has one.
        query: its query parameters with their schemas.
        status: of a successful answer.
        answer: its JSON; ``None``: it has no JSON.
        also: other content types of the answer.
        errors: the statuses it may end with, besides those of every route.
        openai: its errors have the shape of OpenAI's.
        needs_token: whether it asks for a token, where the server has any.
        description: more about it, in Markdown.
    """

    summary: str
    tag: str = "runs"
    body: Schema | None = None
    query: Mapping[str, Schema] = {}
    status: int = 200
    answer: Schema | None = None
    also: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()
    openai: bool = False
    needs_token: bool = True
    description: str = ""


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def record(properties: Mapping[str, Schema], *required: str) -> Schema:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def listed(items: Schema) -> Schema:
    return {"type": "array", "items": items}


INPUTS: Schema = {
    **OBJECT,
    "description": "The program's inputs that no message fills, by name: as in `POST /runs`.",
}
POSITION: Mapping[str, Schema] = {
    "after": {**TEXT, "description": "Read on after this position (`run_id:seq`, or `seq`)."},
    "lastEventId": {**TEXT, "description": "The same, as `EventSource` calls it."},
}
FORMATS: Mapping[str, Schema] = {
    **POSITION,
    "format": {"enum": [*formats.FORMATS], "default": "native"},
    "reply": {**TEXT, "description": "The field that chat formats give as text."},
    "compact": {**FLAG, "description": "The native format's compact form: see docs/wire.md."},
}
_LEAVES: Schema = {**FLAG, "description": "Cancel it when I leave."}
CHAT_MESSAGE = record({"role": TEXT, "content": {"type": ["string", "array", "null"]}}, "role")

SCHEMAS: dict[str, Schema] = {
    "Error": record(
        {
            "error": TEXT,
            "problems": listed(ref("Problem")),
        },
        "error",
    ),
    "Problem": {
        **record({"place": TEXT, "message": TEXT}, "place", "message"),
        "description": "What is wrong with a request, and where: `inputs.items[2].price`.",
    },
    "OpenAIError": record(
        {
            "error": record(
                {
                    "message": TEXT,
                    "type": TEXT,
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
                "message",
                "type",
            )
        },
        "error",
    ),
    "Run": record(
        {
            "run_id": TEXT,
            "program": {"type": ["string", "null"]},
            "status": {"enum": [*STATES]},
            "started_at": {"type": "number", "description": "Seconds since the epoch."},
            "ended_at": {"type": "number"},
        },
        "run_id",
        "status",
    ),
    "ListedRun": {
        "allOf": [
            ref("Run"),
            record(
                {
                    "title": {
                        **TEXT,
                        "description": "The first line of its inputs, where events carry inputs.",
                    },
                    "context": {**OBJECT, "description": "Its numbers and short texts."},
                    "open_questions": {
                        "type": "integer",
                        "description": "How many wait for an answer, where that is known.",
                    },
                }
            ),
        ]
    },
    "RunSoFar": {
        "allOf": [
            ref("Run"),
            record(
                {
                    "seq": {"type": "integer", "description": "Of the last event, -1 for none."},
                    "fields": {
                        "type": "object",
                        "additionalProperties": TEXT,
                        "description": "The text of each output field.",
                    },
                    "questions": {
                        **listed(OBJECT),
                        "description": "Those that are open: `question_id`, `text`, `schema`, `asked_at`, "
                        "and what else the `question` event has.",
                    },
                    "duration": {"type": ["number", "null"]},
                    "lm_calls": {"type": ["integer", "null"]},
                    "prompt_tokens": {"type": ["integer", "null"]},
                    "completion_tokens": {"type": ["integer", "null"]},
                    "cost": {"type": ["number", "null"]},
                    "error_type": {"type": ["string", "null"]},
                    "error": {"type": ["string", "null"]},
                },
                "seq",
                "fields",
            ),
        ]
    },
    "Started": record(
        {
            "run_id": TEXT,
            "url": TEXT,
            "events": TEXT,
            "websocket": TEXT,
            "token": {
                "type": ["string", "null"],
                "description": "Reads and cancels this one run, for a day; `null` for who may not.",
            },
            "answer_token": {
                "type": ["string", "null"],
                "description": "Answers its questions as well; `null` for who may not.",
            },
        },
        "run_id",
        "url",
        "events",
        "websocket",
        "token",
    ),
    "Cancelled": record({"run_id": TEXT, "status": {"enum": ["cancelling", "over"]}}, "run_id"),
    "Program": record(
        {
            "name": TEXT,
            "reply": {"type": ["string", "null"]},
            "inputs": listed(
                record(
                    {
                        "name": TEXT,
                        "type": TEXT,
                        "description": TEXT,
                        "required": {"type": "boolean"},
                        "schema": {"description": "A JSON Schema (2020-12)."},
                        "default": {},
                    },
                    "name",
                    "type",
                    "required",
                    "schema",
                )
            ),
        },
        "name",
        "inputs",
    ),
    "Model": record(
        {
            "id": TEXT,
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": TEXT,
        },
        "id",
        "object",
    ),
}

OPENAI = "https://platform.openai.com/docs/api-reference"
AI_SDK = "https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol"
AGUI = "https://docs.ag-ui.com"
CONVERSATION = (
    "The program is given the whole conversation: earlier turns as its `dspy.History` or its list "
    "of messages, else as text in front of the last message; attachments as its images, sounds "
    "and files."
)

_AI_VERSION: Schema = {
    "enum": [5, 6, 7],
    "description": "The major version of the `ai` package; by default all of them can read it.",
}
VERCEL_BODY = record(
    {
        "id": {**TEXT, "description": "The chat. Its latest run can be resumed."},
        "messages": listed(record({"role": TEXT, "parts": listed(OBJECT)}, "role", "parts")),
        "program": TEXT,
        "inputs": INPUTS,
        "ai_version": _AI_VERSION,
        "answers": {
            **OBJECT,
            "description": "Answers by approval, beside those in the last message: the run that has "
            "asked goes on.",
        },
    },
    "messages",
)
_START_CHAT = Operation(
    summary="Answer a chat of `useChat`",
    tag="Vercel AI SDK",
    body=VERCEL_BODY,
    query={"program": TEXT, "ai_version": _AI_VERSION},
    also=(EVENTS,),
    errors=(400, 403, 404, 408, 413, 415, 422, 429, 503),
    description=f"{CONVERSATION} See {AI_SDK}.",
)
_RESUME_CHAT = Operation(
    summary="Resume the latest run of a chat",
    tag="Vercel AI SDK",
    query={**POSITION, "program": TEXT, "ai_version": _AI_VERSION},
    also=(EVENTS,),
    errors=(400, 503),
    description=f"204: nothing is under way. See {AI_SDK}.",
)
_STOP_CHAT = Operation(
    summary="Stop the latest run of a chat",
    tag="Vercel AI SDK",
    status=202,
    answer=ref("Cancelled"),
    errors=(404, 503),
)
_AGUI_BODY = record(
    {
        "threadId": TEXT,
        "runId": TEXT,
        "protocolVersion": TEXT,
        "messages": listed(record({"role": TEXT}, "role")),
        "state": {},
        "tools": listed(OBJECT),
        "context": listed(OBJECT),
        "resume": {**listed(OBJECT), "description": "Answers to a run, which then goes on."},
        "forwardedProps": {
            "description": "An object's `inputs` are the program's inputs that no message fills."
        },
    },
    "messages",
)
_START_AGENT = Operation(
    summary="Run an agent",
    tag="AG-UI",
    body=_AGUI_BODY,
    query={"program": TEXT, "stop_on_leave": TEXT},
    also=(EVENTS,),
    errors=(400, 403, 404, 408, 413, 415, 422, 429, 503),
    description=f"{CONVERSATION} See {AGUI}.",
)
_CONNECT_TO_AGENT = Operation(
    summary="Come back to an agent's run",
    tag="AG-UI",
    body=_AGUI_BODY,
    query={"stop_on_leave": TEXT},
    also=(EVENTS,),
    errors=(400, 404, 408, 413, 415, 503),
    description=f"The thread's run with this id, else its latest, from where it is. See {AGUI}.",
)
_STOP_AGENT = Operation(
    summary="Stop an agent's run",
    tag="AG-UI",
    query={"threadId": TEXT, "runId": TEXT},
    status=202,
    answer=ref("Cancelled"),
    errors=(404, 503),
    description="The thread's run with this id, else its latest. 200: it is over.",
)

OPERATIONS: Mapping[str, Operation] = {
    "GET /healthz": Operation(
        summary="Whether the server can answer",
        tag="service",
        answer=record({"status": TEXT}, "status"),
        errors=(503,),
        needs_token=False,
    ),
    "GET /metrics": Operation(
        summary="Runs, readers, requests and bytes, in the OpenMetrics format",
        tag="service",
        also=("application/openmetrics-text",),
    ),
    "GET /openapi.json": Operation(
        summary="This description", tag="service", answer={**OBJECT, "title": "OpenAPI 3.1"}
    ),
    "GET /programs": Operation(
        summary="The programs, and the inputs of each",
        answer=record({"programs": listed(ref("Program"))}, "programs"),
    ),
    "POST /runs": Operation(
        summary="Start a run",
        body=ref("StartRun"),
        status=202,
        answer=ref("Started"),
        errors=(400, 404, 408, 413, 415, 429, 503),
    ),
    "GET /runs": Operation(
        summary="The latest runs of the log, the newest first",
        query={
            "limit": {"type": "integer", "minimum": 1, "maximum": 200, "default": 200},
            "program": {**TEXT, "description": "Its name, in full."},
            "status": {**listed({"enum": [*STATES]}), "description": "Any of these."},
            "since": {
                "type": "number",
                "description": "Started then or later, in seconds since the epoch.",
            },
            "until": {"type": "number", "description": "Started then or earlier."},
            "q": {
                **TEXT,
                "maxLength": 200,
                "description": "Words that all occur in its program, id, title, context, inputs, output "
                "fields or error, in upper or lower case.",
            },
        },
        answer=record(
            {
                "runs": listed(ref("ListedRun")),
                "more": {"type": "boolean", "description": "Others fit, beyond the limit."},
                "searched": {
                    **record({"runs": {"type": "integer"}, "texts": {"type": "integer"}}),
                    "description": "With `q`: how many runs were looked at by what this list says of "
                    "them, and of how many the text was read as well.",
                },
            },
            "runs",
            "more",
        ),
        errors=(400, 503),
        description="Those that you may see, of the latest 1,000 runs. `context.KEY=VALUE` asks for runs with this in their "
        "context.",
    ),
    "GET /runs/{run_id}": Operation(
        summary="A run, as far as it has come", answer=ref("RunSoFar"), errors=(404, 503)
    ),
    "DELETE /runs/{run_id}": Operation(
        summary="Cancel a run, whichever process runs it",
        status=202,
        answer=ref("Cancelled"),
        errors=(404, 503),
        description="200 with the status `over` for a run that has ended.",
    ),
    "POST /runs/{run_id}/answers": Operation(
        summary="Answer a question of a run, whichever process runs it",
        body=record(
            {
                "question_id": TEXT,
                "value": {"description": "JSON of the question's `schema`."},
                "decline": {**FLAG, "description": "In place of a value: there will be none."},
                "by": {
                    **TEXT,
                    "description": "Who answers, if the token is nobody's in particular.",
                },
            },
            "question_id",
        ),
        answer=record({"run_id": TEXT, "question_id": TEXT, "status": {"enum": ["given", "sent"]}}),
        errors=(400, 404, 408, 409, 413, 415, 422, 503),
        description="202 with the status `sent`: the log has it, and the process that runs this "
        "has not said what came of it. 409: the question is not open any more; `outcome` and `by` say why.",
    ),
    "GET /runs/{run_id}/events": Operation(
        summary="A run's events, live",
        query={**FORMATS, "stop_on_leave": _LEAVES},
        also=(EVENTS,),
        errors=(400, 404, 503),
        description="Server-sent events; `Last-Event-ID` resumes. 204: there are no more.",
    ),
    "GET /runs/{run_id}/ws": Operation(
        summary="A run's events over a WebSocket",
        query={**FORMATS, "stop_on_leave": _LEAVES},
        status=101,
        description='One event a message; `{"type": "cancel"}` from the client cancels the run.',
    ),
    "GET /runs/{run_id}/report": Operation(
        summary="The viewer with a run in it, in one HTML file",
        also=("text/html",),
        errors=(404, 503),
        description="As far as the run has come. The file needs no server.",
    ),
    "POST /ai": _START_CHAT,
    "POST /ai/{program}": _START_CHAT,
    "GET /ai/{chat}/stream": _RESUME_CHAT,
    "GET /ai/{program}/{chat}/stream": _RESUME_CHAT,
    "DELETE /ai/{chat}/stream": _STOP_CHAT,
    "DELETE /ai/{program}/{chat}/stream": _STOP_CHAT,
    "POST /agui": _START_AGENT,
    "POST /agui/{program}": _START_AGENT,
    "POST /agui/connect": _CONNECT_TO_AGENT,
    "POST /agui/{program}/connect": _CONNECT_TO_AGENT,
    "DELETE /agui": _STOP_AGENT,
    "DELETE /agui/{program}": _STOP_AGENT,
    "POST /v1/chat/completions": Operation(
        summary="Answer a chat",
        tag="OpenAI",
        body=record(
            {
                "model": ref("ProgramName"),
                "messages": listed(CHAT_MESSAGE),
                "stream": FLAG,
                "stream_options": OBJECT,
                "include_reasoning": FLAG,
                "inputs": INPUTS,
            },
            "messages",
        ),
        answer={**OBJECT, "title": "ChatCompletion"},
        also=(EVENTS,),
        errors=(400, 404, 408, 413, 415, 429, 500, 503),
        openai=True,
        description=f"{CONVERSATION} See {OPENAI}/chat.",
    ),
    "POST /v1/responses": Operation(
        summary="Answer, as the Responses API does",
        tag="OpenAI",
        body=record(
            {
                "model": ref("ProgramName"),
                "input": {"type": ["string", "array"]},
                "instructions": {"type": ["string", "null"]},
                "previous_response_id": {"type": ["string", "null"]},
                "stream": FLAG,
                "stream_options": OBJECT,
                "background": FLAG,
                "store": {**FLAG, "default": True},
                "metadata": {"type": "object", "additionalProperties": TEXT},
                "inputs": INPUTS,
            },
            "input",
        ),
        answer={**OBJECT, "title": "Response"},
        also=(EVENTS,),
        errors=(400, 404, 408, 413, 415, 429, 500, 503),
        openai=True,
        description=f"{CONVERSATION} See {OPENAI}/responses.",
    ),
    "GET /v1/responses/{response_id}": Operation(
        summary="A response, or the rest of its stream",
        tag="OpenAI",
        query={
            "stream": FLAG,
            "starting_after": {"type": "integer", "minimum": 0},
            "include_obfuscation": FLAG,
        },
        answer={**OBJECT, "title": "Response"},
        also=(EVENTS,),
        errors=(400, 404, 503),
        openai=True,
    ),
    "POST /v1/responses/{response_id}/cancel": Operation(
        summary="Cancel a response",
        tag="OpenAI",
        answer={**OBJECT, "title": "Response"},
        errors=(404, 503),
        openai=True,
    ),
    "GET /v1/models": Operation(
        summary="The programs, as models",
        tag="OpenAI",
        answer=record(
            {"object": {"const": "list"}, "data": listed(ref("Model"))}, "object", "data"
        ),
        openai=True,
    ),
    "GET /v1/models/{model}": Operation(
        summary="One program, as a model",
        tag="OpenAI",
        answer=ref("Model"),
        errors=(404,),
        openai=True,
    ),
}
