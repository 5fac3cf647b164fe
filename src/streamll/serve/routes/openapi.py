"""``GET /openapi.json``: the server's routes and its programs' inputs as OpenAPI 3.1.

https://spec.openapis.org/oas/v3.1.1. Each program's inputs are a schema of their own, made of its
annotations; those of ``POST /runs`` are one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from streamll.core.jsonable import plain
from streamll.serve.inputs.schemas import schemas_of
from streamll.serve.programs import Served
from streamll.serve.routes.openapi_operations import (
    JSON,
    OBJECT,
    OPERATIONS,
    SCHEMAS,
    Operation,
    ref,
)
from streamll.serve.routes.service import Service

REASONS = {
    101: "Switching protocols",
    200: "OK",
    202: "Accepted",
    400: "The request is not as described; `problems` lists every place",
    401: "A token is needed",
    403: "Not from this host or page, or not permitted",
    404: "Not found",
    408: "The body did not arrive in time",
    409: "It has ended",
    413: "The body is too large",
    415: "The body is not `application/json`",
    422: "Not what was asked for; `problems` lists every place",
    429: "As many programs run as may",
    500: "The run failed, or finding out who asks",
    503: "The server or its log cannot answer now; see `Retry-After`",
}
RUN_TOKEN = "The server's token, or for a run's own routes the token of that run."  # noqa: S105


async def show(service: Service, request: Request) -> Response:
    """The document, as this server's clients reach it."""
    routes = operations_in(request.app.routes)
    root = str(request.scope.get("root_path", "")) or "/"
    return JSONResponse(document(service, routes, root), headers={"cache-control": "no-store"})


def operations_in(routes: Iterable[BaseRoute]) -> list[tuple[str, str]]:
    """The method and path of each route; not those that answer for paths that are not there."""
    found = []
    for route in routes:
        if isinstance(route, WebSocketRoute):
            found.append(("GET", _template(route.path)))
        elif isinstance(route, Route) and not route.path.endswith("/{path:path}"):
            methods = sorted((route.methods or {"GET"}) - {"HEAD"})
            found += [(method, _template(route.path)) for method in methods]
    return found


def _template(path: str) -> str:
    """``/v1/models/{model:path}`` as OpenAPI has it, without the converter."""
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def document(service: Service, routes: Iterable[tuple[str, str]], root: str) -> dict[str, Any]:
    """The whole description."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path in routes:
        operation = OPERATIONS.get(f"{method} {path}", Operation(summary=f"{method} {path}"))
        paths.setdefault(path, {})[method.lower()] = _described(operation, path, service)
    components: dict[str, Any] = {"schemas": {**SCHEMAS, **_programs(service.programs)}}
    if not service.access.is_open:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "description": RUN_TOKEN},
            "query": {"type": "apiKey", "in": "query", "name": "token", "description": RUN_TOKEN},
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "streamll", "version": version("streamll")},
        "servers": [{"url": root}],
        "paths": paths,
        "components": components,
    }


def _described(operation: Operation, path: str, service: Service) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    parameters += [
        {"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()
    ]
    closed = operation.needs_token and not service.access.is_open
    content: dict[str, Any] = {kind: {"schema": {"type": "string"}} for kind in operation.also}
    if operation.answer is not None:
        content[JSON] = {"schema": operation.answer}
    answers: dict[str, Any] = {str(operation.status): _answer(operation.status, content)}
    error = {JSON: {"schema": ref("OpenAIError" if operation.openai else "Error")}}
    refused = (
        {401, 500} if closed and service.access.auth is not None else {401} if closed else set()
    )
    for status in sorted({*operation.errors, 403, *refused}):
        answers[str(status)] = _answer(status, error)
    made: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": answers,
    }
    if operation.description:
        made["description"] = operation.description
    if parameters:
        made["parameters"] = parameters
    if operation.body is not None:
        made["requestBody"] = {"required": True, "content": {JSON: {"schema": operation.body}}}
    if closed:
        made["security"] = [{"bearer": []}, {"query": []}]
    return made


def _answer(status: int, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": REASONS[status], **({"content": content} if content else {})}


# --- the programs ---------------------------------------------------------------------------------


def _programs(programs: Mapping[str, Served]) -> dict[str, Any]:
    """The inputs of each program, and what starts a run of one of them."""
    names = _component_names(programs)
    pairs = [
        ((name, each.name), each) for name, one in programs.items() for each in one.takes.inputs
    ]
    schemas, definitions = schemas_of(pairs, ref_template="#/components/schemas/type.{model}")
    made: dict[str, Any] = {f"type.{name}": schema for name, schema in definitions.items()}
    starts = []
    for name, program in programs.items():
        required = []
        properties = {}
        for each in program.takes.inputs:
            schema = schemas[name, each.name]
            if each.default is not msgspec.UNSET:
                schema["default"] = plain(each.default)
            properties[each.name] = schema
            required += [each.name] if each.required else []
        inputs = {**OBJECT, "title": f"The inputs of {name}"}
        if properties:
            inputs |= {"properties": properties, "additionalProperties": False}
            inputs["required"] = required
        made[names[name]] = inputs
        starts.append(
            {
                "type": "object",
                "title": f"Run {name}",
                "properties": {
                    "program": {"const": name},
                    "inputs": ref(names[name]),
                    "context": {**OBJECT, "description": "Is part of every event of the run."},
                },
                "required": [
                    *(["program"] if len(programs) > 1 else []),
                    *(["inputs"] if required else []),
                ],
            }
        )
    made["ProgramName"] = {"type": "string", "description": "The name of a program."}
    if programs:
        made["ProgramName"]["enum" if len(programs) > 1 else "examples"] = list(programs)
    made["StartRun"] = {"oneOf": starts} if starts else OBJECT
    return made


def _component_names(programs: Mapping[str, Served]) -> dict[str, str]:
    """A name for the inputs of each program, of the characters that components may have."""
    names: dict[str, str] = {}
    for name in programs:
        wanted = f"inputs.{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"
        while wanted in names.values():
            wanted += "_"
        names[name] = wanted
    return names
