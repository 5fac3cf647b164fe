"""``/openapi.json``: a valid OpenAPI 3.1 document that says what the server does."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Annotated, Literal

import dspy
import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from streamll.serve import create_app
from streamll.serve.routes.openapi import operations_in
from streamll.serve.routes.openapi_operations import OPERATIONS


class Kind(enum.Enum):
    one = 1
    two = "zwei"


class Item(BaseModel):
    """One thing."""

    name: str = Field(min_length=1)
    price: Annotated[float, Field(gt=0)] = 1.0
    parts: list[Item] = []


class Order(dspy.Signature):
    """Take an order."""

    items: list[Item] = dspy.InputField(desc="what is wanted")
    style: Literal["plain", "gift"] = dspy.InputField(default="plain")
    due: dt.date = dspy.InputField()
    kind: Kind | None = dspy.InputField()
    photo: dspy.Image | None = dspy.InputField()
    history: dspy.History = dspy.InputField()
    answer: str = dspy.OutputField()


def other_item():
    class Item(BaseModel):
        """Another thing of the same name."""

        size: int

    def program(item, anything=None, *, question: str = "?"):
        """A function is a program."""

    program.__annotations__ = {"item": Item, "question": str}
    return program


class Handle:
    """What JSON has no form for."""


def with_a_handle(handle: Handle, question: str):
    """Cannot be called over HTTP."""


with_a_handle.__annotations__ = {"handle": Handle, "question": str}

PROGRAMS = {
    "order": dspy.Predict(Order),
    "a function/ä": other_item(),
    "handle": with_a_handle,
    "Run": dspy.Predict("question -> answer"),
}


def document(programs=PROGRAMS, log="sqlite:///:memory:", **options):
    app = create_app(programs, log=log, **options)
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.get("/openapi.json")
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def log(tmp_path):
    return f"sqlite:///{tmp_path}/log.db"


@pytest.mark.parametrize(
    "programs", [PROGRAMS, {"qa": PROGRAMS["Run"]}, None], ids=["several", "one", "none"]
)
def test_the_document_is_valid(programs, log):
    made = document(programs, log)
    validate(made, cls=OpenAPIV31SpecValidator)
    assert made["openapi"] == "3.1.0"


def test_every_route_is_described(log):
    routes = operations_in(create_app(PROGRAMS, log=log).app.routes)
    assert [each for each in routes if " ".join(each) not in OPERATIONS] == []
    made = document(log=log)
    paths = {(method.upper(), path) for path, each in made["paths"].items() for method in each}
    assert paths == set(routes)


def schema_of(made, name):
    return {"$ref": f"#/components/schemas/{name}", "components": made["components"]}


def test_a_program_has_its_own_schema(log):
    made = document(log=log)
    inputs = made["components"]["schemas"]["inputs.order"]
    assert inputs["required"] == ["items", "due"]
    assert inputs["properties"]["style"]["enum"] == ["plain", "gift"]
    assert inputs["properties"]["style"]["default"] == "plain"
    assert inputs["properties"]["items"]["description"] == "what is wanted"
    schemas = made["components"]["schemas"]
    things = {each["description"] for each in schemas.values() if each.get("title") == "Item"}
    assert things == {"One thing.", "Another thing of the same name."}
    assert (
        "cannot be sent as JSON" in schemas["inputs.handle"]["properties"]["handle"]["description"]
    )


GOOD = {"items": [{"name": "a", "parts": [{"name": "b"}]}], "due": "2030-01-02"}
PNG = "data:image/png;base64,aGk="


@pytest.mark.parametrize(
    ("inputs", "status"),
    [
        (GOOD, 202),
        ({**GOOD, "style": "gift", "kind": "zwei", "photo": PNG}, 202),
        ({**GOOD, "kind": None, "photo": {"url": PNG}, "history": {"messages": []}}, 202),
        ({"due": "2030-01-02"}, 400),
        ({**GOOD, "style": "other"}, 400),
        ({**GOOD, "kind": 3}, 400),
        ({**GOOD, "items": [{"name": ""}]}, 400),
        ({**GOOD, "items": [{"name": "a", "price": 0}]}, 400),
        ({**GOOD, "items": [{"name": "a", "parts": [{}]}]}, 400),
        ({**GOOD, "photo": {"file": "x"}}, 400),
        ({**GOOD, "history": []}, 400),
        ({**GOOD, "odd": 1}, 400),
    ],
)
def test_the_server_takes_what_the_document_permits(inputs, status, practice, log):
    practice.script({"answer": "yes"})
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    made = document(log=log)
    checker = jsonschema.Draft202012Validator(schema_of(made, "StartRun"))
    body = {"program": "order", "inputs": inputs}
    assert checker.is_valid(body) == (status == 202), list(checker.iter_errors(body))
    app = create_app(PROGRAMS, log=log)
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.post("/runs", json=body)
    assert answer.status_code == status, answer.text
    if status == 400:
        error = jsonschema.Draft202012Validator(schema_of(made, "Error"))
        error.validate(answer.json())
        assert all(each["place"].startswith("inputs.") for each in answer.json()["problems"])


def test_a_server_with_tokens_shows_it_to_those_who_have_one(log):
    app = create_app(PROGRAMS, log=log, tokens="a-token-of-some-length")
    with TestClient(app) as client:
        refused = client.get("/openapi.json")
        made = client.get(
            "/openapi.json", headers={"authorization": "Bearer a-token-of-some-length"}
        )
    assert refused.status_code == 401
    assert "order" not in refused.text
    schemes = made.json()["components"]["securitySchemes"]
    assert (schemes["bearer"]["scheme"], schemes["query"]["name"]) == ("bearer", "token")
    assert made.json()["paths"]["/runs"]["post"]["security"] == [{"bearer": []}, {"query": []}]
    assert "security" not in made.json()["paths"]["/healthz"]["get"]


def test_a_mounted_server_is_described_where_it_is(log):
    outer = Starlette(routes=[Mount("/llm", create_app(PROGRAMS["Run"], log=log))])
    with TestClient(outer, base_url="http://localhost") as client:
        assert client.get("/llm/openapi.json").json()["servers"] == [{"url": "/llm"}]
