"""A program's inputs as JSON for a server, which is to get what a call here would have got.

What JSON has no form for is an error: unlike in an event, nothing may stand in for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from streamll.core.errors import InvalidInputs
from streamll.core.jsonable import render
from streamll.core.problems import Problem, pointer

NOT_IN_JSON = (bytes, bytearray, memoryview)


def inputs_as_json(inputs: Mapping[str, Any]) -> bytes:
    """The inputs, encoded.

    Raises:
        InvalidInputs: JSON cannot say them, as it cannot ``NaN``, bytes, or a key that is a tuple.
    """
    made: dict[str, str] = {}
    problems = []
    for name, value in inputs.items():
        try:
            built = msgspec.to_builtins(value, builtin_types=NOT_IN_JSON, enc_hook=_render)
            made[name] = json.dumps(built, allow_nan=False, ensure_ascii=False)
            made[name].encode()  # not half a surrogate
        except (TypeError, ValueError, RecursionError) as error:
            what = f"{type(value).__name__} cannot be sent as JSON: {error}"
            problems.append(Problem(pointer("inputs", [name]), what))
    if problems:
        raise InvalidInputs(problems)
    members = (f"{json.dumps(name)}:{text}" for name, text in made.items())
    return f"{{{','.join(members)}}}".encode()


def _render(value: Any) -> Any:
    return _of_model(value) if hasattr(type(value), "model_validate") else render(value)


def _of_model(model: Any) -> Any:
    """What pydantic makes the same model of: by names, by aliases, or of the fields as they are, since
    ``dspy.Image`` and others dump what is for prompts.
    """

    def fields() -> dict[str, Any]:
        own = type(model).model_fields
        return {each.alias or name: getattr(model, name) for name, each in own.items()}

    for dump in (model.model_dump, lambda: model.model_dump(by_alias=True), fields):
        try:
            made = dump()
            if type(model).model_validate(made) == model:
                return made
        except Exception:  # noqa: BLE001, S112 - not this way
            continue
    return render(model)
