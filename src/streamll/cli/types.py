"""``streamll types module:Program``: what programs take and give, as TypeScript.

The schemas are pydantic's: of inputs, what the server accepts; of output fields, what their events
carry. ``typescript.py`` writes them down.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument

from streamll.cli.command import Problem
from streamll.cli.run import find_served
from streamll.cli.typescript import TypeScript
from streamll.terminal.text import one_line

if TYPE_CHECKING:
    from streamll.serve.inputs.declared import Input
    from streamll.serve.programs import Served

HEAD = "// Made by `streamll types {targets}`: make it anew rather than edit it."
PROGRAMS = " Programs"
"""Places of the types made here, ``" Programs"``, ``"QA "``, ``"QA Inputs"`` and ``"QA Outputs"``: with
blanks, which pydantic's have not.
"""


def types(
    programs: Annotated[
        list[str],
        Argument(metavar="MODULE:PROGRAM", help="A program, named as for serve; repeatable."),
    ],
) -> None:
    """Write what programs take and give as TypeScript, for a page that uses @streamll/client."""
    with redirect_stdout(sys.stderr):  # what the programs' modules print is no TypeScript
        found = [find_served(target) for target in programs]
        text = typescript_of(found)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # TypeScript's, whatever the terminal's
    print(HEAD.format(targets=one_line(" ".join(programs), 1000)), text, sep="\n\n")


def typescript_of(programs: Sequence[Served]) -> str:
    """The types ``QAInputs``, ``QAOutputs`` and ``QA`` of each program, and the map ``Programs``.

    Raises:
        Problem: two programs have the same name.
    """
    from streamll.serve.inputs.schemas import schemas_of

    names = [program.name for program in programs]
    if len({*names}) < len(names):
        raise Problem(
            f"two of the programs {', '.join(names)} have the same name: give one another"
        )
    inputs = [((p.name, "Inputs", n), i) for p in programs for n, i in enumerate(p.takes.inputs)]
    outputs = [((p.name, "Outputs", n), i) for p in programs for n, i in enumerate(outputs_of(p))]
    schemas, inside = schemas_of(inputs, outputs=outputs)
    made = {
        PROGRAMS: _object({name: _ref(f"{name} ") for name in names}, "Programs by their names.")
    }
    for program in programs:
        name = program.name
        parts = {"inputs": _ref(f"{name} Inputs"), "outputs": _ref(f"{name} Outputs")}
        made[f"{name} "] = _object({"program": {"const": name}, **parts}, about(program.program))
        made |= {
            f"{name} {part}": {"type": "object", "properties": {}, "required": []}
            for part in ("Inputs", "Outputs")
        }
    for key, each in (*inputs, *outputs):
        _add(made[f"{key[0]} {key[1]}"], each, schemas[key])
    return "\n\n".join(TypeScript({**made, **inside}).declarations())


def _ref(place: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{place}"}


def _object(members: dict[str, Any], description: str) -> dict[str, Any]:
    return {"properties": members, "required": [*members], "description": description}


def _add(into: dict[str, Any], each: Input, schema: dict[str, Any]) -> None:
    """Make it a member; one of this name may have been there, with another type."""
    member = into["properties"].setdefault(each.name, {"anyOf": []})
    member["anyOf"].append(schema)
    member["description"] = member.get("description") or schema.get("description")
    if each.required:
        into["required"].append(each.name)


def outputs_of(program: Served) -> list[Input]:
    """The fields that stream, of all predictors; only those of the last one are sure to be there."""
    import msgspec

    from streamll.capture.run.fields import FieldSelection
    from streamll.capture.run.frames import predictors_of
    from streamll.serve.inputs.declared import outputs_of_signature

    wanted, predictors = FieldSelection(program.fields), list(predictors_of(program.program))
    listed = []
    for name, predictor in predictors:
        required = name == predictors[-1][0]
        for each in outputs_of_signature(predictor.signature):
            if wanted.wants(name, each.name):
                kind = streamed(each.annotation)
                listed.append(msgspec.structs.replace(each, annotation=kind, required=required))
    return listed


def streamed(annotation: Any) -> Any:
    """The type of what events carry: of DSPy's code and reasoning the text, of its media no value."""
    import dspy

    if not isinstance(annotation, type) or not issubclass(annotation, dspy.Type):
        return annotation
    if issubclass(annotation, (dspy.Code, dspy.Reasoning)):
        return str
    return Any if issubclass(annotation, (dspy.Image, dspy.Audio, dspy.File)) else annotation


def about(program: Any) -> str:
    """What a program says of itself: its signature, its class or its function; DSPy's own say nothing."""
    import dspy

    source = program if inspect.isroutine(program) else type(program)
    if isinstance(program, dspy.Predict):
        source = program.signature
    own = vars(source).get("__doc__") if isinstance(source, type) else source.__doc__
    is_made = str(own).startswith("Given the fields")  # of a signature without a docstring
    return "" if source.__module__.startswith("dspy.") or is_made else inspect.cleandoc(own or "")
