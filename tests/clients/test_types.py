"""``streamll types``: what it writes is what it wrote, ``tsc --strict`` takes it and checks a page by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import dspy
import pytest
import warm

import streamll
from clients.typed_programs import review
from serve.npm import packages
from streamll.cli.typescript import Names, TypeScript, comment, literal
from streamll.core import wire
from streamll.serve.programs import Served

HERE = Path(__file__).parent
PROGRAMS = "review", "TwoSteps", "greet", "only_text"
TYPESCRIPT = {"typescript": "7.0.2"}


def run_types(*targets: str, folder: Path = HERE):
    command = [sys.executable, "-m", "streamll", "types", *targets]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    return warm.run(command, cwd=folder, env=env, capture_output=True, check=False)


def test_the_types_of_programs():
    done = run_types(*(f"typed_programs:{name}" for name in PROGRAMS))
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == (HERE / "typed_programs.d.ts").read_text("utf-8")
    assert b"this is printed" in done.stderr


def test_two_programs_of_one_name(tmp_path):
    for folder in "ab":
        tmp_path.joinpath(f"{folder}.py").write_text('import dspy\nqa = dspy.Predict("q -> a")\n')
    done = run_types("a:qa", "b:qa", folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"two of the programs qa, qa have the same name" in done.stderr


# --- tsc ------------------------------------------------------------------------------------------

PAGE = """
import type { Programs, Review, TwoSteps, Tree } from "./typed_programs";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
const yes = <T extends true>() => {};

// as clients take programs
interface Program { program: string; inputs: object; outputs: object }
declare function start<P extends Program>(options: { program: P["program"]; inputs: P["inputs"] }): P["outputs"];

const made = start<Programs["review"]>({
  program: "review",
  inputs: { code: "", style: "über", known: { title: "", "line-number": 1, pet: { kind: "dog" }, range: [1, "b"],
    ranges: [], by_letter: { a: { line: 1 } }, by_number: {}, anything: null }, picture: "https://example.org/a.png" },
});
yes<Same<typeof made.verdict, string>>();
yes<Same<typeof made.findings[0]["severity"], "low" | "high">>();
yes<Same<typeof made.findings[0]["cost"], string>>();
yes<Same<typeof made.findings[0]["line_number"], number>>();
yes<Same<Tree["children"], Tree[]>>();
yes<Same<TwoSteps["outputs"]["title"], number | string>>();
const pet = made.findings[0].pet;
if (pet.kind === "dog") yes<Same<typeof pet.barks, true>>();
start<TwoSteps>({ program: "TwoSteps", inputs: { topic: "", depth: null } });

const streamed: Review["outputs"] = $STREAMED;

// @ts-expect-error an input is missing
start<TwoSteps>({ program: "TwoSteps", inputs: {} });
// @ts-expect-error another program's name
start<TwoSteps>({ program: "review", inputs: { topic: "" } });
// @ts-expect-error not one of the choices
start<Review>({ program: "review", inputs: { ...({} as Review["inputs"]), style: "long" } });
// @ts-expect-error no such field
made.verdicts;
"""

REPLY = {
    "findings": [
        {
            "title": "Unused",
            "line-number": 3,
            "cost": "1.50",
            "since": "2026-01-02T03:04:05Z",
            "pet": {"kind": "dog"},
            "range": [1, "a"],
            "ranges": [1, 2],
            "by_letter": {"b": {"line": 1}},
            "by_number": {"1": ["x", 2]},
            "anything": {"a": None},
        }
    ],
    "tree": {"children": [{"label": "leaf"}]},
    "options": {"depth": 1},
    "page": {"items": ["high"]},
    "patch": "```python\nx = 1\n```",
    "tags": ["a", "b"],
    "calls": {"tool_calls": [{"name": "find", "args": {"q": 1}}]},
    "sketch": {"url": "https://example.org/a.png"},
    "note": "none",
    "verdict": "Fine",
}


@pytest.fixture
def streamed(practice):
    """The values that the events of a run have at last, by field."""
    practice.script(REPLY)
    known = {"title": "", "line-number": 1, "pet": {"kind": "cat", "lives": 9}, "range": [1, "b"]}
    known |= {"ranges": [], "by_letter": {}, "by_number": {}, "anything": None}
    given = {"code": "", "style": "short", "known": known}
    program = Served(name="review", program=review)
    values = defaultdict(str)
    inputs = program.convert(given)
    with dspy.context(lm=practice.lm()), streamll.stream(program.program)(**inputs) as events:
        for event in events:
            if event.event_type == "token" and event.field == "verdict":
                values["verdict"] += event.token
            elif event.event_type == "field.partial" and not event.pointer and not event.append:
                values[event.field] = json.loads(wire.encode(event))["value"]
    return values


def test_a_page_is_checked_by_the_types(tmp_path, streamed):
    page = PAGE.replace("$STREAMED", json.dumps(streamed))
    tmp_path.joinpath("page.ts").write_text(page, "utf-8")
    types = (HERE / "typed_programs.d.ts").read_text("utf-8")
    tmp_path.joinpath("typed_programs.d.ts").write_text(types, "utf-8")
    tsc = packages(TYPESCRIPT, "npm-typescript") / "node_modules" / ".bin" / "tsc"
    options = ["--strict", "--noEmit", "--target", "es2022", "--types", ""]
    done = subprocess.run(
        [tsc, *options, "page.ts"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
    assert done.returncode == 0


# --- schemas --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, "unknown"),
        (True, "unknown"),
        (False, "never"),
        ({"type": "integer"}, "number"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"type": "something new"}, "unknown"),
        ({"anyOf": [{"type": "string"}, {}]}, "unknown"),
        ({"anyOf": [{"type": "number"}, {"type": "integer"}]}, "number"),
        ({"const": None}, "null"),
        ({"enum": [1, -2.5, True, "a"]}, '1 | -2.5 | true | "a"'),
        ({"enum": [float("nan"), {"a": 1}]}, "unknown"),
        ({"$ref": "#/$defs/a b"}, "AB"),
        ({"$ref": "https://example.org/other"}, "unknown"),
        ({"allOf": [{"$ref": "#/$defs/a b"}, {"enum": [1, 2]}]}, "AB & (1 | 2)"),
        ({"type": "array"}, "unknown[]"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, '("a" | "b")[]'),
        (
            {"type": "array", "prefixItems": [{"type": "string"}, {"enum": [1, 2]}], "minItems": 1},
            "[string, (1 | 2)?, ...unknown[]]",
        ),
        ({"type": "array", "prefixItems": [{}], "maxItems": 1, "minItems": 1}, "[unknown]"),
        ({"type": "object"}, "{ [name: string]: unknown }"),
        ({"type": "object", "additionalProperties": False}, "{ [name: string]: never }"),
        (
            {"type": "object", "patternProperties": {"^x": {"type": "null"}}},
            "{ [name: string]: null }",
        ),
        (
            {"properties": {"a": {}, "b-c": {"type": "null"}}, "required": ["a"]},
            '{ a: unknown; "b-c"?: null }',
        ),
        (
            {"properties": {"a": {"type": "null"}}, "additionalProperties": True},
            "{ a?: null; [name: string]: unknown }",
        ),
    ],
    ids=str,
)
def test_the_type_of_a_schema(schema, expected):
    assert TypeScript({"a b": {}}).type(schema) == expected


def test_texts_are_what_they_were():
    assert literal('a"\\\n\u2028\ud800é') == '"a\\"\\\\\\n\\u2028\\ud800é"'
    assert comment("") == ""
    assert comment("a */ b\x00") == "/** a *\\/ b\ufffd */\n"
    assert comment("a\r\nb\n\nc", "  ") == "  /**\n   * a\n   * b\n   */\n"


def test_names_are_identifiers_and_each_is_there_once():
    names = Names()
    assert [names.give(each) for each in ("string", "String", "a-b", "1", "", "--", "é_x")] == [
        "String",
        "String2",
        "AB",
        "_1",
        "Type",
        "Type2",
        "É_x",
    ]
